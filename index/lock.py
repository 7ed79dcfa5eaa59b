"""One writer at a time: a lock of the operating system, which ends with its process, and a note that says who holds it.

The lock is the file `writer.lock`; it stays when the writer has gone, for a lock that is unlinked can be held twice.
The note, `writer.json`, is for people: nothing is decided by it.
"""

import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from artrag.errors import IndexLockedError

LOCK, NOTE = "writer.lock", "writer.json"
STALE_SECONDS = 600.0
"""A build of this same process that has not stirred for so long was abandoned; its lock goes to the next."""


@dataclass(slots=True)
class _Hold:
    path: Path
    lock: FileLock
    stirred: float


_held: dict[str, _Hold] = {}
_guard = threading.Lock()


def take(path: Path, build: str) -> None:
    """Take the lock of the index at `path` for a build.

    Raises:
        IndexLockedError: somebody else is writing; the message says who.
    """
    with _guard:
        home = path.resolve()
        for other, hold in list(_held.items()):
            if hold.path == home and time.monotonic() - hold.stirred > STALE_SECONDS:
                _drop(other)
        lock = FileLock(home / LOCK, thread_local=False)  # a build goes through the threads of its graph
        try:
            if any(hold.path == home for hold in _held.values()):
                raise Timeout(str(home))
            lock.acquire(timeout=0)
        except Timeout:
            raise IndexLockedError(f"the index at {str(path)!r} is being written by {_holder(home)}") from None
        _held[build] = _Hold(home, lock, time.monotonic())
        me = {"build": build, "pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
        beside = home / f"{NOTE}.new"
        beside.write_text(json.dumps(me), encoding="utf-8")
        beside.replace(home / NOTE)


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
    hold = _held.pop(build)
    try:
        (hold.path / NOTE).unlink(missing_ok=True)
    finally:
        hold.lock.release()


def _holder(home: Path) -> str:
    for _ in range(5):
        time.sleep(0.05)  # the holder may be about to write its note, and the one that lies there be of the last writer
        try:
            note: Any = json.loads((home / NOTE).read_text(encoding="utf-8"))
            who, here = f"process {note['pid']} on {note['host']!r} since {note['since']}", _is_here(note)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if here and note["pid"] == os.getpid():
            return f"this same process ({who[8:]}): wait for that run, or end it"
        if here and not _lives(note["pid"]):
            continue
        return f"{who}: wait for it, or end that process"
    return "somebody who has left no note: wait, or end the process that holds it"


def _is_here(note: dict[str, Any]) -> bool:
    return bool(note["host"] == socket.gethostname())


def _lives(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
