"""The report of a SimRAG run: what was asked and kept, what was dropped and why, and what it did to the answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artrag.evaluation.intervals import Interval
from artrag.evaluation.page import cells, figures, page, safe, table, written
from artrag.evaluation.plots import bars_plot, losses_plot, systems_plot

SHOWN = 12
"""Kept and rejected pairs that are shown."""

Row = Mapping[str, Any]


def write_simrag_report(
    path: Path,
    outcome: Row,
    rounds: Sequence[Row],
    losses: Sequence[Row],
    kept: Sequence[Row],
    rejected: Sequence[Row],
) -> Path:
    """Write the page.

    Args:
        path: the file.
        outcome: `decision`, `why`, `answerer`.
        rounds: of each round `round`, `proposed`, `kept`, `rejected`, `seconds` and, where it came so far, `scores`.
        losses: the last training's lines of `losses.jsonl`.
        kept: pairs of the last round.
        rejected: pairs of the last round with their `reason`.
    """
    last = rounds[-1]
    shipped = "An answerer was shipped" if outcome["decision"] == "ship" else "Nothing was shipped"
    body = [
        "<h1>SimRAG</h1>",
        f'<p class="note">{safe(shipped)}: {safe(outcome["why"])}.</p>',
        _cards(
            (last["proposed"], "pairs proposed"),
            (last["kept"], "kept"),
            (_each(last), "seconds a kept pair"),
            (len(rounds), "rounds"),
            (last.get("scores", {}).get("questions", 0), "held-out questions"),
        ),
    ]
    drawn = [("Why pairs were rejected", "the last round", bars_plot(last["rejected"]))] if last["rejected"] else []
    if last.get("scores"):
        systems = {name: Interval(**found) for name, found in last["scores"]["systems"].items()}
        drawn.insert(0, ("What the answers are worth", "mean over held-out questions, 95%", systems_plot(systems)))
    if losses:
        drawn.append(("Loss", "each step, and on pairs kept out of the training", losses_plot(losses)))
    body.append(figures(drawn))
    scored = [one for one in rounds if one.get("scores")]
    if scored:
        body.append("<h2>Rounds</h2>")
        body.append(
            table(
                "<th>round</th><th>pairs kept</th><th>before</th><th>95%</th><th>after</th><th>95%</th>"
                "<th>gain, points</th><th>95%</th>",
                (_round(one) for one in scored),
            )
        )
        if scored[-1]["scores"]["own_questions"]:
            body.append(
                '<p class="note">The held-out questions are the model&#x27;s own: they flatter it. Give questions of '
                "people&#x27;s to know more.</p>"
            )
    for title, pairs in (("Kept", kept), ("Rejected", rejected)):
        if pairs:
            body.append(f"<h2>{title}</h2>")
            head = "<th>question</th><th>answer</th>" + ("<th>why not</th>" if title == "Rejected" else "<th>kind</th>")
            body.append(table(head, (_pair(one) for one in pairs[:SHOWN])))
    return written(path, page("SimRAG", body))


def _cards(*shown: tuple[Any, str]) -> str:
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><b>{safe(str(value))}</b><span>{safe(what)}</span></div>' for value, what in shown
        )
        + "</div>"
    )


def _each(one: Row) -> str:
    """What it took to propose and keep, for each pair that was kept."""
    took = one["seconds"]["propose"] + one["seconds"]["keep"]
    return f"{took / one['kept']:.1f}" if one["kept"] else "-"


def _round(one: Row) -> str:
    systems = one["scores"]["systems"]
    parts = [cells(Interval(**systems[name]), False) for name in ("before", "after")]
    gain = cells(Interval(**one["scores"]["gain"]), True)
    return f"<tr><td>{one['round']}</td><td>{one['kept']}</td>{''.join(parts)}{gain}</tr>"


def _pair(one: Row) -> str:
    options = "".join(f"<br>{safe(key)}. {safe(text)}" for key, text in one["options"])
    last = one.get("reason", one["kind"])
    return (
        f'<tr><td class="say">{safe(one["question"])}{options}</td><td class="say">{safe(one["answer"])}</td>'
        f'<td class="say">{safe(last)}</td></tr>'
    )
