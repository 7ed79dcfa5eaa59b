"""`artrag evaluate answers`: the ladder on the user's own questions and documents."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from artrag.errors import ArtragError, RemoteRefusedError, UsageError
from artrag.settings import Settings

LADDER = "ladder"
REMOTE = "langsmith:"
_KEYS = "check LANGSMITH_API_KEY and LANGSMITH_ENDPOINT"


def answers(
    questions: Annotated[
        str, typer.Option("--questions", help="Questions with right answers, .jsonl, or langsmith:DATASET.")
    ],
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index", help="Index to retrieve from; a second one, made with --context none, tells what contexts bring."
        ),
    ] = None,
    systems: Annotated[
        str,
        typer.Option(
            help="Names of systems, such as direct,rag,art; or 'ladder' for all there is something to make of."
        ),
    ] = LADDER,
    run: Annotated[
        Path, typer.Option("--run", "--out", file_okay=False, help="Folder of the run; given again, it goes on.")
    ] = Path(".artrag/evaluation"),
    chat: Annotated[str | None, typer.Option("--chat", help="Chat model, e.g. openai:gpt-4.1-mini.")] = None,
    tuned: Annotated[str | None, typer.Option("--tuned", help="Fine-tuned chat model, e.g. a folder.")] = None,
    asker: Annotated[str | None, typer.Option(help="Asker of the rung 'art'.")] = None,
    truster: Annotated[str | None, typer.Option(help="Truster of the rung 'art'.")] = None,
    reranker: Annotated[str | None, typer.Option(help="Cross-encoder of the rung 'reranked'.")] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", help="Chat model that judges the answers by Ragas' metrics (extra 'ragas')."),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Questions put to a system side by side.")] = 4,
    price: Annotated[
        tuple[float, float] | None, typer.Option(help="What a million prompt tokens cost, and a million written ones.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", file_okay=False, help="Folder of an earlier run to compare with.")
    ] = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit with 1 where a system is significantly worse than before.")
    ] = False,
    relevancy: Annotated[
        bool, typer.Option("--relevancy", help="Measure how near each answer is to its question, by the embedder.")
    ] = False,
    faithfulness: Annotated[
        bool,
        typer.Option("--faithfulness", help="Measure whether passages bear each answer out: a small model reads them."),
    ] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="Keep a trace of every answer, as a page that the report leads to.")
    ] = False,
    langsmith: Annotated[
        str | None, typer.Option("--langsmith", metavar="DATASET", help="Send the run to LangSmith as experiments.")
    ] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse remote models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Climb the ladder: prompt, retrieval, doubt, fine-tuning. What helps, by how much, at what cost."""
    from artrag.interfaces.running import execute, ready_models
    from artrag.interfaces.wiring import wired_evaluate
    from artrag.models import load_embedder
    from artrag.models.verified import VerifiedTruster
    from artrag.models.verifier import open_verifier

    err = Console(stderr=True)
    given = {"chat": chat, "asker": asker, "truster": truster, "reranker": reranker, "local_only": local_only or None}
    settings = Settings.of({name: value for name, value in given.items() if value is not None})
    if settings.local_only and (langsmith or questions.startswith(REMOTE)):
        raise RemoteRefusedError(
            "LangSmith is remote and local_only is set: leave out --langsmith, or unset local_only"
        )
    if questions.startswith(REMOTE):
        questions = _fetched(questions.removeprefix(REMOTE), run)
    ready_models(settings, err)
    state: dict[str, Any] = {"questions": questions, "run": str(run), "at_once": at_once, "indexes": index or []}
    if systems != LADDER:
        state["systems"] = [name.strip() for name in systems.split(",") if name.strip()]
    if fail_if_worse and against is None:
        raise UsageError("--fail-if-worse: name the run to compare with, --against DIR")
    state |= {"against": str(against)} if against else {}
    state |= {"traces": True} if traces else {}
    state |= ({"price": list(price)} if price else {}) | ({"tuned": tuned} if tuned else {})
    live = _judge(judge, settings, run)
    near = live or relevancy
    embedder = load_embedder(settings.embedder, local_only=settings.local_only) if near else None
    reader = VerifiedTruster(open_verifier()) if faithfulness else None
    state = execute(lambda: wired_evaluate(embedder, live, reader), state, settings, err)
    report = state["report"]
    if langsmith:
        _sent(langsmith, state)
    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        Console().print(shown(report))
    if fail_if_worse and report["against"]["worse"]:
        raise typer.Exit(1)


def _judge(reference: str | None, settings: Settings, run: Path) -> Any:
    """The judge; its replies are kept, and paid once."""
    if reference is None:
        return None
    from artrag.evaluation.ragas_scores import check_library
    from artrag.interfaces.ladder import REPLIES, model_state
    from artrag.models import load_chat
    from artrag.remembering import Remembered

    check_library()
    chat = load_chat(reference, local_only=settings.local_only)
    return chat.model_copy(update={"cache": Remembered(run / REPLIES, model_state(reference))})


def _fetched(name: str, run: Path) -> str:
    """A data set of LangSmith as a file in the run's folder."""
    from langsmith.utils import LangSmithError

    from artrag.interfaces.experiments import read_dataset

    path = run / "questions.jsonl"
    try:
        read_dataset(name, path)
    except LangSmithError as error:
        raise ArtragError(f"LangSmith does not give the data set {name!r} ({_first(error)}): {_KEYS}") from None
    return str(path)


def _sent(name: str, state: Mapping[str, Any]) -> None:
    """Every system's answers as an experiment."""
    from langsmith.utils import LangSmithError

    from artrag.evaluation.questions import read_questions
    from artrag.interfaces.experiments import as_experiments
    from artrag.nodes.evaluate.report import answers as kept

    asked = read_questions(Path(state["questions"]))
    try:
        as_experiments(asked, kept(Path(state["run"]), asked, state["rungs"]), dataset=name, upload=True)
    except LangSmithError as error:
        raise ArtragError(
            f"LangSmith did not take the run ({_first(error)}); it is kept in {state['run']!r}: {_KEYS}, and give the "
            "command again"
        ) from None


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def shown(report: Mapping[str, Any]) -> RenderableType:
    """The figures on a terminal."""
    told = f"{report['questions']:,} questions; gains are over the rung below"
    table = Table(title=told, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("system", "quality, %", "gain, points", "calls", "tokens", "s"):
        table.add_column(name, justify="left" if name == "system" else "right", no_wrap=name != "system")
    for name, one in report["systems"].items():
        value, gain, cost = one["quality"], one["gain"], one["cost"]
        table.add_row(
            Text(name, style="bold" if name == report["keep"] else ""),
            f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]",
            f"{100 * gain['value']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]" if gain else "",
            f"{cost['calls']:.1f}",
            f"{cost['prompt_tokens'] + cost['completion_tokens']:,.0f}",
            f"{cost['seconds']:.2f}",
        )
    lines = [Text(sentence, style="bold") for sentence in report["verdict"]]
    if report.get("judge"):
        lines.append(Text(report["judge"], style="dim"))
    for name, gain in report.get("against", {}).get("gains", {}).items():
        told = f"{name}: {100 * gain['value']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}] points"
        worse = name in report["against"]["worse"]
        lines.append(Text(f"{told} since {report['against']['run']}", style="bold red" if worse else "dim"))
    for name, one in report["systems"].items():
        if one["failed"]:
            lines.append(Text(f"{name} failed on {one['failed']} questions, which count as wrong", style="yellow"))
    return Group(table, *lines, Text(f"report: {report['page']}", style="dim"))
