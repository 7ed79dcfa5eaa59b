"""One writer at a time: an index is held (`artrag.holding`) by a build, which goes through several nodes of a graph."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from artrag.errors import IndexLockedError
from artrag.holding import Hold

STALE_SECONDS = 600.0
"""A build of this same process that has not stirred for so long was abandoned; its lock goes to the next."""


@dataclass(slots=True)
class _Build:
    hold: Hold
    stirred: float


_held: dict[str, _Build] = {}
_guard = threading.Lock()


def take(path: Path, build: str) -> None:
    """Take the lock of the index at `path` for a build.

    Raises:
        IndexLockedError: somebody else is writing; the message says who.
    """
    with _guard:
        home = path.resolve()
        for other, one in list(_held.items()):
            if one.hold.folder == home and time.monotonic() - one.stirred > STALE_SECONDS:
                _drop(other)
        hold = Hold.take(home, told=f"the index at {str(path)!r}", otherwise=IndexLockedError)
        _held[build] = _Build(hold, time.monotonic())


def touch(path: Path, build: str) -> None:
    """Say that the writer is alive.

    Raises:
        IndexLockedError: the build holds no lock (any more).
    """
    with _guard:
        if build not in _held:
            raise IndexLockedError(f"the build of {str(path)!r} lost its lock: run 'artrag ingest' again")
        _held[build].stirred = time.monotonic()


def release(build: str) -> None:
    """Let the next writer in; nothing happens where the build holds no lock."""
    with _guard:
        if build in _held:
            _drop(build)


def _drop(build: str) -> None:
    _held.pop(build).hold.release()
