"""Is a run worse than an earlier one over the same questions?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from artrag.errors import UsageError
from artrag.evaluation.intervals import clustered
from artrag.evaluation.ladder import FEWEST, Ladder
from artrag.evaluation.questions import Question, groups
from artrag.evaluation.rows import read_rows, write_rows
from artrag.formats import check_run

QUALITIES = "qualities.jsonl"


def write_qualities(folder: Path, found: Ladder, questions: Sequence[Question]) -> Path:
    """Keep what each system's answer to each question is worth, and why it is wrong where it is."""
    path = folder / QUALITIES
    write_rows(
        path,
        (
            {
                "id": one.id,
                "question": one.words,
                "answers": list(one.answers),
                "qualities": {name: values[n] for name, values in found.values.items()},
                "causes": {name: why[n] for name, why in found.causes.items() if why[n]},
            }
            for n, one in enumerate(questions)
        ),
    )
    return path


def compare(found: Ladder, questions: Sequence[Question], before: Path) -> dict[str, Any]:
    """What each system has gained since the run in the folder `before`, question by question.

    Returns:
        `gains` by system, with intervals; `worse`, the systems whose interval lies below zero (of
        fewer than 20 questions none: they say nothing); `new`, those that the
        earlier run has not.

    Raises:
        UsageError: there is no such run, it asked other questions, or none of these systems.
    """
    earlier = earlier_of(questions, before)
    known = set(next(iter(earlier.values()))["qualities"])
    both = [name for name in found.values if name in known]
    if not both:
        raise UsageError(f"{str(before)!r} has the systems {', '.join(sorted(known))}, and none of these: measure one")
    about = groups(questions)
    gains = {}
    for name in both:
        past = [earlier[one.id]["qualities"][name] for one in questions]
        gains[name] = clustered(np.subtract(found.values[name], past), about)
    enough = len(set(about)) >= FEWEST
    return {
        "run": str(before),
        "gains": {name: asdict(gain) for name, gain in gains.items()},
        "worse": [name for name, gain in gains.items() if enough and gain.high < 0],
        "new": [name for name in found.values if name not in known],
    }


def earlier_of(questions: Sequence[Question], before: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run over the same questions, by id.

    Raises:
        UsageError: there is no such run, or it asked other questions.
        FormatError: it is of another format version.
    """
    path = before / QUALITIES
    check_run(before, "evaluate")
    if not path.is_file():
        raise UsageError(f"{str(before)!r} is no finished run: give the folder of an evaluation, with {QUALITIES!r}")
    earlier = {row["id"]: row for _, row in read_rows(path)}
    changed = [one.id for one in questions if not _same(one, earlier.get(one.id, {}))]
    if changed or len(earlier) != len(questions):
        example = f", such as {changed[0]!r}" if changed else ""
        raise UsageError(
            f"{str(before)!r} asked {len(earlier)} questions, this run {len(questions)}, and {len(changed)} of these "
            f"are not among them{example}: compare runs over the same questions with the same right answers"
        )
    return earlier


def _same(one: Question, row: dict[str, Any]) -> bool:
    """Is it the same question with the same right answers?"""
    answers = list(one.answers)
    return row.get("question") == one.words and row.get("answers", answers) == answers
