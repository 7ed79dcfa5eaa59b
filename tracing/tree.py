"""The steps of a trace in the order in which they are shown, with what they cost and why the route went on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from artrag.harmless import one_line
from artrag.tracing.spans import Span, children, roots

CUT_OFF = "the run did not end, or its line was cut off"
_LONGEST_LABEL = 80
# What a stage has to say for itself, by the keys that it writes.
_HEADLINES = ("waits", "refine_failure", "decision", "refine_reason", "draft", "answer", "text")


@dataclass(frozen=True, slots=True)
class Row:
    """A step where it stands in the tree.

    Attributes:
        depth: 0 for a run.
        tokens: of the step and all below it.
        edge: the label of the edge that the graph took after it, where there was a choice.
        first: when the run began that it belongs to; `whole` is how long that took.
    """

    span: Span
    depth: int
    tokens: int
    edge: str
    first: float
    whole: float


def rows(spans: Iterable[Span]) -> list[Row]:
    """Every step below its run, runs and steps in the order in which they began.

    Steps whose run never ended stand below a run made up of them. The functions that choose an edge are no rows: the
    edge that they chose stands with the stage. Steps that are their own ancestors are in no run.
    """
    spans = list(spans)
    known = {span.id for span in spans}
    lost: dict[str, list[Span]] = {}
    for span in roots(spans):
        if span.parent and span.parent not in known:
            lost.setdefault(span.parent, []).append(span)
    spans += [_unfinished(parent, stages) for parent, stages in lost.items()]
    below = children(spans)
    made: list[Row] = []
    for root in roots(spans):
        order: list[tuple[Span, int, str]] = []
        waiting = [(root, 0)]
        while waiting:  # a trace may be deeper than Python calls
            span, depth = waiting.pop()
            stages = below.get(span.id, [])
            edge = ""
            if stages and _chooses(stages[-1], below):
                edge, stages = stages[-1].outputs["output"], stages[:-1]
            order.append((span, depth, edge))
            waiting += [(one, depth + 1) for one in reversed(stages)]
        total = _totals(order)
        made += [
            Row(span, depth, total[n], edge, root.started, root.seconds) for n, (span, depth, edge) in enumerate(order)
        ]
    return made


def _totals(order: list[tuple[Span, int, str]]) -> list[int]:
    """The tokens of each step and of those below it."""
    total = [span.tokens for span, _, _ in order]
    path: list[int] = []
    for n, (_, depth, _) in enumerate(order):
        del path[depth:]
        for above in path:
            total[above] += order[n][0].tokens
        path.append(n)
    return total


def headline(span: Span) -> str:
    """What a step decided or said, in one line; empty where it has nothing to say."""
    wrote = span.outputs
    for key in _HEADLINES:
        said = wrote.get(key)
        if isinstance(said, str) and said.strip():
            return one_line(f"{said}{_doubt(wrote)}" if key == "refine_reason" else said)
    last = wrote["candidates"][-1] if isinstance(wrote.get("candidates"), list) and wrote["candidates"] else None
    if isinstance(last, dict) and isinstance(last.get("text"), str):
        return one_line(last["text"])
    if isinstance(reply := wrote.get("output"), dict) and isinstance(reply.get("content"), str):
        return one_line(reply["content"])
    if isinstance(passages := wrote.get("passages", wrote.get("documents")), list):
        return f"{len(passages)} passage{'' if len(passages) == 1 else 's'}"
    said = span.metadata.get("stop_reason")  # all that a trace without texts has
    return one_line(said) if isinstance(said, str) else _doubt(span.metadata).strip()


def as_text(spans: Iterable[Span]) -> str:
    """The tree as indented lines; nothing in them steers a terminal."""
    lines = []
    for row in rows(spans):
        said = one_line(row.span.error) or headline(row.span)
        went = f"-> {one_line(row.edge)}" if row.edge else ""
        words = [f"{one_line(row.span.name)} ({cost(row)})", said, went]
        lines.append("  " * min(row.depth, 40) + "  ".join(word for word in words if word))
    return "\n".join(lines)


def cost(row: Row) -> str:
    """Seconds and tokens of a step."""
    return f"{row.span.seconds:.2f} s" + (f", {row.tokens:,} tokens" if row.tokens else "")


def _doubt(said: dict[str, Any]) -> str:
    probability = said.get("refine_probability")
    return f" (doubt {probability:.2f})" if isinstance(probability, int | float) else ""


def _chooses(span: Span, below: dict[str, list[Span]]) -> bool:
    """Is this last step of a stage the function of a conditional edge? It gives a label and calls nothing."""
    label = span.outputs.get("output") if len(span.outputs) == 1 and span.kind == "chain" else None
    return isinstance(label, str) and 0 < len(label) <= _LONGEST_LABEL and span.id not in below and len(span.inputs) > 1


def _unfinished(parent: str, stages: list[Span]) -> Span:
    """A run that is known by its steps only; what they wrote is what it knew."""
    first = min(span.started for span in stages)
    last = max(span.started + span.seconds for span in stages)
    known: dict[str, Any] = {}
    for span in stages:
        known |= span.outputs
    return Span(parent, "", "unfinished run", "chain", first, last - first, outputs=known, error=CUT_OFF)
