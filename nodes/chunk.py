"""chunk: cut the new documents."""

from bisect import bisect_right
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.index.build import working
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.chunking import CUT_LIKE, Chunk, cut
from artrag.index.lock import touch
from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps


def chunk() -> Runnable[Any, Any]:
    """A node that cuts every document that is not cut yet, or was cut otherwise; given cuts of JSON rows are kept.

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
        names = catalog.uncut(CUT_LIKE)
        for number, name in enumerate(names, start=1):
            touch(index, build)
            run.progress("cutting", number, len(names))
            document = catalog.document(name)
            chunks = [
                StoredChunk(0, f"{name}#{n}", name, piece.text, "", piece.start, piece.end, _about(document, piece))
                for n, piece in enumerate(_cuts(document))
            ]
            catalog.set_chunks(name, chunks, CUT_LIKE)
            count += len(chunks)
    return count


def _cuts(document: StoredDocument) -> list[Chunk]:
    given = document.metadata.get("chunks")
    if given is None:
        return cut(document.text, document.path)
    cuts, at = [], 0
    for text in given:
        start = document.text.find(text, at)
        found = start >= 0
        at = start if found else at
        cuts.append(Chunk(text, at, at + len(text) if found else at))  # no part of the text: it stands nowhere
    return cuts


def _about(document: StoredDocument, piece: Chunk) -> dict[str, Any]:
    about: dict[str, Any] = {"path": document.path, "section": list(piece.section)}
    pages = document.metadata.get("pages")
    if pages:
        about["page"] = bisect_right(pages, piece.start)
    return about
