"""A trace as one self-contained HTML page, as a notebook cell, or as text."""

import html
import json
from collections.abc import Iterable
from typing import Any

from artrag.tracing.spans import Span, children, roots

_STYLE = """
.artrag-trace{font:14px/1.45 system-ui,sans-serif;color:#1b1f24;background:#fff;padding:12px;border-radius:8px}
.artrag-trace details{margin-left:18px;border-left:2px solid #d7dde4;padding-left:8px}
.artrag-trace summary{cursor:pointer;padding:2px 0}
.artrag-trace .kind{font-size:11px;border:1px solid #98a2ad;border-radius:9px;padding:0 7px;color:#4a545f}
.artrag-trace .cost{color:#4a545f;font-variant-numeric:tabular-nums}
.artrag-trace .why{color:#0b5394}
.artrag-trace .error{color:#b00020;font-weight:600}
.artrag-trace pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f6f8;padding:8px;border-radius:6px;
max-height:22em;overflow:auto;margin:4px 0}
@media (prefers-color-scheme:dark){.artrag-trace{color:#e6e9ec;background:#16191d}
.artrag-trace pre{background:#22272d}.artrag-trace details{border-color:#3a424b}
.artrag-trace .kind,.artrag-trace .cost{color:#aab4be}.artrag-trace .why{color:#8ab8f0}
.artrag-trace .error{color:#ff8a95}}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

# What each stage has to say for itself, by the keys it writes.
_HEADLINES = ("refine_failure", "decision", "refine_reason", "draft", "answer")


def headline(span: Span) -> str:
    """What a step decided or said, in one line; empty where it has nothing to say."""
    for key in _HEADLINES:
        said = span.outputs.get(key)
        if isinstance(said, str) and said.strip():
            return " ".join(said.split())[:160]
    if isinstance(span.outputs.get("passages"), list):
        return f"{len(span.outputs['passages'])} passages"
    return ""


def as_text(spans: Iterable[Span]) -> str:
    """The tree as indented lines."""
    spans = list(spans)
    below = children(spans)
    lines: list[str] = []

    def walk(span: Span, depth: int) -> None:
        said = f"  {span.error or headline(span)}".rstrip()
        lines.append(f"{'  ' * depth}{span.name} ({_cost(span)}){said}")
        for child in below.get(span.id, []):
            walk(child, depth + 1)

    for root in roots(spans):
        walk(root, 0)
    return "\n".join(lines)


def as_html(spans: Iterable[Span], *, page: bool = True) -> str:
    """The tree as HTML; every text is escaped, nothing is fetched, no script runs.

    Args:
        spans: the steps of one or more runs.
        page: a whole page; False gives a fragment for a notebook cell.
    """
    spans = list(spans)
    below = children(spans)
    tree = "".join(_details(root, below, 0) for root in roots(spans)) or "<p>Nothing was traced yet.</p>"
    body = f'<style>{_STYLE}</style><div class="artrag-trace">{tree}</div>'
    if not page:
        return body
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>artrag trace</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"></head>'
        f"<body>{body}</body></html>"
    )


def _details(span: Span, below: dict[str, list[Span]], depth: int) -> str:
    said = (
        f'<span class="error">{_safe(span.error)}</span>'
        if span.error
        else (f'<span class="why">{_safe(headline(span))}</span>')
    )
    inner = "".join(_details(child, below, depth + 1) for child in below.get(span.id, []))
    if depth:  # the root repeats what its stages show
        inner += _block("inputs", span.inputs) + _block("outputs", span.outputs)
    return (
        f"<details{' open' if depth < 1 else ''}><summary><b>{_safe(span.name)}</b> "
        f'<span class="kind">{_safe(span.kind)}</span> <span class="cost">{_safe(_cost(span))}</span> {said}</summary>'
        f"{inner}</details>"
    )


def _block(name: str, data: dict[str, Any]) -> str:
    if not data:
        return ""
    text = json.dumps(data, ensure_ascii=False, indent=1)
    return f"<details><summary>{name}</summary><pre>{_safe(text)}</pre></details>"


def _cost(span: Span) -> str:
    return f"{span.seconds:.2f} s" + (f", {span.tokens} tokens" if span.tokens else "")


def _safe(text: str) -> str:
    return html.escape(text)
