"""Replay recorded answers through Ask and Trust, without any chat model: what each policy would have answered.

Every interval comes from a bootstrap over questions: of several rows of one question all are drawn or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artrag.errors import PredictionsError
from artrag.evaluation.calibration import (
    Bin,
    CoveragePoint,
    accuracy_at,
    auc,
    aurc,
    expected_calibration_error,
    pair_wins,
    reliability,
    risk_coverage,
)
from artrag.evaluation.intervals import Interval, clustered_ratios, clustered_statistic
from artrag.evaluation.policies import Choice, Name, ScoredRow, policies
from artrag.evaluation.predictions import Prediction
from artrag.evaluation.scoring import Scored, score_rows
from artrag.evaluation.thresholds import abstention_floor, choose_margin, choose_threshold
from artrag.protocols import Asker, Truster

MOST_MISSES = 12


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every policy on the same rows.

    Attributes:
        rows: rows replayed.
        questions: different questions among them.
        policies: accuracy of each policy. `random` refines a random share of the rows, as large as that of ask+trust,
            and takes the refined answer; `random+trust` lets the Truster choose there. Both in expectation.
        better: the better of `initial` and `refine-all` over all rows: what a policy must beat.
        differences: accuracy of each policy minus that of `better`, paired by row.
        refine_rate: share of rows that ask+trust refines.
    """

    rows: int
    questions: int
    policies: dict[str, Interval]
    better: Name
    differences: dict[str, Interval]
    refine_rate: Interval


@dataclass(frozen=True, slots=True)
class Miss:
    """A row on which ask+trust chose a wrong answer although a right one was there."""

    id: str
    question: str
    chosen: str
    missed: str
    doubt: float
    score_gap: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay has shown.

    Attributes:
        comparison: the policies over all rows.
        parts: the same for each file, where there are several.
        measures: see `replay`.
        thresholds: `refine_above` and `trust_margin` as used.
        left_out: rows that could not be replayed, by reason.
        curve: final accuracy (rows + 1,) when the 0, 1, ... most doubted rows are refined, the Truster choosing.
        trust_reliability: bins of the confidence that the final answer is right.
        ask_reliability: bins of the probability that the draft is wrong.
        risk_coverage: of the final answers.
        margins: score of the latest refined answer minus that of the draft, by what refining did to the row.
        misses: the rows on which ask+trust was most wrongly sure of its choice.
    """

    comparison: Comparison
    parts: dict[str, Comparison]
    measures: dict[str, Interval]
    thresholds: dict[str, float]
    left_out: dict[str, int]
    curve: NDArray[np.float64]
    trust_reliability: list[Bin]
    ask_reliability: list[Bin]
    risk_coverage: list[CoveragePoint]
    margins: dict[str, list[float]]
    misses: list[Miss]

    def as_dict(self) -> dict[str, Any]:
        """The report's figures as JSON: shares as fractions, what has no value as null."""
        whole = self.comparison
        return {
            **{name: plain(interval) for name, interval in whole.policies.items()},
            "refine_rate": plain(whole.refine_rate),
            **{name: plain(interval) for name, interval in self.measures.items()},
            "gain": plain(whole.differences["ask+trust"]),
            "better": whole.better,
            "differences": {name: plain(interval) for name, interval in whole.differences.items()},
            "rows": whole.rows,
            "questions": whole.questions,
            "left_out": self.left_out,
            "thresholds": self.thresholds,
            "files": {name: _plain_comparison(part) for name, part in self.parts.items()},
        }


def replay(
    rows: Sequence[Prediction], asker: Asker, truster: Truster, *, refine_above: float, trust_margin: float
) -> Report:
    """Score recorded predictions and replay every policy on them.

    Raises:
        PredictionsError: no row can be replayed.
        ModelCallError: see `score_rows`.
    """
    return replay_scored(score_rows(rows, asker, truster), refine_above=refine_above, trust_margin=trust_margin)


