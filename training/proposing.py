"""What a model is asked to ask about a passage, and the pairs made of its replies (SimRAG, Section 3.3)."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from langchain_core.messages import BaseMessage

from artrag import prompts
from artrag.index.catalog import StoredChunk
from artrag.passages import data
from artrag.training.candidates import Span, apart, named_by_model, spans
from artrag.training.claims import statement
from artrag.training.clauses import clauses
from artrag.training.distractors import distractors
from artrag.training.fitting import askable, saying
from artrag.training.keeping import CLAIM_START, Pair, PairKind

SHORTEST_CHUNK = 200
"""Characters; shorter chunks answer little."""
A_PASSAGE = 5
"""Candidates of a passage that are asked for."""
OPTIONS = 4
FEWEST = 2
"""So many are asked for even where the passage has nothing with a name or a number of its own."""
KINDS: Mapping[str, float] = {"short": 0.4, "long": 0.2, "choice": 0.24, "claim": 0.16}
"""How often each kind is asked. Short spans matter most (SimRAG, Table 4)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span of a passage, and how it is to be asked for."""

    chunk: StoredChunk
    span: Span
    kind: PairKind


def extraction(chunk: StoredChunk) -> list[BaseMessage]:
    """The prompt that asks for a passage's candidate answers."""
    return prompts.load("candidates").format_messages(context=data(chunk.context), passage=data(chunk.text))


def posing(candidate: Candidate) -> list[BaseMessage]:
    """The prompt that asks for a question to a candidate."""
    context, passage, answer = map(data, (candidate.chunk.context, candidate.chunk.text, candidate.span.text))
    return prompts.load("pose").format_messages(context=context, passage=passage, answer=answer)


def posing_again(one: Pair) -> list[BaseMessage]:
    """The prompt that asks for a pair's answer once more, of its own sentence alone."""
    told = data(saying(one.plain, one.span, one.text) or one.text)
    return prompts.load("pose").format_messages(context="", passage=told, answer=data(one.span))


def candidates(
    chunk: StoredChunk, reply: str, *, kinds: Mapping[str, float] = KINDS, seed: int = 0, most: int = A_PASSAGE
) -> list[Candidate]:
    """The spans of a passage that are asked for: those the model named, then those found by rule, no two overlapping.

    What stands in no sentence that a question could single it out of is not asked for (`fitting.askable`).

    Clauses, which are asked for in the kind "long", are apart from these and found by rule alone.

    Args:
        chunk: the passage.
        reply: what the model says to `extraction`; empty where it was not asked.
        kinds: how often each kind is asked.
        seed: of the draws.
        most: candidates at most.
    """
    draw = random.Random(f"{seed} {chunk.id}")  # noqa: S311
    share = kinds.get("long", 0.0) / sum(kinds.values())
    long = [span for span in clauses(chunk.text) if askable(span.text, chunk.text)] if share else []
    dice = random.Random(f"{seed} {chunk.id} long")  # noqa: S311
    long = dice.sample(long, len(long))[: int(share * most + dice.random())]
    kinds = {kind: weight for kind, weight in kinds.items() if kind != "long"}
    most = most - len(long) if any(kinds.values()) else 0
    named, ruled = (
        [span for span in found if askable(span.text, chunk.text)]
        for found in (named_by_model(reply, chunk.text), spans(chunk.text))
    )
    if not kinds.get("short"):  # of a phrase nothing wrong is surely like it
        named, ruled = ([span for span in found if span.kind != "phrase"] for found in (named, ruled))
    draw.shuffle(named)
    draw.shuffle(ruled)
    taken: list[Span] = []
    for span in (*named, *(span for span in ruled if span.kind != "phrase")):
        if len(taken) < most and apart(span, taken):
            taken.append(span)
    for span in ruled:  # what is left are phrases, mostly odd things to ask for
        if len(taken) < min(most, FEWEST) and apart(span, taken):
            taken.append(span)
    drawn = draw.choices(list(kinds), list(kinds.values()), k=len(taken)) if taken else []
    asked = [Candidate(chunk, span, _kind(span, kind)) for span, kind in zip(taken, drawn, strict=True)]
    return asked + [Candidate(chunk, span, "long") for span in long]


def _kind(span: Span, drawn: str) -> PairKind:
    """As drawn; but a phrase has no wrong options."""
    return "short" if span.kind == "phrase" else cast(PairKind, drawn)


def pair(candidate: Candidate, reply: str, others: Iterable[Span], *, seed: int = 0, else_short: bool = True) -> Pair:
    """The pair made of the model's question; a claim is the statement that answers it, rightly or wrongly.

    Args:
        candidate: what is asked for.
        reply: what the model says to `posing`.
        others: spans of other passages: wrong options are taken from them.
        seed: of the draws.
        else_short: what no claim can be made of asks for the words; if not, its question is empty.
    """
    chunk, span = candidate.chunk, candidate.span
    draw = random.Random(f"{seed} {chunk.id} {span.text}")  # noqa: S311
    question = " ".join(reply.strip().strip('"').split()).removeprefix("Question: ")
    short = Pair("short", question, span.text, span.text, chunk.id, chunk.text, chunk.context)
    if candidate.kind in ("short", "long"):
        return replace(short, kind=candidate.kind)
    wrong = distractors(span.text, others, chunk.text, OPTIONS - 1)
    if candidate.kind == "choice":
        texts = [span.text, *wrong]
        draw.shuffle(texts)
        options = tuple((chr(ord("A") + n), text) for n, text in enumerate(texts))
        right = next(key for key, text in options if text == span.text)
        return replace(short, kind="choice", answer=right, options=options)
    holds = draw.random() < 0.5
    told = statement(question, span.text if holds else wrong[0]) if wrong else ""
    if not told:
        return short if else_short else replace(short, question="")
    answer = "Yes" if holds else "No"
    return replace(short, kind="claim", question=f"{CLAIM_START}{told}?", answer=answer, asks=question)


def long_enough(chunk: StoredChunk) -> bool:
    """May a passage be asked about?"""
    return len(chunk.text.strip()) >= SHORTEST_CHUNK


def sample(chunks: Sequence[StoredChunk], count: int, *, seed: int = 0) -> list[StoredChunk]:
    """Chunks drawn at random, one of every document before a second of any."""
    draw = random.Random(seed)  # noqa: S311
    of_document: dict[str, list[StoredChunk]] = {}
    for chunk in chunks:
        if long_enough(chunk):
            of_document.setdefault(chunk.document, []).append(chunk)
    for own in of_document.values():
        draw.shuffle(own)
    turns = [(turn, draw.random(), chunk) for own in of_document.values() for turn, chunk in enumerate(own)]
    return [chunk for _, _, chunk in sorted(turns, key=lambda item: item[:2])[:count]]
