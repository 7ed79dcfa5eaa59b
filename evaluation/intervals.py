"""Bootstrap intervals over questions."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
# A statistic that has to sort its rows anew takes a millisecond a resample.
STATISTIC_RESAMPLES = 1_000
_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the bounds of its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean of one value a question and its percentile interval.

    Raises:
        ValueError: without values.
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise ValueError("no values: an interval needs at least one question")
    random = np.random.default_rng(seed)
    # One resample at a time: the whole matrix would take a gigabyte at 10,000 questions.
    means = [data[random.integers(0, len(data), len(data))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(data.mean()), float(low), float(high))


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean of second - first over the same questions, with its interval; above zero, the second is better."""
    return bootstrap([b - a for a, b in zip(first, second, strict=True)], seed=seed)


def clustered(values: ArrayLike, questions: Sequence[Hashable], *, seed: int = 0) -> Interval:
    """The mean over rows of which several may belong to one question, and its percentile interval.

    Rows of one question are no independent witnesses: whole questions are drawn, never rows.

    Raises:
        ValueError: without values, or with other than one question a value.
    """
    data = np.asarray(values, dtype=np.float64)
    return clustered_ratios(data[None], np.ones((1, *data.shape)), questions, seed=seed)[0]


def clustered_ratios(
    numerators: ArrayLike, denominators: ArrayLike, questions: Sequence[Hashable], *, seed: int = 0
) -> list[Interval]:
    """sum(numerators) / sum(denominators) over rows, one for each line of the two tables; whole questions are drawn.

    A resample whose denominators add up to nothing has no value and is left out; where the sample itself has none, all
    three numbers are nan.

    Args:
        numerators: shape (ratios, rows).
        denominators: the same shape.
        questions: the question of each row.
        seed: of the draws, which all ratios share.

    Raises:
        ValueError: without rows, or with other than one question a row.
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    places = _places(questions, *above, *below)
    # A resample says how often each question is in it; its sums are then one product of matrices.
    over, under = (np.stack([np.bincount(places, weights=row) for row in table], axis=1) for table in (above, below))
    tops, bottoms = [], []
    for drawn in _draws(len(over), RESAMPLES, seed):
        offsets = np.arange(len(drawn))[:, None] * len(over)
        times = np.bincount((drawn + offsets).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        tops.append(times @ over)
        bottoms.append(times @ under)
    top, bottom = np.concatenate(tops), np.concatenate(bottoms)
    made = []
    for n in range(top.shape[1]):
        there, total = bottom[:, n] != 0, under[:, n].sum()
        value = float(over[:, n].sum() / total) if total else float("nan")
        made.append(_interval(value, top[there, n] / bottom[there, n]))
    return made


def clustered_statistic(
    statistic: Callable[[NDArray[Any]], float], questions: Sequence[Hashable], *, seed: int = 0
) -> Interval:
    """Any statistic of rows with its percentile interval; whole questions are drawn.

    Args:
        statistic: takes row numbers (n,), in which a row may come several times; nan where it has no value.
        questions: the question of each row.
        seed: of the draws.

    Raises:
        ValueError: without rows.
    """
    places = _places(questions)
    order = np.argsort(places, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(places[order])) + 1)
    found = [
        statistic(np.concatenate([rows_of[question] for question in draw]))
        for drawn in _draws(len(rows_of), STATISTIC_RESAMPLES, seed)
        for draw in drawn
    ]
    means = np.asarray(found)
    return _interval(statistic(np.arange(len(places))), means[~np.isnan(means)])


def _places(questions: Sequence[Hashable], *values: NDArray[Any]) -> NDArray[np.intp]:
    """The questions as numbers from 0, in the order of their first rows."""
    if not len(questions) or any(len(given) != len(questions) for given in values):
        raise ValueError(
            f"{[len(given) for given in values]} values for {len(questions)} rows: "
            "an interval needs at least one row, and one value and one question a row"
        )
    known: dict[Hashable, int] = {}
    return np.fromiter((known.setdefault(question, len(known)) for question in questions), np.intp, len(questions))


def _draws(questions: int, resamples: int, seed: int) -> Iterator[NDArray[Any]]:
    """Blocks (resamples, questions) of drawn question numbers, of bounded size."""
    random = np.random.default_rng(seed)
    block = max(1, _CELLS // questions)
    for start in range(0, resamples, block):
        yield random.integers(0, questions, (min(block, resamples - start), questions))


def _interval(value: float, means: NDArray[Any]) -> Interval:
    if not len(means) or np.isnan(value):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
