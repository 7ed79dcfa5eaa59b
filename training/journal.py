"""A file of predictions that grows by one question at a time and outlives a killed run."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from artrag.errors import PredictionsError, UsageError
from artrag.evaluation.predictions import Prediction, normal_question, read_predictions, to_row
from artrag.ledger import line_of

FORMAT = 1


class Journal:
    """Appends predictions to `out`; the recipe they were made with stands in `<out>.meta.json`.

    One process at a time writes. A last line that a killed run left unfinished is taken out.

    Raises:
        UsageError: on entering, where the name ends in .gz, another run is writing, or the rows that are there were
            made with another recipe.
        PredictionsError: a line that is there cannot be read.
    """

    def __init__(self, out: Path, recipe: dict[str, Any]) -> None:
        self._out, self._recipe = out, {"format": FORMAT, **recipe}
        self._file: BinaryIO | None = None
        self._questions: dict[str, str] = {}

    @property
    def _beside(self) -> Path:
        return self._out.with_name(f"{self._out.name}.meta.json")

    def __enter__(self) -> Self:
        if self._out.suffix == ".gz":
            raise UsageError(f"{str(self._out)!r} cannot be appended to: name a file that ends in .jsonl")
        self._out.parent.mkdir(parents=True, exist_ok=True)
        old = self._out.exists() and self._out.stat().st_size > 0
        if old:
            self._check_recipe()
        self._file = self._out.open("a+b")
        try:
            _lock(self._file, self._out)
            if old and _mend(self._file):
                self._questions = {row.id: row.question for row in read_predictions(self._out)}
            temporary = self._beside.with_name(f".{self._beside.name}.{os.getpid()}")
            temporary.write_text(json.dumps(self._recipe, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, self._beside)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def holds(self, name: str, question: str) -> bool:
        """Is the question of this id already there?

        Raises:
            PredictionsError: another question of the same id is.
        """
        known = self._questions.get(name)
        if known is not None and normal_question(known) != normal_question(question):
            raise PredictionsError(
                f"{str(self._out)!r} holds another question {name!r}, {known[:60]!r}: give another file to write to"
            )
        return known is not None

    def write(self, row: Prediction) -> None:
        """Append a finished question; it is on its way to the disk when this returns."""
        assert self._file is not None
        self._file.write(line_of(to_row(row)))
        self._file.flush()
        self._questions[row.id] = row.question

    def _check_recipe(self) -> None:
        try:
            known = json.loads(self._beside.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{str(self._out)!r} does not say how its answers were made ({str(self._beside)!r}: {error}): "
                "give another file to write to"
            ) from None
        for name, wanted in self._recipe.items():
            found = known.get(name) if isinstance(known, dict) else None
            if found != wanted:
                raise UsageError(
                    f"{str(self._out)!r} was collected with {name}={found!r}, not {wanted!r}: "
                    "ask for the same, or give another file to write to"
                )


def _mend(file: BinaryIO) -> bool:
    """Take an unfinished last line out of the file; False where nothing else is in it."""
    file.seek(0)
    text = file.read()
    end = text.rfind(b"\n") + 1
    if end < len(text):
        file.truncate(end)
    return bool(text[:end].strip())


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"{str(path)!r} is being written by another run: wait for it, or write elsewhere") from None