def replay_scored(scored: Scored, *, refine_above: float, trust_margin: float) -> Report:
    """Replay every policy on scored rows.

    The measures of the report:

    - auc: does the Asker's probability rank wrong drafts above right ones?
    - ece: expected calibration error of the confidence with which ask+trust answers, that is the Truster's
      probability that the final answer is right. Its interval is a plain percentile one; resampling adds noise to
      every bin, so it lies a little high.
    - ece_asker: the same of the Asker's probability that the draft is wrong.
    - accuracy_at_80: accuracy of the surest 80% of the final answers, and gain_at_80: minus that of all.
    - aurc: area under their risk-coverage curve.
    - within_question_auc: does the Truster rank right answers above wrong ones of the same question and source? Over
      distinct answers.
    - gain_kept_at_half: the share of the gain of refining all rows (the Truster choosing) that is kept when the half
      most doubted is refined; nan where refining all gains nothing.
    - curve_above_random: mean height of the whole curve above the straight line that random choice gives.

    Raises:
        PredictionsError: no row can be replayed.
    """
    rows = scored.rows
    if not rows:
        why = ", ".join(f"{n} with {reason}" for reason, n in scored.left_out.items()) or "there are none"
        raise PredictionsError(
            f"no row can be replayed ({why}): give rows with an 'initial' and a further candidate, each with 'correct'"
        )
    chosen = _chosen(rows, refine_above, trust_margin)
    questions = [row.question for row in rows]
    parts = list(dict.fromkeys(row.part for row in rows))
    final = chosen["ask+trust"]
    right = np.array([row.correct[choice.index] for row, choice in zip(rows, final, strict=True)])
    sure = np.array([row.confidences[choice.index] for row, choice in zip(rows, final, strict=True)])
    wrong_draft = np.array([not row.correct[0] for row in rows])
    doubt = np.array([row.doubt for row in rows])
    trusted = np.array([row.correct[choice.index] for row, choice in zip(rows, chosen["trust-only"], strict=True)])

    def measured(statistic: Callable[[NDArray[Any]], float]) -> Interval:
        return clustered_statistic(statistic, questions)

    def kept(at: NDArray[Any]) -> float:
        return gain_kept(share_curve(doubt[at], ~wrong_draft[at], trusted[at]))

    def lift(at: NDArray[Any]) -> float:
        found = share_curve(doubt[at], ~wrong_draft[at], trusted[at])
        return float((found - np.linspace(found[0], found[-1], len(found))).mean())

    measures = {
        "auc": measured(lambda at: auc(doubt[at], wrong_draft[at])),
        "ece": measured(lambda at: expected_calibration_error(sure[at], right[at])),
        "accuracy_at_80": measured(lambda at: accuracy_at(0.8, sure[at], right[at])),
        "ece_asker": measured(lambda at: expected_calibration_error(doubt[at], wrong_draft[at])),
        "gain_at_80": measured(lambda at: accuracy_at(0.8, sure[at], right[at]) - float(right[at].mean())),
        "aurc": measured(lambda at: aurc(sure[at], right[at])),
        "within_question_auc": _within(rows),
        "gain_kept_at_half": measured(kept),
        "curve_above_random": measured(lift),
    }
    return Report(
        comparison=_compare(rows, chosen),
        parts={} if len(parts) < 2 else {part: _part(rows, chosen, part) for part in parts},
        measures=measures,
        thresholds={"refine_above": refine_above, "trust_margin": trust_margin},
        left_out=scored.left_out,
        curve=share_curve(doubt, ~wrong_draft, trusted),
        trust_reliability=reliability(sure, right),
        ask_reliability=reliability(doubt, wrong_draft),
        risk_coverage=risk_coverage(sure, right),
        margins=_margins(rows),
        misses=_misses(rows, final),
    )


def choose_settings(
    scored: Scored,
    *,
    at_least: float,
    budget: float | None = None,
    costs: Sequence[float] | None = None,
    lowest_margin: float | None = None,
    tolerance: float = 0.0,
    margin_tolerance: float | None = None,
) -> dict[str, float]:
    """The settings for scored development rows: the margin first, then the threshold with it, then the floor.

    Args:
        scored: development rows.
        at_least: the accuracy wanted of the answers that are not abstained from.
        budget: see `choose_threshold`.
        costs: see `choose_threshold`.
        lowest_margin: see `choose_margin`.
        tolerance: accuracy given up for a margin and a threshold that interfere less.
        margin_tolerance: the same for the margin, where it is another.

    Returns:
        `refine_above`, `trust_margin` and `abstain_below`.

    Raises:
        TrainingDataError: without rows.
    """
    rows = scored.rows
    margin = choose_margin(
        [row.scores for row in rows],
        [row.correct for row in rows],
        lowest=lowest_margin,
        tolerance=tolerance if margin_tolerance is None else margin_tolerance,
    ).value
    trust = [policies(0.0, margin)["trust-only"](row).index for row in rows]
    threshold = choose_threshold(
        [row.doubt for row in rows],
        [row.correct[0] for row in rows],
        [row.correct[index] for row, index in zip(rows, trust, strict=True)],
        budget=budget,
        costs=costs,
        tolerance=tolerance,
    ).value
    final = [index if row.doubt >= threshold else 0 for row, index in zip(rows, trust, strict=True)]
    floor = abstention_floor(
        [row.confidences[index] for row, index in zip(rows, final, strict=True)],
        [row.correct[index] for row, index in zip(rows, final, strict=True)],
        at_least=at_least,
    ).value
    return {"refine_above": threshold, "trust_margin": margin, "abstain_below": floor}


def share_curve(doubt: NDArray[Any], kept: NDArray[Any], refined: NDArray[Any]) -> NDArray[np.float64]:
    """The accuracy (rows + 1,) when the 0, 1, ..., all most doubted rows are refined.

    Args:
        doubt: the Asker's probability for each row (n,).
        kept: is the answer right if the row is not refined (n,)?
        refined: is it right if it is (n,)?

    Equally doubted rows come in no order: each counts as their mean.
    """
    gain = refined.astype(np.float64) - kept
    levels, place = np.unique(-doubt, return_inverse=True)
    means = np.bincount(place, weights=gain) / np.bincount(place)
    ordered = means[place][np.argsort(-doubt, kind="stable")]
    return np.asarray(kept.mean() + np.concatenate([[0.0], np.cumsum(ordered)]) / len(doubt))


