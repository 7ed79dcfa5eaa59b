r"""Recorded answers to grade-school word problems as predictions: what the shipped Asker and Truster learn from.

    python benchmarks/art_data.py --data ../shared/data --out build/art
    artrag train reader --solutions ../shared/data/gsm8k/train.jsonl \
        --predictions build/art/train.jsonl --dev build/art/dev.jsonl --out models/shipped/reader
    artrag train art --predictions build/art/train.jsonl --dev build/art/dev.jsonl --out models/shipped

Questions are those of a re-split of GSM8K's *test* questions (`gsm8k/resplit_1319.json`): figures on them are not
official GSM8K figures. "Pooled" rows hold an answer along the subquestions of one of twelve weak questioners (initial)
and one along ChatGPT's (refined), by ChatGPT and LLaMA 13B; `harmful` rows hold them the other way round.
"""

import argparse
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from artrag.evaluation.predictions import Prediction, write_predictions
from artrag.training.convert import convert, paired

POOLED = ("chatgpt", "llama13b")
STRONG = "chatgpt"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        yield from map(json.loads, file)


def chains(data: Path, answerer: str, questions: Iterable[Prediction]) -> list[Prediction]:
    """The recorded chains of one answerer."""
    return convert(read(data / "llm_predictions" / f"gsm8k_subq_{answerer}.jsonl.gz"), questions=questions)


def swapped(rows: Iterable[Prediction]) -> list[Prediction]:
    """The same rows with the refined answer as the initial one."""
    return [
        replace(
            row, candidates=(replace(row.candidates[1], stage="initial"), replace(row.candidates[0], stage="refined"))
        )
        for row in rows
    ]


def solutions(data: Path, questions: list[Prediction]) -> list[Prediction]:
    """Chain-of-thought answers of further models, as samples."""
    known = {" ".join(row.question.lower().split()): row for row in questions}
    rows = convert(read(data / "gsm8k" / "model_solutions.jsonl"), questions=questions)
    rows += convert(read(data / "llm_predictions" / "gsm8k_llama32_3b_cot.jsonl.gz"), questions=questions)
    for row in convert(read(data / "llm_predictions" / "arithmetic_gpt_cot.jsonl"), questions=questions):
        same = known.get(" ".join(row.question.lower().split()))
        if same:
            rows.append(replace(row, id=same.id, question=same.question))
    return [replace(row, candidates=tuple(replace(a, stage="sample") for a in row.candidates)) for row in rows]


def main() -> None:
    """Write train, dev and test, and dev and test with initial and refined swapped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    split = json.loads((given.data / "gsm8k" / "resplit_1319.json").read_text("utf-8"))
    part_of = {question: part for part in ("train", "dev", "test") for question in split[part]}
    questions = convert(read(given.data / "gsm8k" / "test.jsonl"))
    answers = {name: chains(given.data, name, questions) for name in (*POOLED, "llama7b")}
    pooled = [row for name in POOLED for row in paired(answers[name], refined_by=STRONG)]
    samples = [
        replace(row, candidates=tuple(replace(a, stage="sample") for a in row.candidates)) for row in answers["llama7b"]
    ] + solutions(given.data, questions)
    given.out.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev", "test"):
        rows = [row for row in pooled if part_of.get(row.id) == part]
        more = [row for row in samples if part_of.get(row.id) == part] if part != "test" else []
        write_predictions(given.out / f"{part}.jsonl", [*rows, *more])
        if part != "train":
            write_predictions(given.out / f"harmful.{part}.jsonl", swapped(rows))
        print(part, len(rows), "pooled rows,", len(more), "further answers")  # noqa: T201


if __name__ == "__main__":
    main()
