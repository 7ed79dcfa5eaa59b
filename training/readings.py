"""What a step reader reads of recorded answers, also of those that it learned from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from artrag.evaluation.rows import read_rows
from artrag.models.step_reader import Floats, StepReader

KEPT = "readings.jsonl.gz"


class Readings:
    """What a trained reader reads of answers; of those it learned from, what it read without having seen them."""

    def __init__(self, folder: Path) -> None:
        self.reader = StepReader.load(folder)
        kept = folder / KEPT
        rows = (row for _, row in read_rows(kept)) if kept.is_file() else ()
        self._kept: dict[str, float] = {row["key"]: row["reading"] for row in rows}

    def of(self, question: str, answers: Sequence[str]) -> Floats:
        """The readings [n] of answers to one question."""
        kept = [self._kept.get(answer_key(question, answer)) for answer in answers]
        new = [answer for answer, known in zip(answers, kept, strict=True) if known is None]
        read = iter(self.reader.read(question, new).tolist() if new else ())
        return np.array([next(read) if known is None else known for known in kept], dtype=np.float32)


def answer_key(question: str, answer: str) -> str:
    """What a kept reading is found by."""
    return hashlib.sha256(f"{question}\0{answer}".encode("utf-8", "replace")).hexdigest()[:16]
