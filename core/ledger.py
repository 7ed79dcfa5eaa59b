"""A file of JSON lines that grows a line at a time, and outlives a killed run."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from artrag.errors import UsageError

_BLOCK = 1 << 16


def line_of(row: dict[str, Any]) -> bytes:
    """One object as a line; what is no Unicode is kept by its escape."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, which is left as it is; none where there is no file.

    Raises:
        UsageError: a line is no JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):  # a kill left it unfinished
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UsageError(f"{path}:{number}: no JSON object ({error}): take the line out") from None


class Ledger:
    """Lines that are kept as soon as they exist; a last line that a kill left unfinished is taken out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()  # replies may come side by side

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open or begin the file at `path`; one run at a time writes to it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        try:
            file.truncate(_whole(file))
            return cls(file)
        except BaseException:
            file.close()
            raise

    def add(self, row: dict[str, Any]) -> None:
        """Append a line; it is on its way to the disk when this returns."""
        line = line_of(row)
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole(file: BinaryIO) -> int:
    """Where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        if (at := file.read(end - start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0
