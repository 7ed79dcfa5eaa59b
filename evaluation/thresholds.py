"""The three numbers that turn scores into decisions, chosen on development rows: threshold, margin and floor.

Each is placed in the middle between two development rows, so that it lies on none of them. Where several do equally
well, the one that interferes least is taken: the fewest refinements, the fewest replaced drafts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artrag.choice import pick
from artrag.errors import TrainingDataError
from artrag.evaluation.calibration import risk_coverage


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
    """The best of the other answers replaces the draft if it scores higher by more than `value`.

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
    places = [pick(given, -math.inf) for given in scores]  # the best of the others; 0 where there are none
    gaps = np.array(
        [given[place] - given[0] if place else -math.inf for given, place in zip(scores, places, strict=True)]
    )
    gains = np.array([float(right[place]) - float(right[0]) for right, place in zip(correct, places, strict=True)])
    levels = np.unique(gaps[np.isfinite(gaps)])
    levels = levels if len(levels) else np.zeros(1)
    # Below every gap the draft is always replaced, at the largest one never.
    always = levels[0] - max(float(levels[-1] - levels[0]), 1e-6) / 2
    options = [float(option) for option in (always, *(levels[1:] + levels[:-1]) / 2, levels[-1])]
    if lowest is not None:
        options = [lowest, *(option for option in options if option > lowest)]
    order = np.argsort(gaps)
    gained = np.concatenate([np.cumsum(gains[order][::-1])[::-1], [0.0]])  # by replacing in all rows from a gap on
    begins = np.searchsorted(gaps[order], options, side="right")
    kept = float(np.mean([float(right[0]) for right in correct]))
    tried = [
        Margin(option, kept + float(gained[begin]) / len(gaps), 1 - float(begin) / len(gaps))
        for option, begin in zip(options, begins, strict=True)
    ]
    enough = max(choice.accuracy for choice in tried) - tolerance - 1e-12
    return min((c for c in tried if c.accuracy >= enough), key=lambda choice: (choice.changed, -choice.value))


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
