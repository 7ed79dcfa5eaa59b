"""The folder of a SimRAG run: one folder a round, with everything that was said, kept, rejected, trained and scored."""

from pathlib import Path
from typing import Any

from artrag.evaluation.rows import read_rows, write_rows
from artrag.training.answerer_data import Example
from artrag.training.keeping import Pair

EXTRACTED, POSED, ANSWERED = "extracted.jsonl", "posed.jsonl", "answered.jsonl"
PROPOSED, KEPT, REJECTED = "proposed.jsonl", "kept.jsonl", "rejected.jsonl"
PART = "answerer"
ROUND, SCORES = "round.json", "scores.json"


def round_folder(run: str, number: int) -> Path:
    """The folder of a round, counted from 1."""
    folder = Path(run) / f"round-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_pairs(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write pairs, or what else there is one line of each."""
    write_rows(path, rows)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file; none where it is empty."""
    if not path.exists() or not path.stat().st_size:
        return []
    return [pair_of(row) for _, row in read_rows(path)]


def pair_of(row: dict[str, Any]) -> Pair:
    """A pair from its line."""
    fields = {name: row[name] for name in ("kind", "question", "answer", "span", "passage", "text", "context")}
    return Pair(**fields, options=tuple((key, text) for key, text in row["options"]))


def earlier_pairs(run: str, number: int) -> list[Pair]:
    """The pairs that earlier rounds kept."""
    return [one for earlier in range(1, number) for one in read_pairs(round_folder(run, earlier) / KEPT)]


def example_of(one: Pair) -> Example:
    """What an answerer learns from a pair; its passage is yet alone."""
    options = one.options if one.kind == "choice" else ()
    return Example("answer", one.question, (one.answer,), ((one.text, one.context),), (1,), options)
