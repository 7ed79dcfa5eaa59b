"""A file of JSON lines that grows a line at a time, and outlives a killed run."""

import json
import threading
from pathlib import Path
from typing import Any, BinaryIO

from artrag.errors import UsageError


def line_of(row: dict[str, Any]) -> bytes:
    """One object as a line; what is no Unicode is kept by its escape."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file, which is left as it is; none where there is no file.

    Raises:
        UsageError: a line is no JSON object.
    """
    text = path.read_bytes() if path.exists() else b""
    return _rows(text[: text.rfind(b"\n") + 1], path)


def _rows(text: bytes, path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split(b"\n")[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UsageError(f"{path}:{number}: no JSON object ({error}): take the line out") from None
    return rows


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
        """Open or begin the file at `path`; one run at a time writes to it.

        Raises:
            UsageError: a line is no JSON object.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        try:
            file.seek(0)
            text = file.read()
            end = text.rfind(b"\n") + 1
            if end < len(text):
                file.truncate(end)
            return cls(file, _rows(text[:end], path))
        except BaseException:
            file.close()
            raise

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
