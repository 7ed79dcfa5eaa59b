"""`artrag trace`: recorded runs on the terminal and as a page. What trains on them is `artrag traces export`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from artrag.errors import UsageError

TRACE, PAGE = "trace.jsonl", "trace.html"


def trace(
    file: Annotated[Path, typer.Argument(help="A trace, .jsonl, or the folder given to `artrag ask --trace`.")],
    page: Annotated[
        Path | None, typer.Option("--html", dir_okay=False, help="Page to write; by default beside the trace.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show recorded runs: their steps here; answers, evidence and decisions on an HTML page."""
    from artrag.tracing import as_html, as_text, read_trace
    from artrag.tracing.tree import rows

    if file.is_dir():
        file /= TRACE
    page = page or file.with_suffix(".html")
    if page.resolve() == file.resolve():
        raise UsageError(f"the page would overwrite the trace {str(file)!r}: name another file with --html")
    try:
        spans, left_out = read_trace(file)
    except OSError as error:
        raise UsageError(f"the trace {str(file)!r} cannot be read: {error}") from None
    if not spans:
        raise UsageError(
            f"no step of a trace stands in {str(file)!r} ({left_out} lines are something else): give a .jsonl "
            "file that 'artrag ask --trace' or LocalTracer wrote"
        )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(as_html(spans, left_out=left_out), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the page {str(page)!r} cannot be written: {error}") from None
    if as_json:
        seen = rows(spans)
        runs = [_run(row.span, row.tokens) for row in seen if not row.depth]
        found = {"file": str(file), "page": str(page), "steps": len(seen), "left_out": left_out, "runs": runs}
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
        return
    Console().print(Text(as_text(spans)), soft_wrap=True)
    err = Console(stderr=True)
    if left_out:
        lines = "1 line was" if left_out == 1 else f"{left_out} lines were"
        err.print(f"{lines} left out: cut off, or not a step of a trace", style="yellow")
    err.print(f"page: {page}", style="dim", markup=False, soft_wrap=True)


def _run(span: Any, tokens: int) -> dict[str, Any]:
    """A run in a few words; whole, it stands in the file."""
    told = {key: span.outputs.get(key) for key in ("question", "answer", "confidence", "decision")}
    own = {"run": span.id, "name": span.name, "seconds": span.seconds, "tokens": tokens, "error": span.error}
    return own | {key: value for key, value in told.items() if value is not None}
