"""The ladder as Markdown: what the page says in words and figures; its curves are on the page alone."""

from collections.abc import Iterable, Iterator

import numpy as np

from artrag.evaluation.intervals import Interval
from artrag.evaluation.ladder import Ladder
from artrag.evaluation.page import number


def as_markdown(found: Ladder) -> str:
    """The verdict, what the judge is worth, the systems, every measure, and why answers are wrong."""
    lines = ["# The ladder", "", *(f"- {sentence}" for sentence in found.verdict), ""]
    if found.about.get("judge"):
        lines += [f"{found.about['judge']}.", ""]
    for section in (_systems, _measures, _causes, _needs, _against):
        lines += [*section(found), ""]
    return "\n".join(lines)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = [*head]
    yield f"| {' | '.join(map(_cell, names))} |"
    yield "|" + len(names) * "---|"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _told(value: Interval | None, signed: bool = False) -> str:
    return "" if value is None or np.isnan(value.value) else " ".join(number(value, signed))


def _systems(found: Ladder) -> Iterator[str]:
    priced = all("money" in one.cost for one in found.figures.values())
    head = ["system", "adds", "quality, %", "gain, points", "over", "failed", "abstained", "calls", "tokens", "seconds"]
    rows = []
    for name, one in found.figures.items():
        tokens = one.cost["prompt_tokens"] + one.cost["completion_tokens"]
        row = [name, one.rung.adds or "", _told(one.measures["quality"]), _told(one.gain, True), one.rung.over]
        row += [str(one.failed), str(one.abstained), f"{one.cost['calls']:.1f}", f"{tokens:,.0f}"]
        row += [f"{one.cost['seconds']:.2f}", *([f"{one.cost['money']:.5f}"] if priced else [])]
        rows.append(row)
    yield from _table([*head, *(["money"] if priced else [])], rows)
    yield ""
    yield f"{found.questions:,} questions; brackets are 95% bootstrap intervals over questions."


def _measures(found: Ladder) -> Iterator[str]:
    names = dict.fromkeys(name for one in found.figures.values() for name in one.measures)
    yield "## Measures, %"
    yield ""
    rows = ([name, *(_told(one.measures.get(name)) for one in found.figures.values())] for name in names)
    yield from _table(["measure", *found.figures], rows)


def _causes(found: Ladder) -> Iterator[str]:
    names = list(dict.fromkeys(name for one in found.figures.values() for name in one.causes))
    if names:
        yield "## Why answers are wrong"
        yield ""
        rows = ([name, *(str(one.causes.get(why, 0)) for why in names)] for name, one in found.figures.items())
        yield from _table(["system", *names], rows)


def _needs(found: Ladder) -> Iterator[str]:
    rows = [
        [name, need, f"{told['questions']:.0f}", f"{100 * told['quality']:.1f}"]
        for name, one in found.figures.items()
        for need, told in one.needs.items()
    ]
    if rows:
        yield "## What questions need"
        yield ""
        yield from _table(["router", "need", "questions", "quality, %"], rows)


def _against(found: Ladder) -> Iterator[str]:
    told = found.about.get("against")
    if told:
        yield f"## Since {told['run']}"
        yield ""
        rows = ([name, _told(Interval(**gain), True)] for name, gain in told["gains"].items())
        yield from _table(["system", "gain, points"], rows)
