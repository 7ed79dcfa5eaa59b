"""The command line. Results go to standard output, progress and logs to standard error.

Exit codes: 0 answered, 1 failed, 2 wrong usage, 3 abstained.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from artrag.errors import ArtragError, UsageError
from artrag.harmless import harmless
from artrag.interfaces.collecting import collect, convert, traces
from artrag.interfaces.evaluating import evaluate
from artrag.interfaces.indexing import index as index_commands
from artrag.interfaces.learning import simrag
from artrag.interfaces.publishing import publish
from artrag.interfaces.tracing import trace
from artrag.interfaces.training import train
from artrag.interfaces.tuning import tune
from artrag.settings import Settings

FAILED, WRONG_USAGE, ABSTAINED = 1, 2, 3
INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    help="Answers you can check: contextual RAG and Ask-Refine-Trust on local or remote models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate, name="evaluate")
app.add_typer(train, name="train")
app.add_typer(index_commands, name="index")
app.add_typer(traces, name="traces")
app.command()(collect)
app.command()(convert)
app.command()(tune)
app.command()(publish)
app.command()(simrag)
app.command()(trace)
out, err = Console(), Console(stderr=True)

IndexOption = Annotated[str | None, typer.Option("--index", help="Index directory, or qdrant+http://HOST:PORT/NAME.")]
ChatOption = Annotated[str | None, typer.Option("--chat", help="Chat model, e.g. openai:gpt-4.1-mini, ollama:qwen3.")]
LocalOption = Annotated[bool, typer.Option("--local-only", help="Refuse remote models and remote tracing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only passages with this metadata, e.g. path=docs/* year=2024."),
]


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its indexes.")] = Path(".artrag/demo"),
    corpus: Annotated[Path, typer.Option(help="Documents to ask about.")] = Path("examples/corpus"),
    questions: Annotated[Path, typer.Option(help="Questions about them.")] = Path("examples/questions.jsonl"),
    as_json: JsonOption = False,
) -> None:
    """Ask the same questions of plain RAG, contextual RAG and ART, side by side."""
    from artrag.interfaces.demo import run_demo

    report = run_demo(folder=folder, corpus=corpus, questions=questions, out=None if as_json else out, err=err)
    if as_json:
        _print_json(report)


@app.command()
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files and folders; .jsonl rows of documents, too.")],
    index: Annotated[Path, typer.Option("--index", help="Index directory, new or existing.")],
    context: Annotated[
        Literal["none", "auto", "document", "llm"] | None,
        typer.Option(
            help="What situates a chunk: auto is deterministic; document (a sentence for each document) and llm (one "
            "for each chunk) ask the chat model on top. Switch a model on only for a corpus where 'artrag evaluate "
            "retrieval' shows a paired win over auto."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell chunks, calls, tokens and cost; write nothing, call no model.")
    ] = False,
    budget: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Tokens, read and written, that contexts may take now; beyond, chunks keep the deterministic one, and "
            "the next ingest goes on.",
        ),
    ] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(help="For --dry-run: what a million prompt tokens and a million written ones cost."),
    ] = None,
    chat: ChatOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that embed; as many as cores for a model that runs here.")
    ] = None,
    local_only: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Index documents; run again, only what changed is done again."""
    from artrag.interfaces.running import execute, ready_models
    from artrag.interfaces.show import ingest_report
    from artrag.interfaces.wiring import wired_ingest

    if str(index).startswith("qdrant+"):
        raise UsageError(f"{str(index)!r} is no directory: ingest into one, then 'artrag publish --index DIR --to URL'")
    if price and not dry_run:
        raise UsageError(f"--price {price[0]} {price[1]} says what --dry-run reckons with: give --dry-run, too")
    settings = _settings(
        chat=chat,
        context=context,
        workers=workers,
        context_budget=budget,
        local_only=local_only or None,
        index=str(index),
    )
    if dry_run:
        from artrag.interfaces.estimating import estimate_ingest, estimate_table

        estimated = estimate_ingest(paths, index, settings, price)
        if as_json:
            _print_json(estimated)
        else:
            out.print(estimate_table(estimated))
        return
    if not (index / "manifest.json").is_file():  # what is there already may need no model at all
        ready_models(settings, err, chat=False)
    if settings.context in ("document", "llm"):
        ready_models(settings, err)
    state = execute(wired_ingest, {"paths": paths, "index": str(index)}, settings, err)
    if as_json:
        _print_json(state["report"])
    else:
        out.print(ingest_report(state["report"]))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    index: IndexOption = None,
    chat: ChatOption = None,
    graph: Annotated[Literal["art", "contextual_rag"], typer.Option(help="Which graph answers.")] = "art",
    k: Annotated[int | None, typer.Option("-k", help="Passages the model reads.")] = None,
    where: WhereOption = None,
    local_only: LocalOption = False,
    trace: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write trace.jsonl and trace.html into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from an index or, without one, by reasoning alone."""
    from artrag.interfaces.running import execute, plain_result, ready_models
    from artrag.interfaces.show import result
    from artrag.interfaces.wiring import open_index, wired_art, wired_contextual_rag

    settings = _settings(index=index, chat=chat, k=k, where=_filter(where), local_only=local_only or None)
    if graph == "contextual_rag" and not settings.index:
        raise UsageError("contextual_rag needs an index: give --index DIR, or use --graph art to reason without one")
    if settings.index:
        open_index(settings.index, settings.local_only)  # complain before a model is fetched
    if question.strip():
        ready_models(settings, err)
    wired = wired_art if graph == "art" else wired_contextual_rag
    state = execute(wired, {"question": question}, settings, err, trace=trace, name=graph)
    if as_json:
        _print_json(plain_result(state))
    else:
        out.print(result(state))
    if trace:
        err.print(f"trace: {trace / 'trace.html'}", style="dim", markup=False, soft_wrap=True)
    if state.get("abstained"):
        raise typer.Exit(ABSTAINED)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to look for.")],
    index: Annotated[str, typer.Option("--index", help="Index directory, or qdrant+http://HOST:PORT/NAME.")],
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 10,
    where: WhereOption = None,
    local_only: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the passages for a question, with each arm's rank and score."""
    from artrag.interfaces.running import plain_passage
    from artrag.interfaces.show import passage_table
    from artrag.interfaces.wiring import open_index

    if not question.strip():
        raise UsageError(f"the question is blank ({question!r}): say what to look for")
    settings = _settings(local_only=local_only or None, where=_filter(where))
    passages = open_index(index, settings.local_only).search(question, k, where=settings.where)
    found = [passage.to_document() for passage in passages]
    if as_json:
        _print_json({"question": question, "passages": [plain_passage(passage) for passage in found]})
    else:
        out.print(passage_table(found))


