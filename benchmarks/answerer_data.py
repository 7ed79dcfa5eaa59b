"""The examples that the shipped answerer learned from, in the form of `artrag.training.answerer_data`.

    python benchmarks/answerer_data.py --data ../shared/data/simrag --out build/answerer

Sources: SQuAD (CC BY-SA 4.0) for answering, refusing, extracting and asking; NQ's paragraphs in QED (CC BY-SA 3.0);
StrategyQA's train questions with their facts and PubMedQA's train questions with their abstracts (both MIT);
self-instruct's seed tasks (Apache-2.0). Two SQuAD articles and every fifth of the other questions are kept out for dev.
Writes `train.jsonl` and `dev.jsonl`.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from artrag.evaluation.rows import read_rows, write_rows
from artrag.index.bm25 import BM25
from artrag.index.tokens import tokenize

LONGEST_ANSWER = 80
TOGETHER = (1, 2, 3, 4, 4, 4)
"""Paragraphs shown together: one of these numbers, drawn."""
NEAR = 6
"""The others are drawn from so many that BM25 finds nearest to the questions about the first."""
OF_OTHERS = 2
"""Questions that are not about the first paragraph, at most: retrieval ranks the right one first in three of four."""
DEV_ARTICLES = 2

Row = dict[str, Any]


class Squad:
    """Paragraphs with their questions, by article."""

    def __init__(self, folder: Path) -> None:
        self.paragraphs = {row["id"]: row for _, row in read_rows(folder / "corpus.jsonl")}
        self.asked: dict[str, list[Row]] = {}
        for _, row in read_rows(folder / "train.jsonl"):
            if row["evidence_ids"][0] in self.paragraphs:
                self.asked.setdefault(row["evidence_ids"][0], []).append(row)
        self.articles = sorted({self.paragraphs[name]["title"] for name in self.asked})

    def of(self, articles: Sequence[str]) -> list[str]:
        """The paragraphs of these articles that questions are asked about."""
        return [name for name in self.asked if self.paragraphs[name]["title"] in articles]

    def short(self, name: str) -> list[Row]:
        """The questions about a paragraph that it answers shortly."""
        rows = [row for row in self.asked[name] if row["type"] == "short"]
        rows = [row | {"answer": min(row["answers"], key=len)} for row in rows]
        return [row for row in rows if len(row["answer"]) <= LONGEST_ANSWER]


def situated(passage: Row, draw: random.Random) -> Row:
    """A passage with its title, with title and path, or alone: indexes differ."""
    title = passage["title"].replace("_", " ")
    context = draw.choice(("", title, title, f"{title} (articles/{title.lower().replace(' ', '-')}.md)"))
    return {"text": passage["text"], "context": context}


def answering(squad: Squad, names: Sequence[str], draw: random.Random) -> Iterator[Row]:
    """Each paragraph with others that retrieval would bring, and questions about all of them."""
    found = BM25.build(
        tokenize(f"{squad.paragraphs[name]['title']} {squad.paragraphs[name]['text']}") for name in names
    )
    for name in names:
        first = squad.paragraphs[name]
        about = tokenize(" ".join([first["title"], *(row["question"] for row in squad.asked[name])]))
        near = [names[other] for other, _ in found.top(about, NEAR + 1) if names[other] != name][:NEAR]
        others = draw.sample(near, min(len(near), draw.choice(TOGETHER) - 1))
        shown = [name, *others]
        passages = [situated(squad.paragraphs[one], draw) for one in shown]
        about_others = [(row, n) for n, one in enumerate(others, start=2) for row in squad.short(one)]
        about_others = draw.sample(about_others, min(len(about_others), OF_OTHERS))
        for row, n in [*((row, 1) for row in squad.short(name)), *about_others]:
            yield _answer(row["question"], row["answer"], passages, [n])
        silent = [row for row in squad.asked[name] if row["type"] == "unanswerable"]
        for row in draw.sample(silent, min(len(silent), 1)):
            yield _answer(row["question"], "", passages, [])


def extracting(squad: Squad, names: Sequence[str], draw: random.Random) -> Iterator[Row]:
    """The answers that people asked for, in the order of the paragraph."""
    for name in names:
        passage = squad.paragraphs[name]
        spans = {row["answer"]: passage["text"].find(row["answer"]) for row in squad.short(name)}
        answers = sorted((one for one, at in spans.items() if at >= 0), key=lambda one: spans[one])
        if len(answers) >= 3:
            yield {"task": "extract", "passages": [situated(passage, draw)], "answers": answers}


def asking(squad: Squad, names: Sequence[str], draw: random.Random) -> Iterator[Row]:
    """A passage and an answer to the question that people asked."""
    for name in names:
        passages = [situated(squad.paragraphs[name], draw)]
        for row in squad.short(name):
            yield {"task": "ask", "passages": passages, "answer": row["answer"], "question": row["question"]}


def searched(path: Path, draw: random.Random) -> Iterator[Row]:
    """Search questions with their paragraph, and at most two like it."""
    rows = [row for _, row in read_rows(path)]
    found = BM25.build(tokenize(row["context"][0]) for row in rows)
    for number, row in enumerate(rows):
        answer, text = min(row["answers"], key=len), row["context"][0]
        if len(answer) > LONGEST_ANSWER or answer not in text:
            continue
        near = [other for other, _ in found.top(tokenize(row["question"]), 6) if other != number]
        shown = [number, *draw.sample(near, min(len(near), draw.choice((0, 0, 1, 2))))]
        passages = [{"text": rows[one]["context"][0], "context": rows[one]["meta"]["title"]} for one in shown]
        yield _answer(row["question"], answer, passages, [1])


def judging(rows: Sequence[Row]) -> Iterator[Row]:
    """Yes, no or maybe from passages, in a word and by its option: the passages are read once for both."""
    for row in rows:
        passages = [{"text": text} for text in row["context"]]
        cites = list(range(1, len(passages) + 1))[:3]
        yield _answer(row["question"], row["answer"], passages, cites) | {"options": row["options"]}
        yield _answer(row["question"], row["options"][row["answer"]].capitalize(), passages, cites)


def instructing(path: Path) -> Iterator[Row]:
    """General instructions whose answers are short."""
    for _, row in read_rows(path):
        if 0 < len(row["answer"]) <= 400:
            yield {"task": "instruct", "question": row["question"], "answer": row["answer"]}


def _answer(question: str, answer: str, passages: list[Row], cites: list[int]) -> Row:
    return {"task": "answer", "passages": passages, "question": question, "answer": answer, "cites": cites}


def with_abstracts(folder: Path) -> list[Row]:
    """PubMedQA's train questions with the sections of their abstract."""
    sections = {row["id"]: row["text"] for _, row in read_rows(folder / "corpus.jsonl")}
    rows = [row for _, row in read_rows(folder / "train.jsonl")]
    return [row | {"context": [sections[name] for name in row["evidence_ids"]]} for row in rows]


