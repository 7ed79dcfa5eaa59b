"""Recorded runs with feedback as prediction rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artrag.errors import PredictionsError
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import Prediction, from_row, normal_question, question_id
from artrag.evaluation.rows import read_rows
from artrag.final_answer import final_answer


def read_feedback(path: Path) -> list[dict[str, Any]]:
    """Rows of `run` (its id) or `question`, with `gold` (the right answer) or `correct` (was the given one right?).

    Raises:
        PredictionsError: a line says neither whom it is about nor what was right; it is named by number.
    """
    rows = []
    for number, row in read_rows(path):
        about = any(isinstance(row.get(name), str) for name in ("run", "question"))
        judges = row.get("gold") is not None or isinstance(row.get("correct"), bool)
        if not about or not judges:
            raise PredictionsError(
                f"{path}:{number}: feedback needs 'run' or 'question', and 'gold' or 'correct' (true or false)"
            )
        rows.append(row)
    return rows


def labelled_runs(runs: Sequence[Mapping[str, Any]], feedback: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """Runs as prediction rows, one each; those of the same question share its id.

    All answers are labelled where the right one is known: from `gold`, or because a person accepted or wrote it.
    Where feedback only says whether the given answer was right, only that one is.

    Args:
        runs: what `artrag.tracing.recorded_runs` gives.
        feedback: what `read_feedback` gives.

    Raises:
        PredictionsError: feedback is about no run that is there.
    """
    told: dict[str, Mapping[str, Any]] = {}
    for row in feedback:
        matching = [run["run"] for run in runs if _is_about(row, run)]
        if not matching:
            raise PredictionsError(
                f"feedback is about {row.get('run', row.get('question'))!r}, but no such run is there"
            )
        told.update(dict.fromkeys(matching, row))
    return [_labelled(run, told.get(run["run"], {})) for run in runs]


def _is_about(row: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    if "run" in row:
        return bool(row["run"] == run["run"])
    return normal_question(row["question"]) == normal_question(run["question"])


def _labelled(run: Mapping[str, Any], said: Mapping[str, Any]) -> Prediction:
    gold = said.get("gold")
    if gold is None and not said and run["approved"]:
        gold = final_answer(run["chosen"]) or run["chosen"]
    candidates = []
    for candidate in run["candidates"]:
        chosen = candidate["text"] == run["chosen"]
        labels: dict[str, Any] = {}
        if gold is not None:
            judged = label(candidate["text"], gold)
            labels = {"predicted": judged.predicted, "correct": judged.correct or (chosen and run["approved"])}
        elif chosen and "correct" in said:
            labels = {"correct": said["correct"]}
        candidates.append({**candidate, **labels})
    row = {"id": question_id(run["question"]), "question": run["question"], "gold": gold, "candidates": candidates}
    return from_row(row | {"passages": run["passages"], "run": run["run"]})
