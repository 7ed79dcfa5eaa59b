"""Building a generation of an index beside the one that is read; `artrag.index.finish` swaps it in.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artrag.errors import IndexDamagedError, IndexLockedError, IndexNotFoundError, IndexVersionError
from artrag.index.catalog import Catalog
from artrag.index.manifest import Manifest, check_files, read_manifest

STALE_SECONDS = 600.0
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
        release(path)


def release(path: Path) -> None:
    """Let the next writer in."""
    (path / _LOCK).unlink(missing_ok=True)


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

    def vector(self, key: str) -> bytes | None:
        """A kept vector's bytes, float32."""
        found = self._connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def keep_vector(self, key: str, vector: bytes) -> None:
        """Keep a vector's bytes; `commit` makes it permanent."""
        self._connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, vector))

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