def named(source: str, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with the name of their source."""
    return (row | {"source": source} for row in rows)


def is_dev(row: Row) -> bool:
    """Every fifth question."""
    return sha256(row["question"].encode()).digest()[0] % 5 == 0


def main() -> None:
    """Write both files, and tell what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--paragraphs", type=int, default=450, help="of SQuAD, to answer from; the rest goes along")
    parser.add_argument("--skip", type=int, default=0, help="paragraphs passed over: what an earlier run learned from")
    given = parser.parse_args()
    draw = random.Random(0)  # noqa: S311
    squad = Squad(given.data / "squad")
    held = squad.articles[-DEV_ARTICLES:]
    names = {"train": squad.of([one for one in squad.articles if one not in held]), "dev": squad.of(held)}
    facts = [row for _, row in read_rows(given.data / "strategyqa/train.jsonl")]
    half = slice(given.skip // 2, (given.skip + given.paragraphs) // 2)
    others = [
        *named("StrategyQA", judging(facts[half])),
        *named("PubMedQA", judging(with_abstracts(given.data / "pubmedqa"))),
        *named("QED", list(searched(given.data / "nq_qed/train.jsonl", draw))[half]),
        *named("self-instruct", instructing(given.data / "instructions/train.jsonl")),
    ]
    parts = {"train": slice(given.skip, given.skip + given.paragraphs), "dev": slice(15)}
    for side, part in parts.items():
        draw.shuffle(names[side])
        shown = names[side][part]
        few = shown[: len(shown) // 3]
        made = (answering(squad, shown, draw), extracting(squad, few, draw), asking(squad, few, draw))
        rows = [row for rows in made for row in named("SQuAD", rows)]
        mixed = [row for row in others if is_dev(row) == (side == "dev")]
        rows += mixed if side == "train" else draw.sample(mixed, 30)
        write_rows(given.out / f"{side}.jsonl", rows)
        print(json.dumps({"file": side} | Counter(row["task"] for row in rows)))


if __name__ == "__main__":
    main()
