"""What a traced run of question answering tells: answer, candidates, subquestions, passages with their evidence.

Everything is read out of what the run wrote; a trace file may hold anything, so nothing is taken to be there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document

from artrag.evidence import coverage, term_weights
from artrag.passages import cite
from artrag.text import sentences
from artrag.tracing.spans import LONGEST_TEXT, Span

SHORTEST_GAIN = 0.1
"""By how much a further sentence must raise the coverage of a claim to count as its evidence."""
MOST_SENTENCES = 3
_CLAIMS, _SEARCHED, _PASSAGES, _ANSWERS, _ASKED = 8, 300, 60, 24, 60


@dataclass(frozen=True, slots=True)
class Mark:
    """Characters of a passage that bear out a sentence of the answer; `share` of its words stand there, 0 to 1."""

    start: int
    end: int
    claim: str
    share: float


@dataclass(frozen=True, slots=True)
class SeenPassage:
    """A passage that the answer was made from; `n` counts from 1, `scores` are (name, value), best known first."""

    n: int
    text: str
    context: str
    source: str
    scores: tuple[tuple[str, str], ...]
    cited: bool
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """A candidate: which stage wrote it, what it says, the Truster's score where it was judged."""

    stage: str
    text: str
    score: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A subquestion; `found` is what a tool answered."""

    text: str
    answered: bool
    found: str


@dataclass(frozen=True, slots=True)
class Story:
    """A run in the order in which somebody asks about it."""

    question: str
    answer: str
    abstained: bool
    confidence: float | None
    decision: str
    stopped: str
    doubt: float | None
    reason: str
    refined: bool
    answers: tuple[SeenAnswer, ...]
    asked: tuple[Asked, ...]
    passages: tuple[SeenPassage, ...]


def story(span: Span) -> Story | None:
    """What `span` tells, if it is a run that answered a question."""
    ended = span.outputs
    candidates = [one for one in _records(ended.get("candidates")) if _text(one.get("text"))][:_ANSWERS]
    question = _text(ended.get("question")) or _text(span.inputs.get("question"))
    if not question or not (candidates or _text(ended.get("answer"))):
        return None
    judged = bool(_text(ended.get("stop_reason")))
    asked = [one for one in _records(ended.get("subquestions")) if _text(one.get("text"))][:_ASKED]
    return Story(
        question=question,
        answer=_text(ended.get("answer")) or _text(ended.get("draft")),
        abstained=ended.get("abstained") is True,
        confidence=_number(ended.get("confidence")) if judged else None,
        decision=_text(ended.get("decision")),
        stopped=_text(ended.get("stop_reason")),
        doubt=_number(ended.get("refine_probability")) if _text(ended.get("refine_reason")) else None,
        reason=_text(ended.get("refine_reason")),
        refined=bool(ended.get("rounds")),
        answers=_answers(candidates, _text(ended.get("draft"))),
        asked=tuple(Asked(_text(a["text"]), bool(a.get("answered")), _text(a.get("found"))) for a in asked),
        passages=_passages(
            _records(ended.get("passages")), _records(ended.get("citations")), _text(ended.get("draft"))
        ),
    )


def _answers(candidates: Sequence[Mapping[str, Any]], chosen: str) -> tuple[SeenAnswer, ...]:
    texts = [_text(one["text"]) for one in candidates]
    at = texts.index(chosen) if chosen in texts else -1
    return tuple(
        SeenAnswer(_text(one.get("stage")), text, _number(one.get("score")), n == at)
        for n, (one, text) in enumerate(zip(candidates, texts, strict=True))
    )


def _passages(
    found: Sequence[Mapping[str, Any]], cited: Sequence[Mapping[str, Any]], draft: str
) -> tuple[SeenPassage, ...]:
    """The passages; where the run gave no citations (it abstained), what its best answer cites."""
    read = [Document(_text(one.get("text")), metadata=_about(one)) for one in found[:_PASSAGES]]
    weights = term_weights(read)
    claims: dict[int, list[str]] = {}
    for one in cited or cite(draft, read)[1]:
        if isinstance(n := one.get("n"), int) and _text(one.get("sentence")):
            claims.setdefault(n, []).append(_text(one["sentence"]))
    return tuple(
        SeenPassage(
            n=n,
            text=passage.page_content,
            context=passage.metadata["context"],
            source=_source(_mapping(one.get("metadata"))),
            scores=_scores(_mapping(one.get("metadata"))),
            cited=n in claims,
            marks=evidence(passage.page_content, claims.get(n, []), weights),
        )
        for n, (one, passage) in enumerate(zip(found, read, strict=False), start=1)
    )


def evidence(text: str, claims: Sequence[str], weights: Mapping[str, float]) -> tuple[Mark, ...]:
    """The sentences of a passage that bear out the claims, in the order of the text, none twice.

    For each claim it is the sentence that covers it best, and up to two more that add at least a tenth of it.
    """
    places: list[tuple[int, int]] = []
    last = 0
    for sentence in sentences(text)[:_SEARCHED]:
        start = text.index(sentence, last)
        last = start + len(sentence)
        places.append((start, last))
    marks: dict[int, Mark] = {}
    for claim in list(dict.fromkeys(claims))[:_CLAIMS]:
        shares = [coverage(claim, text[start:end], weights) for start, end in places]
        taken: list[int] = []
        reached = 0.0
        for at in sorted(range(len(places)), key=lambda n: -shares[n])[: 3 * MOST_SENTENCES]:
            together = " ".join(text[slice(*places[n])] for n in sorted([*taken, at]))
            share = coverage(claim, together, weights)
            if len(taken) < MOST_SENTENCES and share >= reached + (SHORTEST_GAIN if taken else 1e-9):
                taken.append(at)
                reached = share
        for at in taken:
            if at not in marks or marks[at].share < reached:
                marks[at] = Mark(*places[at], claim, reached)
    return tuple(marks[at] for at in sorted(marks))


def _about(passage: Mapping[str, Any]) -> dict[str, Any]:
    return {"context": _text(_mapping(passage.get("metadata")).get("context"))}


def _source(about: Mapping[str, Any]) -> str:
    name = next((str(about[key]) for key in ("document", "source", "title", "id") if about.get(key)), "passage")
    page = f", page {about['page']}" if about.get("page") else ""
    start, end = about.get("start"), about.get("end")
    span = f", characters {start} to {end}" if isinstance(start, int) and isinstance(end, int) else ""
    return f"{name}{page}{span}"


def _scores(about: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    if (score := _number(about.get("score"))) is not None:
        found.append(("score", f"{score:.3f}"))
    for arm, seen in _mapping(about.get("arms")).items():
        rank, value = _number(_mapping(seen).get("rank")), _number(_mapping(seen).get("score"))
        if rank is not None and value is not None:
            found.append((str(arm), f"{value:.2f} (#{rank:.0f})"))
    return tuple(found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return value if len(value) <= LONGEST_TEXT + 40 else f"{value[:LONGEST_TEXT]} ... ({len(value)} characters)"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _records(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
