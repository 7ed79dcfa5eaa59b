"""`artrag simrag`: documents in, a better answerer for them out, or the word that it is not better."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from artrag.settings import EMBEDDED_CHAT


def simrag(
    documents: Annotated[list[Path], typer.Argument(help="Files and folders of the domain.", exists=True)],
    run: Annotated[Path, typer.Option("--run", "--out", file_okay=False, help="Folder that everything goes into.")],
    questions: Annotated[
        Path | None, typer.Option("--questions", help="Held-out questions with answers, .jsonl; none: the model's own.")
    ] = None,
    passages: Annotated[int, typer.Option(min=1, help="Passages that are asked about, each round.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, max=10, help="Rounds at most.")] = 2,
    mix: Annotated[
        list[Path] | None, typer.Option("--mix", help="Examples mixed in, as `artrag train answerer` takes them.")
    ] = None,
    mix_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of them in what is trained on, at most.")
    ] = 0.25,
    student: Annotated[str, typer.Option("--student", help="The local chat model that learns.")] = EMBEDDED_CHAT,
    chat: Annotated[str | None, typer.Option("--chat", help="The teacher; none: the student itself.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the pairs.")] = 1,
    rate: Annotated[float | None, typer.Option(min=1e-9, help="The highest learning rate; none: 1e-4.")] = None,
    seed: Annotated[int, typer.Option(help="Of the training: weights, order, passages beside the right one.")] = 0,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse remote models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Let a model ask itself questions about documents and learn from those that hold; ship it only if it is better."""
    from artrag.interfaces.running import execute, ready_models
    from artrag.interfaces.wiring import wired_simrag
    from artrag.settings import Settings

    err = Console(stderr=True)
    settings = Settings.of({"chat": chat or student} | ({"local_only": True} if local_only else {}))
    ready_models(settings, err)
    state: dict[str, Any] = {
        "paths": [str(path) for path in documents],
        "run": str(run),
        "passages": passages,
        "rounds": rounds,
        "mix": [str(path) for path in mix or []],
        "mix_share": mix_share,
    }
    state |= {"questions": str(questions)} if questions else {}
    how = {"epochs": epochs, "seed": seed} | ({"rate": rate} if rate else {})
    found = execute(lambda: wired_simrag(student, **how), state, settings, err)
    report: dict[str, Any] = {
        name: found[name] for name in ("outcome", "round", "proposed", "kept", "rejected", "scores") if name in found
    }
    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        Console().print(shown(report))


def shown(report: dict[str, Any]) -> RenderableType:
    """The end of a run on a terminal."""
    outcome = report["outcome"]
    parts: list[RenderableType] = []
    if report.get("scores"):
        told = f"{report['scores']['questions']} held-out questions"
        table = Table(title=told, title_justify="left")
        for name in ("system", "score", "95%"):
            table.add_column(name, justify="left" if name == "system" else "right")
        for name, one in report["scores"]["systems"].items():
            table.add_row(name, f"{one['value']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}")
        parts.append(table)
    parts.append(Text(f"{report['kept']} of {report['proposed']} pairs kept in round {report['round']}"))
    parts += [Text(f"  {count} rejected: {reason}", style="dim") for reason, count in report["rejected"].items()]
    if outcome["answerer"]:
        parts.append(Text(f"shipped: {outcome['why']}; use it with --chat {outcome['answerer']}", style="bold green"))
    else:
        parts.append(Text(f"nothing shipped: {outcome['why']}", style="bold yellow"))
    parts.append(Text(f"report: {outcome['report']}", style="dim"))
    return Group(*parts)
