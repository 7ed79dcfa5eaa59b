"""build_index: embed, lay out the arms, and swap the new index in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable

from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps

if TYPE_CHECKING:
    from artrag.index.finish import Finished


def build_index(embedder: Embeddings, *, reference: str = "") -> Runnable[Any, Any]:
    """A node that finishes the generation: vectors for what is new, BM25 over all, one atomic swap; or nothing at all.

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
            "workers": run.settings.workers,
            "late": run.settings.late,
            "tell": tell,
        }
        finished = yield Call(_finish, None, (index, build), options)
        manifest = finished.manifest
        seconds = sum(used["seconds"] for used in (state.get("usage", {}) | run.usage()).values())
        report = {
            "index": state["index"],
            "documents": manifest.documents,
            "chunks": manifest.chunks,
            "embedded": finished.embedded,
            **state["loaded"],
            "skipped": state["skipped"],
            "context": manifest.context,
            "contexts": state["contexts"],
            "truncated": finished.truncated,
            "seconds": round(seconds, 2),
        }
        if finished.truncated:
            run.tell(f"{finished.truncated} chunks are longer than the embedder's window: their ends are in BM25 only")
        run.tell(f"{manifest.chunks} chunks of {manifest.documents} documents")
        return {"report": report}

    return node("build_index", body)


def _finish(index: Path, build: str, **options: Any) -> "Finished":
    from artrag.index.finish import finish  # brings numpy: a graph that only answers need not wait for it

    return finish(index, build, **options)
