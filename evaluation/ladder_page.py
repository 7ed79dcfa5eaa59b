"""The ladder as one self-contained HTML page, and that beside Markdown and JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from artrag.evaluation.answering import RIGHT, Answered, quality, rouge_l
from artrag.evaluation.calibration import reliability, risk_coverage
from artrag.evaluation.intervals import Interval
from artrag.evaluation.ladder import Figures, Ladder
from artrag.evaluation.ladder_markdown import as_markdown
from artrag.evaluation.page import cells, figures, number, page, safe, table, written
from artrag.evaluation.plots import bars_plot, calibration_plot, frontier_plot, risk_coverage_plot, systems_plot
from artrag.evaluation.questions import Question
from artrag.evidence import supports
from artrag.passages import CITE_ABOVE, marks_of

SHOWN = 150
"""Questions shown one by one: those that the systems differ on most."""
LONGEST_TEXT = 1500

_MEANINGS = {
    "quality": "the measure that fits each question: F1 for words, else right or wrong",
    "em": "the words of a reference, exactly",
    "f1": "tokens shared with a reference",
    "rouge_l": "longest common sequence with a reference",
    "gives_answer": "a reference stands in the answer",
    "accuracy": "right option, verdict or number",
    "refusal": "refuses where the documents do not say",
    "support": "share of the answer that stands in a passage",
    "answer_in_passages": "a reference stands in what was read",
    "recall": "relevant passages among those read",
    "mrr": "1 / rank of the first relevant passage",
    "ndcg": "order of the relevant passages",
    "faithfulness": "a passage answers the question so, as a small model reads it",
    "relevancy": "cosine of the answer with its question",
    "ragas_faithfulness": "claims that the passages bear out, as the judge says",
    "ragas_answer_relevancy": "questions that the answer would answer, as the judge says",
    "ragas_context_precision": "relevant passages first, as the judge says",
    "ragas_context_recall": "the right answer stands in the passages, as the judge says",
}


def write_ladder(
    folder: Path,
    found: Ladder,
    questions: Sequence[Question],
    rows: Mapping[str, Sequence[Answered]],
    traces: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Path, Path, Path]:
    """Write `report.html`, `report.md` and `report.json`; a reader sees the old file or the whole new one.

    Args:
        folder: made where it is missing.
        found: the figures.
        questions: those that were asked.
        rows: by system, an answer to each.
        traces: by system, the page with the trace of each answer, from the folder on; empty where there is none.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = as_html(found, questions, rows, traces)
    folder.mkdir(parents=True, exist_ok=True)
    return (
        written(folder / "report.html", shown),
        written(folder / "report.md", as_markdown(found)),
        written(folder / "report.json", json.dumps(found.as_dict(), ensure_ascii=False, indent=1)),
    )


def check_libraries() -> None:
    """Before anything is paid.

    Raises:
        MissingExtraError: what the measures and the page need is not installed.
    """
    rouge_l("a", ["a"])
    bars_plot({"a": 1})


