"""What each arm of each index finds, how fast, and what that means: does a costlier context pay?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from artrag.evaluation.intervals import Interval
from artrag.evaluation.retrieval import Judged, Table, differences, intervals, ranks, scores, share, signed, table_of

HYBRID, RERANKED = "hybrid", "reranked"
GATE = 10
"""Verdicts are spoken at this k where it is measured."""


@dataclass(frozen=True, slots=True)
class Searched:
    """One index, searched for every question.

    Attributes:
        index: its path.
        context: the kind of its context: none, auto, document, llm.
        judged: the questions.
        rankings: for each arm, and for the fused "hybrid", the chunk ids found for each question, best first.
        search_ms: for each arm the milliseconds of each search, the embedding of the question left out.
        total_ms: the same with the embedding, where the arm needs it.
        about: counts and the fusion in use, for the report.
    """

    index: str
    context: str
    judged: Sequence[Judged]
    rankings: Mapping[str, Sequence[Sequence[str]]]
    search_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    total_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What one arm finds, and how fast.

    Attributes:
        figures: each measure with its interval.
        over_best: each measure minus that of the best single arm, paired; empty for that arm.
        curve: pass@1, pass@2, ... up to the largest k.
        milliseconds: p50_ms and p95_ms of a search, search_p50_ms and search_p95_ms without embedding the question.
    """

    figures: Mapping[str, Interval]
    over_best: Mapping[str, Interval]
    curve: Sequence[float]
    milliseconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """All arms of one index; `best_single` is the arm with the best mean pass@k of those that are not fused."""

    searched: Searched
    arms: Mapping[str, ArmFigures]
    best_single: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same arm in two indexes: `second` minus `first`, question by question, and what that means in words."""

    first: str
    second: str
    arm: str
    differences: Mapping[str, Interval]
    verdict: str


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """What was found in which index by which arm."""

    ks: tuple[int, ...]
    indexes: Sequence[IndexFigures]
    comparisons: Sequence[Comparison]

    @property
    def gate(self) -> str:
        """The measure that the verdicts speak of."""
        return f"pass@{GATE if GATE in self.ks else max(self.ks)}"

    @property
    def verdicts(self) -> list[str]:
        """Does the context pay? Asked of the arm that searches use, the fused one, where it was measured."""
        fused = [one.verdict for one in self.comparisons if one.arm == HYBRID]
        return fused or [one.verdict for one in self.comparisons]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "k": list(self.ks),
            "questions": len(self.indexes[0].searched.judged),
            "indexes": {one.searched.index: _index_json(one) for one in self.indexes},
            "comparisons": [
                {
                    "first": one.first,
                    "second": one.second,
                    "arm": one.arm,
                    **_json(one.differences),
                    "verdict": one.verdict,
                }
                for one in self.comparisons
            ],
            "verdicts": self.verdicts,
        }


def report_of(searched: Sequence[Searched], ks: Sequence[int]) -> RetrievalReport:
    """Figures of every arm of every index, and how they compare.

    Args:
        searched: indexes, asked the same questions in the same order.
        ks: numbers of passages.
    """
    ks = tuple(sorted(set(ks)))
    tables = [
        {
            arm: table_of([scores(j, found, ks) for j, found in zip(one.judged, rankings, strict=True)])
            for arm, rankings in one.rankings.items()
        }
        for one in searched
    ]
    indexes = [_figures(one, table, ks) for one, table in zip(searched, tables, strict=True)]
    report = RetrievalReport(ks, indexes, [])
    return RetrievalReport(ks, indexes, _comparisons(searched, tables, report.gate))


def _figures(one: Searched, tables: Mapping[str, Table], ks: Sequence[int]) -> IndexFigures:
    passes = {arm: float(np.mean([table[f"pass@{k}"] for k in ks])) for arm, table in tables.items()}
    single = {arm: value for arm, value in passes.items() if arm not in (HYBRID, RERANKED)}
    best = max(single, key=lambda arm: single[arm]) if single else None
    arms = {}
    for arm, table in tables.items():
        found = [ranks(r[: max(ks)], j.by_text) for r, j in zip(one.rankings[arm], one.judged, strict=True)]
        curve = [float(np.mean([share(rank, k) for rank in found])) for k in range(1, max(ks) + 1)]
        over = differences(tables[best], table) if best and arm != best else {}
        arms[arm] = ArmFigures(intervals(table), over, curve, _milliseconds(one, arm))
    return IndexFigures(one, arms, best)


def _milliseconds(one: Searched, arm: str) -> dict[str, float]:
    return {
        f"{prefix}p{percent}_ms": float(np.percentile(took[arm], percent))
        for prefix, took in (("", one.total_ms), ("search_", one.search_ms))
        for percent in (50, 95)
        if took.get(arm)
    }


_COST = {"none": 0, "auto": 1, "document": 2, "llm": 3}
_CALLED = {
    "none": "no context",
    "auto": "deterministic context",
    "document": "LLM context (one sentence a document)",
    "llm": "LLM context (one a chunk)",
}


def _comparisons(searched: Sequence[Searched], tables: Sequence[Mapping[str, Table]], gate: str) -> list[Comparison]:
    """Every index against the one with deterministic context, else the first; the cheaper context comes first."""
    base = next((n for n, one in enumerate(searched) if one.context == "auto"), 0)
    found = []
    for other in (n for n in range(len(searched)) if n != base):
        pair = sorted((base, other), key=lambda n: (_COST.get(searched[n].context, 1), n != base))
        first, second = searched[pair[0]], searched[pair[1]]
        for arm, table in tables[pair[1]].items():
            if arm in tables[pair[0]]:
                gained = differences(tables[pair[0]][arm], table)
                said = _verdict(first, second, arm, gained[gate], gate)
                found.append(Comparison(first.index, second.index, arm, gained, said))
    return found


def _verdict(first: Searched, second: Searched, arm: str, gain: Interval, gate: str) -> str:
    """Is the costlier context worth it? Two indexes of one kind are told apart by their paths."""
    if first.context == second.context:
        names, no_gain, harm = (repr(first.index), repr(second.index)), "keep the first", "keep the first"
    else:
        names = _CALLED[first.context], _CALLED[second.context]
        free = second.context == "auto"
        no_gain = "it costs no model call, keep it" if free else "leave it off"
        harm = "leave it off"
    if gain.low > 0:
        end = "worth it"
    else:
        end = f"does harm: {harm}" if gain.high < 0 else f"no significant gain: {no_gain}"
    return f"{arm}: {names[1]} gains {signed(gain)} points at {gate} over {names[0]}: {end}"


def _json(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in found.items()}


def _index_json(one: IndexFigures) -> dict[str, Any]:
    missing = {judged.query.id: list(judged.missing) for judged in one.searched.judged if judged.missing}
    arms = {
        arm: _json(found.figures)
        | dict(found.milliseconds)
        | {"over_best_single": _json(found.over_best), "pass_curve": list(found.curve)}
        for arm, found in one.arms.items()
    }
    return {
        "context": one.searched.context,
        **one.searched.about,
        "best_single": one.best_single,
        "missing": missing,
        "arms": arms,
    }
