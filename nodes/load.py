"""load: read files into an unfinished generation of the index."""

from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import DocumentError, EmptyCorpusError, UsageError
from artrag.index.build import begin, digest, working
from artrag.index.catalog import Catalog, StoredDocument
from artrag.index.chunking import CHUNK_SIZE, OVERLAP
from artrag.index.loaders import files, read
from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps

_CUT_LIKE = f"cut 1: {CHUNK_SIZE}/{OVERLAP}"
"""Part of a document's fingerprint: cutting differently means indexing it again."""


def load() -> Runnable[Any, Any]:
    """A node that reads what is new or changed below `paths` and drops what is gone from them.

    A file that cannot be read is skipped with its reason; the rest goes on. Documents from other paths stay.

    Reads `paths`, `index`; writes `build`, `loaded`, `skipped`.

    Raises:
        UsageError: no paths, no index directory, or one and the same.
        IndexLockedError: somebody else is writing the index.
        EmptyCorpusError: nothing could be read, and the index holds nothing.
    """

    def body(state: IngestState, run: Run) -> Steps[dict[str, Any]]:
        paths, index = state.get("paths") or [], state.get("index") or run.settings.index
        if not paths or not index:
            raise UsageError(
                f"cannot ingest paths={paths!r} into index={index!r}: give at least one path and a directory"
            )
        if any(Path(path).resolve() == Path(index).resolve() for path in paths):
            raise UsageError(
                f"{str(index)!r} cannot be both the documents and their index: give the index its own folder"
            )
        update = yield Call(_load, None, ([Path(path) for path in paths], Path(index), run))
        return dict(update) | {"index": str(index)}

    return node("load", body)


def _load(roots: list[Path], index: Path, run: Run) -> dict[str, Any]:
    build = begin(index)
    loaded = {"added": 0, "changed": 0, "unchanged": 0, "removed": 0}
    skipped: list[dict[str, str]] = []
    with working(index, build) as catalog:
        known = catalog.fingerprints()
        seen: dict[str, Path] = {}
        listed = [(root, path, name) for root in roots for path, name in files(root)]
        for number, (root, path, name) in enumerate(listed, start=1):
            run.progress("reading", number, len(listed))
            try:
                for document in read(path, name):
                    _keep(catalog, document, root, path, known, seen, loaded)
            except DocumentError as error:
                skipped.append({"path": str(path), "reason": str(error)})
        given = {str(root.absolute()) for root in roots}
        unreadable = {item["path"] for item in skipped}
        gone = [
            name
            for name, (root, _) in known.items()
            if root in given and name not in seen and catalog.document(name).metadata.get("file") not in unreadable
        ]
        catalog.remove_documents(gone)
        loaded["removed"] = len(gone)
        documents, _ = catalog.counts()
        if not documents:
            reasons = "; ".join(item["reason"] for item in skipped) or "no files were found"
            raise EmptyCorpusError(f"nothing to index in {', '.join(map(str, roots))}: {reasons}")
    run.tell(f"{documents} documents, {len(skipped)} files skipped", skipped=skipped)
    return {"build": build, "loaded": loaded, "skipped": skipped}


def _keep(
    catalog: Catalog,
    document: Any,
    root: Path,
    path: Path,
    known: dict[str, tuple[str, str]],
    seen: dict[str, Path],
    loaded: dict[str, int],
) -> None:
    name = document.id
    if name in seen:
        raise DocumentError(
            f"{str(path)!r} has the id {name!r} of {str(seen[name])!r}: ingest their common folder instead"
        )
    seen[name] = path
    about = dict(document.metadata)
    title, shown = str(about.pop("title")), str(about.pop("path", "") or name)
    about["file"] = str(path)
    sha256 = digest(_CUT_LIKE, document.page_content, title, shown, repr(sorted(about.items())))
    home = str(root.absolute())
    if known.get(name) == (home, sha256):
        loaded["unchanged"] += 1
        return
    loaded["changed" if name in known else "added"] += 1
    catalog.add_document(StoredDocument(name, home, shown, title, document.page_content, sha256, about))
