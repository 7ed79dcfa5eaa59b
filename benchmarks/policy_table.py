"""Policies side by side on the same questions: accuracy with intervals, paired differences, calls and tokens."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artrag.evaluation.intervals import Interval, clustered_ratios
from artrag.evaluation.policies import Policy, ScoredRow

Outcome = tuple[NDArray[np.float64], NDArray[np.float64]]
"""For each row: is the answer right, and is the draft refined for it? (n,) each; shares where chance decides."""


def outcome(rows: Sequence[ScoredRow], policy: Policy) -> Outcome:
    """What comes of a policy."""
    made = [policy(row) for row in rows]
    right = [row.correct[choice.index] for row, choice in zip(rows, made, strict=True)]
    return np.array(right, dtype=np.float64), np.array([choice.refined for choice in made], dtype=np.float64)


def at_random(rate: float, drafts: Outcome, refined: Outcome) -> Outcome:
    """A random share `rate` of the rows is refined: what comes of it in expectation."""
    return (1 - rate) * drafts[0] + rate * refined[0], np.full(len(drafts[0]), rate)


class Table:
    """Outcomes of policies on the same rows.

    Args:
        questions: the question of each row; whole questions are drawn for the intervals.
    """

    def __init__(self, questions: Sequence[Hashable]) -> None:
        self.questions = list(questions)
        self._rows: dict[str, tuple[Outcome, Outcome | None]] = {}

    def add(self, name: str, made: Outcome, *, calls: ArrayLike | None = None, tokens: ArrayLike | None = None) -> None:
        """A policy, with what each row cost where that is known."""
        cost = None if calls is None or tokens is None else (np.asarray(calls, float), np.asarray(tokens, float))
        self._rows[name] = (made, cost)

    def difference(self, first: str, second: str) -> list[float | None]:
        """Accuracy of `second` minus that of `first`, paired, in points: value, low, high."""
        (before, _), _ = self._rows[first]
        (after, _), _ = self._rows[second]
        return percent(self._ratios([after - before], [np.ones_like(after)])[0])

    def report(self, *against: str) -> dict[str, dict[str, Any]]:
        """Each policy by its name; shares and differences in per cent, each as value, low, high.

        `accuracy`; `refined`, the share of drafts refined; `minus NAME`, the paired difference to each policy named in
        `against`; where costs are known, `calls` and `tokens` a question, and the same for each right answer.
        """
        found = {}
        for name, ((right, refined), cost) in self._rows.items():
            one = np.ones_like(right)
            line: dict[str, Any] = {"accuracy": percent(self._ratios([right], [one])[0])}
            line["refined"] = round(100 * float(refined.mean()), 1)
            line |= {f"minus {other}": self.difference(other, name) for other in against if other != name}
            if cost is not None:
                calls, tokens = cost
                line |= {"calls": round(float(calls.mean()), 2), "tokens": round(float(tokens.mean()), 1)}
                dear = self._ratios([calls, tokens], [right, right])
                line |= {
                    f"{what} a right answer": rounded(interval, 1)
                    for what, interval in zip(("calls", "tokens"), dear, strict=True)
                }
            found[name] = line
        return found

    def _ratios(self, above: Sequence[NDArray[Any]], below: Sequence[NDArray[Any]]) -> list[Interval]:
        return clustered_ratios(np.stack(above), np.stack(below), self.questions)


def percent(interval: Interval) -> list[float | None]:
    """Value, low and high in per cent; None where there is none."""
    return rounded(Interval(100 * interval.value, 100 * interval.low, 100 * interval.high), 2)


def rounded(interval: Interval, digits: int) -> list[float | None]:
    """Value, low and high; None where there is none."""
    numbers = (interval.value, interval.low, interval.high)
    return [None if np.isnan(number) else round(float(number), digits) for number in numbers]
