"""Answers from passages: a base model with its best prompt against trained ones, over the same passages.

    python benchmarks/retrieval.py --data ../shared/data --out build/retrieval --only covidqa squad pubmedqa
    python benchmarks/answers.py --data ../shared/data --indexes build/retrieval --out build/answers --chat REF

Questions: `squad` and `covidqa` (short answers: token F1, exact match, the share that holds a right answer among its
words, the share refused), `unanswerable` (squad's, the share refused), `pubmedqa` (yes, no, maybe) and `strategyqa`
(yes, no), both accuracy. Passages: the first four of the index's default search; of strategyqa its facts. A model
without a trained part gets, for each set, the prompt out of five that does best on train questions; a trained one gets
the shipped prompt. Answers are kept under --out: a killed run goes on. One line of JSON a model and set, with 95%
intervals over questions, then the gains over the first model, question by question.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.prompts import ChatPromptTemplate

from artrag import prompts
from artrag.evaluation.intervals import Interval, bootstrap, paired
from artrag.evaluation.labels import label
from artrag.evaluation.metrics import exact_match, holds_answer, token_f1
from artrag.evaluation.rows import read_rows
from artrag.evidence import is_refusal
from artrag.index.store import Index
from artrag.ledger import line_of
from artrag.models import LocalChat, ModelReference, load_chat
from artrag.passages import numbered, own_words

K = 4
MOST_TOKENS = 48
TO_CHOOSE = 40
"""Train questions a set that choose the base model's prompt."""
VERDICTS = ("pubmedqa", "strategyqa")
LIKE_SQUAD = ("covidqa", "unanswerable")
"""Sets whose prompt is chosen on squad's train questions."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the passages that every system reads."""

    row: Row
    passages: list[Document]

    def value(self, name: str, said: str) -> dict[str, float]:
        """The measures of an answer."""
        said = own_words(said)
        if name in VERDICTS:
            return {"accuracy": float(bool(label(said, self.row["answers"][0]).correct))}
        refused = {"refused": float(is_refusal(said))}
        if not self.row["answers"]:
            return refused
        return {name: measure(said, self.row["answers"]).value for name, measure in MEASURES.items()} | refused


MEASURES = {"f1": token_f1, "em": exact_match, "holds": holds_answer}


def base_prompts(name: str) -> dict[str, ChatPromptTemplate]:
    """Five ways to ask a model that was not trained for it: the shipped one, without its examples, and three more."""
    kind = 'Begin with "Yes", "No" or "Maybe".' if name in VERDICTS else "Answer in as few words as possible."
    human = "{passages}\n\nQuestion: {question}"
    shot = (
        ("human", "[1] <passage>\nAB-12 means that the battery is low.\n</passage>\n\nQuestion: What does AB-12 mean?"),
        ("ai", "the battery is low"),
    )
    verdict_shot = (
        ("human", "[1] <passage>\nOf 40 adults none had a headache.\n</passage>\n\nQuestion: Were there headaches?"),
        ("ai", "No"),
    )
    shipped = prompts.load("answer")
    return {
        "shipped": shipped,
        "shipped without examples": ChatPromptTemplate([shipped.messages[0], shipped.messages[-1]]),
        "one line": ChatPromptTemplate([("human", human + f"\n{kind}")]),
        "copy": ChatPromptTemplate([("system", f"Copy the words that answer. {kind}"), ("human", human)]),
        "one example": ChatPromptTemplate(
            [("system", kind), *(verdict_shot if name in VERDICTS else shot), ("human", human)]
        ),
    }


def questions(data: Path, indexes: Path, name: str, split: str, most: int) -> list[Asked]:
    """At most so many questions with their passages, always the same ones."""
    if name == "strategyqa":
        path = data / ("strategyqa/dev.jsonl" if split == "test" else "simrag/strategyqa/train.jsonl")
        rows = [_facts(row) for _, row in read_rows(path)]
        return [Asked(row, [Document(fact) for fact in row["facts"]]) for row in _drawn(rows, most)]
    folder = "squad" if name == "unanswerable" else name
    path = data / f"simrag/{folder}/{split}.jsonl"
    rows = [row for _, row in read_rows(path) if bool(row["answers"]) != (name == "unanswerable")]
    with closing(Index.open(indexes / folder)) as index:
        return [
            Asked(row, [passage.to_document() for passage in index.search(row["question"], k=K)])
            for row in _drawn(rows, most)
        ]


