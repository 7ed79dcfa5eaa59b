"""Recorded runs with feedback as prediction rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artrag.errors import PredictionsError
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import Prediction, from_row, normal_question, question_id
from artrag.evaluation.rows import read_rows
from artrag.final_answer import final_answer

KEY = "correct"
"""The key of LangSmith feedback that says whether an answer was right."""
RIGHT_FROM = 0.5


def read_feedback(path: Path, key: str = KEY) -> list[dict[str, Any]]:
    """Rows about a `run` (its id) or `question`, with the right answer or whether the given one was right.

    A row has `gold`, `correct` (true or false) or `score` (0 to 1, right from a half on), and may have a `comment`.
    LangSmith's own rows are taken as they are: `run_id` or `trace_id`, `key`, `score`, `correction`, `comment`; those
    with another `key` are passed over.

    Raises:
        PredictionsError: a line says neither whom it is about nor what was right; it is named by number.
    """
    rows = []
    for number, row in read_rows(path):
        if row.get("key", key) != key:
            continue
        said = feedback_row(row)
        if said is None:
            raise PredictionsError(
                f"{path}:{number}: feedback needs 'run' or 'question', and 'gold', 'correct' (true or false) or "
                "'score' (0 to 1)"
            )
        rows.append(said)
    return rows


def feedback_row(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row of feedback in our own words; None where it does not say whom it is about, or what was right."""
    runs = [str(row[name]) for name in ("run", "run_id", "trace_id") if row.get(name)]
    gold, correct, score = row.get("gold"), row.get("correct"), row.get("score")
    if gold is None and (correction := row.get("correction")) is not None:
        gold = next(iter(correction.values()), None) if isinstance(correction, Mapping) else correction
    if isinstance(score, bool | int | float) and 0 <= score <= 1 and not isinstance(correct, bool):
        correct = score >= RIGHT_FROM
    about: dict[str, Any] = {"runs": runs} if runs else {}
    about |= {"question": row["question"]} if isinstance(row.get("question"), str) else {}
    said = ({"gold": gold} if gold is not None else {}) | ({"correct": correct} if isinstance(correct, bool) else {})
    comment = {"comment": row["comment"]} if isinstance(row.get("comment"), str) and row["comment"] else {}
    return {**about, **said, **comment} if about and said else None


def labelled_runs(runs: Sequence[Mapping[str, Any]], feedback: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """Runs as prediction rows, one each; those of the same question share its id.

    All answers are labelled where the right one is known: from `gold`, or because a person accepted or wrote it.
    Where feedback only says whether the given answer was right, only that one is. Of feedback on the same run, what was
    said last counts.

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
            about = row["runs"][0] if "runs" in row else row["question"]
            raise PredictionsError(f"feedback is about {about!r}, but no such run is there")
        for run in matching:
            told[run] = {**told.get(run, {}), **row}
    return [_labelled(run, told.get(run["run"], {})) for run in runs]


def _is_about(row: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    if "runs" in row:
        return run["run"] in row["runs"]
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
    comment = {"comment": said["comment"]} if "comment" in said else {}
    return from_row(row | {"passages": run["passages"], "run": run["run"]} | comment)
