"""`artrag evaluate`: measure on recorded answers and judged questions."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from langchain_core.documents import Document
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from artrag.interfaces.answering import answers
from artrag.interfaces.retrieval import retrieval
from artrag.settings import Settings

if TYPE_CHECKING:
    from artrag.evaluation.predictions import Prediction
    from artrag.evaluation.replay import Report
    from artrag.evaluation.scoring import Scored
    from artrag.protocols import Asker, Truster

evaluate = typer.Typer(
    help="Measure on questions with right answers, on judged ones, and on recorded answers.", no_args_is_help=True
)
evaluate.command("retrieval")(retrieval)
evaluate.command("answers")(answers)

# Kinds that ask the chat model; all others replay without one.
_WITH_CHAT = ("prompted", "judge")


@evaluate.command("art")
def art(
    predictions: Annotated[list[Path], typer.Option("--predictions", help="Recorded answers, .jsonl or .jsonl.gz.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Further files of recorded answers.")] = None,
    asker: Annotated[
        str | None, typer.Option(help="Folder of a trained Asker, or a kind: trained, evidence, prompted, judge.")
    ] = None,
    truster: Annotated[
        str | None, typer.Option(help="Folder of a trained Truster, or a kind: trained, evidence, prompted, judge.")
    ] = None,
    chat: Annotated[str | None, typer.Option(help="Chat model of the kinds 'prompted' and 'judge'.")] = None,
    refine_above: Annotated[
        float | None, typer.Option(min=0, max=1, help="Refine drafts doubted this much; default: the trained Asker's.")
    ] = None,
    trust_margin: Annotated[
        float | None, typer.Option(help="Margin of a refined answer; default: the trained Truster's.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write report.html and report.json into this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Replay recorded answers through Ask and Trust: what each policy would have answered, with intervals."""
    from artrag.evaluation.replay import replay_scored

    started = time.perf_counter()
    err = Console(stderr=True)
    paths = [*predictions, *(more or [])]
    rows, files = _read(paths)
    given = {"chat": chat, "asker": asker, "truster": truster}
    settings = Settings.of({name: value for name, value in given.items() if value is not None})
    asks, trusts = _asker(settings, err), _truster(settings, err)
    scored = _scored(rows, files, asks, trusts, err)
    if refine_above is None:
        refine_above = settings.limit("refine_above", _limits(asks, rows[0].passages))
    if trust_margin is None:
        trust_margin = settings.limit("trust_margin", _limits(trusts, rows[0].passages))
    found = replay_scored(scored, refine_above=refine_above, trust_margin=trust_margin)
    about = {
        "predictions": ", ".join(path.name for path in paths),
        "asker": settings.asker,
        "truster": settings.truster,
    }
    if report:
        from artrag.evaluation.report import write_report

        page, _ = write_report(report, found, about)
        err.print(f"report: {page}", style="dim", markup=False, soft_wrap=True)
    if as_json:
        extra: dict[str, Any] = {**about, "seconds": time.perf_counter() - started}
        for name, part in (("asker", asks), ("truster", trusts)):
            if readings := getattr(part, "readings", None):
                extra[f"{name}_readings"] = dict(readings)
        sys.stdout.write(json.dumps(found.as_dict() | extra, ensure_ascii=False) + "\n")
    else:
        Console().print(_table(found, about))


def _read(paths: Sequence[Path]) -> tuple[list["Prediction"], list[str]]:
    """The rows of all files, checked against each other, and the file of each row."""
    from artrag.evaluation.predictions import read_predictions
    from artrag.evaluation.rows import read_rows

    rows = read_predictions(*paths)
    alike = len({path.name for path in paths}) < len(paths)
    return rows, [str(path) if alike else path.name for path in paths for _ in read_rows(path)]


def _scored(
    rows: Sequence["Prediction"], files: Sequence[str], asker: "Asker", truster: "Truster", console: Console
) -> "Scored":
    """Score the rows with a bar; side by side where a part can be awaited."""
    from artrag.evaluation.scoring import ascore_rows, score_rows
    from artrag.interfaces.show import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task("scoring", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if hasattr(asker, "aask") or hasattr(truster, "ascore"):

            async def go() -> "Scored":
                return await ascore_rows(rows, asker, truster, parts=files, tell=tell)

            return asyncio.run(go())
        return score_rows(rows, asker, truster, parts=files, tell=tell)


def _asker(settings: Settings, console: Console) -> "Asker":
    from artrag.models import load_asker
    from artrag.models.judges import LikelihoodAsker

    chat = _chat(settings.asker, settings, console)
    return LikelihoodAsker(chat) if settings.asker == "judge" else load_asker(settings.asker, chat=chat)


def _truster(settings: Settings, console: Console) -> "Truster":
    from artrag.models import load_truster
    from artrag.models.judges import ExpectedGradeTruster

    chat = _chat(settings.truster, settings, console)
    return ExpectedGradeTruster(chat) if settings.truster == "judge" else load_truster(settings.truster, chat=chat)


def _chat(kind: str, settings: Settings, console: Console) -> Any:
    if kind not in _WITH_CHAT:
        return None
    from artrag.interfaces.running import ready_models
    from artrag.models import load_chat

    ready_models(settings, console)
    return load_chat(settings.chat, local_only=settings.local_only)


def _limits(part: Any, passages: Sequence[Document] | None) -> Mapping[str, float]:
    """The thresholds chosen with the part's weights, for answers with passages or without."""
    chosen: Mapping[str, float] = part.limits(passages) if hasattr(part, "limits") else {}
    return chosen


def _table(report: "Report", about: Mapping[str, str]) -> RenderableType:
    whole = report.comparison
    table = Table(title=f"{whole.rows} rows, {whole.questions} questions", title_justify="left")
    for name in ("policy", "accuracy, %", "95%", f"over {whole.better}", "95% "):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for name, found in whole.policies.items():
        change = whole.differences[name]
        table.add_row(
            Text(name, style="bold" if name == "ask+trust" else ""),
            f"{100 * found.value:.1f}",
            f"{100 * found.low:.1f} to {100 * found.high:.1f}",
            f"{100 * change.value:+.1f}",
            f"{100 * change.low:+.1f} to {100 * change.high:+.1f}",
        )
    measures = Table(title="Measures", title_justify="left")
    for name in ("measure", "value", "95%"):
        measures.add_column(name, justify="left" if name == "measure" else "right")
    for name, found in {"refine_rate": whole.refine_rate, **report.measures}.items():
        measures.add_row(name, f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}")
    lines = [Text(", ".join(f"{name} {value}" for name, value in about.items()), style="dim")]
    lines.append(Text(", ".join(f"{name} {value:.4g}" for name, value in report.thresholds.items()), style="dim"))
    lines += [Text(f"left out: {n} rows with {reason}", style="yellow") for reason, n in report.left_out.items()]
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in (table, measures)), *lines)
