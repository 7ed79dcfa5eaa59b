"""Public sets as examples for an answerer: each layout is known by its fields, and questions get distractors."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from artrag.errors import PredictionsError, TrainingDataError
from artrag.evaluation.questions import VERDICTS
from artrag.evaluation.rows import read_rows
from artrag.index.bm25 import BM25
from artrag.index.tokens import tokenize
from artrag.training.answerer_data import Example, example
from artrag.training.rounds import example_of, pair_of

NEAR = 8
"""Distractors are drawn from so many passages that BM25 finds nearest to the question."""

Row = Mapping[str, Any]
Layout = tuple[str, Callable[[Row], bool], Callable[[Row], Iterator[Example]]]


def load_examples(*paths: Path) -> tuple[list[Example], Counter[str]]:
    """The examples of files in the documented form or of a public set, and how many rows each layout had.

    `.json` files may be SQuAD's or DROP's own. OpenAssistant's messages count by conversation.

    Raises:
        TrainingDataError: a row is of no known layout; the message lists them.
        PredictionsError: a file cannot be read.
    """
    made: list[Example] = []
    counts: Counter[str] = Counter()
    for path in paths:
        messages: list[Row] = []
        for number, row in _rows(path):
            if {"message_id", "parent_id", "role", "text"} <= row.keys():
                messages.append(row)
                counts["openassistant"] += 1
                continue
            try:
                name, found = converted(row)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise TrainingDataError(f"line {number} of {str(path)!r} is no example: {error}") from None
            counts[name] += 1
            made += found
        made += _conversations(messages)
    return made, counts


def converted(row: Row) -> tuple[str, list[Example]]:
    """The layout of a row, and its examples; none where it has no answer of use.

    Raises:
        ValueError: it is of no known layout.
    """
    for name, is_one, make in _LAYOUTS:
        if is_one(row):
            return name, list(make(row))
    raise ValueError(
        f"fields {sorted(row)!r} are of no known layout ({', '.join(name for name, _, _ in _LAYOUTS)}, openassistant)"
    )


def with_distractors(
    examples: Sequence[Example], most: int, *, among: Iterable[tuple[str, str]] = (), seed: int = 0
) -> list[Example]:
    """Questions about one passage, with up to `most` others beside it, at any place among them.

    How many is drawn for each passage: all questions about it see the same ones, and can be read together. The others
    are near it by BM25, and hold none of the answers, nor what a verdict rests on.

    Args:
        examples: of any task; only answers from one passage are changed.
        most: others at most.
        among: further passages to take others from, (text, context); those of the examples serve, too.
        seed: of the draws.
    """
    draw = random.Random(seed)  # noqa: S311
    alone = [one for one in examples if one.task == "answer" and len(one.passages) == 1]
    about: dict[tuple[str, str], list[Example]] = {}
    for one in alone:
        about.setdefault(one.passages[0], []).append(one)
    known = list(dict.fromkeys([*about, *(among if about else ())]))
    found = BM25.build(tokenize(text) for text, _ in known) if known else None
    shown: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
    for passage, asked in about.items():
        assert found is not None
        words = tokenize(" ".join(one.question for one in asked))
        others = [known[row] for row, _ in found.top(words, NEAR + 1) if known[row] != passage]
        told = {(one.span or dict(one.options).get(one.answers[0], one.answers[0])).strip() for one in asked}
        told = {text for text in told if text and text.lower() not in VERDICTS}
        answers = [re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE) for text in told]
        others = [other for other in others if not any(answer.search(other[0]) for answer in answers)]
        together = [passage, *draw.sample(others, min(len(others), draw.randint(0, most)))]
        draw.shuffle(together)
        shown[passage] = tuple(together)
    return [
        replace(one, passages=shown[one.passages[0]], cites=_moved(one, shown[one.passages[0]]))
        if one.task == "answer" and len(one.passages) == 1
        else one
        for one in examples
    ]


def _moved(one: Example, together: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    return tuple(together.index(one.passages[0]) + 1 for _ in one.cites)


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Lines of JSON; of a `.json` file the questions of SQuAD's or DROP's own layout."""
    if path.suffix != ".json":
        yield from read_rows(path)
        return
    try:
        whole = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PredictionsError(f"{str(path)!r} cannot be read: {error}") from None
    if isinstance(whole, list):
        yield from enumerate(whole, start=1)
    elif "data" in whole:
        paragraphs = ((one["title"], each) for one in whole["data"] for each in one["paragraphs"])
        for title, paragraph in paragraphs:
            for number, asked in enumerate(paragraph["qas"], start=1):
                yield number, {**asked, "context": paragraph["context"], "title": title}
    else:
        for one in whole.values():
            for number, asked in enumerate(one.get("qa_pairs", []), start=1):
                yield number, {**asked, "passage": one["passage"]}


def _about(question: str, answers: Sequence[str], passage: str, title: str = "") -> Iterator[Example]:
    """A question about a passage; the shortest wording of its answer."""
    told = min((str(answer) for answer in answers), key=len, default="")
    context = title.replace("_", " ")
    yield Example("answer", question.strip(), (told.strip(),), ((passage, context),), (1,) if told.strip() else ())


def _squad(row: Row) -> Iterator[Example]:
    given = row["answers"]
    texts = given["text"] if isinstance(given, Mapping) else [a["text"] if isinstance(a, Mapping) else a for a in given]
    yield from _about(row["question"], texts, row["context"], str(row.get("title", "")))


