"""Building a generation of an index beside the one that is read; `artrag.index.finish` swaps it in.

One writer at a time: `begin` takes the index's lock, `finish` and `give_up` release it. A build lives in one process;
of one that died only the cache is left, and that is all that was paid for.
"""

import errno
import hashlib
import json
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from artrag.errors import ArtragError, IndexDamagedError, IndexStoreError
from artrag.index import lock
from artrag.index.catalog import Catalog
from artrag.index.manifest import CATALOG, fault_of, latest_manifest

CACHE = "cache.sqlite"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Begun:
    """A build that was begun.

    Attributes:
        build: its id.
        lost: what of the old index could not be taken over, each in a sentence.
    """

    build: str
    lost: tuple[str, ...] = ()


def begin(path: Path) -> Begun:
    """Take the lock and lay out a new generation, starting from what is there.

    Raises:
        IndexLockedError: somebody else is writing.
        IndexVersionError: what is there has another format.
        IndexStoreError: nothing can be written there.
    """
    build = uuid.uuid4().hex[:12]
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock.take(path, build)
    try:
        with writing(path):
            for left_over in path.glob("building-*"):
                shutil.rmtree(left_over, ignore_errors=True)
            made = folder(path, build)
            made.mkdir()
            return Begun(build, tuple(_start(path, made / CATALOG)))
    except BaseException:
        give_up(path, build)
        raise


def folder(path: Path, build: str) -> Path:
    """The folder of an unfinished generation."""
    return path / f"building-{build}"


@contextmanager
def working(path: Path, build: str) -> Iterator[Catalog]:
    """The catalogue of an unfinished generation; on an error the build is given up and the old index stays."""
    lock.touch(path, build)
    try:
        with writing(path), Catalog.open(folder(path, build) / CATALOG, write=True) as catalog:
            yield catalog
    except BaseException:
        give_up(path, build)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in plain words why the index could not be written: the disk is full, or it may not be written.

    Raises:
        IndexStoreError: in place of the system's error.
    """
    try:
        yield
    except ArtragError:
        raise
    except (OSError, sqlite3.OperationalError, RuntimeError) as error:
        number, words = getattr(error, "errno", None), str(error)
        # faiss raises a RuntimeError with the system's words in it.
        if number in _FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL or "No space left" in words:
            told = f"the disk is full ({words}): free some space, and run it again"
        elif number in _REFUSED and str(getattr(error, "filename", None) or "").startswith(str(path)):
            told = f"{words}: check its permissions, or give another directory"
        elif isinstance(error, sqlite3.OperationalError):
            told = f"{words}: check the disk, and run it again"
        else:
            raise  # an embedder's own trouble, say
        raise IndexStoreError(f"cannot write the index at {str(path)!r}, which is as it was: {told}") from error


def give_up(path: Path, build: str) -> None:
    """Drop an unfinished generation and the lock; what was paid for stays in the cache."""
    shutil.rmtree(folder(path, build), ignore_errors=True)
    lock.release(build)


def digest(*parts: str) -> str:
    """A fingerprint of texts; no two lists of parts share one."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Cache:
    """What was paid for, kept as soon as it exists: contexts for good, vectors until they stand in an index.

    Raises:
        IndexDamagedError: its file is none of a cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        file = path / CACHE
        self._connection = sqlite3.connect(file, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA trusted_schema = OFF")  # the directory may come from anywhere
            self._connection.executescript(
                "CREATE TABLE IF NOT EXISTS contexts (key TEXT PRIMARY KEY, text TEXT NOT NULL);"
                "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL);"
                "CREATE TABLE IF NOT EXISTS tokens (key TEXT PRIMARY KEY, vectors BLOB NOT NULL);"
            )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):  # the disk's fault, not the file's
                with writing(path):
                    raise
            raise IndexDamagedError(
                f"{str(file)!r} is damaged ({error}): run 'artrag index repair {path}', which puts it aside"
            ) from None

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            with writing(self.path):
                self._connection.commit()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file."""
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
        with writing(self.path):
            self._connection.execute("INSERT OR REPLACE INTO contexts VALUES (?, ?)", (key, text))
            self._connection.commit()

    def vector(self, key: str) -> bytes | None:
        """A kept vector's bytes, float32."""
        found = self._connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def tokens(self, key: str) -> bytes | None:
        """The bytes of a text's token vectors, int8."""
        found = self._connection.execute("SELECT vectors FROM tokens WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def keep_vector(self, key: str, vector: bytes, tokens: bytes | None = None) -> None:
        """Keep a vector's bytes, and those of the token vectors; `commit` makes it permanent."""
        self._connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, vector))
        if tokens is not None:
            self._connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (key, tokens))

    def forget_vectors(self) -> None:
        """Drop the vectors, which stand in an index now, and give their space back."""
        if self._connection.execute("SELECT 1 FROM vectors LIMIT 1").fetchone():
            self._connection.execute("DELETE FROM vectors")
            self._connection.execute("DELETE FROM tokens")
            self._connection.commit()
            self._connection.execute("VACUUM")


def _start(path: Path, file: Path) -> Iterator[str]:
    """Lay down the catalogue to start from; yields what of the old one was lost."""
    old = latest_manifest(path)
    if old is None:
        Catalog.create(file).close()
        if any(path.glob("generation-*")):
            yield f"the index at {str(path)!r} has no sound manifest: it was begun anew with what is given now"
        return
    fault = fault_of(path, old, CATALOG)
    if fault in ("", "cut", "altered"):
        shutil.copyfile(path / old.generation / CATALOG, file)
    if fault:
        yield from _salvage(file, f"{str(path / old.generation / CATALOG)!r} is {fault}")


def _salvage(file: Path, what: str) -> Iterator[str]:
    """Keep of an altered catalogue what can be proven: documents and chunks that are what their checksums say."""
    try:
        with Catalog.open(file, write=True) as catalog:
            if found := catalog.problems():
                raise IndexDamagedError(found[0])
            wrong, sources = sorted(catalog.unproven()), catalog.sources()
            for name in wrong:
                catalog.forget_file(*sources[name])
            catalog.remove_documents(wrong)
    except (IndexDamagedError, sqlite3.DatabaseError) as error:
        file.unlink(missing_ok=True)
        Catalog.create(file).close()
        yield f"{what} and cannot be read ({error}): the index was begun anew with what is given now"
        return
    for name in wrong:
        yield f"{what}: document {name!r} was dropped from it; it is there again if it is given now"
