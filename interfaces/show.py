"""Results on a terminal: readable in colour and without."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from artrag.harmless import harmless
from artrag.state import StageUsage

SNIPPET = 160


def words(text: str, style: str = "") -> Text:
    """Words of models, documents and users: none of them steers the terminal."""
    return Text(harmless(text), style)


def progress_bar(console: Console) -> Progress:
    """A bar for long work; it goes to the console's own stream and leaves when done."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def result(state: Mapping[str, Any]) -> RenderableType:
    """One run of `art` or `contextual_rag`, whole: answer, passages, doubts, decision, confidence, cost."""
    parts: list[RenderableType] = [_answer(state)]
    if state.get("passages"):
        parts.append(passage_table(state["passages"], state.get("citations") or []))
    if state.get("subquestions"):
        parts.append(_subquestions(state["subquestions"]))
    if state.get("stop_reason"):
        parts.append(_decisions(state))
    parts.append(usage_table(state.get("usage") or {}))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _answer(state: Mapping[str, Any]) -> RenderableType:
    text = words(state["answer"], style="bold yellow" if state.get("abstained") else "bold green")
    if not state.get("stop_reason"):
        return text
    confidence = f"confidence {state['confidence']:.2f}" + (", abstained" if state.get("abstained") else "")
    return Group(text, Text(confidence, style="dim"))


def passage_table(passages: Sequence[Document], citations: Sequence[Mapping[str, Any]] = ()) -> Table:
    """Passages with their sources and each arm's view."""
    cited = {citation["n"] for citation in citations}
    table = Table(title="Passages (* cited)" if cited else "Passages", title_justify="left", expand=True)
    table.add_column("n", justify="right")
    table.add_column("source", ratio=2, overflow="fold")
    table.add_column("scores", no_wrap=True)
    table.add_column("text", ratio=4)
    for n, passage in enumerate(passages, start=1):
        table.add_row(
            f"{'*' if n in cited else ''}{n}", words(source(passage)), words(_scores(passage)), words(_snippet(passage))
        )
    return table


def source(passage: Document) -> str:
    """Document, page and characters of a passage."""
    about = passage.metadata
    page = f" p. {about['page']}" if about.get("page") else ""
    span = f" [{about['start']}-{about['end']}]" if "start" in about else ""
    return f"{about.get('document') or about.get('source') or passage.id or '?'}{page}{span}"


def _scores(passage: Document) -> str:
    arms = passage.metadata.get("arms") or {}
    lines = [f"fused {passage.metadata['score']:.3f}"] if "score" in passage.metadata else []
    lines += [f"{arm} {seen['score']:.2f} (#{seen['rank']:.0f})" for arm, seen in arms.items()]
    return "\n".join(lines) or "-"


def _snippet(passage: Document) -> str:
    text = " ".join(passage.page_content.split())
    return text if len(text) <= SNIPPET else f"{text[:SNIPPET]} ..."


def _subquestions(asked: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Subquestions", title_justify="left", show_header=False, expand=True)
    table.add_column(width=3)
    table.add_column()
    for record in asked:
        mark = Text("yes", style="green") if record["answered"] else Text("no", style="yellow")
        table.add_row(mark, words(record["text"] + (f" -> {record['found']}" if record.get("found") else "")))
    return table


def _decisions(state: Mapping[str, Any]) -> Table:
    table = Table(title="Decisions", title_justify="left", show_header=False, expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    refined = f"{state['rounds']} time(s)" if state.get("rounds") else "no"
    table.add_row("refined", words(f"{refined}: {state['refine_reason']} (doubt {state['refine_probability']:.2f})"))
    table.add_row("trusted", words(state["decision"]))
    table.add_row("stopped", words(state["stop_reason"]))
    return table


def usage_table(usage: Mapping[str, StageUsage]) -> Table:
    """Calls, tokens and seconds a stage."""
    table = Table(title="Cost by stage", title_justify="left")
    for name in ("stage", "calls", "prompt tokens", "completion tokens", "seconds"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    total = [0.0, 0.0, 0.0, 0.0]
    for stage, used in usage.items():
        row = [used["calls"], used["prompt_tokens"], used["completion_tokens"], used["seconds"]]
        total = [a + b for a, b in zip(total, row, strict=True)]
        table.add_row(stage, *(f"{value:g}" for value in row[:3]), f"{row[3]:.2f}")
    table.add_section()
    table.add_row("all", *(f"{value:g}" for value in total[:3]), f"{total[3]:.2f}")
    return table


def ingest_report(report: Mapping[str, Any]) -> RenderableType:
    """What an ingest has done, and each file it left out with the reason."""
    lines = [
        Text(f"{report['chunks']} chunks of {report['documents']} documents in {report['index']}", style="bold green"),
        Text(
            f"{report['added']} added, {report['changed']} changed, {report['unchanged']} unchanged, "
            f"{report['removed']} removed; {report['embedded']} chunks embedded; {report['seconds']:.1f} s"
        ),
    ]
    if report["truncated"]:
        lines.append(
            Text(f"{report['truncated']} chunks were longer than the embedder's window and were cut", "yellow")
        )
    if any(report["contexts"].values()):
        lines.append(Text("contexts: " + ", ".join(f"{n} {what}" for what, n in report["contexts"].items())))
    if left := report["contexts"].get("over budget"):
        lines.append(
            Text(f"the budget is spent: {left} chunks keep the deterministic context; ingest again to go on", "yellow")
        )
    lines += [words(f"skipped: {item['reason']}", "yellow") for item in report["skipped"]]
    return Group(*lines)
