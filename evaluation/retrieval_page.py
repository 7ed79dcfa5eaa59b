"""A retrieval report as one self-contained HTML page, and the same as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artrag.evaluation.page import cells, figures, page, safe, table, written
from artrag.evaluation.plots import pass_curves_plot
from artrag.evaluation.retrieval import missing_note
from artrag.evaluation.retrieval_figures import IndexFigures, RetrievalReport

_MEANINGS = {
    "recall@k": "share of a question's relevant ids among its first k passages",
    "pass@k": "the same, passages with the text of a relevant one counting as well",
    "hit@k": "questions with a relevant passage among the first k",
    "ndcg@k": "discounted gain over the best order there could be",
    "mrr": "1 / rank of the first relevant passage",
}


def write_retrieval_report(folder: Path, report: RetrievalReport, about: Mapping[str, str]) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into `folder`; a reader sees the old file or the whole new one.

    Args:
        folder: made where it is missing.
        report: of the indexes.
        about: what was asked, for the head of the page and for the JSON.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = as_html(report, about)
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(report.as_dict() | {"about": dict(about)}, ensure_ascii=False, indent=1)
    return written(folder / "report.html", shown), written(folder / "report.json", data)


def as_html(report: RetrievalReport, about: Mapping[str, str]) -> str:
    """The page."""
    questions = len(report.indexes[0].searched.judged)
    body = [
        "<h1>Retrieval</h1>",
        f'<p class="note">{questions} questions. Brackets are 95% bootstrap intervals over questions; differences are '
        "paired, question by question.</p>",
        f'<p class="note">{" · ".join(f"{safe(name)}: <b>{safe(value)}</b>" for name, value in about.items())}</p>',
        *(f"<p><b>{safe(verdict)}</b></p>" for verdict in report.verdicts),
    ]
    curves = {
        f"{one.searched.index} ({one.searched.context})": {arm: found.curve for arm, found in one.arms.items()}
        for one in report.indexes
    }
    body.append(figures([("Pass@k", "share of a question's relevant passages among k", pass_curves_plot(curves))]))
    for one in report.indexes:
        body += [f"<h2>{safe(one.searched.index)}</h2>", _notes(one), _table(one, report)]
    told = "; ".join(f"{name}: {meaning}" for name, meaning in _MEANINGS.items())
    body.append(f'<p class="note">{safe(told)}.</p>')
    return page("artrag: retrieval", body)


def _notes(one: IndexFigures) -> str:
    told = [f"context: {one.searched.context}", *(f"{name}: {_said(value)}" for name, value in _about(one).items())]
    lines = [", ".join(told), missing_note(one.searched.judged, one.searched.index)]
    return "".join(f'<p class="note">{safe(line)}</p>' for line in lines if line)


def _about(one: IndexFigures) -> dict[str, Any]:
    """What is told of an index: the fusion's settings as figures of their own."""
    about = dict(one.searched.about)
    return about | {name.replace("_", " "): value for name, value in about.pop("fusion", {}).items()}


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number:g}" for name, number in value.items()) or "equal"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(one: IndexFigures, report: RetrievalReport) -> str:
    passes = [f"pass@{k}" for k in report.ks]
    others = ["mrr", *(f"{name}@{k}" for name in ("ndcg", "hit", "recall") for k in report.ks)]
    over = f"<th>{safe(report.gate)} over {safe(one.best_single or '-')}</th><th></th><th>p50, ms</th><th>p95, ms</th>"
    head, tail = ("".join(f"<th>{safe(name)}, %</th><th></th>" for name in names) for names in (passes, others))
    rows = []
    for arm, found in one.arms.items():
        row = f"<tr><td>{safe(arm)}</td>" + "".join(cells(found.figures[name], False) for name in passes)
        gain = found.over_best.get(report.gate)
        row += cells(gain, True) if gain else "<td></td><td></td>"
        times = (found.milliseconds.get(name) for name in ("p50_ms", "p95_ms"))
        row += "".join(f"<td>{'-' if ms is None else f'{ms:.1f}'}</td>" for ms in times)
        rows.append(row + "".join(cells(found.figures[name], False) for name in others) + "</tr>")
    return table(f"<th>arm</th>{head}{over}{tail}", rows)
