"""chunk: cut the new documents."""

from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.index.build import working
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.chunking import Chunk, cut
from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps


def chunk() -> Runnable[Any, Any]:
    """A node that cuts every document that has no chunks yet; given cuts (`chunks` of a JSON row) are kept.

    Reads `index`, `build`; writes only `usage`: the chunks wait on disk, with offsets, sections and pages.
    """

    def body(state: IngestState, run: Run) -> Steps[dict[str, Any]]:
        count = yield Call(_chunk, None, (Path(state["index"]), state["build"], run))
        run.tell(f"{count} chunks cut")
        return {}

    return node("chunk", body)


def _chunk(index: Path, build: str, run: Run) -> int:
    count = 0
    with working(index, build) as catalog:
        names = catalog.unchunked()
        for number, name in enumerate(names, start=1):
            run.progress("cutting", number, len(names))
            document = catalog.document(name)
            chunks = [
                StoredChunk(0, f"{name}#{n}", name, piece.text, "", piece.start, piece.end, _about(document, piece))
                for n, piece in enumerate(_cuts(document))
            ]
            catalog.add_chunks(chunks)
            count += len(chunks)
    return count


def _cuts(document: StoredDocument) -> list[Chunk]:
    given = document.metadata.get("chunks")
    if given is None:
        return cut(document.text, document.path)
    cuts, at = [], 0
    for text in given:
        start = document.text.find(text, at)
        at = start if start >= 0 else at  # cuts that are no part of the text have no offset of their own
        cuts.append(Chunk(text, at, at + len(text)))
    return cuts


def _about(document: StoredDocument, piece: Chunk) -> dict[str, Any]:
    about: dict[str, Any] = {"path": document.path, "section": list(piece.section)}
    pages = document.metadata.get("pages")
    if pages:
        about["page"] = sum(start <= piece.start for start in pages)
    return about
