"""Traces: a local tracer and the page that shows its runs, with no account; and what may leave to LangSmith."""

from artrag.tracing.export import recorded_runs
from artrag.tracing.page import as_html
from artrag.tracing.privacy import Privacy, redacted
from artrag.tracing.remote import use_langsmith
from artrag.tracing.spans import Span, read_spans, read_trace, roots
from artrag.tracing.tracer import LocalTracer
from artrag.tracing.tree import as_text

__all__ = [
    "LocalTracer",
    "Privacy",
    "Span",
    "as_html",
    "as_text",
    "read_spans",
    "read_trace",
    "recorded_runs",
    "redacted",
    "roots",
    "use_langsmith",
]
