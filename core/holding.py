"""One writer at a time in a folder: a lock of the operating system, which ends with its process, and who holds it.

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

from artrag.errors import ArtragError

LOCK, NOTE = "writer.lock", "writer.json"

_held: set[Path] = set()  # not every file system keeps a process from locking a file twice
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Hold:
    """A folder that nobody else may write into until it is released."""

    folder: Path
    lock: FileLock

    @classmethod
    def take(cls, folder: Path, *, told: str, otherwise: type[ArtragError]) -> "Hold":
        """Take the lock of an existing folder.

        Args:
            folder: its lock and its note lie in it.
            told: what the folder is, for the message.
            otherwise: raised where somebody else holds it; the message says who.
        """
        folder = folder.resolve()
        lock = FileLock(folder / LOCK, thread_local=False)  # whoever holds it goes through the threads of a graph
        try:
            with _guard:
                if folder in _held:
                    raise Timeout(str(folder))
                lock.acquire(timeout=0)
                _held.add(folder)
        except Timeout:
            raise otherwise(f"{told} is being written by {_holder(folder)}") from None
        hold = cls(folder, lock)
        try:
            me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
            beside = folder / f"{NOTE}.new"
            beside.write_text(json.dumps(me), encoding="utf-8")
            beside.replace(folder / NOTE)
        except BaseException:
            hold.unlock()
            raise
        return hold

    def release(self) -> None:
        """Let the next writer in."""
        try:
            (self.folder / NOTE).unlink(missing_ok=True)
        finally:
            self.unlock()

    def unlock(self) -> None:
        """As `release`, at once: the note stays."""
        with _guard:
            _held.discard(self.folder)
            self.lock.release()


def _holder(folder: Path) -> str:
    for _ in range(5):
        time.sleep(0.05)  # the holder may be about to write its note, and the one that lies there be of the last writer
        try:
            note: Any = json.loads((folder / NOTE).read_text(encoding="utf-8"))
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
