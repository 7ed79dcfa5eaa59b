"""A replay as one self-contained HTML page, and the same as JSON."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artrag.evaluation.intervals import Interval
from artrag.evaluation.page import cells, figures, number, page, safe, table, written
from artrag.evaluation.plots import (
    calibration_plot,
    curve_plot,
    margins_plot,
    parts_plot,
    policies_plot,
    risk_coverage_plot,
)
from artrag.evaluation.replay import Comparison, Report

LONGEST_TEXT = 2000

_MEANINGS = {
    "initial": "the draft",
    "refine-all": "always the latest refined answer",
    "random": "refined answer for a random share, as large as ask+trust's",
    "random+trust": "the same, the Truster choosing",
    "ask-only": "refined answer where the Asker doubts",
    "trust-only": "always refine, the Truster choosing",
    "ask+trust": "refine where the Asker doubts, the Truster choosing",
    "majority": "the final answer given most often",
    "weighted-vote": "the same, weighted by the Truster",
    "oracle": "a right answer wherever there is one",
}


_MEASURES = {
    "auc": "the Asker's probability ranks wrong drafts above right ones",
    "ece": "expected calibration error of the confidence in the final answer",
    "accuracy_at_80": "accuracy of the surest 80% of the final answers",
    "ece_asker": "expected calibration error of the probability that the draft is wrong",
    "gain_at_80": "accuracy of the surest 80% minus that of all",
    "aurc": "area under the risk-coverage curve; lower is better",
    "within_question_auc": "the Truster ranks right answers above wrong ones of the same question and source",
    "gain_kept_at_half": "share of the gain of refining all that is kept when half of the drafts are refined",
    "curve_above_random": "mean height of the curve above random choice",
}


def write_report(folder: Path, report: Report, about: Mapping[str, str]) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into `folder`; a reader sees the old file or the whole new one.

    Args:
        folder: made where it is missing.
        report: of a replay.
        about: what was replayed with what, for the head of the page and for the JSON.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    page = as_html(report, about)
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(as_json(report, about), ensure_ascii=False, indent=1)
    return written(folder / "report.html", page), written(folder / "report.json", data)


def as_json(report: Report, about: Mapping[str, str]) -> dict[str, Any]:
    """The figures with the points of every plot."""
    shares = np.linspace(0, 1, min(len(report.curve), 201))
    accuracies = np.interp(shares, np.linspace(0, 1, len(report.curve)), report.curve)
    return report.as_dict() | {
        "about": dict(about),
        "curve": [{"refined": float(x), "accuracy": float(y)} for x, y in zip(shares, accuracies, strict=True)],
        "trust_reliability": [_bin(b.probability, b.share, b.count) for b in report.trust_reliability],
        "ask_reliability": [_bin(b.probability, b.share, b.count) for b in report.ask_reliability],
        "risk_coverage": [
            {"coverage": p.coverage, "risk": p.risk, "threshold": p.threshold} for p in report.risk_coverage
        ],
        "margins": report.margins,
    }


def as_html(report: Report, about: Mapping[str, str]) -> str:
    """The page: every text is escaped, nothing is fetched, no script runs."""
    whole = report.comparison
    left_out = ", ".join(f"{n} with {reason}" for reason, n in report.left_out.items())
    told = [*about.items(), *((name.replace("_", " "), f"{value:.4g}") for name, value in report.thresholds.items())]
    head = (
        "<h1>Ask, Refine, Trust on recorded answers</h1>"
        f'<p class="note">{whole.rows} rows of {whole.questions} questions'
        f"{safe(f'; left out: {left_out}') if left_out else ''}. Brackets are 95% bootstrap intervals over questions: "
        "of several rows of one question all are drawn or none.</p>"
        f'<p class="note">{" · ".join(f"{safe(name)}: <b>{safe(value)}</b>" for name, value in told)}</p>'
    )
    body = [head, _cards(report), _plots(report), "<h2>Policies</h2>", _policy_table(whole)]
    if report.parts:
        body += ["<h2>File by file</h2>", _part_table(report.parts)]
    body += ["<h2>Measures</h2>", _measure_table(report.measures), *_misses(report)]
    return page("artrag: replay", body)


def _cards(report: Report) -> str:
    whole = report.comparison
    cards = [
        ("Ask + Trust", whole.policies["ask+trust"], False, "accuracy, %"),
        (f"over {whole.better}", whole.differences["ask+trust"], True, "points"),
        ("Drafts refined", whole.refine_rate, False, "%"),
        ("Asker's AUC", report.measures["auc"], None, "draft wrong?"),
        ("Truster's AUC", report.measures["within_question_auc"], None, "within a question"),
        ("Calibration error", report.measures["ece"], None, "of the confidence"),
        ("At 80% coverage", report.measures["accuracy_at_80"], False, "accuracy, %"),
    ]
    return '<div class="cards">' + "".join(_card(*card) for card in cards) + "</div>"


def _card(title: str, found: Interval, signed: bool | None, unit: str) -> str:
    value, bounds = number(found, signed)
    return (
        f'<div class="card"><span>{safe(title)}</span><b>{value}</b><span>{bounds}</span>'
        f"<span>{safe(unit)}</span></div>"
    )


def _plots(report: Report) -> str:
    drawn = [
        ("Policies", "mean accuracy and its interval", policies_plot(report.comparison)),
        (
            "Accuracy against share refined",
            "the most doubted drafts first, the Truster choosing",
            curve_plot(report.curve, report.comparison.refine_rate.value),
        ),
        ("Calibration", "equal-mass bins", _calibration(report)),
        ("Risk and coverage", "of the final answers", risk_coverage_plot(report.risk_coverage)),
        (
            "The Truster's margin",
            "what refining did: mends a wrong draft, breaks a right one, or neither",
            margins_plot(report.margins, report.thresholds["trust_margin"]),
        ),
    ]
    if report.parts:
        drawn.append(("File by file", "what ask+trust gains, and its interval", parts_plot(report.parts)))
    return figures(drawn)


def _calibration(report: Report) -> str:
    return calibration_plot(
        {
            "Truster: the final answer is right": report.trust_reliability,
            "Asker: the draft is wrong": report.ask_reliability,
        }
    )


def _policy_table(whole: Comparison) -> str:
    rows = []
    for name in _MEANINGS:
        own = ' class="own"' if name == "ask+trust" else ""
        rows.append(
            f"<tr{own}><td>{safe(name)}</td>{cells(whole.policies[name], False)}"
            f'{cells(whole.differences[name], True)}<td class="say">{safe(_MEANINGS[name])}</td></tr>'
        )
    head = f"<th>policy</th><th>accuracy, %</th><th></th><th>over {safe(whole.better)}, points</th><th></th><th></th>"
    return table(head, rows)


def _part_table(parts: Mapping[str, Comparison]) -> str:
    rows = [
        f"<tr><td>{safe(name)}</td><td>{part.rows}</td>"
        + "".join(f"<td>{100 * part.policies[p].value:.1f}</td>" for p in ("initial", "refine-all", "random"))
        + "".join(f"<td>{100 * part.policies[p].value:.1f}</td>" for p in ("trust-only", "ask+trust", "oracle"))
        + f"{cells(part.differences['ask+trust'], True)}<td>{100 * part.refine_rate.value:.0f}</td></tr>"
        for name, part in parts.items()
    ]
    names = ("file", "rows", "initial", "refine-all", "random", "trust-only", "ask+trust", "oracle", "gain", "")
    return table("".join(f"<th>{name}</th>" for name in (*names, "refined, %")), rows)


def _measure_table(measures: Mapping[str, Interval]) -> str:
    rows = [
        f'<tr><td>{safe(name)}</td>{cells(found, None)}<td class="say">{safe(_MEASURES[name])}</td></tr>'
        for name, found in measures.items()
    ]
    return table("<th>measure</th><th>value</th><th></th><th></th>", rows)


def _misses(report: Report) -> Iterable[str]:
    if not report.misses:
        return
    yield "<h2>Where it fails</h2>"
    yield '<p class="note">Rows with a right answer where a wrong one was chosen, the surest mistakes first.</p>'
    for miss in report.misses:
        question = " ".join(miss.question.split())
        question = question if len(question) <= 140 else f"{question[:140]} ..."
        yield (
            f"<details><summary>{safe(question)} <small>{safe(miss.id)}, doubt {miss.doubt:.2f}, wrong by "
            f"{miss.score_gap:+.3g}</small></summary><pre>{safe(miss.question[:LONGEST_TEXT])}</pre>"
            f"<b>chosen, wrong</b><pre>{safe(miss.chosen[:LONGEST_TEXT])}</pre>"
            f"<b>passed over, right</b><pre>{safe(miss.missed[:LONGEST_TEXT])}</pre></details>"
        )


def _bin(probability: float, share: float, count: int) -> dict[str, float]:
    return {"probability": probability, "share": share, "count": count}
