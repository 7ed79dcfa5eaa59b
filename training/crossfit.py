"""Scores of recorded answers by heads that never saw their question.

The final head learns from all training questions. For calibration and thresholds every training question is scored by
a head that was fitted without it, so that they rest on many more questions than dev alone.
"""

import math
from collections.abc import Callable, Sequence
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
from artrag.models.step_reader import READINGS
from artrag.training.choosing import Key
from artrag.training.folds import FOLDS, fold_of
from artrag.training.heads import Fitted, fit_head
from artrag.training.readings import Readings

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class CrossFit:
    """The final head, the raw score of every answer (out of fold for train), and the curve of its training."""

    head: Head
    raw: dict[Key, float]
    curve: list[tuple[float, float]]
    kept: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Distinct labelled answers: signals [n, d], labels [n], who wrote them, and places (right, wrong) of duels."""

    names: tuple[str, ...]
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
        return Answers(self.names, keys, self.rows[places], self.right[places], sources, duels)


def labelled_answers(
    predictions: Sequence[Prediction], tell: Progress | None = None, *, readings: Readings | None = None
) -> Answers:
    """The distinct labelled answers of predictions without passages, with their signals and what a step reader reads.

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
    rows = _rows(list(found), readings, tell)
    places = {key: place for place, key in enumerate(found)}
    duels = [(places[good], places[bad]) for good, bad in met]
    names = NAMES if readings is None else NAMES + READINGS
    return Answers(names, list(found), rows, np.array(list(found.values())), [sources[key] for key in found], duels)


def _rows(keys: Sequence[Key], readings: Readings | None, tell: Progress | None) -> NDArray[np.float32]:
    """The signals [n, d] of answers, then what the step reader reads of them."""
    rows = np.empty((len(keys), len(NAMES)), dtype=np.float32)
    asked: dict[str, list[int]] = {}
    for place, (question, text) in enumerate(keys):
        named = signals(question, text)
        rows[place] = [named[name] for name in NAMES]
        asked.setdefault(question, []).append(place)
        if tell and place % 500 == 0:
            tell("reading answers", place / len(keys))
    if readings is None:
        return rows
    read = np.empty((len(keys), len(READINGS)), dtype=np.float32)
    for question, places in asked.items():
        read[places] = readings.of(question, [keys[place][1] for place in places])
    return np.concatenate([rows, read], axis=1)


def cross_fit(kind: Kind, train: Answers, dev: Answers, *, seed: int = 0, tell: Progress | None = None) -> CrossFit:
    """Fit the final head of a part and score all answers, those of train out of fold.

    The pass that does best on dev is kept: for the Truster by the share of pairs of a question that it ranks right,
    for the Asker by the same share over all answers.

    Raises:
        TrainingDataError: there are not right and wrong answers in both parts (for the Truster, to one question).
    """
    pairwise = kind == "truster"
    asked = dev.questions

    def figure(scores: NDArray[Any]) -> float:
        return within_question_auc(scores, dev.right, asked) if pairwise else auc(scores, dev.right)

    def measure(head: Head) -> float:
        return figure(head.raw(dev.rows))

    if math.isnan(figure(np.zeros(len(asked)))):
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
    return CrossFit(fitted.head, raw, fitted.curve, fitted.kept)


def _fit(answers: Answers, measure: Callable[[Head], float], pairwise: bool, seed: int, **options: Any) -> Fitted:
    return fit_head(
        answers.names,
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
