"""A replay as one self-contained HTML page, and the same as JSON."""

import html
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artrag.evaluation.intervals import Interval
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

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CSS = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,"Segoe UI",sans-serif;color:#1b1f24;background:#f4f6f8;margin:0}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}
p.note{color:#4a545f;margin:4px 0 8px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(145px,1fr));gap:12px;margin:18px 0}
.card,figure,table,details{background:#fff;border:1px solid #dde3e9;border-radius:10px}
.card{padding:12px 16px}.card b{display:block;font-size:25px;font-variant-numeric:tabular-nums}
.card span{color:#4a545f;font-size:13px;display:block}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:14px}
figure{margin:0;padding:12px 14px}figcaption{font-weight:600;margin-bottom:6px}
figcaption small{display:block;font-weight:400;color:#4a545f;font-size:13px}
figure svg{width:100%;height:auto;display:block}
.scroll{overflow-x:auto}
table{border-collapse:separate;border-spacing:0;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid #edf0f3;white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}
td.say{text-align:left;white-space:normal;color:#4a545f}tr.own td.say{color:inherit}
th{color:#4a545f;font-weight:600;font-size:13px}tr.own td{background:#eef6fb;font-weight:600}
.up{color:#00734f}.down{color:#a33a00}
details{padding:8px 14px;margin:8px 0}summary{cursor:pointer}
summary small{color:#4a545f}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f6f8;border-radius:6px;padding:10px;margin:6px 0;
font-size:13px}
"""

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
    return _written(folder / "report.html", page), _written(folder / "report.json", data)


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
        f"{_safe(f'; left out: {left_out}') if left_out else ''}. Brackets are 95% bootstrap intervals over questions: "
        "of several rows of one question all are drawn or none.</p>"
        f'<p class="note">{" · ".join(f"{_safe(name)}: <b>{_safe(value)}</b>" for name, value in told)}</p>'
    )
    body = [head, _cards(report), _plots(report), "<h2>Policies</h2>", _policy_table(whole)]
    if report.parts:
        body += ["<h2>File by file</h2>", _part_table(report.parts)]
    body += ["<h2>Measures</h2>", _measure_table(report.measures), *_misses(report)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>artrag: replay</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_CSS}</style></head><body><main>{''.join(body)}</main></body></html>"
    )


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
    value, bounds = _number(found, signed)
    return (
        f'<div class="card"><span>{_safe(title)}</span><b>{value}</b><span>{bounds}</span>'
        f"<span>{_safe(unit)}</span></div>"
    )


def _plots(report: Report) -> str:
    figures = [
        ("Policies", "mean accuracy and its interval", policies_plot(report.comparison)),
        (
            "Accuracy against share refined",
            "the most doubted drafts first, the Truster choosing",
            curve_plot(report.curve, report.comparison.refine_rate.value),
        ),
        ("Calibration", "equal-mass bins", calibration_plot(report.trust_reliability, report.ask_reliability)),
        ("Risk and coverage", "of the final answers", risk_coverage_plot(report.risk_coverage)),
        (
            "The Truster's margin",
            "what refining did: mends a wrong draft, breaks a right one, or neither",
            margins_plot(report.margins, report.thresholds["trust_margin"]),
        ),
    ]
    if report.parts:
        figures.append(("File by file", "what ask+trust gains, and its interval", parts_plot(report.parts)))
    drawn = "".join(
        f'<figure role="img" aria-label="{_safe(title)}"><figcaption>{_safe(title)}<small>{_safe(note)}</small>'
        f"</figcaption>{svg}</figure>"
        for title, note, svg in figures
    )
    return f'<div class="plots">{drawn}</div>'


def _policy_table(whole: Comparison) -> str:
    rows = []
    for name in _MEANINGS:
        own = ' class="own"' if name == "ask+trust" else ""
        rows.append(
            f"<tr{own}><td>{_safe(name)}</td>{_cells(whole.policies[name], False)}"
            f'{_cells(whole.differences[name], True)}<td class="say">{_safe(_MEANINGS[name])}</td></tr>'
        )
    head = f"<th>policy</th><th>accuracy, %</th><th></th><th>over {_safe(whole.better)}, points</th><th></th><th></th>"
    return _table(head, rows)


def _part_table(parts: Mapping[str, Comparison]) -> str:
    rows = [
        f"<tr><td>{_safe(name)}</td><td>{part.rows}</td>"
        + "".join(f"<td>{100 * part.policies[p].value:.1f}</td>" for p in ("initial", "refine-all", "random"))
        + "".join(f"<td>{100 * part.policies[p].value:.1f}</td>" for p in ("trust-only", "ask+trust", "oracle"))
        + f"{_cells(part.differences['ask+trust'], True)}<td>{100 * part.refine_rate.value:.0f}</td></tr>"
        for name, part in parts.items()
    ]
    names = ("file", "rows", "initial", "refine-all", "random", "trust-only", "ask+trust", "oracle", "gain", "")
    return _table("".join(f"<th>{name}</th>" for name in (*names, "refined, %")), rows)


def _measure_table(measures: Mapping[str, Interval]) -> str:
    rows = [
        f'<tr><td>{_safe(name)}</td>{_cells(found, None)}<td class="say">{_safe(_MEASURES[name])}</td></tr>'
        for name, found in measures.items()
    ]
    return _table("<th>measure</th><th>value</th><th></th><th></th>", rows)


def _misses(report: Report) -> Iterable[str]:
    if not report.misses:
        return
    yield "<h2>Where it fails</h2>"
    yield '<p class="note">Rows with a right answer where a wrong one was chosen, the surest mistakes first.</p>'
    for miss in report.misses:
        question = " ".join(miss.question.split())
        question = question if len(question) <= 140 else f"{question[:140]} ..."
        yield (
            f"<details><summary>{_safe(question)} <small>{_safe(miss.id)}, doubt {miss.doubt:.2f}, wrong by "
            f"{miss.score_gap:+.3g}</small></summary><pre>{_safe(miss.question[:LONGEST_TEXT])}</pre>"
            f"<b>chosen, wrong</b><pre>{_safe(miss.chosen[:LONGEST_TEXT])}</pre>"
            f"<b>passed over, right</b><pre>{_safe(miss.missed[:LONGEST_TEXT])}</pre></details>"
        )


def _table(head: str, rows: Iterable[str]) -> str:
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cells(found: Interval, signed: bool | None) -> str:
    value, bounds = _number(found, signed)
    sure = "" if not signed else "up" if found.low > 0 else "down" if found.high < 0 else ""
    return f'<td class="{sure}">{value}</td><td class="{sure}">{bounds}</td>'


def _number(found: Interval, signed: bool | None) -> tuple[str, str]:
    """The value and its interval: per cent, signed points, or (None) a plain number."""
    if np.isnan(found.value):
        return "-", ""
    scale, form = (1, ".3f") if signed is None else (100, "+.1f" if signed else ".1f")
    value, low, high = (f"{scale * number:{form}}" for number in (found.value, found.low, found.high))
    return value, f"[{low}, {high}]"


def _bin(probability: float, share: float, count: int) -> dict[str, float]:
    return {"probability": probability, "share": share, "count": count}


def _written(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)
    return path


def _safe(text: str) -> str:
    return html.escape(text)
