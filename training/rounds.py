"""The folder of a SimRAG run: one folder a round, with everything that was said, kept, rejected, trained and scored."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from artrag.evaluation.predictions import normal_question
from artrag.evaluation.rows import read_rows, write_rows
from artrag.ledger import read_lines
from artrag.training.answerer_data import Example
from artrag.training.keeping import Pair

EXTRACTED, POSED, LIKELY, ANSWERED = "extracted.jsonl", "posed.jsonl", "likely.jsonl", "answered.jsonl"
PROPOSED, KEPT, REJECTED = "proposed.jsonl", "kept.jsonl", "rejected.jsonl"
PART = "answerer"
ROUND, SCORES, TRAINED = "round.json", "scores.json", "trained.json"
HELD = 7
"""One passage of so many is held out to choose the checkpoint, and another to measure by."""


def round_folder(run: str, number: int) -> Path:
    """The folder of a round, counted from 1."""
    return Path(run) / f"round-{number}"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
    os.replace(beside, path)


def write_pairs(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write pairs, or what else there is one line of each."""
    write_rows(path, rows)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file; none where it is empty."""
    if not path.exists() or not path.stat().st_size:
        return []
    return [pair_of(row) for _, row in read_rows(path)]


def pair_of(row: Mapping[str, Any]) -> Pair:
    """A pair from its line."""
    fields = {name: row[name] for name in ("kind", "question", "answer", "span", "passage", "text", "context")}
    return Pair(**fields, options=tuple((key, text) for key, text in row["options"]), asks=row.get("asks", ""))


def kept_pairs(run: str, until: int) -> list[Pair]:
    """The pairs that the rounds up to and with this one kept."""
    return [one for number in range(1, until + 1) for one in read_pairs(round_folder(run, number) / KEPT)]


@dataclass(frozen=True, slots=True)
class Parts:
    """Kept pairs by what they serve for: no passage and no question serves for two."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]


def parted(pairs: Sequence[Pair], *, test: bool) -> Parts:
    """About every seventh passage is dev and, where one is wanted, another seventh is test; at least one of each.

    Of questions that several passages gave, those of train stay.
    """
    names = sorted({one.passage for one in pairs}, key=lambda name: sha256(name.encode()).digest())
    size = max(1, len(names) // HELD)
    held = names[:size], names[size : 2 * size] if test else []
    train = [one for one in pairs if one.passage not in held[0] and one.passage not in held[1]]
    asked = {normal_question(one.plain) for one in train}
    dev, own = (
        [one for one in pairs if one.passage in side and normal_question(one.plain) not in asked] for side in held
    )
    known = {normal_question(one.plain) for one in dev}
    return Parts(train, dev, [one for one in own if normal_question(one.plain) not in known])


def seconds_of(run: str, number: int) -> dict[str, float]:
    """What a round took, in seconds: to `propose` pairs, to `keep` some of them, and the last call of `train`.

    Of proposing and keeping the model's own time counts, in all calls of a run that was killed, not that of searching.
    """
    folder = round_folder(run, number)
    asked = {"propose": (EXTRACTED, POSED), "keep": (LIKELY, ANSWERED)}
    took = {
        what: sum(row.get("seconds", 0.0) for name in names for row in read_lines(folder / name))
        for what, names in asked.items()
    }
    trained = folder / PART / TRAINED
    if trained.exists():
        took["train"] = json.loads(trained.read_text("utf-8"))["told"]["seconds"]
    return {what: round(seconds, 1) for what, seconds in took.items()}


def example_of(one: Pair) -> Example:
    """What an answerer learns from a pair; its passage is yet alone."""
    options = one.options if one.kind == "choice" else ()
    return Example("answer", one.question, (one.answer,), ((one.text, one.context),), (1,), options, span=one.span)
