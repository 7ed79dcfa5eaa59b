"""Documents and chunks in SQLite: the part of an index that keeps the words.

A catalogue may come from anywhere, so one with another schema than ours (a trigger, a view) is not opened. A finished
one is never written again: it is read as immutable, which needs no lock and heeds no journal that lies beside it.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artrag.errors import IndexDamagedError
from artrag.index.filters import condition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Short columns first: a long text is not read to get at what stands behind it.
_SCHEMA = """
CREATE TABLE documents (
    id TEXT PRIMARY KEY, root TEXT NOT NULL, source TEXT NOT NULL, path TEXT NOT NULL, title TEXT NOT NULL,
    sha256 TEXT NOT NULL, cut TEXT NOT NULL, situated TEXT NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE chunks (
    row INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    start INTEGER NOT NULL, end INTEGER NOT NULL, key BLOB NOT NULL, metadata TEXT NOT NULL, context TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX chunks_of_document ON chunks(document);
CREATE TABLE files (
    root TEXT NOT NULL, source TEXT NOT NULL, sha256 TEXT NOT NULL, documents INTEGER NOT NULL,
    PRIMARY KEY (root, source)
);
"""
_DOCUMENT = "id, root, path, title, text, sha256, metadata, source"
_CHUNK = "chunks.row, chunks.id, document, chunks.text, context, start, end, chunks.metadata"
_PORTION = 500
_MASKS = 32  # filters whose answer is kept: one byte a chunk each


def key_of(indexed: str) -> bytes:
    """What tells an indexed text from others, 16 bytes; equal texts share their vector."""
    return hashlib.blake2b(indexed.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def with_context(context: str, text: str) -> str:
    """The text that the arms index: context, then chunk."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it was read.

    Attributes:
        root: the path it was ingested from.
        source: the file it stands in.
        sha256: of its title, path, text and metadata (`content_hash`).
    """

    id: str
    root: str
    path: str
    title: str
    text: str
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    def content_hash(self) -> str:
        """What `sha256` must be."""
        about = json.dumps(self.metadata, sort_keys=True)
        return hashlib.sha256(json.dumps([self.title, self.path, self.text, about]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk with its context; `row` is its place in the arrays of every arm.

    `document[start:end]` is its text, but for a given cut that is no part of its document: there `start` is `end`.
    """

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
        return with_context(self.context, self.text)


class Catalog:
    """The SQLite file of an index; safe to read from several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._masks: dict[str, NDArray[np.bool_]] = {}

    @classmethod
    def create(cls, path: Path) -> "Catalog":
        """A new, empty catalogue."""
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.executescript(_SCHEMA)
        connection.close()
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> "Catalog":
        """An existing catalogue, read-only and immutable unless `write`.

        What is written waits in memory and the system's cache: a build is dropped whole when its process dies, and
        `artrag.index.finish` sees to it that all of it is on disk before it counts.

        Raises:
            IndexDamagedError: it is missing, no database, or not one of ours.
        """
        mode = "mode=rw" if write else "mode=ro&immutable=1"
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False)
            connection.execute("PRAGMA trusted_schema = OFF")
            found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            if set(found) != _expected():
                raise sqlite3.DatabaseError("it has another schema")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.create_function("key_of", 2, lambda *parts: key_of(with_context(*parts)), deterministic=True)
            if write:
                connection.execute("PRAGMA journal_mode = MEMORY")
                connection.execute("PRAGMA synchronous = OFF")
            else:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA cell_size_check = ON")
        except sqlite3.DatabaseError as error:
            if connection is not None:
                connection.close()
            raise IndexDamagedError(
                f"{str(path)!r} cannot be used ({error}): run 'artrag index repair', or ingest again"
            ) from None
        return cls(path, connection)

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._connection.commit()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; uncommitted changes are dropped."""
        self._connection.close()

    def commit(self) -> None:
        """Make changes permanent."""
        self._connection.commit()

    def _all(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong: its integrity check, and chunks without a document."""
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check(10)") if row[0] != "ok"]
        orphans = self._all("PRAGMA foreign_key_check")
        return found + ([f"{len(orphans)} chunks belong to no document"] if orphans else [])

    def unproven(self) -> set[str]:
        """Ids of the documents that are not what their checksums say, or one of whose chunks is not."""
        wrong = {
            name for (name,) in self._all("SELECT DISTINCT document FROM chunks WHERE key != key_of(context, text)")
        }
        for name in self.fingerprints().keys() - wrong:
            try:
                document = self.document(name)
                sound = document.content_hash() == document.sha256 and not self._astray(document)
            except ValueError:  # metadata that is no JSON
                sound = False
            if not sound:
                wrong.add(name)
        return wrong

    def astray(self) -> list[str]:
        """Ids of the chunks that do not stand in their documents where they say."""
        return [name for document in sorted(self.fingerprints()) for name in self._astray(self.document(document))]

    def _astray(self, document: StoredDocument) -> list[str]:
        # A given cut that is no part of its document stands nowhere.
        rows = self._all("SELECT id, start, end, text FROM chunks WHERE document = ? ORDER BY row", (document.id,))
        return [name for name, start, end, text in rows if start < end and document.text[start:end] != text]

    def counts(self) -> tuple[int, int]:
        """How many documents and chunks there are."""
        (documents,), (chunks,) = self._all("SELECT count(*) FROM documents UNION ALL SELECT count(*) FROM chunks")
        return int(documents), int(chunks)

    # Documents and the files they stand in.

    def fingerprints(self) -> dict[str, tuple[str, str]]:
        """Document id -> (root, sha256)."""
        return {name: (root, sha256) for name, root, sha256 in self._all("SELECT id, root, sha256 FROM documents")}

    def sources(self) -> dict[str, tuple[str, str]]:
        """Document id -> (root, source)."""
        return {name: (root, source) for name, root, source in self._all("SELECT id, root, source FROM documents")}

    def files(self) -> dict[tuple[str, str], tuple[str, int]]:
        """(root, source) -> (hash of how it was read last, number of its documents), of files that were read whole."""
        rows = self._all("SELECT root, source, sha256, documents FROM files")
        return {(root, source): (sha256, documents) for root, source, sha256, documents in rows}

    def keep_file(self, root: str, source: str, sha256: str, documents: int) -> None:
        """Note that a file was read whole."""
        self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (root, source, sha256, documents))

    def forget_file(self, root: str, source: str) -> None:
        """Have a file read anew the next time."""
        self._connection.execute("DELETE FROM files WHERE root = ? AND source = ?", (root, source))

    def document(self, name: str) -> StoredDocument:
        """One document by id; KeyError when there is none."""
        found = self._all(f"SELECT {_DOCUMENT} FROM documents WHERE id = ?", (name,))
        if not found:
            raise KeyError(name)
        key, root, path, title, text, sha256, metadata, source = found[0]
        return StoredDocument(key, root, path, title, text, sha256, json.loads(metadata), source)

    def add_document(self, document: StoredDocument) -> None:
        """Add a document, or replace it together with its chunks."""
        self.remove_documents([document.id])
        self._connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, '', '', ?, ?)",
            (
                document.id,
                document.root,
                document.source,
                document.path,
                document.title,
                document.sha256,
                json.dumps(document.metadata, ensure_ascii=False),
                document.text,
            ),
        )

    def move_document(self, name: str, source: str) -> None:
        """Note that a document stands in another file now."""
        self._connection.execute("UPDATE documents SET source = ? WHERE id = ?", (source, name))

    def remove_documents(self, names: Iterable[str]) -> None:
        """Remove documents and their chunks."""
        self._connection.executemany("DELETE FROM documents WHERE id = ?", [(name,) for name in names])

    # What is still to be done. `like` says how it would be done now: what was done otherwise is done again.

    def uncut(self, like: str) -> list[str]:
        """Ids of the documents that were not cut like this, in order."""
        return [name for (name,) in self._all("SELECT id FROM documents WHERE cut != ? ORDER BY id", (like,))]

    def set_chunks(self, document: str, chunks: Iterable[StoredChunk], like: str) -> None:
        """Give a document its chunks in place of those it has; their rows are given out anew by `renumber`."""
        self._connection.execute("DELETE FROM chunks WHERE document = ?", (document,))
        self._connection.executemany(
            "INSERT INTO chunks (id, document, start, end, key, metadata, context, text) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    c.id,
                    c.document,
                    c.start,
                    c.end,
                    key_of(c.indexed),
                    json.dumps(c.metadata, ensure_ascii=False),
                    c.context,
                    c.text,
                )
                for c in chunks
            ),
        )
        self._connection.execute("UPDATE documents SET cut = ?, situated = '' WHERE id = ?", (like, document))

    def unsituated(self, like: str) -> list[str]:
        """Ids of the documents whose chunks have no context of this kind yet, in order."""
        return [name for (name,) in self._all("SELECT id FROM documents WHERE situated != ? ORDER BY id", (like,))]

    def situate(self, document: str, contexts: Mapping[str, str], like: str) -> None:
        """Set the contexts of a document's chunks by id, and note that it has them; `like` empty: not all of them.

        A context that stays the same is not written.
        """
        self._connection.executemany(
            "UPDATE chunks SET context = ?1, key = key_of(?1, text) WHERE id = ?2 AND context != ?1",
            [(context, name) for name, context in contexts.items()],
        )
        self._connection.execute(
            "UPDATE documents SET situated = ?1 WHERE id = ?2 AND situated != ?1", (like, document)
        )

    # Chunks.

    def renumber(self) -> None:
        """Give the chunks the rows 0, 1, 2, ... in the order they were added."""
        rows = self.rows()
        self._connection.executemany(  # ascending, so that no new row meets an old one
            "UPDATE chunks SET row = ? WHERE row = ?", [(new, old) for new, old in enumerate(rows) if new != old]
        )

    def rows(self) -> list[int]:
        """The rows of all chunks, ascending."""
        return [row for (row,) in self._all("SELECT row FROM chunks ORDER BY row")]

    def keys(self) -> list[bytes]:
        """`key_of` each chunk's indexed text, by row."""
        return [bytes(key) for (key,) in self._all("SELECT key FROM chunks ORDER BY row")]

    def chunks_of(self, document: str) -> list[StoredChunk]:
        """The chunks of one document, in order."""
        return list(self._chunks("WHERE document = ? ORDER BY row", (document,)))

    def chunks(self) -> Iterator[StoredChunk]:
        """All chunks by row, read in portions."""
        last = -(2**63)
        while portion := list(self._chunks(f"WHERE row > ? ORDER BY row LIMIT {_PORTION}", (last,))):
            yield from portion
            last = portion[-1].row

    def at(self, rows: Sequence[int]) -> list[tuple[StoredChunk, str]]:
        """The chunks of these rows with their documents' titles, in the order asked for."""
        by_row: dict[int, tuple[StoredChunk, str]] = {}
        for start in range(0, len(rows), _PORTION):  # a query takes only so many values
            portion = rows[start : start + _PORTION]
            found = self._all(
                f"SELECT {_CHUNK}, title FROM chunks JOIN documents ON documents.id = document "
                f"WHERE row IN ({', '.join('?' * len(portion))})",
                portion,
            )
            by_row |= {row[0]: (_chunk(row[:8]), row[8]) for row in found}
        return [by_row[row] for row in rows]

    def rows_where(self, where: Mapping[str, Any]) -> "NDArray[np.bool_]":
        """Which chunks of a finished catalogue a filter lets through, shape (chunks,), bool, by row.

        `artrag.index.filters` says what a filter is; an empty one lets all through. The last ones asked for are kept.

        Raises:
            UsageError: a filter that is none.
        """
        import numpy as np

        clauses = [condition(key, wanted) for key, wanted in where.items()]
        asked = json.dumps(clauses)
        mask = self._masks.get(asked)
        if mask is None:
            # Every clause stands on its own, so that documents are asked once and not once a chunk.
            query = "SELECT row FROM chunks" + "".join(
                f" {'WHERE' if n == 0 else 'AND'} ({clause})" for n, (clause, _) in enumerate(clauses)
            )
            rows = self._all(query, [value for _, values in clauses for value in values])
            mask = np.zeros(self.counts()[1], dtype=np.bool_)
            mask[np.fromiter((row for (row,) in rows), dtype=np.int64, count=len(rows))] = True
            mask.flags.writeable = False
            with self._lock:
                while len(self._masks) >= _MASKS:
                    del self._masks[next(iter(self._masks))]
                self._masks[asked] = mask
        return mask

    def _chunks(self, where: str, values: Sequence[Any]) -> Iterator[StoredChunk]:
        for row in self._all(f"SELECT {_CHUNK} FROM chunks {where}", values):
            yield _chunk(row)


@cache
def _expected() -> set[tuple[str, str, str | None]]:
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(_SCHEMA)
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall())


def _chunk(columns: Sequence[Any]) -> StoredChunk:
    row, name, document, text, context, start, end, metadata = columns
    return StoredChunk(row, name, document, text, context, start, end, json.loads(metadata))
