"""Pictures for the notebooks: passages as cards, curves and bars as SVG that is the same for the same data."""

import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from IPython.display import HTML, SVG
from matplotlib.figure import Figure

warnings.filterwarnings("ignore", message="IProgress not found")  # a progress bar that nobody needs here

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a939c"
_FONT = "font:13px/1.45 system-ui,sans-serif;color:#1b1f24;background:#fff"
_CARD = f"border:1px solid #d7dde4;border-radius:6px;padding:8px 10px;margin:6px 0;{_FONT}"
_CONTEXT = "background:#f2f0ff;border-left:3px solid #4b3f92;padding:2px 6px;display:block;margin-bottom:4px"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "artrag",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaee",
    "legend.frameon": False,
}


def cards(passages: Iterable[Any], marks: Sequence[str] = (), *, most: int = 260) -> HTML:
    """Chunks with their contexts above them; `marks` are highlighted where they stand."""
    shown = []
    for passage in passages:
        text = escape(" ".join(passage.text.split())[:most])
        for mark in marks:
            text = text.replace(escape(mark), f'<mark style="background:#ffe9a8">{escape(mark)}</mark>')
        context = f'<span style="{_CONTEXT}">{escape(passage.context)}</span>' if passage.context else ""
        shown.append(f'<div style="{_CARD}"><b>{escape(passage.id)}</b>{context}{text} ...</div>')
    return HTML("".join(shown))


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], good: Callable[[Sequence[Any]], bool] | None = None
) -> HTML:
    """A table; rows that are `good` are green."""
    cell = "padding:3px 10px;border-bottom:1px solid #e6eaee;text-align:left;vertical-align:top"
    lines = ["".join(f'<th style="{cell}">{escape(str(name))}</th>' for name in head)]
    for row in rows:
        colour = ";background:#e3f4ec" if good and good(row) else ""
        lines.append("".join(f'<td style="{cell}{colour}">{escape(str(value))}</td>' for value in row))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return HTML(f'<table style="border-collapse:collapse;{_FONT}">{body}</table>')


def drawn(draw: Callable[[Any], None], *, width: float = 6.4, height: float = 3.4) -> SVG:
    """One figure; `draw` is given its axes."""
    out = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return SVG(text[text.index("<svg") :])


def curves(lines: Mapping[str, Sequence[float]], x: str, y: str) -> SVG:
    """Values over 1, 2, 3, ..., a line each; the last one in colour."""

    def draw(axes: Any) -> None:
        for n, (name, values) in enumerate(lines.items()):
            last = n == len(lines) - 1
            colour = BLUE if last else (ORANGE, GREY)[n % 2]
            axes.plot(range(1, len(values) + 1), values, "o-", color=colour, markersize=4, label=name)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(0, 1.03)
        axes.legend(loc="lower right")

    return drawn(draw)


def bars(values: Mapping[str, float], x: str, *, line: float | None = None, colours: Sequence[str] = ()) -> SVG:
    """A bar each, the first on top; a dashed line where something is decided."""

    def draw(axes: Any) -> None:
        names = list(values)[::-1]
        shown = list(colours)[::-1] or BLUE
        axes.barh(range(len(names)), [values[name] for name in names], color=shown, height=0.6)
        for y, name in enumerate(names):
            told = f"{values[name]}" if isinstance(values[name], int) else f"{values[name]:.2f}"
            axes.annotate(told, (max(values[name], 0), y), (4, 0), textcoords="offset points", va="center")
        if line is not None:
            axes.axvline(line, color="#1b1f24", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x)

    return drawn(draw, height=0.9 + 0.36 * len(values))


def growth(lines: Mapping[str, Mapping[int, Any]], x: str, y: str) -> SVG:
    """Intervals over a growing number, a line each."""

    def draw(axes: Any) -> None:
        for (name, found), colour, shift in zip(lines.items(), (BLUE, ORANGE), (-3, 3), strict=False):
            xs = [n + shift for n in found]
            axes.plot(xs, [one.value for one in found.values()], "o-", color=colour, label=name)
            for at, one in zip(xs, found.values(), strict=True):
                axes.plot([at, at], [one.low, one.high], color=colour, linewidth=2, alpha=0.45)
        axes.set_xticks(list(next(iter(lines.values()))))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(loc="lower right", fontsize=9)

    return drawn(draw)


def stacks(counts: Mapping[str, Mapping[str, int]], kinds: Sequence[str], x: str) -> SVG:
    """Counts of kinds, a bar for each name, the first on top; kinds that never come are left out."""

    def draw(axes: Any) -> None:
        names = list(counts)[::-1]
        left = [0] * len(names)
        shown = [kind for kind in kinds if any(counts[name].get(kind) for name in names)]
        for kind, colour in zip(shown, matplotlib.colormaps["Set2"].colors, strict=False):
            widths = [counts[name].get(kind, 0) for name in names]
            axes.barh(range(len(names)), widths, left=left, color=colour, height=0.6, label=kind)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x)
        axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8)

    return drawn(draw, width=7.2, height=1.6 + 0.36 * len(counts))
