"""Does support without a judge tell answers that a passage bears out from those that it does not?

    python benchmarks/faithfulness.py --data ../shared/data

Squad's test questions with a short answer, each twice: with the passage that it was asked about, and with the passage
that BM25 ranks best among those that lack every wording of the answer. `support` is measured on the answer alone, and
on the answer as a sentence with the words of its question. Prints one JSON line: AUC with 95% intervals over questions.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag.evaluation.answering import support
from artrag.evaluation.calibration import auc
from artrag.evaluation.intervals import clustered_statistic
from artrag.evaluation.rows import read_rows
from artrag.index.bm25 import BM25
from artrag.index.tokens import tokenize

DEEP = 20


def main() -> None:
    """Pair, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data / "simrag/squad"
    corpus = {row["id"]: row for _, row in read_rows(folder / "corpus.jsonl")}
    names = list(corpus)
    bm25 = BM25.build(tokenize(f"{corpus[name]['title']} {corpus[name]['text']}") for name in names)
    asked, labels = [], []
    values: dict[str, list[float]] = {"answer": [], "question and answer": []}
    for _, row in read_rows(folder / "test.jsonl"):
        if row["type"] != "short" or row["evidence_ids"][0] not in corpus:
            continue
        right = corpus[row["evidence_ids"][0]]["text"]
        found = (corpus[names[place]]["text"] for place, _ in bm25.top(tokenize(row["question"]), DEEP))
        wrong = next((text for text in found if not any(_holds(text, one) for one in row["answers"])), None)
        if wrong is None:
            continue
        for text, label in ((right, True), (wrong, False)):
            asked.append(row["id"])
            labels.append(label)
            for name, said in (
                ("answer", row["answer"]),
                ("question and answer", f"{row['question']} {row['answer']}"),
            ):
                values[name].append(support(said, [Document(text)]).value)
    told: dict[str, Any] = {"figure": "faithfulness", "questions": len(set(asked))}
    for name, own in values.items():

        def ranked(rows: Any, own: list[float] = own) -> float:
            return auc([own[n] for n in rows], [labels[n] for n in rows])

        told[name] = asdict(clustered_statistic(ranked, asked))
    print(json.dumps(told))


def _holds(text: str, answer: str) -> bool:
    return answer.lower() in text.lower()


if __name__ == "__main__":
    main()
