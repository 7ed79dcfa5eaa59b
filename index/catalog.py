"""Documents and chunks in SQLite: the part of an index that keeps the words."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

_SCHEMA = """
CREATE TABLE documents (
    id TEXT PRIMARY KEY, root TEXT NOT NULL, path TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL, sha256 TEXT NOT NULL, metadata TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE chunks (
    row INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    text TEXT NOT NULL, context TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, metadata TEXT NOT NULL
);
CREATE INDEX chunks_of_document ON chunks(document);
"""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it was read. `root` is the path it was ingested from; `sha256` is of its text and metadata."""

    id: str
    root: str
    path: str
    title: str
    text: str
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk with its context; `row` is its place in the arrays of every arm."""

    row: int
    id: str
    document: str
    text: str
    context: str
    start: int
    end: int
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def indexed(self) -> str:
        """The text that the arms index: context, then chunk."""
        return f"{self.context}\n{self.text}" if self.context else self.text


class Catalog:
    """The SQLite file of an index; safe to read from several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> "Catalog":
        """A new, empty catalogue."""
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.executescript(_SCHEMA)
        connection.execute("PRAGMA foreign_keys = ON")
        return cls(path, connection)

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> "Catalog":
        """An existing catalogue, read-only unless `write`."""
        mode = "rw" if write else "ro"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
        return cls(path, connection)

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._connection.commit()
        self.close()

    def close(self) -> None:
        """Close the file; uncommitted changes are dropped."""
        self._connection.close()

    def commit(self) -> None:
        """Make changes permanent."""
        self._connection.commit()

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def counts(self) -> tuple[int, int]:
        """How many documents and chunks there are."""
        (documents,), (chunks,) = self._all("SELECT count(*) FROM documents UNION ALL SELECT count(*) FROM chunks")
        return int(documents), int(chunks)

    def fingerprints(self) -> dict[str, tuple[str, str]]:
        """Document id -> (root, sha256)."""
        return {name: (root, sha256) for name, root, sha256 in self._all("SELECT id, root, sha256 FROM documents")}

    def document(self, name: str) -> StoredDocument:
        """One document by id; KeyError when there is none."""
        found = self._all("SELECT id, root, path, title, text, sha256, metadata FROM documents WHERE id = ?", (name,))
        if not found:
            raise KeyError(name)
        key, root, path, title, text, sha256, metadata = found[0]
        return StoredDocument(key, root, path, title, text, sha256, json.loads(metadata))

    def unchunked(self) -> list[str]:
        """Ids of the documents that have no chunks yet, in order."""
        query = "SELECT id FROM documents WHERE id NOT IN (SELECT document FROM chunks) ORDER BY id"
        return [name for (name,) in self._all(query)]

    def add_document(self, document: StoredDocument) -> None:
        """Add a document, or replace it together with its chunks."""
        self.remove_documents([document.id])
        self._connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                document.id,
                document.root,
                document.path,
                document.title,
                document.text,
                document.sha256,
                json.dumps(document.metadata, ensure_ascii=False),
            ),
        )

    def remove_documents(self, names: Iterable[str]) -> None:
        """Remove documents and their chunks."""
        self._connection.executemany("DELETE FROM documents WHERE id = ?", [(name,) for name in names])

    def add_chunks(self, chunks: Iterable[StoredChunk]) -> None:
        """Add chunks; their rows are given out anew by `renumber`."""
        self._connection.executemany(
            "INSERT INTO chunks (id, document, text, context, start, end, metadata) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (c.id, c.document, c.text, c.context, c.start, c.end, json.dumps(c.metadata, ensure_ascii=False))
                for c in chunks
            ],
        )

    def set_contexts(self, contexts: dict[str, str]) -> None:
        """Set the contexts of chunks by id."""
        self._connection.executemany(
            "UPDATE chunks SET context = ? WHERE id = ?", [(context, name) for name, context in contexts.items()]
        )

    def renumber(self) -> None:
        """Give the chunks the rows 0, 1, 2, ... in the order they were added."""
        rows = [row for (row,) in self._all("SELECT row FROM chunks ORDER BY row")]
        self._connection.executemany(  # ascending, so that no new row meets an old one
            "UPDATE chunks SET row = ? WHERE row = ?", [(new, old) for new, old in enumerate(rows) if new != old]
        )

    def chunks_of(self, document: str) -> list[StoredChunk]:
        """The chunks of one document, in order."""
        return list(self._chunks("WHERE document = ? ORDER BY row", (document,)))

    def chunks(self) -> Iterator[StoredChunk]:
        """All chunks by row, read in portions."""
        last = -1
        while portion := list(self._chunks("WHERE row > ? ORDER BY row LIMIT 500", (last,))):
            yield from portion
            last = portion[-1].row

    def at(self, rows: Sequence[int]) -> list[tuple[StoredChunk, str]]:
        """The chunks of these rows with their documents' titles, in the order asked for."""
        marks = ", ".join("?" * len(rows))
        found = self._all(
            "SELECT chunks.row, chunks.id, document, chunks.text, context, start, end, chunks.metadata, title "
            f"FROM chunks JOIN documents ON documents.id = document WHERE row IN ({marks})",
            rows,
        )
        by_row = {row[0]: (_chunk(row[:8]), row[8]) for row in found}
        return [by_row[row] for row in rows]

    def _chunks(self, where: str, values: Sequence[Any]) -> Iterator[StoredChunk]:
        query = f"SELECT row, id, document, text, context, start, end, metadata FROM chunks {where}"
        for row in self._all(query, values):
            yield _chunk(row)


def _chunk(columns: Sequence[Any]) -> StoredChunk:
    row, name, document, text, context, start, end, metadata = columns
    return StoredChunk(row, name, document, text, context, start, end, json.loads(metadata))
