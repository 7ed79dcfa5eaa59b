"""The spans of a trace as plain data, one JSON line each."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from artrag.errors import FormatError
from artrag.formats import refusal

FORMAT = 1
"""Of a line; one that does not say is of the first."""
LONGEST_TEXT = 20_000
DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Span:
    """One traced step.

    Attributes:
        id: unique in the trace; `parent` is the id of the step it belongs to, empty for a root.
        kind: "chain", "llm", "chat_model", "retriever" or "tool".
        started: Unix time in seconds; `seconds` is how long it took.
        inputs: plain data; `outputs` likewise.
        error: what went wrong, or empty.
        tokens: prompt and completion tokens, where a model reports them.
        metadata: what the run was given, and the scores that its stages noted.
    """

    id: str
    parent: str
    name: str
    kind: str
    started: float
    seconds: float
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    tokens: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"format": FORMAT} | asdict(self), ensure_ascii=False)


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "parent", "name", "kind", "error"), str),
    **dict.fromkeys(("started", "seconds"), (int, float)),
    **dict.fromkeys(("inputs", "outputs", "metadata"), dict),
    "tokens": int,
}


def read_trace(path: str | Path) -> tuple[list[Span], int]:
    """The spans of a JSON Lines file, and how many of its lines were left out because they are no span.

    A line is left out where it was cut off, is not JSON, or holds something else. Of spans with the same id, the
    last counts.

    Raises:
        FormatError: a line has a newer format version.
    """
    spans: dict[str, Span] = {}
    left_out = 0
    with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:  # texts may hold U+2028
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                _check_format(row, f"line {number} of {str(path)!r}")
                span = _span(row)
            except (ValueError, TypeError, RecursionError):
                left_out += 1
            else:
                spans[span.id] = span
    return list(spans.values()), left_out


def read_spans(path: str | Path) -> list[Span]:
    """The spans of a JSON Lines file; see `read_trace`."""
    return read_trace(path)[0]


def _check_format(row: Any, where: str) -> None:
    """Raise FormatError for a line of a later artrag; what is no line of artrag's at all passes."""
    found = row.pop("format", FORMAT) if isinstance(row, dict) else FORMAT
    if type(found) is int and found > FORMAT:
        raise FormatError(refusal(where, found, FORMAT, "record the run again"))
    if found != FORMAT:
        raise ValueError(f"format {found!r}")


def _span(row: Any) -> Span:
    span = Span(**row)
    for name, kind in _KINDS.items():
        if not isinstance(getattr(span, name), kind):
            raise TypeError(f"{name!r} cannot be {getattr(span, name)!r}")
    if not span.id or not math.isfinite(span.started) or not 0 <= span.seconds < math.inf:
        raise ValueError("a span has an id, began at a time, and took some")
    return span


def roots(spans: Iterable[Span]) -> list[Span]:
    """The spans without a parent among `spans`, in the order they began."""
    spans = list(spans)
    known = {span.id for span in spans}
    return sorted((span for span in spans if span.parent not in known), key=lambda span: span.started)


def children(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """Parent id -> its steps, in the order they began."""
    below: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.started):
        below.setdefault(span.parent, []).append(span)
    return below


def plain(value: Any, depth: int = 0) -> Any:
    """Any value as JSON data; long texts are cut, and say so."""
    if isinstance(value, str):
        cut = value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]} ... ({len(value)} characters)"
        return cut.encode("utf-8", "backslashreplace").decode("utf-8")  # half a character cannot be written
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if depth >= DEEPEST:
        return "..."
    if isinstance(value, Document):
        return {"text": plain(value.page_content), "metadata": plain(value.metadata, depth + 1)}
    if isinstance(value, BaseMessage):
        return {"role": value.type, "content": plain(value.text)}
    if isinstance(value, dict):
        return {str(plain(str(key))): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    return plain(repr(value))
