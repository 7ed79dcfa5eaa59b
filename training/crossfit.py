"""Scores of recorded answers by heads that never saw their question.

The final head learns from all training questions. For calibration and thresholds every training question is scored by
a head that was fitted without it, so that they rest on many more questions than dev alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artrag.errors import TrainingDataError
from artrag.evaluation.calibration import auc, within_question_auc
from artrag.evaluation.predictions import Prediction, normal_question
from artrag.models.heads import Head
from artrag.models.parts import Kind
from artrag.models.signals import NAMES, signals
from artrag.training.choosing import Key
from artrag.training.folds import FOLDS, fold_of
from artrag.training.heads import Fitted, fit_head
from artrag.training.readings import Readings

WEIGHTS = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5)
"""Shares of a step reader's reading that are tried."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class CrossFit:
    """The final head, the raw score of every answer (out of fold for train), and the curve of its training.

    Where a step reader takes part, `weight` times its reading is in the raw scores.
    """

    head: Head
    raw: dict[Key, float]
    curve: list[tuple[float, float]]
    kept: int
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """Distinct labelled answers: signals [n, d], labels [n], who wrote them, and places (right, wrong) of duels."""

    keys: list[Key]
    rows: NDArray[np.float32]
    right: NDArray[np.bool_]
    sources: list[str]
    duels: list[tuple[int, int]]

    @property
    def questions(self) -> list[str]:
        """The question of each answer; one that is spelled in several ways goes by the first."""
        first: dict[str, str] = {}
        return [first.setdefault(normal_question(question), question) for question, _ in self.keys]

    def where(self, kept: NDArray[np.bool_]) -> "Answers":
        """Only the answers marked in `kept` [n]."""
        places = np.flatnonzero(kept)
        moved = {int(old): new for new, old in enumerate(places)}
        duels = [(moved[good], moved[bad]) for good, bad in self.duels if good in moved and bad in moved]
        keys, sources = [self.keys[n] for n in places], [self.sources[n] for n in places]
        return Answers(keys, self.rows[places], self.right[places], sources, duels)


def labelled_answers(predictions: Sequence[Prediction], tell: Progress | None = None) -> Answers:
    """The distinct labelled answers of predictions without passages, with their signals.

    Raises:
        TrainingDataError: there is none.
    """
    found: dict[Key, bool] = {}
    sources: dict[Key, str] = {}
    met: dict[tuple[Key, Key], None] = {}
    for row in predictions:
        if row.passages is not None:
            continue
        answers = [answer for answer in row.candidates if answer.correct is not None]
        for answer in answers:
            found[row.question, answer.text] = answer.correct is True
            sources.setdefault((row.question, answer.text), answer.source)
        drafts = [answer for answer in answers if answer.stage == "initial"]
        others = [answer for answer in answers if answer.stage != "initial"]
        for draft in drafts:
            for other in others:
                if draft.correct is not other.correct:
                    pair = (draft, other) if draft.correct else (other, draft)
                    met[(row.question, pair[0].text), (row.question, pair[1].text)] = None
    if not found:
        raise TrainingDataError(
            "no labelled answer without passages: give predictions whose candidates have 'correct' (artrag collect)"
        )
    rows = np.empty((len(found), len(NAMES)), dtype=np.float32)
    for place, (question, text) in enumerate(found):
        named = signals(question, text)
        rows[place] = [named[name] for name in NAMES]
        if tell and place % 500 == 0:
            tell("reading answers", place / len(found))
    places = {key: place for place, key in enumerate(found)}
    duels = [(places[good], places[bad]) for good, bad in met]
    return Answers(list(found), rows, np.array(list(found.values())), [sources[key] for key in found], duels)


def cross_fit(
    kind: Kind,
    train: Answers,
    dev: Answers,
    *,
    seed: int = 0,
    readings: Mapping[Key, float] | None = None,
    tell: Progress | None = None,
) -> CrossFit:
    """Fit the final head of a part and score all answers, those of train out of fold.

    The pass that does best on dev is kept: for the Truster by the share of pairs of a question that it ranks right,
    for the Asker by the same share over all answers. The weight of `readings` is chosen by that figure over the answers
    of train and dev together.

    Raises:
        TrainingDataError: there are not right and wrong answers in both parts (for the Truster, to one question).
    """
    pairwise = kind == "truster"
    asked = dev.questions

    def figure(scores: NDArray[Any], right: NDArray[np.bool_], questions: Sequence[str]) -> float:
        return within_question_auc(scores, right, questions) if pairwise else auc(scores, right)

    def measure(head: Head) -> float:
        return figure(head.raw(dev.rows), dev.right, asked)

    if math.isnan(figure(np.zeros(len(asked)), dev.right, asked)):
        lacking = "a question with both a right and a wrong answer" if pairwise else "both right and wrong answers"
        raise TrainingDataError(
            f"dev lacks {lacking}: nothing tells which pass of the training is best; give it more questions"
        )

    fitted = _fit(train, measure, pairwise, seed, progress=tell)
    raw = dict(zip(dev.keys, map(float, fitted.head.raw(dev.rows)), strict=True))
    folds = np.array([fold_of(question) for question in train.questions])
    for fold in range(FOLDS):
        held = train.where(folds == fold)
        if tell:
            tell(f"scoring fold {fold + 1} of {FOLDS} without having seen it", fold / FOLDS)
        try:
            # As many passes as the final head took; dev has had its say.
            head = _fit(train.where(folds != fold), _later_is_better(), pairwise, seed, passes=fitted.kept + 1).head
        except TrainingDataError:
            continue  # too few questions to leave some out: dev alone decides
        raw |= dict(zip(held.keys, map(float, head.raw(held.rows)), strict=True))
    if readings is None:
        return CrossFit(fitted.head, raw, fitted.curve, fitted.kept)
    right = dict(zip([*train.keys, *dev.keys], [*train.right, *dev.right], strict=True))
    questions = dict(zip([*train.keys, *dev.keys], [*train.questions, *asked], strict=True))
    labels, groups = np.array([right[key] for key in raw]), [questions[key] for key in raw]
    scores, read = (np.array([given[key] for key in raw]) for given in (raw, readings))
    weight = max(WEIGHTS, key=lambda share: figure(scores + share * read, labels, groups))
    joined = dict(zip(raw, (scores + weight * read).tolist(), strict=True))
    return CrossFit(fitted.head, joined, fitted.curve, fitted.kept, weight)


def read_answers(answers: Answers, readings: Readings) -> dict[Key, float]:
    """What a step reader reads of each answer."""
    asked: dict[str, list[str]] = {}
    for question, text in answers.keys:
        asked.setdefault(question, []).append(text)
    return {
        (question, text): float(value)
        for question, texts in asked.items()
        for text, value in zip(texts, readings.of(question, texts), strict=True)
    }


def _fit(answers: Answers, measure: Callable[[Head], float], pairwise: bool, seed: int, **options: Any) -> Fitted:
    return fit_head(
        NAMES,
        answers.rows,
        answers.right,
        answers.questions,
        sources=answers.sources,
        duels=answers.duels,
        measure=measure,
        pairwise=pairwise,
        seed=seed,
        **options,
    )


def _later_is_better() -> Callable[[Head], float]:
    turns = iter(range(10_000))
    return lambda _: float(next(turns))
