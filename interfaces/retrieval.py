"""`artrag evaluate retrieval`: what each arm of an index finds, and whether its context pays."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from artrag.errors import UsageError

if TYPE_CHECKING:
    from artrag.evaluation.retrieval_figures import IndexFigures, RetrievalReport, Searched

DEFAULT_KS = "5,10,20"
MOST = 1000


def retrieval(
    index: Annotated[list[Path], typer.Option("--index", help="Index directory; give several to compare them.")],
    queries: Annotated[Path, typer.Option("--queries", help="Questions with what is relevant, .jsonl.")],
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="dense, bm25, ..., or hybrid, which fuses them; default: all.")
    ] = None,
    k: Annotated[str, typer.Option("-k", help="Numbers of passages, with commas.")] = DEFAULT_KS,
    reranker: Annotated[
        str | None, typer.Option("--reranker", help="Cross-encoder that reorders the best 50 of hybrid.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", "--out", file_okay=False, help="Write report.html and report.json here.")
    ] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse remote models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Measure what each arm of each index finds, with intervals, and say whether a costlier context pays."""
    started = time.perf_counter()
    err = Console(stderr=True)
    ks = read_ks(k)
    if len(set(index)) < len(index):
        raise UsageError(f"--index names the same directory twice ({[str(path) for path in index]!r}): give each once")
    searched = search(index, queries, read_arms(arm or []), max(ks), err, reranker, local_only=local_only)
    from artrag.evaluation.retrieval_figures import report_of

    found = report_of(searched, ks)
    about = {"queries": queries.name}
    if report:
        from artrag.evaluation.retrieval_page import write_retrieval_report

        page, _ = write_retrieval_report(report, found, about)
        err.print(f"report: {page}", style="dim", markup=False, soft_wrap=True)
    if as_json:
        extra: dict[str, Any] = {**about, "seconds": round(time.perf_counter() - started, 2)}
        sys.stdout.write(json.dumps(found.as_dict() | extra, ensure_ascii=False) + "\n")
    else:
        Console().print(shown(found))


def read_ks(text: str) -> list[int]:
    """Numbers of passages, ascending, from `5,10,20`.

    Raises:
        UsageError: there is none, or one is no whole number from 1 to 1,000.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() and 0 < int(part) <= MOST for part in parts):
        raise UsageError(f"-k is {text!r}: give whole numbers from 1 to {MOST} with commas, such as {DEFAULT_KS}")
    return sorted({int(part) for part in parts})


def read_arms(given: Sequence[str]) -> list[str]:
    """The arms to measure, in the order of the index; none given means all.

    Raises:
        UsageError: there is no such arm.
    """
    from artrag.evaluation.retrieval_figures import HYBRID
    from artrag.index.store import ARMS

    known = [*ARMS, HYBRID]
    asked = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in known]:
        raise UsageError(f"there is no arm {unknown[0]!r}: there are {', '.join(known)}")
    return [name for name in known if name in asked or not asked]


def search(
    paths: Sequence[Path],
    queries: Path,
    arms: Sequence[str],
    k: int,
    console: Console,
    reranker: str | None = None,
    *,
    local_only: bool = False,
) -> list["Searched"]:
    """Every index searched for every question, with a bar; a reranker's reference adds the arm "reranked"."""
    from contextlib import ExitStack, closing

    from artrag.evaluation.queries import read_queries
    from artrag.evaluation.retrieval import judge, missing_note
    from artrag.interfaces.searching import keyed, open_indexes, search_all
    from artrag.interfaces.show import progress_bar
    from artrag.models import load_reranker

    asked = read_queries(queries)
    silent = sum(not query.relevant for query in asked)
    if 0 < silent < len(asked):
        console.print(f"{silent} questions do not say what is relevant: left out", style="yellow", markup=False)
    searched = []
    rereader = load_reranker(reranker, local_only=local_only) if reranker else None
    with ExitStack() as stack, progress_bar(console) as bar:
        opened = open_indexes(paths, local_only=local_only)
        for index, _ in opened:
            stack.enter_context(closing(index))
        for index, embedder in opened:
            chunks, names = keyed(index)
            judged = judge(asked, chunks)
            if note := missing_note(judged, str(index.path)):
                console.print(note, style="yellow", markup=False, soft_wrap=True)
            task = bar.add_task(f"searching {index.path}", total=len(judged))

            def tell(done: int, total: int, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            searched.append(search_all(index, embedder, judged, names, arms=arms, k=k, reranker=rereader, tell=tell))
    return searched


def shown(report: "RetrievalReport") -> RenderableType:
    """The figures on a terminal."""
    parts: list[RenderableType] = [Padding(_table(one, report), (0, 0, 1, 0)) for one in report.indexes]
    parts += [Text(_best(one, report), style="dim") for one in report.indexes if one.best_single]
    parts += [Text(said, style=_colour(said)) for said in report.verdicts]
    return Group(*parts)


def _table(one: "IndexFigures", report: "RetrievalReport") -> Table:
    searched = one.searched
    table = Table(
        title=f"{searched.index}: context {searched.context}, {searched.about['chunks']} chunks, "
        f"{len(searched.judged)} questions",
        title_justify="left",
    )
    names = [*(f"pass@{k}" for k in report.ks), f"recall@{max(report.ks)}", "mrr", "ndcg"]
    for name in ("arm", *names, "p50 ms", "p95 ms"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm, found in one.arms.items():
        values = [
            f"{100 * found.figures[n].value:.1f} [{100 * found.figures[n].low:.0f}, {100 * found.figures[n].high:.0f}]"
            for n in names
        ]
        times = [f"{found.milliseconds[n]:.1f}" for n in ("p50_ms", "p95_ms")]
        table.add_row(Text(arm), *(Text(value) for value in (*values, *times)))
    return table


def _best(one: "IndexFigures", report: "RetrievalReport") -> str:
    from artrag.evaluation.retrieval import signed

    over = [
        f"{arm} {signed(found.over_best[report.gate])}"
        for arm, found in one.arms.items()
        if report.gate in found.over_best
    ]
    told = f": {', '.join(over)} points at {report.gate} over it" if over else ""
    return f"{one.searched.index}: the best single arm is {one.best_single}{told}"


def _colour(verdict: str) -> str:
    return "bold green" if verdict.endswith("worth it") else "yellow"
