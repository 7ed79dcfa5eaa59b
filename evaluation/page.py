"""What the report pages share: style, tables, figures. Every text is escaped, nothing is fetched, no script runs."""

import html
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from artrag.evaluation.intervals import Interval

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CSS = """
:root{color-scheme:light dark;--paper:#f4f6f8;--card:#fff;--ink:#1b1f24;--dim:#4a545f;--line:#dde3e9;
--soft:#edf0f3;--own:#eef6fb;--link:#2f55c5;--up:#00734f;--down:#a33a00}
@media (prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1b1e24;--ink:#e3e6ea;--dim:#9aa3af;--line:#2e333c;
--soft:#262a31;--own:#1d2b38;--link:#8fb0ff;--up:#70cf9b;--down:#ff9f80}}
body{font:15px/1.5 system-ui,"Segoe UI",sans-serif;color:var(--ink);background:var(--paper);margin:0}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}
p.note{color:var(--dim);margin:4px 0 8px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(145px,1fr));gap:12px;margin:18px 0}
.card,figure,table,details{background:var(--card);border:1px solid var(--line);border-radius:10px}
.card{padding:12px 16px}.card b{display:block;font-size:25px;font-variant-numeric:tabular-nums}
.card span{color:var(--dim);font-size:13px;display:block}
.plots{margin-bottom:14px;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:14px}
figure{margin:0;padding:12px 14px}figcaption{font-weight:600;margin-bottom:6px}
figcaption small{display:block;font-weight:400;color:var(--dim);font-size:13px}
figure svg{width:100%;height:auto;display:block;background:#fff;border-radius:6px}
.scroll{overflow-x:auto}
table{border-collapse:separate;border-spacing:0;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--soft);white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}
td.say{text-align:left;white-space:normal;color:var(--dim)}tr.own td.say{color:inherit}
td small{display:block;min-width:15em;white-space:normal;color:var(--dim)}
th{color:var(--dim);font-weight:600;font-size:13px}tr.own td{background:var(--own);font-weight:600}
.up{color:var(--up)}.down{color:var(--down)}
a{color:var(--link)}
details{padding:8px 14px;margin:8px 0}summary{cursor:pointer}
summary small{color:var(--dim)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--paper);border-radius:6px;padding:10px;margin:6px 0;
font-size:13px}
"""


def page(title: str, body: Iterable[str]) -> str:
    """A self-contained page."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{safe(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_CSS}</style></head><body><main>{''.join(body)}</main></body></html>"
    )


def figures(drawn: Iterable[tuple[str, str, str]]) -> str:
    """Plots side by side: (title, note, svg) of each."""
    shown = "".join(
        f'<figure role="img" aria-label="{safe(title)}"><figcaption>{safe(title)}<small>{safe(note)}</small>'
        f"</figcaption>{svg}</figure>"
        for title, note, svg in drawn
    )
    return f'<div class="plots">{shown}</div>'


def table(head: str, rows: Iterable[str]) -> str:
    """A table that scrolls where it is wider than the page; `head` and `rows` are HTML."""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def cells(found: Interval, signed: bool | None) -> str:
    """Two cells, value and bounds; a difference that is sure is coloured."""
    value, bounds = number(found, signed)
    sure = "" if not signed else "up" if found.low > 0 else "down" if found.high < 0 else ""
    return f'<td class="{sure}">{value}</td><td class="{sure}">{bounds}</td>'


def number(found: Interval, signed: bool | None) -> tuple[str, str]:
    """The value and its interval: per cent, signed points, or (None) a plain number."""
    if np.isnan(found.value):
        return "-", ""
    scale, form = (1, ".3f") if signed is None else (100, "+.1f" if signed else ".1f")
    value, low, high = (f"{scale * bound:{form}}" for bound in (found.value, found.low, found.high))
    return value, f"[{low}, {high}]"


def written(path: Path, text: str) -> Path:
    """Write a file in one step: a reader sees the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)
    return path


def safe(text: str) -> str:
    """Text as HTML."""
    return html.escape(text)
