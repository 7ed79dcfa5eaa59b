"""A file of JSON lines that grows a line at a time, and outlives a killed run."""

import json
import threading
from pathlib import Path
from typing import Any, BinaryIO


def line_of(row: dict[str, Any]) -> bytes:
    """One object as a line; what is no Unicode is kept by its escape."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


class Ledger:
    """Lines that are kept as soon as they exist; a last line that a kill left unfinished is taken out.

    Attributes:
        rows: all lines, in their order.
    """

    def __init__(self, file: BinaryIO, rows: list[dict[str, Any]]) -> None:
        self._file, self.rows = file, rows
        self._lock = threading.Lock()  # replies may come side by side

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open or begin the file at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        file.seek(0)
        text = file.read()
        end = text.rfind(b"\n") + 1
        file.truncate(end)
        return cls(file, [json.loads(line) for line in text[:end].splitlines()])

    def add(self, row: dict[str, Any]) -> None:
        """Append a line; it is on its way to the disk when this returns."""
        line = line_of(row)
        with self._lock:
            self._file.write(line)
            self._file.flush()
            self.rows.append(row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
