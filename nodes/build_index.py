"""build_index: embed, lay out the arms, and swap the new index in."""

from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable

from artrag.index.manifest import Manifest
from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps


def build_index(embedder: Embeddings, *, reference: str = "") -> Runnable[Any, Any]:
    """A node that finishes the generation: vectors for what is new, BM25 over all, one atomic swap.

    Args:
        embedder: any LangChain embedder; vectors are scaled to unit length.
        reference: the model reference that opens it again, written into the manifest; by default the embedder's own.

    Reads `index`, `build`, `loaded`, `skipped`, `contexts`, `usage`; writes `report`.
    """

    def body(state: IngestState, run: Run) -> Steps[dict[str, Any]]:
        index, build = Path(state["index"]), state["build"]

        def tell(done: int, total: int) -> None:
            run.progress("embedding", done, total)

        options = {
            "embedder": embedder,
            "reference": reference or getattr(embedder, "reference", ""),
            "context": run.settings.context,
            "tell": tell,
        }
        manifest, embedded = yield Call(_finish, None, (index, build), options)
        truncated = yield Call(getattr, None, (embedder, "cut", 0))  # may open the model, which is no loop's business
        seconds = sum(used["seconds"] for used in (state.get("usage", {}) | run.usage()).values())
        report = {
            "index": state["index"],
            "documents": manifest.documents,
            "chunks": manifest.chunks,
            "embedded": embedded,
            **state["loaded"],
            "skipped": state["skipped"],
            "context": manifest.context,
            "contexts": state["contexts"],
            "truncated": truncated,
            "seconds": round(seconds, 2),
        }
        run.tell(f"{manifest.chunks} chunks of {manifest.documents} documents")
        return {"report": report}

    return node("build_index", body)


def _finish(index: Path, build: str, **options: Any) -> tuple[Manifest, int]:
    from artrag.index.finish import finish  # brings numpy: a graph that only answers need not wait for it

    return finish(index, build, **options)
