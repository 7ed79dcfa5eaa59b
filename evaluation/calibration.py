"""How well scores rank and probabilities hold, and raw scores made into probabilities.

All of it is plain arithmetic on arrays; labels are true or false (1 or 0). A measure that needs both right and wrong
rows is nan where one of them is missing; a calibration cannot be fitted then, and says so.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artrag.errors import PartError, TrainingDataError

Floats = NDArray[np.float64]
Kind = Literal["temperature", "platt", "isotonic"]

# Weight of the prior that keeps the scale near 0 (of the standardised score): too small to be seen beside real rows.
RIDGE = 1e-3
MOST_STEPS = 100


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The probability that a right row scores above a wrong one; ties count half. nan with one class only."""
    values, right = _rows(scores, labels)
    wins, pairs = _wins(values, right)
    return wins / pairs if pairs else float("nan")


def pair_wins(scores: ArrayLike, labels: ArrayLike, groups: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """For each group, in the order of first appearance: the right-wrong pairs ranked rightly (ties half), and all."""
    values, right = _rows(scores, labels)
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    if sum(map(len, members.values())) != len(values):
        raise ValueError(f"{len(groups)} groups for {len(values)} scores: give one a score")
    counted = np.asarray([_wins(values[rows], right[rows]) for rows in members.values()]).reshape(-1, 2)
    return counted[:, 0], counted[:, 1]


def within_question_auc(scores: ArrayLike, labels: ArrayLike, groups: Sequence[Hashable]) -> float:
    """The share of right-wrong pairs of the same group that the scores rank rightly; ties count half.

    Every pair weighs the same, so a group with many answers weighs more. nan where no group has both.
    """
    wins, pairs = pair_wins(scores, labels, groups)
    return float(wins.sum() / pairs.sum()) if pairs.sum() else float("nan")


def _wins(values: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """(pairs ranked rightly, pairs): the Mann-Whitney statistic, by mean ranks."""
    count = int(right.sum())
    pairs = float(count * (len(right) - count))
    if not pairs:
        return 0.0, 0.0
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2
    return float(ranks[place][right].sum() - count * (count + 1) / 2), pairs


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of like probability: its mean, the share of true labels, and how many rows."""

    probability: float
    share: float
    count: int


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> list[Bin]:
    """Equal-mass bins, by rising probability: each holds the same number of rows, give or take one.

    Rows of equal probability may fall into two bins; each then counts with their common share, so that the order of
    the rows means nothing.
    """
    values, right = _rows(probabilities, labels)
    order = np.argsort(values, kind="stable")
    values, shares = values[order], _tied(values, right)[order]
    parts = np.array_split(np.arange(len(values)), min(bins, len(values)))
    return [Bin(float(values[part].mean()), float(shares[part].mean()), len(part)) for part in parts]


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> float:
    """The mean distance of probability and share over equal-mass bins (`reliability`), weighted by their rows.

    It is above 0 by chance alone: with n rows a bin, about 0.8 times the standard error of a share of n.
    """
    found = reliability(probabilities, labels, bins)
    return sum(b.count * abs(b.probability - b.share) for b in found) / sum(b.count for b in found)


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean squared distance of probability and label."""
    values, right = _rows(probabilities, labels)
    return float(((values - right) ** 2).mean())


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Answering only what is at least `threshold` sure: the share answered, and the share of wrong answers in it."""

    coverage: float
    risk: float
    threshold: float


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> list[CoveragePoint]:
    """One point for every threshold that exists, from the surest row alone to all rows."""
    values, right = _rows(confidence, correct)
    levels, place, counts = np.unique(-values, return_inverse=True, return_counts=True)
    taken, good = np.cumsum(counts), np.cumsum(np.bincount(place, weights=right))
    return [
        CoveragePoint(float(n / len(values)), float(1 - g / n), float(-level))
        for n, g, level in zip(taken, good, levels, strict=True)
    ]


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """The area under the risk-coverage curve: the mean risk of the k surest rows over all k; lower is better."""
    return float(1 - _accuracies(confidence, correct).mean())


def accuracy_at(coverage: float, confidence: ArrayLike, correct: ArrayLike) -> float:
    """The accuracy over the surest `coverage` (above 0, at most 1) of the rows, rounded up to a whole row."""
    if not 0 < coverage <= 1:
        raise ValueError(f"the coverage is {coverage!r}: give a share above 0 and at most 1")
    found = _accuracies(confidence, correct)
    return float(found[max(int(np.ceil(coverage * len(found) - 1e-9)), 1) - 1])


def _accuracies(confidence: ArrayLike, correct: ArrayLike) -> Floats:
    """The accuracy of the k surest rows, k = 1 .. n; equally sure rows come in no order: each counts as their mean."""
    values, right = _rows(confidence, correct)
    shares = _tied(values, right)[np.argsort(-values, kind="stable")]
    return np.asarray(np.cumsum(shares) / np.arange(1, len(shares) + 1))


def _tied(values: Floats, labels: NDArray[Any]) -> Floats:
    """For each row, the mean label of all rows with its value."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(place, weights=labels) / counts)[place])


@dataclass(frozen=True, slots=True)
class Platt:
    """probability = sigmoid(scale * score + shift) (Platt 1999); `scale` is never below 0, so that the order stays."""

    scale: float
    shift: float = 0.0

    def __call__(self, scores: ArrayLike) -> Floats:
        """The probabilities of raw scores, in the same shape."""
        return _sigmoid(self.scale * np.asarray(scores, dtype=np.float64) + self.shift)

    def as_dict(self) -> dict[str, Any]:
        """JSON that `calibration_from` reads."""
        return {"kind": "platt", "scale": self.scale, "shift": self.shift}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising line through the points (scores, probabilities), flat beyond its ends."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, scores: ArrayLike) -> Floats:
        """The probabilities of raw scores, in the same shape."""
        return np.asarray(np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.probabilities))

    def as_dict(self) -> dict[str, Any]:
        """JSON that `calibration_from` reads."""
        return {"kind": "isotonic", "scores": list(self.scores), "probabilities": list(self.probabilities)}


Calibration = Platt | Isotonic


def fit_calibration(scores: ArrayLike, labels: ArrayLike, kind: Kind = "platt") -> Calibration:
    """Learn how raw scores become probabilities.

    Args:
        scores: raw scores (n,), on any scale, higher for true labels.
        labels: true or false (n,); of rows that the scores were not trained on.
        kind: "temperature" fits a scale only, "platt" a scale and a shift, "isotonic" any rising line. The last needs
            some hundreds of rows.

    Raises:
        TrainingDataError: the labels are of one class only, or a score is no finite number.
    """
    if not np.size(labels):
        raise TrainingDataError("no labelled rows: a calibration needs both right and wrong ones")
    values, right = _rows(scores, labels)
    if not np.isfinite(values).all():
        place = int(np.argmin(np.isfinite(values)))
        raise TrainingDataError(f"score {place} is {float(values[place])!r}: mend what scored it")
    if right.all() or not right.any():
        raise TrainingDataError(
            f"all {len(right)} labels are {bool(right[0])!r}: a calibration needs both right and wrong rows"
        )
    return _fit_isotonic(values, right) if kind == "isotonic" else _fit_platt(values, right, shifted=kind == "platt")


def calibration_from(data: Mapping[str, Any]) -> Calibration:
    """The calibration that `as_dict` wrote.

    Raises:
        PartError: it is none, or its numbers cannot be.
    """
    try:
        if data["kind"] == "platt":
            scale, shift = float(data["scale"]), float(data["shift"])
            if np.isfinite([scale, shift]).all() and scale >= 0:
                return Platt(scale, shift)
        elif data["kind"] == "isotonic":
            xs, ys = (tuple(float(x) for x in data[name]) for name in ("scores", "probabilities"))
            rising = bool((np.diff(xs) > 0).all() and (np.diff(ys) >= 0).all())
            if xs and len(xs) == len(ys) and np.isfinite(xs).all() and rising and 0 <= ys[0] and ys[-1] <= 1:
                return Isotonic(xs, ys)
    except (KeyError, TypeError, ValueError):
        pass
    raise PartError(f"no calibration can be read from {str(data)[:120]!r}: train the part again")


def pool_adjacent(values: ArrayLike, weights: ArrayLike) -> list[tuple[float, float, int]]:
    """The pool-adjacent-violators algorithm: rising blocks (mean, weight, how many values)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(np.asarray(values, float), np.asarray(weights, float), strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, v, n), (b, w, m) = blocks[-2:]
            blocks[-2:] = [((a * v + b * w) / (v + w), v + w, n + m)]
    return blocks


def _fit_isotonic(values: Floats, right: NDArray[np.bool_]) -> Isotonic:
    # One more right row at the lowest score and one more wrong row at the highest: no end is ever 0 or 1.
    values = np.concatenate([values, [values.min(), values.max()]])
    levels, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares = np.bincount(place, weights=np.concatenate([right, [True, False]])) / counts
    xs, ys, start = [], [], 0
    for mean, _, size in pool_adjacent(shares, counts):
        part = slice(start, start + size)
        xs.append(float(np.average(levels[part], weights=counts[part])))
        ys.append(min(max(mean, 0.0), 1.0))
        start += size
    return Isotonic(tuple(xs), tuple(ys))


def _fit_platt(values: Floats, right: NDArray[np.bool_], *, shifted: bool) -> Platt:
    """Newton's method on the cross-entropy with Platt's smoothed labels, which have a finite optimum on any data."""
    good, bad = int(right.sum()), int((~right).sum())
    wanted = np.where(right, (good + 1) / (good + 2), 1 / (bad + 2))
    centre = float(values.mean()) if shifted else 0.0
    spread = float(np.sqrt(((values - centre) ** 2).mean()))
    columns = np.stack([(values - centre) / (spread or 1.0), np.ones(len(values))][: 1 + shifted], axis=1)
    prior = np.array([RIDGE, 0.0][: 1 + shifted])

    def loss(w: Floats) -> float:
        raw = columns @ w
        return float((np.logaddexp(0, raw) - wanted * raw).sum() + (prior * w**2).sum() / 2)

    weights = np.zeros(1 + shifted)
    for _ in range(MOST_STEPS):
        p = _sigmoid(columns @ weights)
        slope = columns.T @ (p - wanted) + prior * weights
        curve = (columns.T * (p * (1 - p))) @ columns + np.diag(prior)
        step = np.linalg.solve(curve + 1e-12 * np.eye(len(weights)), slope)
        share = 1.0
        while loss(weights - share * step) > loss(weights) and share > 1e-6:
            share /= 2
        weights = weights - share * step
        if np.abs(share * step).max() < 1e-10:
            break
    if weights[0] <= 0:  # the scores rank backwards or not at all: they say nothing beyond the share of right rows
        mean = float(wanted.mean())
        return Platt(0.0, float(np.log(mean / (1 - mean))) if shifted else 0.0)
    scale = float(weights[0]) / (spread or 1.0)
    return Platt(scale, float(weights[1]) - scale * centre if shifted else 0.0)


def _sigmoid(raw: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * raw)))  # never overflows


def _rows(values: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Both as arrays of one length, at least 1."""
    numbers, right = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=bool)
    if numbers.ndim != 1 or numbers.shape != right.shape or not len(numbers):
        raise ValueError(f"values of shape {numbers.shape}, labels of shape {right.shape}: give one label a value")
    return numbers, right
