"""Building a generation of an index beside the one that is read, and swapping it in.

One writer at a time: `begin` takes the index's lock file, which names the writer; `finish` and `give_up` release it. A
writer that is gone, or has not stirred for ten minutes, loses the lock.
"""

import hashlib
import json
import os
import shutil
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

import artrag
from artrag.errors import EmptyCorpusError, IndexDamagedError, IndexLockedError, IndexNotFoundError, IndexVersionError
from artrag.index.bm25 import BM25
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.manifest import (
    FILES,
    FORMAT,
    ContextKind,
    Manifest,
    check_files,
    entry_of,
    read_manifest,
    write_manifest,
)
from artrag.index.store import fingerprint, unit
from artrag.index.tokens import tokenize

STALE_SECONDS = 600.0
EMBED_BATCH = 64
_LOCK = "writer.json"


def begin(path: Path) -> str:
    """Take the lock and lay out a new generation, starting from what is there; returns the build's id.

    Raises:
        IndexLockedError: somebody else is writing.
    """
    path.mkdir(parents=True, exist_ok=True)
    build = uuid.uuid4().hex[:12]
    _lock(path, build)
    try:
        for left_over in path.glob("building-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        folder(path, build).mkdir()
        old = current(path)
        if old is None:
            Catalog.create(folder(path, build) / "catalog.sqlite").close()
        else:
            shutil.copyfile(path / old.generation / "catalog.sqlite", folder(path, build) / "catalog.sqlite")
    except BaseException:
        give_up(path, build)
        raise
    return build


def folder(path: Path, build: str) -> Path:
    """The folder of an unfinished generation."""
    return path / f"building-{build}"


def current(path: Path) -> Manifest | None:
    """The manifest of what is there, or None where nothing usable is."""
    try:
        manifest = read_manifest(path)
        check_files(path, manifest)
    except (IndexNotFoundError, IndexVersionError, IndexDamagedError):
        return None
    return manifest


@contextmanager
def working(path: Path, build: str) -> Iterator[Catalog]:
    """The catalogue of an unfinished generation; on an error the build is given up and the old index stays."""
    touch(path, build)
    try:
        with Catalog.open(folder(path, build) / "catalog.sqlite", write=True) as catalog:
            yield catalog
    except BaseException:
        give_up(path, build)
        raise


def touch(path: Path, build: str) -> None:
    """Say that the writer is alive.

    Raises:
        IndexLockedError: the lock was lost to another writer.
    """
    if _holder(path).get("build") != build:
        raise IndexLockedError(f"the build of {str(path)!r} lost its lock to another writer: run 'artrag ingest' again")
    os.utime(path / _LOCK)


def give_up(path: Path, build: str) -> None:
    """Drop an unfinished generation and the lock; what was paid for stays in the cache."""
    shutil.rmtree(folder(path, build), ignore_errors=True)
    if _holder(path).get("build") == build:
        (path / _LOCK).unlink(missing_ok=True)


def finish(
    path: Path,
    build: str,
    *,
    embedder: Embeddings,
    reference: str,
    context: ContextKind,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Manifest, int]:
    """Embed, lay out the arms, and swap the new generation in; returns its manifest and the number of new vectors.

    Raises:
        EmptyCorpusError: there is no chunk to index.
    """
    made = folder(path, build)
    with working(path, build) as catalog:
        catalog.renumber()
        catalog.commit()
        documents, chunks = catalog.counts()
        if not chunks:
            raise EmptyCorpusError(f"nothing to index in {str(path)!r}: give at least one document with text")
        vectors, embedded = _vectors(path, build, catalog, embedder, chunks, tell)
        Dense.build(vectors).save(made / "dense.faiss")
        BM25.build(tokenize(chunk.indexed) for chunk in catalog.chunks()).save(made / "bm25.npz")
    try:
        manifest = Manifest(
            format=FORMAT,
            artrag=artrag.__version__,
            generation=f"generation-{build}",
            embedder=reference,
            embedder_fingerprint=fingerprint(embedder),
            dimension=vectors.shape[1],
            context=context,
            documents=documents,
            chunks=chunks,
            files={name: entry_of(made / name) for name in FILES},
        )
        made.rename(path / manifest.generation)
        write_manifest(path, manifest)
    except BaseException:
        give_up(path, build)
        raise
    for generation in path.glob("generation-*"):
        if generation.name != manifest.generation:
            shutil.rmtree(generation, ignore_errors=True)
    with Cache(path) as cache:
        cache.forget_vectors()
    (path / _LOCK).unlink(missing_ok=True)
    return manifest, embedded


def _vectors(
    path: Path, build: str, catalog: Catalog, embedder: Embeddings, count: int, tell: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], int]:
    """The vectors of all chunks by row: from the old generation, from the cache of a killed run, or made now."""
    model = fingerprint(embedder)
    known = _known_vectors(path, model)
    rows: list[NDArray[np.float32] | None] = []
    missing: list[tuple[int, str, str]] = []
    with Cache(path) as cache:
        for chunk in catalog.chunks():
            key = digest(model, chunk.indexed)
            vector = known.get(key)
            vector = cache.vector(key) if vector is None else vector
            rows.append(vector)
            if vector is None:
                missing.append((chunk.row, key, chunk.indexed))
        tell(count - len(missing), count)
        for start in range(0, len(missing), EMBED_BATCH):
            batch = missing[start : start + EMBED_BATCH]
            made = unit(np.asarray(embedder.embed_documents([text for *_, text in batch]), dtype=np.float32))
            for (row, key, _), vector in zip(batch, made, strict=True):
                rows[row] = vector
                cache.keep_vector(key, vector)
            cache.commit()
            touch(path, build)
            tell(count - len(missing) + start + len(batch), count)
    return np.stack([row for row in rows if row is not None]), len(missing)


