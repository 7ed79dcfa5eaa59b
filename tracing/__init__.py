"""Local traces: a tracer, its span tree, and the page that shows it. No account, no network."""

from artrag.tracing.export import recorded_runs
from artrag.tracing.page import as_html, as_text
from artrag.tracing.spans import Span, read_spans, roots
from artrag.tracing.tracer import LocalTracer

__all__ = ["LocalTracer", "Span", "as_html", "as_text", "read_spans", "recorded_runs", "roots"]
