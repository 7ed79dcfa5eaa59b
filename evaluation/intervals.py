"""Bootstrap intervals over questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


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
