"""A tracer that keeps runs on this machine."""

import threading
from pathlib import Path
from typing import Any

from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from artrag.tracing.page import as_html
from artrag.tracing.privacy import Privacy
from artrag.tracing.spans import Span, plain

_BOOKKEEPING = ("langgraph_", "checkpoint_", "__", "lc_", "ls_integration")


class LocalTracer(BaseTracer):
    """Collects the steps of every run it is handed to: `graph.invoke(..., config={"callbacks": [tracer]})`.

    As the last value of a notebook cell it shows the tree of its runs. With `path`, each step is appended to that file
    as a line of JSON as soon as it ends. What it keeps and writes is as private as `privacy`, or the environment, says.
    """

    run_inline = True

    def __init__(self, path: str | Path | None = None, *, privacy: Privacy | None = None) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self._privacy = privacy or Privacy()
        self._path = Path(path) if path else None
        self._writing = threading.Lock()
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def _persist_run(self, run: Run) -> None:
        """Steps are kept one by one as they end."""

    def _end_trace(self, run: Run) -> None:
        super()._end_trace(run)
        span = self._privacy.of(to_span(run))
        with self._writing:
            self.spans.append(span)
            if self._path:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(span.to_json() + "\n")  # one write: a reader never sees half of two steps

    def _repr_html_(self) -> str:
        return as_html(self.spans, page=False)


def to_span(run: Run) -> Span:
    """A finished LangChain run as a span."""
    ended = run.end_time or run.start_time
    outputs = _said(run.outputs) if run.run_type in ("llm", "chat_model") else _mapping(run.outputs)
    error = _first_line(run.error or "")
    if error.startswith("GraphInterrupt("):  # LangGraph's way to stop and ask; no fault
        outputs, error = {"waits": "waits for a person"}, ""
    return Span(
        id=str(run.id),
        parent=str(run.parent_run_id or ""),
        name=run.name,
        kind=run.run_type,
        started=run.start_time.timestamp(),
        seconds=(ended - run.start_time).total_seconds(),
        inputs=_mapping(run.inputs),
        outputs=outputs,
        error=error,
        tokens=_tokens(run.outputs),
        metadata=_about(run.extra),
    )


def _about(extra: Any) -> dict[str, Any]:
    """The metadata of a run, less what LangGraph notes for itself."""
    given = plain((extra or {}).get("metadata") or {})
    return {key: value for key, value in given.items() if not key.startswith(_BOOKKEEPING)}


def _first_line(error: str) -> str:
    """What went wrong, without the traceback that LangChain glues to it."""
    lines = error.partition("Traceback (most recent call last)")[0].strip().splitlines()
    return lines[0] if lines else ""


def _mapping(value: Any) -> dict[str, Any]:
    made = plain(value)
    return made if isinstance(made, dict) else {} if made is None else {"value": made}


def _said(outputs: Any) -> dict[str, Any]:
    """What a model said: its text, the tools it called, and its tokens; several replies as a list."""
    replies = []
    for generation in _generations(outputs):
        kwargs = (generation.get("message") or {}).get("kwargs") or {}
        about = {"tool_calls": kwargs.get("tool_calls"), "usage": kwargs.get("usage_metadata")}
        text = generation.get("text") or kwargs.get("content") or ""
        replies.append(plain({"text": text} | {key: value for key, value in about.items() if value}))
    return (replies[0] if len(replies) == 1 else {"replies": replies}) if replies else _mapping(outputs)


def _tokens(outputs: Any) -> int:
    total = 0
    for generation in _generations(outputs):
        kwargs = (generation.get("message") or {}).get("kwargs") or {}
        total += int((kwargs.get("usage_metadata") or {}).get("total_tokens", 0))
    return total


def _generations(outputs: Any) -> list[dict[str, Any]]:
    found = outputs.get("generations") if isinstance(outputs, dict) else None
    return [one for batch in found or [] for one in batch if isinstance(one, dict)]
