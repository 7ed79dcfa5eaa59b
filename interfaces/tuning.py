"""`artrag tune`: fit the fusion of an index to questions, and keep it only where that pays."""

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from artrag.errors import UsageError
from artrag.interfaces.retrieval import DEFAULT_KS, read_ks
from artrag.settings import Settings

if TYPE_CHECKING:
    from artrag.evaluation.tuning import Tuned
    from artrag.index.fusion import Fusion

MOST_QUESTIONS = 1000
"""More do not make the choice better, only slower."""
FLATTERS = (
    "these questions were written by a model that saw the passages, whose words they share: figures on them are too "
    "good, and may favour BM25 more than people's questions would"
)


def tune(
    index: Annotated[Path, typer.Option("--index", help="Index directory.")],
    queries: Annotated[
        Path, typer.Option("--queries", help="Questions with what is relevant, .jsonl; with --generate, written.")
    ],
    generate: Annotated[
        int | None, typer.Option("--generate", min=1, help="Have the chat model write a question to so many chunks.")
    ] = None,
    chat: Annotated[str | None, typer.Option("--chat", help="Chat model that writes them.")] = None,
    k: Annotated[str, typer.Option("-k", help="Numbers of passages whose pass@k counts, with commas.")] = DEFAULT_KS,
    write: Annotated[
        bool, typer.Option("--write/--dry-run", help="Keep what pays with the index, or only tell.")
    ] = True,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse remote models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Fit the weights of the arms and the rank constant, cross-validated; keep them where the gain is significant."""
    started = time.perf_counter()
    err = Console(stderr=True)
    ks = read_ks(k)
    dropped: dict[str, int] = {}
    if chat and generate is None:
        raise UsageError(f"--chat {chat!r} has nothing to write: say how many questions by --generate N")
    if generate is not None:
        given = {"chat": chat, "local_only": local_only or None}
        settings = Settings.of({name: value for name, value in given.items() if value is not None})
        dropped = _generated(index, queries, generate, settings, err)
    found = fit(index, queries, ks, err, local_only=local_only)
    report = found | {
        "generated": generate is not None,
        "dropped": dropped,
        "written": bool(write and found["pays"]),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if report["written"]:
        from artrag.index.fusion import Fusion, write_fusion

        kept = {name: report[name] for name in ("questions", "groups", "measure", "now", "then", "gain", "generated")}
        write_fusion(index, Fusion.model_validate(report["chosen"]), kept | {"queries": queries.name})
    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        Console().print(shown(report, write=write))


def fit(path: Path, queries: Path, ks: Sequence[int], console: Console, *, local_only: bool = False) -> dict[str, Any]:
    """What tuning on these questions gains, as plain data; nothing is written.

    Raises:
        UsageError: the questions are too few, or not about this index.
    """
    from contextlib import closing

    from artrag.evaluation.queries import read_queries
    from artrag.evaluation.retrieval import judge, missing_note
    from artrag.evaluation.tuning import cross_validate, folds_of, groups_of
    from artrag.index.fusion import Fusion
    from artrag.index.tuning import candidates, distance
    from artrag.interfaces.searching import fused_values, keyed, open_indexes
    from artrag.interfaces.show import progress_bar

    asked = read_queries(queries)
    ((index, _),) = open_indexes([path], local_only=local_only)
    with closing(index):
        chunks, names = keyed(index)
        known = judge(asked, chunks)
        if note := missing_note(known, str(path)):
            console.print(note, style="yellow", markup=False, soft_wrap=True)
        judged = [one for one in known if one.documents]
        if len(judged) > MOST_QUESTIONS:
            console.print(f"{MOST_QUESTIONS} of {len(judged)} questions are drawn", style="dim", markup=False)
            judged = random.Random(0).sample(judged, MOST_QUESTIONS)  # noqa: S311
        groups, default = groups_of(judged), Fusion()
        folds_of(groups)  # complain of too few before anything is searched
        arms = list(index.rankings(judged[0].query.question))
        tried = candidates(arms, default, index.fusion)
        with progress_bar(console) as bar:
            task = bar.add_task(f"trying {len(tried)} fusions", total=len(judged))
            values = fused_values(
                index, judged, names, tried, ks, tell=lambda done, total: bar.update(task, completed=done, total=total)
            )
    distances = [distance(one, default, arms) for one in tried]
    tuned = cross_validate(values, groups, distances, current=1)
    return _report(tuned, tried, ks, len(judged), len(set(groups)))


def _report(
    tuned: "Tuned", tried: Sequence["Fusion"], ks: Sequence[int], questions: int, groups: int
) -> dict[str, Any]:
    def plain(found: Any) -> dict[str, float]:
        return {"value": found.value, "low": found.low, "high": found.high}

    return {
        "questions": questions,
        "groups": groups,
        "candidates": len(tried),
        "measure": "mean of " + ", ".join(f"pass@{k}" for k in ks),
        "current": tried[1].model_dump(),
        "chosen": tried[tuned.chosen].model_dump(),
        "by_fold": [tried[n].model_dump() for n in tuned.by_fold],
        "now": plain(tuned.now),
        "then": plain(tuned.then),
        "gain": plain(tuned.gain),
        "gains": {f"pass@{k}": plain(found) for k, found in zip(ks, tuned.gains, strict=True)},
        "pays": tuned.pays and tried[tuned.chosen] != tried[1],
    }


def _generated(index: Path, queries: Path, count: int, settings: Settings, console: Console) -> dict[str, int]:
    """Write the generated questions to `queries`; give what was dropped and why."""
    from contextlib import closing

    from artrag.evaluation.queries import Query
    from artrag.index.store import Index
    from artrag.interfaces.generating import generate
    from artrag.interfaces.running import ready_models
    from artrag.interfaces.show import progress_bar
    from artrag.ledger import line_of
    from artrag.models import load_chat
    from artrag.tracing.remote import refuse_remote_tracing

    if queries.exists():
        raise UsageError(
            f"{str(queries)!r} is there already: leave out --generate to tune on it, or name another file for the "
            "generated questions"
        )
    refuse_remote_tracing(settings)
    with closing(Index.open(index, local_only=settings.local_only)) as opened:
        chunks = list(opened.chunks())
    ready_models(settings, console)
    model = load_chat(settings.chat, local_only=settings.local_only)
    with progress_bar(console) as bar:
        task = bar.add_task("writing questions", total=count)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        def keep(query: Query) -> None:  # at once: what was paid for outlives a failure
            row = {"id": query.id, "question": query.question, "relevant": list(query.relevant)}
            with queries.open("ab") as file:
                file.write(line_of(row))

        found, dropped = generate(chunks, model, count, settings, tell=tell, keep=keep)
    told = ", ".join(f"{n} dropped ({reason})" for reason, n in dropped.items())
    console.print(f"{len(found)} questions written to {queries}" + (f", {told}" if told else ""), markup=False)
    if not found:
        raise UsageError(f"no usable question came of {count} chunks ({told}): name a stronger model with --chat")
    return dropped


def shown(report: dict[str, Any], *, write: bool) -> RenderableType:
    """The report on a terminal."""
    table = Table(title=f"{report['questions']} questions in {report['groups']} groups", title_justify="left")
    for name in ("fusion", "weights", "rank constant", report["measure"]):
        table.add_column(name, justify="right" if name == report["measure"] else "left")
    for name, fusion, found in (("now", "current", "now"), ("chosen", "chosen", "then")):
        weights = ", ".join(f"{arm} {weight:g}" for arm, weight in report[fusion]["weights"].items()) or "equal"
        value = "{value:.1%} [{low:.1%}, {high:.1%}]".format(**report[found])
        table.add_row(name, weights, f"{report[fusion]['rank_constant']:g}", value)
    gains = {"mean": report["gain"]} | report["gains"]
    told = ", ".join(
        f"{name} {100 * g['value']:+.1f} [{100 * g['low']:+.1f}, {100 * g['high']:+.1f}]" for name, g in gains.items()
    )
    lines = [Text(f"cross-validated gain in points: {told}")]
    if report["generated"]:
        lines.append(Text(FLATTERS, style="yellow"))
    if not report["pays"]:
        lines.append(Text("no significant gain: the fusion stays as it is", style="bold yellow"))
    elif not write:
        lines.append(Text("a significant gain; nothing was written (--dry-run)", style="bold green"))
    else:
        lines.append(Text("a significant gain: written, searches use it from now on", style="bold green"))
    return Group(table, *lines)