def gain_kept(curve: NDArray[np.float64], share: float = 0.5) -> float:
    """The share of the curve's whole gain that is reached when `share` of the rows is refined; nan without a gain."""
    gain = float(curve[-1] - curve[0])
    if gain <= 1e-12:
        return float("nan")
    at = float(np.interp(share, np.linspace(0, 1, len(curve)), curve))
    return (at - float(curve[0])) / gain


def plain(interval: Interval) -> dict[str, float | None]:
    """An interval as JSON, nan as null."""
    numbers = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: None if np.isnan(number) else number for name, number in numbers.items()}


_Chosen = dict[Name, list[Choice]]


def _chosen(rows: Sequence[ScoredRow], refine_above: float, trust_margin: float) -> _Chosen:
    return {name: [choose(row) for row in rows] for name, choose in policies(refine_above, trust_margin).items()}


def _part(rows: Sequence[ScoredRow], chosen: _Chosen, part: str) -> Comparison:
    inside = [n for n, row in enumerate(rows) if row.part == part]
    return _compare([rows[n] for n in inside], {name: [made[n] for n in inside] for name, made in chosen.items()})


def _compare(rows: Sequence[ScoredRow], chosen: _Chosen) -> Comparison:
    questions = [row.question for row in rows]
    right: dict[str, NDArray[np.float64]] = {
        name: np.array([row.correct[choice.index] for row, choice in zip(rows, made, strict=True)], dtype=np.float64)
        for name, made in chosen.items()
    }
    refined = np.array([choice.refined for choice in chosen["ask+trust"]], dtype=np.float64)
    rate = refined.mean()
    right["random"] = (1 - rate) * right["initial"] + rate * right["refine-all"]
    right["random+trust"] = (1 - rate) * right["initial"] + rate * right["trust-only"]
    better: Name = "refine-all" if right["refine-all"].mean() > right["initial"].mean() else "initial"
    values = np.stack(list(right.values()))
    table = np.concatenate([values, values - right[better], refined[None]])
    found = clustered_ratios(table, np.ones_like(table), questions)
    return Comparison(
        rows=len(rows),
        questions=len(set(questions)),
        policies=dict(zip(right, found[: len(right)], strict=True)),
        better=better,
        differences=dict(zip(right, found[len(right) : -1], strict=True)),
        refine_rate=found[-1],
    )


def _plain_comparison(part: Comparison) -> dict[str, Any]:
    return {
        "rows": part.rows,
        "questions": part.questions,
        "better": part.better,
        **{name: plain(interval) for name, interval in part.policies.items()},
        "gain": plain(part.differences["ask+trust"]),
        "refine_rate": plain(part.refine_rate),
    }


def _within(rows: Sequence[ScoredRow]) -> Interval:
    """Pairs of distinct answers to the same question by the same source."""
    seen: dict[tuple[Any, str, str], tuple[float, bool]] = {}
    for row in rows:
        for answer, score, right in zip(row.answers, row.scores, row.correct, strict=True):
            seen.setdefault((row.question, answer.source, answer.text), (score, right))
    groups = [(question, source) for question, source, _ in seen]
    wins, pairs = pair_wins([score for score, _ in seen.values()], [right for _, right in seen.values()], groups)
    questions = [question for question, _ in dict.fromkeys(groups)]
    return clustered_ratios(wins[None], pairs[None], questions)[0]


def _margins(rows: Sequence[ScoredRow]) -> dict[str, list[float]]:
    kinds: dict[str, list[float]] = {"mends": [], "breaks": [], "both right": [], "both wrong": []}
    for row in rows:
        draft, later = row.correct[0], row.correct[row.latest]
        kind = ("both right" if draft else "both wrong") if draft is later else "mends" if later else "breaks"
        kinds[kind].append(row.scores[row.latest] - row.scores[0])
    return kinds


def _misses(rows: Sequence[ScoredRow], final: Sequence[Choice]) -> list[Miss]:
    misses = []
    for row, choice in zip(rows, final, strict=True):
        good = [n for n, right in enumerate(row.correct) if right]
        if row.correct[choice.index] or not good:
            continue
        best = max(good, key=lambda n: row.scores[n])
        gap = row.scores[choice.index] - row.scores[best]
        texts = row.answers[choice.index].text, row.answers[best].text
        misses.append(Miss(row.row.id, row.row.question, *texts, row.doubt, gap))
    worst: dict[str, Miss] = {}  # one a question
    for miss in sorted(misses, key=lambda miss: -miss.score_gap):
        worst.setdefault(miss.question, miss)
    return list(worst.values())[:MOST_MISSES]
