"""The evaluation ladder: what each system scores, what each step gains and costs, and what that means in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from artrag.errors import UsageError
from artrag.evaluation.answering import RIGHT, Answered, measures
from artrag.evaluation.calibration import aurc, expected_calibration_error
from artrag.evaluation.causes import Cause, cause
from artrag.evaluation.intervals import Interval, clustered_ratios
from artrag.evaluation.questions import Question, groups
from artrag.protocols import Adds

FEWEST = 20
"""Questions below which nothing can be concluded."""

Price = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rung:
    """Where a system stands: its name, the one below, and what it adds to that."""

    name: str
    over: str = ""
    adds: Adds | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one system.

    Attributes:
        rung: where it stands.
        measures: each measure's mean with its interval, over the questions that it fits.
        counts: questions that each measure fits.
        gain: in quality over the rung below, paired; None for the first.
        over_first: the same over the first system.
        failed: questions that it failed on; they count as wrong.
        abstained: questions that it would not answer.
        cost: calls, prompt_tokens, completion_tokens, seconds and, with prices, money: means a question.
        seconds: the median and the 95th percentile.
        calibration: `ece` and `aurc` of its confidence, where it has one.
        causes: how many wrong answers each cause has.
        needs: of a router, by what it found that questions need: `questions`, and their mean `quality`.
    """

    rung: Rung
    measures: dict[str, Interval]
    counts: dict[str, int]
    gain: Interval | None
    over_first: Interval | None
    failed: int
    abstained: int
    cost: dict[str, float]
    seconds: tuple[float, float]
    calibration: dict[str, float]
    causes: dict[str, int]
    needs: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Ladder:
    """All systems over the same questions.

    Attributes:
        questions: how many.
        figures: by system, from the bottom up.
        values: the quality of each answer, by system, in the order of the questions.
        causes: why it is wrong, empty where it is right.
        verdict: in plain language, one sentence or more.
        lacking: what the questions lack: "retrieval", "behaviour", "doubt", or nothing that was measured.
        keep: the system to keep: the cheapest of those that no other is surely better than.
    """

    questions: int
    figures: dict[str, Figures]
    values: dict[str, list[float]]
    causes: dict[str, list[Cause | Literal[""]]]
    verdict: list[str]
    lacking: str
    keep: str
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "questions": self.questions,
            "systems": {name: _json(one) for name, one in self.figures.items()},
            "verdict": self.verdict,
            "lacking": self.lacking,
            "keep": self.keep,
        } | self.about


def ladder(
    questions: Sequence[Question],
    rows: Mapping[str, Sequence[Answered]],
    rungs: Sequence[Rung],
    *,
    more: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    price: Price | None = None,
) -> Ladder:
    """Measure the answers and compare the systems.

    Args:
        questions: those that were asked.
        rows: by system, an answer to each question, in the order of the questions.
        rungs: the systems, from the bottom up.
        more: further measures by system, one value a question; nan where it has none.
        price: of a million prompt tokens, and of a million written ones.

    Raises:
        UsageError: there is no question, or a system did not answer these very questions.
    """
    if not questions:
        raise UsageError("no questions were asked: give at least one")
    names = [one.id for one in questions]
    for rung in rungs:
        if [row.id for row in rows[rung.name]] != names:
            raise UsageError(f"{rung.name!r} answered other questions: compare systems over the same ones")
    about = groups(questions)
    tables, causes = _measured(questions, rows, rungs)
    values = {rung.name: tables[rung.name]["quality"] for rung in rungs}
    for name, further in (more or {}).items():
        tables[name] |= {measure: np.asarray(given, dtype=np.float64) for measure, given in further.items()}
    first = rungs[0].name
    wanted = {(name, measure): column for name, table in tables.items() for measure, column in table.items()}
    wanted |= {(rung.name, "gain"): values[rung.name] - values[rung.over] for rung in rungs if rung.over}
    wanted |= {(name, "over first"): value - values[first] for name, value in values.items() if name != first}
    means = _means(wanted, about)
    found = {}
    for rung in rungs:
        name, own = rung.name, rows[rung.name]
        found[name] = Figures(
            rung=rung,
            measures={measure: means[name, measure] for measure in tables[name]},
            counts={measure: int((~np.isnan(column)).sum()) for measure, column in tables[name].items()},
            gain=means.get((name, "gain")),
            over_first=means.get((name, "over first")),
            failed=sum(bool(row.error) for row in own),
            abstained=sum(row.abstained for row in own),
            cost=_cost(own, price),
            seconds=(median(row.seconds for row in own), float(np.percentile([row.seconds for row in own], 95))),
            calibration=_calibration(own, values[name]),
            causes=dict(Counter(filter(None, causes[name])).most_common()),
            needs=_needs(own, values[name]),
        )
    verdict, lacking, keep = _verdict(found, values, about)
    return Ladder(
        questions=len(questions),
        figures=found,
        values={name: value.tolist() for name, value in values.items()},
        causes=causes,
        verdict=verdict,
        lacking=lacking,
        keep=keep,
    )


Column = NDArray[np.float64]
"""A value a question, nan where it has none."""