def as_html(
    found: Ladder,
    questions: Sequence[Question],
    rows: Mapping[str, Sequence[Answered]],
    traces: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The page: every text is escaped, nothing is fetched, no script runs."""
    body = [
        "<h1>The ladder</h1>",
        f'<p class="note">{found.questions:,} questions, {len(found.figures)} systems. Brackets are 95% bootstrap '
        "intervals over questions; gains are paired, question by question.</p>",
        *_verdict(found),
        *([f'<p class="note">{safe(found.about["judge"])}.</p>'] if found.about.get("judge") else []),
        *_against(found),
        figures(_plots(found, rows)),
        "<h2>Systems</h2>",
        _systems(found),
        "<h2>Measures</h2>",
        _measures(found),
        "<h2>Why answers are wrong</h2>",
        _causes(found),
        *_needs(found),
        "<h2>Citations</h2>",
        _citations(rows),
        "<h2>Question by question</h2>",
        f'<p class="note">{min(SHOWN, found.questions)} of {found.questions:,} are shown, those that the systems '
        "differ on most. Of every question qualities.jsonl tells what each answer is worth and why it is wrong, and "
        "answers.jsonl holds the answers with their passages.</p>",
        *_one_by_one(found, questions, rows, traces or {}),
    ]
    return page("artrag: the ladder", body)


def _verdict(found: Ladder) -> Iterator[str]:
    """What is lacking and what to keep, then the other steps."""
    for sentence in dict.fromkeys((*found.verdict[:1], *found.verdict[-1:])):
        yield f"<p><b>{safe(sentence)}</b></p>"
    if others := found.verdict[1:-1]:
        yield f"<ul>{''.join(f'<li>{safe(sentence)}</li>' for sentence in others)}</ul>"


def _against(found: Ladder) -> Iterator[str]:
    told = found.about.get("against")
    if told:
        yield f"<h2>Since {safe(told['run'])}</h2>"
        rows = (
            f"<tr><td>{safe(name)}</td>{cells(Interval(**gain), True)}</tr>" for name, gain in told["gains"].items()
        )
        yield table("<th>system</th><th>gain, points</th><th>95%</th>", rows)


def _plots(found: Ladder, rows: Mapping[str, Sequence[Answered]]) -> Iterator[tuple[str, str, str]]:
    qualities = {name: one.measures["quality"] for name, one in found.figures.items()}
    yield "Quality", "mean and its interval", systems_plot(qualities, found.keep)
    unit = "money" if all("money" in one.cost for one in found.figures.values()) else "seconds"
    points = {name: (one.cost[unit], qualities[name]) for name, one in found.figures.items()}
    yield (
        "Quality and cost",
        f"{unit} a question; nothing is both better and cheaper than the line",
        frontier_plot(points, unit),
    )
    sure = {
        name: _sure(own, found.values[name])
        for name, own in rows.items()
        if any(one.confidence is not None for one in own)
    }
    if sure:
        bins = {name: reliability(confidence, right) for name, (confidence, right) in sure.items()}
        yield (
            "Calibration",
            "stated confidence against the share that was right, equal-mass bins",
            calibration_plot(bins),
        )
        name = list(sure)[-1]
        yield "Risk and coverage", f"of {name}", risk_coverage_plot(risk_coverage(*sure[name]))


def _sure(rows: Sequence[Answered], values: Sequence[float]) -> tuple[list[float], list[bool]]:
    pairs = [(row.confidence, value >= RIGHT) for row, value in zip(rows, values, strict=True)]
    return [float(one) for one, _ in pairs if one is not None], [right for one, right in pairs if one is not None]


def _systems(found: Ladder) -> str:
    shown = []
    priced = all("money" in one.cost for one in found.figures.values())
    for name, one in found.figures.items():
        own = ' class="own"' if name == found.keep else ""
        gain = cells(one.gain, True) if one.gain else "<td></td><td></td>"
        gain += f"<td>{safe(one.rung.over)}</td>"
        cost = [f"{one.cost['calls']:.1f}", f"{one.cost['prompt_tokens'] + one.cost['completion_tokens']:,.0f}"]
        cost += [f"{one.cost['seconds']:.2f}", f"{one.seconds[1]:.2f}"]
        cost += [f"{one.cost['money']:.5f}"] if priced else []
        sure = [f"{one.calibration[name]:.3f}" if one.calibration else "" for name in ("ece", "aurc")]
        plain = "".join(f"<td>{value}</td>" for value in (one.failed, one.abstained, *cost, *sure))
        quality_of = cells(one.measures["quality"], False)
        shown.append(f"<tr{own}><td>{safe(name)}</td><td>{one.rung.adds or ''}</td>{quality_of}{gain}{plain}</tr>")
    names = ["system", "adds", "quality, %", "95%", "gain, points", "95%", "over", "failed", "abstained", "calls"]
    names += ["tokens", "seconds", "p95", *(["money"] if priced else []), "ECE", "AURC"]
    return table("".join(f"<th>{name}</th>" for name in names), shown)


def _measures(found: Ladder) -> str:
    names = list(dict.fromkeys(name for one in found.figures.values() for name in one.measures))
    shown = []
    for name in names:
        values = (one.measures.get(name) for one in found.figures.values())
        told = (
            f'<td title="{" ".join(number(value, False)) if value else ""}">{_short(value)}</td>' for value in values
        )
        shown.append(f"<tr><td>{safe(name)}<small>{safe(_MEANINGS.get(name, ''))}</small></td>{''.join(told)}</tr>")
    head = "".join(f"<th>{safe(name)}</th>" for name in ("measure, %", *found.figures))
    return table(head, shown)


def _short(value: Interval | None) -> str:
    return "" if value is None or np.isnan(value.value) else f"{100 * value.value:.1f}"


def _causes(found: Ladder) -> str:
    names = list(dict.fromkeys(name for one in found.figures.values() for name in one.causes))
    if not names:
        return '<p class="note">None is.</p>'

    def row(name: str, one: Figures) -> str:
        return f"<tr><td>{safe(name)}</td>{''.join(f'<td>{one.causes.get(why, 0)}</td>' for why in names)}</tr>"

    wrong = [item for item in found.figures.items() if item[1].causes]
    drawn = figures((name, "wrong answers by cause", bars_plot(one.causes, "answers")) for name, one in wrong[-2:])
    head = "".join(f"<th>{safe(name)}</th>" for name in ("system", *names))
    return drawn + table(head, (row(*item) for item in found.figures.items()))


def _needs(found: Ladder) -> Iterator[str]:
    """What a router sent where, and how that went."""
    rows = [
        f"<tr><td>{safe(name)}</td><td>{safe(need)}</td><td>{one['questions']}</td>"
        f"<td>{100 * one['quality']:.1f}</td></tr>"
        for name, figures_of in found.figures.items()
        for need, one in figures_of.needs.items()
    ]
    if rows:
        yield "<h2>What questions need</h2>"
        yield table("<th>router</th><th>need</th><th>questions</th><th>quality, %</th>", rows)


def _citations(rows: Mapping[str, Sequence[Answered]]) -> str:
    """Does the cited passage hold the claim?"""
    counts = {name: Counter[str]() for name in rows}
    for answers in zip(*rows.values(), strict=True):  # question by question: the systems read much the same
        for name, row in zip(rows, answers, strict=True):
            held = [fine for _, fine in marks_of(row.answer, row.read)] if row.passages else []
            counts[name] += Counter(
                answers=bool(row.passages and row.answer), marked=bool(held), marks=len(held), held=sum(held)
            )
    shown = [
        f"<tr><td>{safe(name)}</td><td>{one['answers']}</td><td>{one['marked']}</td><td>{one['marks']}</td>"
        f"<td>{100 * one['held'] / one['marks']:.1f}</td></tr>"
        if one["marks"]
        else f"<tr><td>{safe(name)}</td><td>{one['answers']}</td><td>0</td><td>0</td><td></td></tr>"
        for name, one in counts.items()
        if one["answers"]
    ]
    if not shown:
        return '<p class="note">No system read passages.</p>'
    names = (
        "system",
        "answers from passages",
        "with citations",
        "citations",
        f"hold {CITE_ABOVE:.0%} of their sentence, %",
    )
    return table("".join(f"<th>{name}</th>" for name in names), shown)


def _one_by_one(
    found: Ladder,
    questions: Sequence[Question],
    rows: Mapping[str, Sequence[Answered]],
    traces: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    values = np.array([found.values[name] for name in rows])
    for n in np.argsort(-(values.max(axis=0) - values.min(axis=0)), kind="stable")[:SHOWN]:
        question = questions[n]
        told = " ".join(question.question.split())
        told = told if len(told) <= 140 else f"{told[:140]} ..."
        marks = " ".join(f"{name} {found.values[name][n]:.2f}" for name in rows)
        wanted = "; ".join(question.answers) or "nothing: the documents do not say"
        yield f"<details><summary>{safe(told)} <small>{safe(marks)}</small></summary>"
        yield f"<pre>{safe(question.words[:LONGEST_TEXT])}</pre><p>right: <b>{safe(wanted)}</b></p>"
        for name, own in rows.items():
            yield from _answer(question, own[n], found.causes[name][n], traces[name][n] if traces else "")
        yield "</details>"


def _answer(question: Question, row: Answered, cause: str, trace: str) -> Iterator[str]:
    score, why = quality(question, row), f", {cause}" if cause else ""
    sure = "" if row.confidence is None else f", confidence {row.confidence:.2f}"
    link = f' <a href="{safe(trace)}">trace</a>' if trace else ""
    yield f"<p><b>{safe(row.system)}</b> {score.value:.2f}{safe(why)}{sure}: {safe(score.reason)}{link}</p>"
    yield f"<pre>{safe((row.answer or row.error)[:LONGEST_TEXT])}</pre>"
    if row.decision:
        yield f'<p class="note">{safe(row.decision)}</p>'
    if row.passages:
        held = supports(row.answer, row.read)
        best = {one.passage for one in held if one.share >= CITE_ABOVE}
        if marks := marks_of(row.answer, row.read):
            told = ", ".join(f"[{n}] {'holds' if fine else 'does not hold'}" for n, fine in marks)
            yield f'<p class="note">citations: {safe(told)}</p>'
        yield "<details><summary>passages</summary>"
        for n, one in enumerate(row.passages):
            mark = " <b>bears it out</b>" if n in best else ""
            yield f"<p>[{n + 1}] {safe(one['id'])}{mark}</p><pre>{safe(one['text'][:LONGEST_TEXT])}</pre>"
        yield "</details>"