@app.command()
def doctor(
    index: IndexOption = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch the embedded models now.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is there, what is missing, and what to run."""
    from artrag.interfaces.doctor import examine, show

    settings = _settings(index=index)
    if fetch:
        from artrag.interfaces.running import ready_models

        ready_models(settings, err, chat=False)
        ready_models(settings, err)
    checks = examine(settings)
    if as_json:
        _print_json({"checks": checks, "ready": all(check["ok"] for check in checks)})
    else:
        out.print(show(checks))
    if not all(check["ok"] for check in checks):
        raise typer.Exit(FAILED)


@app.command()
def models(as_json: JsonOption = False) -> None:
    """Show the model references in use, where their weights are, and their licences."""
    from artrag.interfaces.doctor import list_models, show_models

    rows = list_models(_settings())
    if as_json:
        _print_json({"models": rows})
    else:
        out.print(show_models(rows))


def _filter(words: list[str] | None) -> dict[str, Any] | None:
    """A filter from KEY=VALUE; a key that is given again may have either value, a number counts as one."""
    found: dict[str, list[Any]] = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise UsageError(f"cannot filter by {word!r}: write --where KEY=VALUE")
        try:
            said = json.loads(value)
        except ValueError:
            said = value
        found.setdefault(key, []).append(said if isinstance(said, int | float | bool) or said is None else value)
    return found or None


def _settings(**given: Any) -> Settings:
    """The given settings over those of the environment."""
    return Settings.of({name: value for name, value in given.items() if value is not None})


def _print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")


def main() -> None:
    """Run the command line; errors become one line and an exit code, and with `--json` one object."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("langsmith").setLevel(logging.CRITICAL)  # what it could not send is told once, at the end
    try:
        app()
    except ArtragError as error:
        code = WRONG_USAGE if isinstance(error, UsageError) else FAILED
        if "--json" in sys.argv:
            _print_json({"error": str(error), "type": type(error).__name__})
        told = harmless(f"{type(error).__name__}: {error}")
        err.print(told, style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(code)
    except SystemExit as end:
        refused = getattr(end.__context__, "format_message", None)  # a wrong option: typer has said so, and exits
        if refused and "--json" in sys.argv:
            _print_json({"error": refused(), "type": UsageError.__name__})
        if end.code != INTERRUPTED:
            raise
        err.print("stopped; what was finished is kept", style="yellow")
        sys.exit(FAILED)