def _known_vectors(path: Path, model: str) -> dict[str, NDArray[np.float32]]:
    old = current(path)
    if old is None or old.embedder_fingerprint != model:
        return {}
    vectors = Dense.load(path / old.generation / "dense.faiss").vectors()
    with Catalog.open(path / old.generation / "catalog.sqlite") as catalog:
        return {digest(model, chunk.indexed): vectors[chunk.row] for chunk in catalog.chunks()}


def digest(*parts: str) -> str:
    """A fingerprint of texts; no two lists of parts share one."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Cache:
    """What was paid for, kept as soon as it exists: contexts for good, vectors until they stand in an index."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path / "cache.sqlite", check_same_thread=False)
        self._connection.executescript(
            "CREATE TABLE IF NOT EXISTS contexts (key TEXT PRIMARY KEY, text TEXT NOT NULL);"
            "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL);"
        )

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.commit()
        self._connection.close()

    def commit(self) -> None:
        """Make what was kept permanent."""
        self._connection.commit()

    def context(self, key: str) -> str | None:
        """A kept context."""
        found = self._connection.execute("SELECT text FROM contexts WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def keep_context(self, key: str, text: str) -> None:
        """Keep a context, at once."""
        self._connection.execute("INSERT OR REPLACE INTO contexts VALUES (?, ?)", (key, text))
        self._connection.commit()

    def vector(self, key: str) -> NDArray[np.float32] | None:
        """A kept vector."""
        found = self._connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return None if found is None else np.frombuffer(found[0], dtype=np.float32)

    def keep_vector(self, key: str, vector: NDArray[np.float32]) -> None:
        """Keep a vector; `commit` makes it permanent."""
        self._connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, vector.tobytes()))

    def forget_vectors(self) -> None:
        """Drop the vectors: they stand in an index now."""
        self._connection.execute("DELETE FROM vectors")


def _holder(path: Path) -> dict[str, str | int]:
    try:
        held = json.loads((path / _LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _lock(path: Path, build: str) -> None:
    lock = path / _LOCK
    me = {"build": build, "pid": os.getpid(), "host": socket.gethostname()}
    for _ in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                json.dump(me, file)
            return
        except FileExistsError:
            held = _holder(path)
            if _alive(lock, held):
                raise IndexLockedError(
                    f"the index at {str(path)!r} is being written by process {held.get('pid')} on "
                    f"{held.get('host')!r}: wait for it, or delete {str(lock)!r} if that is long gone"
                ) from None
            lock.unlink(missing_ok=True)
    raise IndexLockedError(f"the index at {str(path)!r} was taken by another writer just now: try again")


def _alive(lock: Path, held: dict[str, str | int]) -> bool:
    try:
        if time.time() - lock.stat().st_mtime > STALE_SECONDS:
            return False
        if held.get("host") == socket.gethostname():
            os.kill(int(held.get("pid", 0)), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return bool(held)
