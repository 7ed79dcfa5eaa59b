"""The three numbers that turn scores into decisions, chosen on development rows: threshold, margin and floor.

Each is placed in the middle between two development rows, so that it lies on none of them. Where several do equally
well, the one that interferes least is taken: the fewest refinements, the fewest replaced drafts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artrag.errors import TrainingDataError
from artrag.evaluation.calibration import risk_coverage

MOST_MARGINS = 400


@dataclass(frozen=True, slots=True)
class Threshold:
    """Refine what is doubted with at least `value`; what comes of it on the development rows.

    Attributes:
        value: for `Settings.refine_above`.
        accuracy: of the final answers.
        refined: share of rows refined.
        cost: mean cost of refining a row, over all rows.
    """

    value: float
    accuracy: float
    refined: float
    cost: float


def choose_threshold(
    doubt: ArrayLike,
    kept: ArrayLike,
    refined: ArrayLike,
    *,
    budget: float | None = None,
    costs: ArrayLike | None = None,
    tolerance: float = 0.0,
) -> Threshold:
    """The threshold with the best final accuracy within a budget.

    Args:
        doubt: the Asker's probability (n,) that each draft is wrong.
        kept: 1 where the answer is right if the draft is not refined (n,).
        refined: 1 where it is right if the draft is refined and the Truster has chosen (n,).
        budget: the most that refining may cost a row on average; None for no limit.
        costs: what refining each row costs (n,), in calls or tokens; None counts 1 each, so that the budget is a share
            of rows refined.
        tolerance: of thresholds whose accuracy is lower than the best by no more, the one that refines least is taken.

    Returns:
        The choice. Drafts doubted with certainty (1.0) are always refined: no threshold up to 1 keeps them out.

    Raises:
        TrainingDataError: without rows.
    """
    doubts, stay, change = (np.asarray(given, dtype=np.float64) for given in (doubt, kept, refined))
    price = np.ones(len(doubts)) if costs is None else np.asarray(costs, dtype=np.float64)
    _must_match(doubts, stay, change, price)
    levels, place = np.unique(-doubts, return_inverse=True)
    levels = -levels  # falling
    gains, prices, counts = (np.bincount(place, weights=w) for w in (change - stay, price, np.ones(len(doubts))))
    # Option i refines the i most doubted levels.
    accuracy, cost, share = (np.concatenate([[0.0], np.cumsum(part)]) / len(doubts) for part in (gains, prices, counts))
    accuracy = accuracy + stay.mean()
    first = 1 if levels[0] >= 1 else 0
    allowed = [i for i in range(first, len(accuracy)) if budget is None or cost[i] <= budget + 1e-12] or [first]
    enough = max(float(accuracy[i]) for i in allowed) - tolerance - 1e-12
    best = min(i for i in allowed if accuracy[i] >= enough)
    edges = [1.0, *(float(level) for level in levels), 0.0]
    value = 0.0 if best == len(levels) else (edges[best] + edges[best + 1]) / 2
    return Threshold(value, float(accuracy[best]), float(share[best]), float(cost[best]))


@dataclass(frozen=True, slots=True)
class Margin:
    """A later answer replaces the best one so far if it scores higher by more than `value`.

    Attributes:
        value: for `Settings.trust_margin`.
        accuracy: of the chosen answers.
        changed: share of rows whose first answer was replaced.
    """

    value: float
    accuracy: float
    changed: float


def choose_margin(
    scores: Sequence[Sequence[float]],
    correct: Sequence[Sequence[bool]],
    *,
    lowest: float | None = None,
    tolerance: float = 0.0,
) -> Margin:
    """The margin with the best accuracy where every row is refined.

    It is below 0 where a refined answer is the better bet even if the Truster likes it a little less than the draft.

    Args:
        scores: for each row the Truster's scores of its answers, the draft first.
        correct: for each row the labels of the same answers.
        lowest: the smallest margin allowed; None for any.
        tolerance: of margins whose accuracy is lower than the best by no more, the one that replaces least is taken.

    Raises:
        TrainingDataError: without rows.
    """
    if not len(scores):
        raise TrainingDataError("no rows to choose a margin on: give development rows with refined answers")
    width = max(len(row) for row in scores)
    table, right = np.full((len(scores), width), -np.inf), np.zeros((len(scores), width))
    for row, (given, labels) in enumerate(zip(scores, correct, strict=True)):
        table[row, : len(given)], right[row, : len(labels)] = given, labels
    with np.errstate(invalid="ignore"):  # rows with fewer answers are filled up with -inf
        gaps = [table[:, j] - table[:, i] for i in range(width) for j in range(i + 1, width)]
    found = np.unique(np.concatenate([*gaps, np.empty(0)]))
    found = found[np.isfinite(found)] if np.isfinite(found).any() else np.zeros(1)
    if len(found) > MOST_MARGINS:
        found = np.unique(np.quantile(found, np.linspace(0, 1, MOST_MARGINS), method="nearest"))
    # Below every gap the latest answer is always taken, at the largest one the draft.
    always = found[0] - max(float(found[-1] - found[0]), 1e-6) / 2
    options = [float(option) for option in (always, *(found[1:] + found[:-1]) / 2, found[-1])]
    if lowest is not None:
        options = [lowest, *(option for option in options if option > lowest)]
    tried = [_margin(table, right, option) for option in options]
    enough = max(choice.accuracy for choice in tried) - tolerance - 1e-12
    return min((c for c in tried if c.accuracy >= enough), key=lambda choice: (choice.changed, -choice.value))


def _margin(table: NDArray[Any], right: NDArray[Any], margin: float) -> Margin:
    """What a margin does: `pick` for all rows at once."""
    rows = np.arange(len(table))
    best = np.zeros(len(table), dtype=np.intp)
    for later in range(1, table.shape[1]):
        best = np.where(table[:, later] > table[rows, best] + margin, later, best)
    return Margin(float(margin), float(right[rows, best].mean()), float((best > 0).mean()))


@dataclass(frozen=True, slots=True)
class Floor:
    """Abstain below `value`: the share of rows still answered and their accuracy; `reached`: is it what was wanted?"""

    value: float
    coverage: float
    accuracy: float
    reached: bool


def abstention_floor(confidence: ArrayLike, correct: ArrayLike, *, at_least: float) -> Floor:
    """The lowest confidence floor above which answers are right with at least this share.

    Where no floor reaches it, the one with the best accuracy is given, and `reached` is False.

    Raises:
        TrainingDataError: without rows.
    """
    if not np.size(confidence):
        raise TrainingDataError("no rows to choose a floor on: give labelled development rows")
    curve = risk_coverage(confidence, correct)
    good = [n for n, point in enumerate(curve) if 1 - point.risk >= at_least - 1e-12]
    chosen = good[-1] if good else min(range(len(curve)), key=lambda n: (round(curve[n].risk, 12), -n))
    point = curve[chosen]
    below = curve[chosen + 1].threshold if chosen + 1 < len(curve) else None
    value = 0.0 if below is None else (point.threshold + below) / 2
    return Floor(value, point.coverage, 1 - point.risk, bool(good))


def _must_match(*columns: NDArray[Any]) -> None:
    if not len(columns[0]):
        raise TrainingDataError("no rows to choose a threshold on: give labelled development rows")
    if len({column.shape for column in columns}) > 1:
        raise ValueError(f"columns of shapes {[column.shape for column in columns]}: give one value a row each")