def _facts(row: Row) -> Row:
    if "context" in row:
        return row | {"facts": row["context"]}
    return row | {"answers": ["yes" if row["answer"] else "no"]}


def _drawn(rows: Sequence[Row], most: int) -> list[Row]:
    return random.Random(0).sample(list(rows), min(most, len(rows)))  # noqa: S311


def answered(chat: LocalChat, template: ChatPromptTemplate, asked: Sequence[Asked], kept: Path) -> list[str]:
    """What the model says to each, from the file where it is there already."""
    known = {row["id"]: row["said"] for _, row in read_rows(kept)} if kept.exists() and kept.stat().st_size else {}
    left = [one for one in asked if one.row["id"] not in known]
    chats = [_messages(template, one) for one in left]
    with kept.open("ab") as file:

        def keep(number: int, answer: BaseMessage) -> None:
            known[left[number].row["id"]] = answer.text
            file.write(line_of({"id": left[number].row["id"], "said": answer.text}))
            file.flush()

        chat.answer_many(chats, done=keep)
    return [known[one.row["id"]] for one in asked]


def _messages(template: ChatPromptTemplate, one: Asked) -> list[BaseMessage]:
    return template.format_messages(passages=numbered(one.passages), question=one.row["question"])


def measured(name: str, asked: Sequence[Asked], said: Sequence[str]) -> dict[str, list[float]]:
    """Each measure of each answer."""
    values = [one.value(name, text) for one, text in zip(asked, said, strict=True)]
    return {measure: [value[measure] for value in values] for measure in values[0]}


def main() -> None:
    """Choose the base's prompts, answer, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "indexes", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--chat", nargs="+", required=True, help="model references; the first is compared with")
    parser.add_argument("--sets", nargs="+", default=["squad", "unanswerable", "pubmedqa", "covidqa", "strategyqa"])
    parser.add_argument("--limit", type=int, default=120, help="test questions a set")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    first: dict[str, Mapping[str, list[float]]] = {}
    for reference in given.chat:
        chat = load_chat(reference)
        if not isinstance(chat, LocalChat):
            parser.error(f"{reference} is not run here")
        chat = chat.model_copy(update={"max_tokens": MOST_TOKENS})
        about = re.sub(r"\W+", "-", reference)
        for name in given.sets:
            chosen, template = "shipped", prompts.load("answer")
            if ModelReference.parse(reference).part is None:
                chosen, template = _best(chat, name, given, about)
            asked = questions(given.data, given.indexes, name, "test", given.limit)
            said = answered(chat, template, asked, given.out / f"{about}.{name}.jsonl")
            values = measured(name, asked, said)
            line: Row = {"chat": reference, "set": name, "prompt": chosen, "questions": len(asked)}
            for measure, each in values.items():
                line[measure] = _plain(bootstrap(each))
                if name in first:
                    line[f"{measure} gain"] = _plain(paired(first[name][measure], each))
            first.setdefault(name, values)
            print(json.dumps(line), flush=True)


def _best(chat: LocalChat, name: str, given: argparse.Namespace, about: str) -> tuple[str, ChatPromptTemplate]:
    """The prompt that does best on train questions."""
    source = "squad" if name in LIKE_SQUAD else name
    asked = questions(given.data, given.indexes, source, "train", TO_CHOOSE)
    found = {}
    for number, (called, template) in enumerate(base_prompts(source).items()):
        said = answered(chat, template, asked, given.out / f"{about}.{source}.train.{number}.jsonl")
        values = next(iter(measured(source, asked, said).values()))
        found[called] = sum(values) / len(values)
        print(f"{source}, {called}: {found[called]:.3f}", file=sys.stderr, flush=True)
    best = max(found, key=found.__getitem__)
    return best, base_prompts(name)[best]


def _plain(found: Interval) -> list[float]:
    return [round(value, 4) for value in (found.value, found.low, found.high)]


if __name__ == "__main__":
    main()
