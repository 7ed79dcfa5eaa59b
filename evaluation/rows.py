"""JSON Lines files: one object a line, plain or gzipped; a bad line is named by file and number."""

import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from artrag.errors import PredictionsError
from artrag.ledger import line_of


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a `.jsonl` or `.jsonl.gz` file with their line numbers (from 1); blank lines are passed over.

    Raises:
        PredictionsError: the file cannot be read or is empty, or a line is no JSON object.
    """
    empty = True
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):  # by "\n" only: texts may hold U+2028
                if line.strip():
                    empty = False
                    yield number, _object(line, path, number)
    except FileNotFoundError:
        raise PredictionsError(f"there is no file {str(path)!r}: check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        raise PredictionsError(f"{str(path)!r} cannot be read ({error}): copy or write it again") from None
    if empty:
        raise PredictionsError(f"{str(path)!r} is empty: give a file with one JSON object a line")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object a line, gzipped where the name ends so; a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as raw, _packed(raw, path) as out:
            for row in rows:
                out.write(line_of(row))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _packed(raw: BinaryIO, path: Path) -> BinaryIO:
    # Without a time stamp the same rows give the same bytes.
    return cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=raw, mtime=0)) if path.suffix == ".gz" else raw


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{path}:{number}: no JSON object ({error}): mend the line or take it out") from None
    if not isinstance(row, dict):
        raise PredictionsError(
            f"{path}:{number}: {str(row)[:60]!r} is no JSON object: write one question with its answers a line"
        )
    return row


def _not_a_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
