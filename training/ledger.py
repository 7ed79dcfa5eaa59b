"""A file of JSON lines that grows a line at a time, and outlives a killed run."""

import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from artrag.evaluation.rows import line_of


class Ledger:
    """Lines that are kept as soon as they exist; a last line that a kill left unfinished is taken out.

    Attributes:
        rows: all lines, in their order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # replies may come side by side
        self._file: BinaryIO | None = None
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+b")
        self._file.seek(0)
        text = self._file.read()
        end = text.rfind(b"\n") + 1
        self._file.truncate(end)
        self.rows = [json.loads(line) for line in text[:end].splitlines()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Append a line; it is on its way to the disk when this returns."""
        assert self._file is not None
        with self._lock:
            self._file.write(line_of(row))
            self._file.flush()
            self.rows.append(row)
