"""Choosing one of many candidates on questions, and what the choosing gains on questions it did not see."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artrag.errors import UsageError
from artrag.evaluation.intervals import Interval, clustered_ratios
from artrag.evaluation.retrieval import Judged

FOLDS = 5
FEWEST_GROUPS = 10
"""Of fewer groups of questions an interval says nothing."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What cross-validation found.

    Attributes:
        chosen: the candidate chosen on all questions.
        by_fold: the candidates chosen without each fold: how steady the choice is.
        now: the measure with what is in use now.
        then: the measure on each fold with what was chosen without it.
        gain: `then` minus `now`, paired; groups of questions are drawn.
        gains: the same for each measure that the candidates' values were averaged from.
    """

    chosen: int
    by_fold: tuple[int, ...]
    now: Interval
    then: Interval
    gain: Interval
    gains: tuple[Interval, ...]

    @property
    def pays(self) -> bool:
        """Whether the whole interval of the gain lies above zero."""
        return self.gain.low > 0


def groups_of(judged: Sequence[Judged]) -> list[int]:
    """A number for each question, the same for questions whose relevant chunks share a document, or are linked so."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    homes = [sorted(one.documents) or [f"\0{one.query.id}"] for one in judged]
    for first, *others in homes:
        for other in others:
            parent[root(other)] = root(first)
    known: dict[str, int] = {}
    return [known.setdefault(root(first), len(known)) for first, *_ in homes]


def folds_of(groups: Sequence[int], *, seed: int = 0) -> list[int]:
    """A fold for each question, of like size; a group lies in one fold.

    Raises:
        UsageError: there are fewer than 10 groups.
    """
    sizes = {group: groups.count(group) for group in dict.fromkeys(groups)}
    if len(sizes) < FEWEST_GROUPS:
        raise UsageError(
            f"{len(groups)} questions about {len(sizes)} separate documents are too few to choose on: give questions "
            f"about at least {FEWEST_GROUPS} documents (questions with a common document count as one)"
        )
    order = list(sizes)
    random.Random(seed).shuffle(order)  # noqa: S311
    filled, fold_of = [0] * FOLDS, {}
    for group in sorted(order, key=lambda group: -sizes[group]):
        fold_of[group] = min(range(FOLDS), key=lambda fold: filled[fold])
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]


def choose(values: NDArray[np.float64], groups: Sequence[int], distances: Sequence[float]) -> int:
    """The candidate nearest to the default that is within one standard error of the best (Breiman et al., 1984).

    The standard error is that of the paired difference to the best, over groups: what differs by chance is left alone.

    Args:
        values: (candidates, questions), higher is better.
        groups: of each question.
        distances: of each candidate from the default.
    """
    means = values.mean(axis=1)
    best = int(means.argmax())
    behind = values[best] - values  # (candidates, questions)
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    off = behind - behind.mean(axis=1, keepdims=True)
    by_group = np.stack([np.bincount(places, weights=row) for row in off])
    error = np.sqrt((by_group**2).sum(axis=1)) / values.shape[1]
    near: list[int] = np.flatnonzero(behind.mean(axis=1) <= error + 1e-12).tolist()
    return min(near, key=lambda n: (distances[n], -means[n]))


def cross_validate(
    values: NDArray[np.float64], groups: Sequence[int], distances: Sequence[float], current: int
) -> Tuned:
    """Choose without each fold, measure on it; then choose on all.

    Args:
        values: (candidates, questions, measures); a candidate is chosen by the mean over measures.
        groups: of each question; see `groups_of`.
        distances: of each candidate from the default.
        current: the candidate that is in use.

    Raises:
        UsageError: there are too few groups.
    """
    folds, group = np.asarray(folds_of(groups)), np.asarray(groups)
    means = values.mean(axis=2)
    then = np.empty(values.shape[1:])
    by_fold = []
    for fold in range(FOLDS):
        seen, held = folds != fold, folds == fold
        by_fold.append(choose(means[:, seen], group[seen].tolist(), distances))
        then[held] = values[by_fold[-1], held]
    gained = then - values[current]
    table = np.stack([values[current].mean(axis=1), then.mean(axis=1), gained.mean(axis=1), *gained.T])
    now, after, gain, *gains = clustered_ratios(table, np.ones_like(table), list(groups))
    return Tuned(choose(means, groups, distances), tuple(by_fold), now, after, gain, tuple(gains))