def _measured(
    questions: Sequence[Question], rows: Mapping[str, Sequence[Answered]], rungs: Sequence[Rung]
) -> tuple[dict[str, dict[str, Column]], dict[str, list[Cause | Literal[""]]]]:
    """Every measure by system, and why its answers are wrong."""
    tables: dict[str, dict[str, Column]] = {rung.name: {} for rung in rungs}
    causes: dict[str, list[Cause | Literal[""]]] = {rung.name: [] for rung in rungs}
    for n, question in enumerate(questions):  # question by question: the systems read much the same
        for name, table in tables.items():
            row = rows[name][n]
            scores = measures(question, row)
            for measure, score in scores.items():
                if measure not in table:
                    table[measure] = np.full(len(questions), np.nan)
                table[measure][n] = score.value
            causes[name].append("" if scores["quality"].value >= RIGHT else cause(question, row))
    return tables, causes


def _means(wanted: Mapping[Any, Column], about: Sequence[str]) -> dict[Any, Interval]:
    """The mean of each column over the questions that have it; all share the draws, which take the time."""
    table = np.array(list(wanted.values()))
    means = clustered_ratios(np.nan_to_num(table), (~np.isnan(table)).astype(np.float64), about)
    return dict(zip(wanted, means, strict=True))


def _cost(rows: Sequence[Answered], price: Price | None) -> dict[str, float]:
    told = {
        name: sum(getattr(row, name) for row in rows) / len(rows)
        for name in ("calls", "prompt_tokens", "completion_tokens", "seconds")
    }
    if price:
        told["money"] = (told["prompt_tokens"] * price[0] + told["completion_tokens"] * price[1]) / 1e6
    return told


def _needs(rows: Sequence[Answered], values: Column) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        if row.need:
            found.setdefault(row.need, []).append(float(value))
    return {need: {"questions": len(own), "quality": sum(own) / len(own)} for need, own in sorted(found.items())}


def _calibration(rows: Sequence[Answered], values: Column) -> dict[str, float]:
    sure = [
        (row.confidence, bool(value >= RIGHT))
        for row, value in zip(rows, values, strict=True)
        if row.confidence is not None
    ]
    if not sure:
        return {}
    confidence, right = zip(*sure, strict=True)
    return {"ece": expected_calibration_error(confidence, right), "aurc": aurc(confidence, right)}


_LACKS = {
    "prompt": "the instructions in the prompt",
    "retrieval": "retrieval",
    "doubt": "doubt (ask, refine, trust)",
    "tuning": "behaviour (fine-tuning)",
    "routing": "routing",
}


def _verdict(
    found: Mapping[str, Figures], values: Mapping[str, Column], about: Sequence[str]
) -> tuple[list[str], str, str]:
    """What it comes to: (sentences, what is lacking, which system to keep)."""
    order = list(found)
    best = max(order, key=lambda name: found[name].measures["quality"].value)
    count = len(set(about))
    if count < FEWEST:
        few = f"{count} different questions are too few: with fewer than {FEWEST} nothing can be concluded."
        return [few], "", ""
    # The cheapest of those that the best one is not surely better than.
    ahead = _means({name: values[best] - values[name] for name in order}, about)
    level = [name for name in order if ahead[name].low <= 0]
    keep = min(level, key=lambda name: (_dear(found[name]), order.index(name)))
    steps = [one for one in found.values() if one.gain]
    sure = sorted((one for one in steps if one.gain and one.gain.low > 0), key=lambda one: -_gained(one))
    told, lacking = [], ""
    for one in sure:
        step = f"{one.rung.name!r} gains {_points(one.gain)} points over {one.rung.over!r}"
        if one is sure[0] and one.rung.adds:
            lacking = one.rung.adds
            told.append(f"{_LACKS[lacking].capitalize()} is what you lacked: {step}.")
        else:
            told.append(f"{step}.")
    for one in steps:
        if one.gain and one.gain.high < 0:
            told.append(f"{one.rung.name!r} does harm: {_points(one.gain)} points over {one.rung.over!r}.")
    if steps and not told:
        told.append(f"No significant difference between the steps: keep the cheaper, {keep!r}.")
    elif len(order) > 1 and keep == best:
        told.append(f"Keep {keep!r}: it is the best, and no cheaper one is as good.")
    elif len(order) > 1:
        told.append(f"Keep {keep!r}: these questions do not show that {best!r}, which is dearer, is better.")
    return told, {"tuning": "behaviour"}.get(lacking, lacking), keep


def _gained(one: Figures) -> float:
    return one.gain.value if one.gain else 0.0


def _dear(one: Figures) -> float:
    """What a question costs: money where prices are known, else seconds."""
    return one.cost.get("money", one.cost["seconds"])


def _points(gain: Interval | None) -> str:
    assert gain is not None  # noqa: S101
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _json(one: Figures) -> dict[str, Any]:
    def plain(found: Interval | None) -> dict[str, float] | None:
        if found is None or np.isnan(found.value):  # JSON has no nan
            return None
        return {"value": found.value, "low": found.low, "high": found.high}

    return {
        **{name: plain(value) for name, value in one.measures.items()},
        "counts": one.counts,
        "over": one.rung.over or None,
        "adds": one.rung.adds,
        "gain": plain(one.gain),
        "over_first": plain(one.over_first),
        "failed": one.failed,
        "abstained": one.abstained,
        "coverage": 1 - one.failed / max(one.counts.values()),
        "cost": one.cost,
        "seconds": {"p50": one.seconds[0], "p95": one.seconds[1]},
        "calibration": one.calibration,
        "causes": one.causes,
        "needs": one.needs,
    }
