"""Plots of reports as SVG text: nothing is fetched, nothing is shown, no global state is touched."""

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artrag.errors import MissingExtraError
from artrag.evaluation.calibration import Bin, CoveragePoint
from artrag.evaluation.intervals import Interval
from artrag.evaluation.replay import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a939c"
_ARMS = (BLUE, ORANGE, GREEN, RED, "#cc79a7", "#56b4e9", GREY)
_OWN = {"ask+trust": BLUE, "trust-only": BLUE, "ask-only": BLUE}
_KINDS = {"both right": "#cfd6dd", "both wrong": "#8a939c", "mends": GREEN, "breaks": RED}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "artrag",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#98a2ad",
    "axes.labelcolor": "#39424c",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "axes.axisbelow": True,
    "xtick.color": "#39424c",
    "ytick.color": "#39424c",
    "legend.frameon": False,
}


def policies_plot(comparison: Comparison) -> str:
    """The accuracy of each policy with its interval, and a line at the better of initial and refine-all."""

    def draw(axes: "Axes") -> None:
        names = sorted(comparison.policies, key=lambda name: comparison.policies[name].value)
        for y, name in enumerate(names):
            found = comparison.policies[name]
            colour = _OWN.get(name, GREY)
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(100 * found.value, y, "o", color=colour, markersize=7)
            axes.annotate(
                f"{100 * found.value:.1f}", (100 * found.high, y), (6, 0), textcoords="offset points", va="center"
            )
        axes.axvline(100 * comparison.policies[comparison.better].value, color=ORANGE, linestyle="--", linewidth=1.2)
        axes.set_yticks(range(len(names)), names)
        axes.margins(x=0.08)
        axes.set_xlabel(f"accuracy, % (dashed: {comparison.better})")
        axes.grid(axis="y", visible=False)

    return _svg(draw)


def parts_plot(parts: Mapping[str, Comparison]) -> str:
    """What ask+trust gains, file by file, over the better of initial and refine-all in that file."""

    def draw(axes: "Axes") -> None:
        shown = list(parts.items())[::-1]
        for y, (_, part) in enumerate(shown):
            found = part.differences["ask+trust"]
            colour = GREEN if found.low > 0 else RED if found.high < 0 else GREY
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(100 * found.value, y, "o", color=colour, markersize=7)
        # The plots' font has no glyphs for every script, and a dollar sign would open a formula.
        names = [name.encode("ascii", "replace").decode()[-42:] for name, _ in shown]
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.axvline(0, color=ORANGE, linestyle="--", linewidth=1.2)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("points over the better of initial and refine-all")
        axes.grid(axis="y", visible=False)

    return _svg(draw)


def curve_plot(curve: NDArray[np.float64], refine_rate: float) -> str:
    """The final accuracy against the share of rows refined, the most doubted first; random choice is a line."""

    def draw(axes: "Axes") -> None:
        shares = np.linspace(0, 100, len(curve))
        axes.plot([0, 100], [100 * curve[0], 100 * curve[-1]], color=GREY, linestyle="--", label="at random")
        axes.plot(shares, 100 * curve, color=BLUE, linewidth=2, label="most doubted first")
        at = float(np.interp(100 * refine_rate, shares, 100 * curve))
        axes.plot(100 * refine_rate, at, "o", color=ORANGE, markersize=8, label="the threshold in use")
        axes.set_xlabel("share of drafts refined, %")
        axes.set_ylabel("accuracy, %")
        axes.legend(loc="best")

    return _svg(draw)


