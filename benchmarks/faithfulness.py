"""Does support without a judge tell answers that a passage bears out from those that it does not?

    python benchmarks/faithfulness.py --data ../shared/data [--answerable 300]

Squad's test questions with a short answer, each twice: with the passage that it was asked about, and with the passage
that BM25 ranks best among those that lack every wording of the answer. `support` is measured on the answer alone, and
on the answer as a sentence with the words of its question; `verified` is the confidence of the Truster that reads
what of the passage bears the answer out. Prints one JSON line: AUC with 95% intervals over questions.

`--answerable` draws so many questions with an answer and as many that their passage does not answer, and lets the
embedded model answer both from the passage. A second line tells right answers to the first from any to the second;
refusals are counted and left out.
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag.evaluation.answering import RIGHT, support
from artrag.evaluation.calibration import auc
from artrag.evaluation.intervals import clustered_statistic
from artrag.evaluation.metrics import token_f1
from artrag.evaluation.questions import Question
from artrag.evaluation.rows import read_rows
from artrag.evidence import is_refusal, without_marks
from artrag.index.bm25 import BM25
from artrag.index.tokens import tokenize
from artrag.models import load_chat
from artrag.models.verified import VerifiedTruster
from artrag.models.verifier import open_verifier
from artrag.settings import EMBEDDED_CHAT
from artrag.training.measuring import messages

DEEP = 20


@dataclass(frozen=True, slots=True)
class Row:
    """An answer beside a passage, and whether that bears it out."""

    id: str
    question: str
    answer: str
    passage: Document
    label: bool


def main() -> None:
    """Pair, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--answerable", type=int, default=0, help="questions of each sort that are answered")
    given = parser.parse_args()
    folder = given.data / "simrag/squad"
    corpus = {row["id"]: row for _, row in read_rows(folder / "corpus.jsonl")}
    asked = [row for _, row in read_rows(folder / "test.jsonl") if row["evidence_ids"][0] in corpus]
    print(json.dumps({"figure": "faithfulness"} | compared(by_passage(asked, corpus))), flush=True)
    if given.answerable:
        rows, refused = by_question(asked, corpus, given.answerable)
        print(json.dumps({"figure": "faithfulness, answerable", "refused": refused} | compared(rows)))


def by_passage(asked: Sequence[Mapping[str, Any]], corpus: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Each answer with its passage and with a wrong one."""
    names, read = list(corpus), {name: _read(row) for name, row in corpus.items()}
    bm25 = BM25.build(tokenize(f"{corpus[name]['title']} {corpus[name]['text']}") for name in names)
    rows = []
    for row in asked:
        found = (read[names[place]] for place, _ in bm25.top(tokenize(row["question"]), DEEP))
        lack = (one for one in found if not any(_holds(one.page_content, answer) for answer in row["answers"]))
        wrong = next(lack, None)
        if row["type"] == "short" and wrong is not None:
            right = read[row["evidence_ids"][0]]
            rows += [Row(row["id"], row["question"], row["answer"], *it) for it in ((right, True), (wrong, False))]
    return rows


def by_question(
    asked: Sequence[Mapping[str, Any]], corpus: Mapping[str, Mapping[str, Any]], most: int
) -> tuple[list[Row], dict[str, int]]:
    """What the embedded model says to questions that their passage answers, where it is right, and to others."""
    chat = load_chat(EMBEDDED_CHAT)
    rows, refused = [], {}
    for kind, label in (("short", True), ("unanswerable", False)):
        all_of_it = [row for row in asked if row["type"] == kind]
        drawn = random.Random(0).sample(all_of_it, min(most, len(all_of_it)))  # noqa: S311
        shown = [[_read(corpus[row["evidence_ids"][0]])] for row in drawn]
        chats = [messages(Question(row["id"], row["question"], ()), one) for row, one in zip(drawn, shown, strict=True)]
        said = [without_marks(answer.text) for answer in chat.answer_many(chats)]
        refused[kind] = sum(map(is_refusal, said))
        rows += [
            Row(row["id"], row["question"], answer, one[0], label)
            for row, answer, one in zip(drawn, said, shown, strict=True)
            if not is_refusal(answer) and (not label or token_f1(answer, row["answers"]).value >= RIGHT)
        ]
    return rows, refused


def compared(rows: Sequence[Row]) -> dict[str, Any]:
    """The AUC of each way to measure support."""
    labels, ids = [row.label for row in rows], [row.id for row in rows]
    told: dict[str, Any] = {"questions": len(set(ids)), "supported": sum(labels)}
    truster = VerifiedTruster(open_verifier())
    ways: dict[str, Callable[[Row], float]] = {
        "answer": lambda row: support(row.answer, [row.passage]).value,
        "question and answer": lambda row: support(f"{row.question} {row.answer}", [row.passage]).value,
        "verified": lambda row: truster.confidence(row.question, row.answer, [row.passage]),
    }
    for name, way in ways.items():
        own = [way(row) for row in rows]

        def ranked(places: Any, own: list[float] = own) -> float:
            return auc([own[n] for n in places], [labels[n] for n in places])

        told[name] = asdict(clustered_statistic(ranked, ids))
    return told


def _read(row: Mapping[str, Any]) -> Document:
    """A row of the corpus as a passage."""
    return Document(row["text"], metadata={"context": row["title"].replace("_", " ")})


def _holds(text: str, answer: str) -> bool:
    return answer.lower() in text.lower()


if __name__ == "__main__":
    main()
