"""Recorded answers shown to an Asker and a Truster: each distinct one once."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from artrag.errors import ArtragError, ModelCallError
from artrag.evaluation.policies import ScoredRow
from artrag.evaluation.predictions import Prediction, RecordedAnswer, normal_question
from artrag.protocols import Asker, Truster
from artrag.steps import Call, Steps, arun, awaitable, blocking, method, pause, run

# Calls made side by side where they can be awaited, and the seconds to wait before a failed one is made again.
SIDE_BY_SIDE = 16
PAUSES = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Scored:
    """The rows that can be replayed, and how many were left out for which reason."""

    rows: list[ScoredRow]
    left_out: dict[str, int]


def _score_rows(
    predictions: Sequence[Prediction],
    asker: Asker,
    truster: Truster,
    *,
    parts: Sequence[str] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Steps[Scored]:
    """Ask about the drafts and score the answers of recorded predictions.

    Each distinct draft is asked about once, and the confidence of each distinct answer is taken once. Scores are taken
    once for every distinct set of answers, because a Truster may compare the answers it is given, as it does in the
    graph; one with a true attribute `pointwise` scores each answer by itself, once.

    Args:
        predictions: rows with an `initial` answer and at least one more, all labelled; others are left out.
        asker: any Asker.
        truster: any Truster.
        parts: the file of each row, where the report shall tell them apart.
        tell: is told the calls made and the calls to make.

    Raises:
        ModelCallError: a part failed three times on the same row, or gave other than one finite score an answer.
    """
    usable, left_out = _usable(predictions, parts or [""] * len(predictions))
    pointwise = bool(getattr(truster, "pointwise", False))
    calls: dict[Hashable, Call] = {}
    sure: dict[Hashable, Call] = {}
    for row, answers, _ in usable:
        about, texts = _about(row), tuple(answer.text for answer in answers)
        asked = method(asker, "ask", row.question, texts[0], row.passages)
        calls.setdefault(("doubt", about, texts[0]), _patient(asked, "asker", row))
        for together in [(text,) for text in texts] if pointwise else [texts]:
            scored = method(truster, "score", row.question, list(together), row.passages)
            calls.setdefault(("score", about, together), _patient(scored, "truster", row))
        for text in texts:
            trusted = method(truster, "confidence", row.question, text, row.passages)
            sure.setdefault(("confidence", about, text), _patient(trusted, "truster", row))
    # Confidences come last: a Truster that remembers its scores need not work twice.
    got = yield from _made([calls, sure], tell)
    rows, known = [], _Questions()
    for row, answers, part in usable:
        about, texts = _about(row), tuple(answer.text for answer in answers)
        sets = [(text,) for text in texts] if pointwise else [texts]
        scores = [float(score) for together in sets for score in got["score", about, together]]
        doubt = float(got["doubt", about, texts[0]].refine_probability)
        confidences = [float(got["confidence", about, text]) for text in texts]
        if len(scores) != len(texts) or not all(map(math.isfinite, [doubt, *scores, *confidences])):
            raise ModelCallError(
                f"row {row.id!r} has {len(texts)} answers, but got the scores {scores!r}, the confidences "
                f"{confidences!r} and the doubt {doubt!r}: mend the truster or the asker"
            )
        question = known.of(row)
        rows.append(ScoredRow(row, answers, question, doubt, tuple(scores), tuple(confidences), part))
    return Scored(rows, left_out)


score_rows = blocking(_score_rows)
ascore_rows = awaitable(_score_rows)

_Usable = tuple[Prediction, tuple[RecordedAnswer, ...], str]


def _usable(predictions: Sequence[Prediction], parts: Sequence[str]) -> tuple[list[_Usable], dict[str, int]]:
    """The rows with their answers, the draft first, and why the others are left out."""
    usable: list[_Usable] = []
    left_out: dict[str, int] = {}
    for row, part in zip(predictions, parts, strict=True):
        drafts = [n for n, answer in enumerate(row.candidates) if answer.stage == "initial"]
        if not drafts:
            problem = "no initial answer"
        elif len(row.candidates) < 2:
            problem = "only one answer"
        elif any(answer.correct is None for answer in row.candidates):
            problem = "an answer without a label"
        else:
            first = drafts[0]
            answers = (row.candidates[first], *row.candidates[:first], *row.candidates[first + 1 :])
            usable.append((row, answers, part))
            continue
        left_out[problem] = left_out.get(problem, 0) + 1
    return usable, left_out


def _about(row: Prediction) -> Hashable:
    """What an answer is scored against: the question and the passages."""
    return row.question, None if row.passages is None else tuple(passage.page_content for passage in row.passages)


class _Questions:
    """Tells questions apart: rows with the same id, or with the same words, belong to one question."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def of(self, row: Prediction) -> str:
        """The question of a row: the id of the first row known to ask it."""
        names = (("id", row.id), ("words", normal_question(row.question)))
        question = next((self._known[name] for name in names if name in self._known), row.id)
        for name in names:
            self._known.setdefault(name, question)
        return question


def _made(rounds: Sequence[dict[Hashable, Call]], tell: Callable[[int, int], None] | None) -> Steps[dict[Any, Any]]:
    """Make all calls, round by round, some side by side."""
    got: dict[Any, Any] = {}
    for calls in rounds:
        keys = list(calls)
        for start in range(0, len(keys), SIDE_BY_SIDE):
            batch = keys[start : start + SIDE_BY_SIDE]
            got.update(zip(batch, (yield [calls[key] for key in batch]), strict=True))
            if tell:
                tell(len(got), sum(map(len, rounds)))
    return got


def _patient(call: Call, part: str, row: Prediction) -> Call:
    """The call, made again where it fails: a run over thousands of rows outlives a lost connection."""

    def now() -> Any:
        return run(_tried(call, part, row))

    async def later() -> Any:
        return await arun(_tried(call, part, row))

    return Call(now, later)


def _tried(call: Call, part: str, row: Prediction) -> Steps[Any]:
    for seconds in (*PAUSES, None):
        try:
            return (yield call)
        except ArtragError:
            raise
        except Exception as error:
            if seconds is None:
                raise ModelCallError(
                    f"the {part} failed on row {row.id!r} ({type(error).__name__}: {error}): check it and run again"
                ) from error
        yield pause(seconds)
    raise AssertionError("unreachable")