def calibration_plot(series: Mapping[str, Sequence[Bin]]) -> str:
    """Stated probability against the share that came true, in equal-mass bins; a line each."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect")
        for (label, bins), colour, mark in zip(series.items(), cycle(_ARMS), cycle("os^Dv")):
            axes.plot(
                [b.probability for b in bins],
                [b.share for b in bins],
                f"{mark}-",
                color=colour,
                label=label.replace("$", r"\$"),
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("stated probability")
        axes.set_ylabel("share that came true")
        axes.legend(loc="upper left")

    return _svg(draw)


def risk_coverage_plot(points: Sequence[CoveragePoint]) -> str:
    """The share of wrong answers among the surest, against the share of questions answered."""

    def draw(axes: "Axes") -> None:
        xs, ys = [100 * p.coverage for p in points], [100 * p.risk for p in points]
        axes.axhline(ys[-1], color=GREY, linestyle="--", linewidth=1, label="without abstaining")
        axes.plot(xs, ys, color=BLUE, linewidth=2, marker="o" if len(xs) < 40 else None, label="surest answers first")
        axes.axvline(80, color=ORANGE, linewidth=1, label="80% coverage")
        axes.set_xlim(0, 101)
        axes.set_ylim(0, 1.08 * max(*ys, 1))
        axes.set_xlabel("coverage: questions answered, %")
        axes.set_ylabel("risk: wrong among them, %")
        axes.legend(loc="best")

    return _svg(draw)


def margins_plot(margins: Mapping[str, Sequence[float]], margin: float) -> str:
    """By how much the Truster prefers the refined answer to the draft, by what refining did to the row."""

    def draw(axes: "Axes") -> None:
        values = np.concatenate([np.asarray(margins[kind], dtype=np.float64) for kind in _KINDS])
        low, high = np.percentile(values, [0.5, 99.5]) if len(values) else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1, 41)
        axes.hist(
            [np.clip(margins[kind], edges[0], edges[-1]) for kind in _KINDS],
            bins=edges.tolist(),
            stacked=True,
            color=list(_KINDS.values()),
            label=[f"{kind} ({len(margins[kind])})" for kind in _KINDS],
        )
        axes.axvline(margin, color=ORANGE, linestyle="--", linewidth=1.4, label=f"margin {margin:.3g}")
        axes.set_xlabel("score of the refined answer minus score of the draft")
        axes.set_ylabel("rows")
        axes.legend(loc="best")

    return _svg(draw)


def pass_curves_plot(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """pass@1, pass@2, ... of each arm (by colour) of each index (by line).

    Args:
        curves: for each index, by the name it is shown under, the curve of each arm.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        colours = dict(zip(dict.fromkeys(arm for arms in curves.values() for arm in arms), cycle(_ARMS), strict=False))
        for (name, arms), line in zip(curves.items(), cycle(("-", "--", ":", "-.")), strict=False):
            for arm, curve in arms.items():
                label = f"{name[-42:]}: {arm}" if len(curves) > 1 else arm
                label = label.encode("ascii", "replace").decode().replace("$", r"\$")
                xs = range(1, len(curve) + 1)
                axes.plot(xs, [100 * y for y in curve], line, color=colours[arm], linewidth=1.8, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("k, passages read")
        axes.set_ylabel("pass@k, %")
        axes.set_ylim(top=101)
        axes.legend(loc="lower right", fontsize=8)

    return _svg(draw, height=4.4)


def systems_plot(systems: Mapping[str, Interval], shown: str = "") -> str:
    """What each system scores, with its interval; the one `shown` in colour, or the last."""

    def draw(axes: "Axes") -> None:
        names = list(systems)[::-1]
        for y, name in enumerate(names):
            found, colour = systems[name], GREEN if name == (shown or names[0]) else GREY
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(100 * found.value, y, "o", color=colour, markersize=7)
            axes.annotate(
                f"{100 * found.value:.1f}", (100 * found.high, y), (6, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.margins(x=0.12)
        axes.set_xlabel("score, %")

    return _svg(draw, height=1.2 + 0.4 * len(systems))


def frontier_plot(points: Mapping[str, tuple[float, Interval]], unit: str) -> str:
    """What each system scores against what a question costs; a line joins those that nothing cheaper is better than.

    Args:
        points: (cost, quality) by system.
        unit: of the cost.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import LogLocator, NullFormatter

        # Limits of our own: from costs a hair apart matplotlib makes an axis without length, and warns.
        low, high = min(cost for cost, _ in points.values()), max(cost for cost, _ in points.values())
        if low > 0:
            room = max((high / low) ** 0.15, 1.25)
            axes.set_xscale("log")
            axes.set_xlim(low / room, high * room)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            room = 0.15 * (high - low) or 1.0
            axes.set_xlim(low - room, high + room)
        best, line = -1.0, []
        for name, (cost, found) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1].value)):
            ahead = found.value > best
            if ahead:
                best = found.value
                line.append((cost, 100 * best))
            colour = BLUE if ahead else GREY
            axes.plot([cost, cost], [100 * found.low, 100 * found.high], color=colour, linewidth=1, alpha=0.6)
            axes.plot(cost, 100 * found.value, "o", color=colour, markersize=7)
            shown = name[-32:].encode("ascii", "replace").decode().replace("$", r"\$")
            axes.annotate(shown, (cost, 100 * found.value), (6, 5), textcoords="offset points", fontsize=8)
        axes.step(*zip(*line, strict=True), where="post", color=BLUE, linewidth=1, linestyle="--")
        axes.set_xlabel(f"{unit} a question")
        axes.set_ylabel("quality, %")

    return _svg(draw)


def bars_plot(counts: Mapping[str, int], unit: str = "pairs") -> str:
    """How often each thing came, the most frequent on top."""

    def draw(axes: "Axes") -> None:
        names = sorted(counts, key=lambda name: counts[name])
        axes.barh(range(len(names)), [counts[name] for name in names], color=BLUE, height=0.6)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(unit)

    return _svg(draw, height=1.0 + 0.35 * len(counts))


def losses_plot(lines: Sequence[Mapping[str, float]]) -> str:
    """The loss of every step, and on dev where it was measured."""

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        steps = [line for line in lines if "loss" in line]
        checked = [line for line in lines if "dev_loss" in line]
        axes.plot(
            [line["step"] for line in steps], [line["loss"] for line in steps], color=GREY, linewidth=1, label="step"
        )
        axes.plot(
            [line["step"] for line in checked], [line["dev_loss"] for line in checked], "o-", color=ORANGE, label="dev"
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(loc="best")

    return _svg(draw)


def _svg(draw: Callable[["Axes"], None], *, height: float = 3.6) -> str:
    """One figure as an `<svg>` element, the same bytes for the same data.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(f"plots need {error.name!r}: pip install 'artrag[train]'") from None
    out = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
