"""`artrag collect`, `artrag convert` and `artrag traces export`: where recorded predictions come from."""

import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from artrag.errors import ArtragError, RemoteRefusedError, UsageError
from artrag.settings import Settings

if TYPE_CHECKING:
    from artrag.evaluation.predictions import Prediction
    from artrag.training.collect import Budget, Collected, Recipe

FAILED = 1
SHOWN = 5

traces = typer.Typer(help="Recorded runs.", no_args_is_help=True)

OutOption = Annotated[Path, typer.Option("--out", dir_okay=False, help="File to write, .jsonl.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def collect(
    questions: Annotated[Path, typer.Option(help="Questions with gold answers, in any layout `convert` reads.")],
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="Predictions, .jsonl; run again to continue.")],
    chat: Annotated[str | None, typer.Option(help="Chat model that answers.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Initial answers a question.")] = 4,
    initial: Annotated[Literal["cot", "decomposition"], typer.Option(help="How the drafts are made.")] = "cot",
    temperature: Annotated[float, typer.Option(min=0, help="Of the sampling.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Of the sampling, where the model takes one.")] = 0,
    index: Annotated[str | None, typer.Option(help="Index to answer from; none: the model reasons alone.")] = None,
    subquestions: Annotated[
        Literal["given", "generated", "none"],
        typer.Option(help="Those of the data set (generated where it has none), always generated, or none."),
    ] = "given",
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Refine every answer once.")] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions worked on side by side.")] = 8,
    budget_calls: Annotated[int | None, typer.Option(min=1, help="Stop before this many calls are exceeded.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse remote models and remote tracing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Sample answers to questions, label and refine them: predictions to train an Asker and a Truster on."""
    from artrag.interfaces.running import ready_models
    from artrag.interfaces.wiring import open_index
    from artrag.tracing.remote import refuse_remote_tracing
    from artrag.training.collect import Budget, Recipe, check_questions
    from artrag.training.convert import convert_files

    if temperature == 0 and k > 1:
        raise UsageError(f"-k {k} answers at --temperature 0 are all the same: raise the temperature, or ask for -k 1")
    given = {"index": index or None, "chat": chat, "initial": initial, "local_only": local_only or None}
    settings = Settings.of({name: value for name, value in given.items() if value is not None})
    refuse_remote_tracing(settings)
    asked = convert_files(questions)[:limit]
    check_questions(asked)
    recipe = Recipe(
        chat=settings.chat,
        k=k,
        initial=initial,
        temperature=temperature,
        seed=seed,
        subquestions=subquestions,
        refine=refine,
        index=open_index(settings.index, settings.local_only).manifest.generation if settings.index else "",
        prompts=_prompts(settings, subquestions != "none", refine),
    )
    err = Console(stderr=True)
    ready_models(settings, err)
    started, budget = time.perf_counter(), Budget(budget_calls)
    found, meter = _collected(asked, out, recipe, settings, budget, concurrency, err)
    stages = found.answers()
    report: dict[str, Any] = {
        "out": str(out),
        "questions": len(asked),
        "done": found.done,
        "skipped": found.skipped,
        "failed": len(found.failures),
        "remaining": found.remaining,
        "stopped": found.stopped,
        "failures": [{"id": name, "reason": reason} for name, reason in found.failures.items()],
        "answers": {stage: count for stage, (count, _) in stages.items()},
        "right": {stage: round(share, 4) for stage, (_, share) in stages.items()},
        "calls": budget.spent,
        "tokens": {"prompt": meter.prompt_tokens, "completion": meter.completion_tokens},
        "seconds": round(time.perf_counter() - started, 2),
    }
    _say_collected(report, err)
    _print(report, as_json)
    if found.failures:
        raise typer.Exit(FAILED)


def convert(
    files: Annotated[list[Path], typer.Argument(help="Questions or recorded answers, .jsonl or .jsonl.gz.")],
    out: OutOption,
    questions: Annotated[
        list[Path] | None, typer.Option(help="Where answers without a question find it, by id; may be given again.")
    ] = None,
    refined_by: Annotated[
        str | None, typer.Option(help="Pair chains: those of this questioner are the refined answers.")
    ] = None,
    initial_by: Annotated[
        str | None, typer.Option(help="With --refined-by: only this questioner's chains are initial answers.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn common layouts (GSM8K, StrategyQA, MultiArith, SVAMP, recorded chains and solutions) into predictions."""
    from artrag.evaluation.predictions import write_predictions
    from artrag.training.convert import convert_files, paired

    if initial_by and not refined_by:
        raise UsageError(f"--initial-by {initial_by!r} needs --refined-by: name the questioner of the refined answers")
    rows = convert_files(*files, questions=questions or ())
    if refined_by:
        rows = paired(rows, refined_by=refined_by, initial_by=initial_by)
    _refuse_contradictions(rows)
    write_predictions(out, rows)
    _print({"out": str(out), **_counts(rows)}, as_json)


@traces.command("export")
def export(
    trace: Annotated[list[Path], typer.Argument(help="Traces, .jsonl, as `artrag ask --trace` writes them.")],
    out: OutOption,
    feedback: Annotated[
        str | None,
        typer.Option(
            help="Rows of `run` or `question` with `gold`, `correct` or `score` (was the given answer right?), .jsonl; "
            "or 'langsmith', for what was said of these runs there."
        ),
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Of LangSmith's feedback, which counts.")] = "correct",
    as_json: JsonOption = False,
) -> None:
    """Turn recorded runs into predictions, labelled by feedback and by what a person accepted or wrote."""
    from artrag.evaluation.predictions import write_predictions
    from artrag.tracing import read_spans, recorded_runs
    from artrag.training.feedback import labelled_runs

    runs = []
    for path in trace:
        try:
            runs += recorded_runs(read_spans(path))
        except OSError as error:
            raise UsageError(f"the trace {str(path)!r} cannot be read: {error}") from None
    if not runs:
        raise UsageError(f"no finished run stands in {', '.join(map(str, trace))}: trace one with 'artrag ask --trace'")
    rows = labelled_runs(runs, _feedback(feedback, [run["run"] for run in runs], key) if feedback else [])
    _refuse_contradictions(rows)
    write_predictions(out, rows)
    _print({"out": str(out), **_counts(rows)}, as_json)


def _feedback(source: str, runs: list[str], key: str) -> list[dict[str, Any]]:
    """What was said of the runs: in a file, or on LangSmith."""
    from artrag.training.feedback import feedback_row, read_feedback

    if source != "langsmith":
        return read_feedback(Path(source), key)
    if Settings.of(None).local_only:
        raise RemoteRefusedError("LangSmith is remote and local_only is set: give a file of feedback, or unset it")
    from langsmith.utils import LangSmithError

    from artrag.interfaces.experiments import read_feedback as fetched

    try:
        rows = [feedback_row(row) for row in fetched(runs, key)]
    except LangSmithError as error:
        raise ArtragError(
            f"LangSmith does not give the feedback ({str(error).strip().splitlines()[0][:200]}): check "
            "LANGSMITH_API_KEY and LANGSMITH_ENDPOINT"
        ) from None
    return [row for row in rows if row is not None]


def _collected(
    asked: "list[Prediction]",
    out: Path,
    recipe: "Recipe",
    settings: Settings,
    budget: "Budget",
    concurrency: int,
    err: Console,
) -> "tuple[Collected, Any]":
    from artrag.index.retriever import IndexRetriever
    from artrag.interfaces.show import progress_bar
    from artrag.interfaces.solving import NodeSolver
    from artrag.interfaces.wiring import open_index
    from artrag.models import load_chat
    from artrag.training.collect import collect as sample

    chat = load_chat(settings.chat, local_only=settings.local_only)
    retriever = None
    if settings.index:
        retriever = IndexRetriever(
            index=open_index(settings.index, settings.local_only), k=settings.fetch_k, where=settings.where
        )
    solver = NodeSolver(chat, settings, temperature=recipe.temperature, budget=budget, retriever=retriever)
    with progress_bar(err) as bar:
        task = bar.add_task("collecting", total=len(asked))

        def tell(done: int, failed: int, total: int) -> None:
            what = f"collecting, {budget.spent} calls" + (f", {failed} failed" if failed else "")
            bar.update(task, description=what, completed=done + failed, total=total)

        found = asyncio.run(
            sample(asked, out, recipe=recipe, solver=solver, budget=budget, concurrency=concurrency, tell=tell)
        )
    return found, solver.meter


def _prompts(settings: Settings, asks: bool, refines: bool) -> dict[str, str]:
    """Checksums of the prompts that this recipe uses: changing one makes other answers."""
    from artrag import prompts

    kind = "answer" if settings.index else "solve"
    names = [kind if settings.initial == "cot" else f"{kind}_decomposed"]
    names += (["subquestions"] if asks else []) + (
        ["refine" if settings.index else "refine_solution"] if refines else []
    )
    made = {}
    for name in names:
        prompt = prompts.load(name)
        said = prompt.format_messages(**{variable: f"{{{variable}}}" for variable in prompt.input_variables})
        made[name] = hashlib.sha256("\n".join(f"{m.type}: {m.text}" for m in said).encode()).hexdigest()[:16]
    return made


def _say_collected(report: dict[str, Any], err: Console) -> None:
    for failure in report["failures"][:SHOWN]:
        err.print(f"{failure['id']}: {failure['reason']}", style="yellow", markup=False, soft_wrap=True)
    if report["failed"]:
        err.print(f"{report['failed']} questions failed; run again to try them once more", style="yellow")
    if report["stopped"]:
        left = f"stopped: {report['stopped']}; {report['remaining']} questions remain, run again to go on"
        err.print(left, style="yellow", markup=False, soft_wrap=True)


def _refuse_contradictions(rows: "list[Prediction]") -> None:
    from artrag.errors import PredictionsError
    from artrag.evaluation.predictions import check

    problems = check(rows)
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise PredictionsError(f"{'; '.join(problems[:SHOWN])}{more}: mend or take out these rows")


def _counts(rows: "list[Prediction]") -> dict[str, int]:
    answers = [answer for row in rows for answer in row.candidates]
    return {
        "rows": len(rows),
        "questions": len({row.id for row in rows}),
        "answers": len(answers),
        "labelled": sum(answer.correct is not None for answer in answers),
        "right": sum(answer.correct is True for answer in answers),
    }


def _print(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        shown = {name: value for name, value in report.items() if value not in ("", [], {}) and name != "failures"}
        Console().print("\n".join(f"{name}: {value}" for name, value in shown.items()), markup=False, soft_wrap=True)