def _drop(row: Row) -> Iterator[Example]:
    if "answers_spans" in row:
        spans = row["answers_spans"]["spans"]
    else:
        given = row["answer"]
        date = " ".join(str(given.get("date", {}).get(part, "")) for part in ("day", "month", "year")).strip()
        spans = [given.get("number") or ", ".join(given.get("spans", [])) or date]
    if spans and spans[0]:
        yield from _about(row["question"], spans[:1], row["passage"])


def _boolq(row: Row) -> Iterator[Example]:
    question = row["question"].strip().rstrip("?").capitalize() + "?"
    yield from _about(question, ["Yes" if row["answer"] else "No"], row["passage"], str(row.get("title", "")))


def _nq(row: Row) -> Iterator[Example]:
    answers = row.get("answers") or [row["answer"]]
    yield from _about(row["question"], answers, row.get("context") or row["passage"], str(row.get("title", "")))


def _sciq(row: Row) -> Iterator[Example]:
    texts = [row["correct_answer"], *(row[f"distractor{n}"] for n in (1, 2, 3))]
    yield from _choice(row["question"], sorted(texts), row["correct_answer"], row.get("support", ""))


def _arc(row: Row) -> Iterator[Example]:
    asked = row["question"]
    choices = row["choices"] if isinstance(row.get("choices"), Mapping) else asked["choices"]
    if isinstance(choices, Mapping):
        by_key = dict(zip(choices["label"], choices["text"], strict=True))
    else:
        by_key = {one["label"]: one["text"] for one in choices}
    question = asked if isinstance(asked, str) else asked["stem"]
    yield from _choice(question, list(by_key.values()), by_key[row["answerKey"]])


def _options(row: Row) -> Iterator[Example]:
    """MedQA's options by key, or MMLU's list with the number of the right one."""
    if isinstance(row.get("options"), Mapping):
        key = row.get("answer_idx") or row["answer"]  # some exports give the words alone
        right = row["options"][key] if key in row["options"] else row["answer"]
        texts = list(row["options"].values())
    else:
        texts, right = list(row["choices"]), row["choices"][row["answer"]]
    yield from _choice(row["question"], texts, right, str(row.get("context", "")))


def _choice(question: str, texts: Sequence[str], right: str, passage: str = "") -> Iterator[Example]:
    """A multiple-choice question, its options lettered; about a passage where there is one."""
    options = tuple((chr(ord("A") + n), str(text)) for n, text in enumerate(texts))
    key = next(key for key, text in options if text == right)
    if passage.strip():
        yield Example("answer", question.strip(), (key,), ((passage, ""),), (1,), options)
    else:
        asked = "\n".join([question.strip(), *(f"{key}. {text}" for key, text in options)])
        yield Example("instruct", asked, (f"{key}. {right}",))


def _dolly(row: Row) -> Iterator[Example]:
    if row["context"].strip():
        yield Example("answer", row["instruction"].strip(), (row["response"].strip(),), ((row["context"], ""),), (1,))
    elif row["response"].strip():
        yield Example("instruct", row["instruction"].strip(), (row["response"].strip(),))


def _soda(row: Row) -> Iterator[Example]:
    *before, last = row["dialogue"]
    if before:
        yield Example("instruct", "\n".join([row["narrative"], *before]), (last,))


def _seed(row: Row) -> Iterator[Example]:
    for one in row["instances"]:
        asked = "\n\n".join(part for part in (row["instruction"], one.get("input", "")) if part.strip())
        if one["output"].strip():
            yield Example("instruct", asked, (one["output"].strip(),))


def _conversations(messages: Iterable[Row]) -> Iterator[Example]:
    """OpenAssistant: each first question in English with its best reply."""
    rows = [row for row in messages if row.get("lang", "en") == "en" and not row.get("deleted")]
    first = {row["message_id"]: row["text"] for row in rows if row["parent_id"] is None and row["role"] == "prompter"}
    best: dict[str, Row] = {}
    for row in rows:
        asked = row["parent_id"]
        if asked in first and row["role"] == "assistant":
            known = best.setdefault(asked, row)
            if _rank(row) < _rank(known):
                best[asked] = row
    for asked, row in best.items():
        yield Example("instruct", first[asked].strip(), (row["text"].strip(),))


def _rank(row: Row) -> float:
    rank = row.get("rank")
    return float("inf") if rank is None else float(rank)


def _has(*fields: str) -> Callable[[Row], bool]:
    return lambda row: all(field in row for field in fields)


_LAYOUTS: tuple[Layout, ...] = (
    ("artrag", _has("task"), lambda row: iter([example(row)])),
    ("simrag", _has("kind", "question", "span", "passage", "text"), lambda row: iter([example_of(pair_of(row))])),
    ("squad", _has("question", "context", "answers"), _squad),
    (
        "drop",
        lambda row: "passage" in row and ("answers_spans" in row or isinstance(row.get("answer"), Mapping)),
        _drop,
    ),
    ("boolq", lambda row: "passage" in row and isinstance(row.get("answer"), bool), _boolq),
    ("sciq", _has("question", "correct_answer", "distractor1", "distractor2", "distractor3"), _sciq),
    ("arc", _has("question", "answerKey"), _arc),
    ("medqa", lambda row: "question" in row and isinstance(row.get("options"), Mapping), _options),
    ("mmlu", lambda row: "choices" in row and isinstance(row.get("answer"), int), _options),
    ("dolly", _has("instruction", "context", "response"), _dolly),
    ("self-instruct", _has("instruction", "instances"), _seed),
    ("soda", _has("dialogue", "narrative"), _soda),
    ("nq", lambda row: "question" in row and bool({"context", "passage"} & row.keys()), _nq),
)
