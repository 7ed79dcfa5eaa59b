"""load: read files into an unfinished generation of the index."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag.errors import DocumentError, EmptyCorpusError, UsageError
from artrag.index.build import begin, working
from artrag.index.catalog import Catalog, StoredDocument
from artrag.index.loaders import file_hash, files, read
from artrag.index.lock import touch
from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps


def load() -> Runnable[Any, Any]:
    """A node that reads what is new or changed below `paths` and drops what is gone from them.

    A file that cannot be read is skipped with its reason; the rest goes on. Documents from other paths stay.

    Reads `paths`, `index`; writes `build`, `loaded`, `skipped`.

    Raises:
        UsageError: no paths, no index directory, or one and the same.
        IndexLockedError: somebody else is writing the index.
        IndexVersionError: the index has another format.
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
    begun = begin(index)
    with working(index, begun.build) as catalog:
        loading = _Loading(catalog)
        for lost in begun.lost:
            loading.skipped.append({"path": str(index), "reason": lost})
        listed = [(root, path, name) for root in roots for path, name in files(root)]
        for number, (root, path, name) in enumerate(listed, start=1):
            touch(index, begun.build)
            run.progress("reading", number, len(listed))
            loading.take(root, path, name)
        loading.drop_gone(roots)
        documents, _ = catalog.counts()
        if not documents:
            reasons = "; ".join(item["reason"] for item in loading.skipped) or "no files were found"
            raise EmptyCorpusError(f"nothing to index in {', '.join(map(str, roots))}: {reasons}")
    run.tell(f"{documents} documents, {len(loading.skipped)} files skipped", skipped=loading.skipped)
    return {"build": begun.build, "loaded": loading.loaded, "skipped": loading.skipped}


class _Loading:
    """What one run sees of its files, against what the catalogue knows of them."""

    def __init__(self, catalog: Catalog) -> None:
        self.loaded = {"added": 0, "changed": 0, "unchanged": 0, "removed": 0}
        self.skipped: list[dict[str, str]] = []
        self._catalog = catalog
        self._files, self._known, self._sources = catalog.files(), catalog.fingerprints(), catalog.sources()
        self._documents: dict[tuple[str, str], list[str]] = {}
        for name, place in self._sources.items():
            self._documents.setdefault(place, []).append(name)
        self._seen: dict[str, Path] = {}
        self._unread: set[str] = set()
        self._read: set[tuple[str, str]] = set()

    def take(self, root: Path, path: Path, name: str) -> None:
        """Read a file, unless its bytes are those of the last time."""
        place = (str(root.absolute()), str(path.absolute()))
        try:
            _check_words(path, *place)
            kept = file_hash(path)
            documents = self._documents.get(place, [])
            # Its documents may have gone to another file of the same name since.
            if self._files.get(place) == (kept, len(documents)) and self._seen.keys().isdisjoint(documents):
                self._seen |= dict.fromkeys(documents, path)
                self.loaded["unchanged"] += len(documents)
            else:
                count = sum(self._keep(document, root, path) for document in read(path, name))
                self._catalog.keep_file(*place, kept, count)
            self._read.add(place)
        except DocumentError as error:
            # A name that is no text could not be printed either.
            self.skipped.append({"path": str(path).encode(errors="backslashreplace").decode(), "reason": str(error)})
            self._unread.add(place[1])
            if place in self._files:
                self._catalog.forget_file(*place)

    def drop_gone(self, roots: list[Path]) -> None:
        """Remove the documents that were not seen below these roots; a file that became unreadable keeps its own."""
        given = {str(root.absolute()) for root in roots}
        gone = [
            name
            for name, (root, source) in self._sources.items()
            if root in given and name not in self._seen and source not in self._unread
        ]
        self._catalog.remove_documents(gone)
        self.loaded["removed"] = len(gone)
        for place in self._files.keys() - self._read:
            if place[0] in given:
                self._catalog.forget_file(*place)

    def _keep(self, document: Document, root: Path, path: Path) -> int:
        name = str(document.id)
        if name in self._seen:
            raise DocumentError(
                f"{str(path)!r} has the id {name!r} of {str(self._seen[name])!r}: ingest their common folder instead"
            )
        self._seen[name] = path
        about = dict(document.metadata)
        title, shown = str(about.pop("title")), str(about.pop("path", "") or name)
        home, source = str(root.absolute()), str(path.absolute())
        stored = StoredDocument(name, home, shown, title, document.page_content, "", about, source)
        _check_words(path, name, home, source, shown, title, stored.text, json.dumps(about, ensure_ascii=False))
        stored = replace(stored, sha256=stored.content_hash())
        if self._known.get(name) == (home, stored.sha256):
            if self._sources[name] != (home, source):
                self._catalog.move_document(name, source)
            self.loaded["unchanged"] += 1
            return 1
        self.loaded["changed" if name in self._known else "added"] += 1
        self._catalog.add_document(stored)
        return 1


def _check_words(path: Path, *texts: str) -> None:
    """SQLite keeps UTF-8 only; halves of surrogate pairs come from JSON escapes, PDFs, and odd file names."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DocumentError(
                f"{str(path)!r} cannot be kept: {text[:80]!r} holds half a character "
                f"({text[error.start]!r} at {error.start}): mend the text, or rename the file"
            ) from None
