"""The spans of a trace as plain data, one JSON line each."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

LONGEST_TEXT = 20_000


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

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_spans(path: str | Path) -> list[Span]:
    """The spans of a JSON Lines file; lines that cannot be read (one that was cut off) are left out."""
    spans = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").split("\n"):  # texts may hold U+2028
        try:
            spans.append(Span(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return spans


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


def plain(value: Any) -> Any:
    """Any value as JSON data; long texts are cut, and say so."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]} ... ({len(value)} characters)"
    if isinstance(value, Document):
        return {"text": plain(value.page_content), "metadata": plain(value.metadata)}
    if isinstance(value, BaseMessage):
        return {"role": value.type, "content": plain(value.text)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return plain(repr(value))
