"""Candidate answers: the spans of a passage that a question could ask for, found by rule and by a model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from artrag.text import STOP_WORDS

SpanKind = Literal["number", "name", "term", "phrase", "clause"]
SHORTEST, LONGEST = 2, 80
"""Characters of a candidate."""
MOST_WORDS = 8

_NUMBER = re.compile(
    r"(?<![\w.,–−-])(?:[$€£] ?)?\d[\d,]*(?:\.\d+)?(?![\w–−-])(?! ?[–−-] ?\d)"
    r"(?: ?(?:%|per ?cent|[cmkµnμ]?[glm]\b|[a-zµ]{1,3}/[a-z]{1,3}\b))?"
    r"(?: (?:million|billion|years?|months?|weeks?|days?|hours?|minutes?|patients?|people|times)\b)?"
)
_NAME = re.compile(r"\b[A-Z][\w'’-]*(?: (?:of|the|and|de|von) [A-Z][\w'’-]*| [A-Z][\w'’-]*)+")
_TERM = re.compile(r"\b(?:[A-Z]{2,}[\w-]*|(?=[\w-]*[A-Za-z])\w+-[A-Z0-9]\w*|[a-z]+[A-Z]\w*)\b")
CITATION = re.compile(r"\[[\d,;\s–-]+\]|\((?:[\d,;\s–-]+|[^()]*\b(?:19|20)\d\d[a-z]?)\)|\bet al\b\.?")
_P_VALUE = re.compile(r"p ?[=<>≤]", re.IGNORECASE)
_WORD = re.compile(r"(?<!\w)[A-Za-zÀ-ɏ][\w'’-]*")


_OPENERS = STOP_WORDS | frozenset("since although though however thus therefore moreover despite among within".split())


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate answer as it stands in its passage, `passage[start:start + len(text)]`."""

    text: str
    start: int
    kind: SpanKind


def spans(passage: str) -> list[Span]:
    """The candidates of a passage, in their order; where two overlap, the one found by the stricter rule stays.

    Numbers with their units, names of several words, abbreviations and code names, and runs of two to four words
    between function words.
    """
    passage = CITATION.sub(lambda found: " " * len(found[0]), passage)  # nobody asks for those
    found = [
        *_matches(_NUMBER, passage, "number"),
        *filter(None, (_without_opener(span) for span in _matches(_NAME, passage, "name"))),
        *_matches(_TERM, passage, "term"),
        *_phrases(passage),
    ]
    taken: list[Span] = []
    for span in found:
        if usable(span.text) and apart(span, taken):
            taken.append(span)
    distinct = {span.text.lower(): span for span in sorted(taken, key=lambda span: -span.start)}
    return sorted(distinct.values(), key=lambda span: span.start)


def apart(span: Span, others: Iterable[Span]) -> bool:
    """Does a span overlap none of the others?"""
    end = span.start + len(span.text)
    return all(end <= other.start or span.start >= other.start + len(other.text) for other in others)


def named_by_model(reply: str, passage: str) -> list[Span]:
    """The lines of a model's reply that stand in the passage word for word."""
    found: dict[str, Span] = {}
    for line in reply.splitlines():
        text = re.sub(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+", "", line).strip().strip("\"'.;,")
        if "et al" in text:
            continue
        at = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", passage) if usable(text) else None
        if at and not _P_VALUE.match(text):
            whole = _with_unit(text, passage, at.start())
            found.setdefault(whole.lower(), Span(whole, at.start(), kind_of(whole)))
    return list(found.values())


def _with_unit(text: str, passage: str, start: int) -> str:
    """A number with the unit that a model left out."""
    found = _NUMBER.match(passage, start)
    return found[0] if found and is_number(text) and found[0].startswith(text) else text


def usable(text: str) -> bool:
    """May this be asked for? Neither too short nor too long, and not of function words alone."""
    words = text.split()
    return (
        SHORTEST <= len(text) <= LONGEST
        and len(words) <= MOST_WORDS
        and any(word.lower() not in STOP_WORDS for word in words)
    )


def kind_of(text: str) -> SpanKind:
    """What sort of thing a span names."""
    if is_number(text):
        return "number"
    if _NAME.fullmatch(text):
        return "name"
    return "term" if _TERM.fullmatch(text) else "phrase"


def numbers_of(text: str) -> list[str]:
    """The numbers of a text with their units, ranges and parts of words left out."""
    return [span.text for span in _matches(_NUMBER, text, "number")]


def is_number(text: str) -> bool:
    """Does a span begin with a number?"""
    return bool(_NUMBER.match(text))


def _matches(pattern: re.Pattern[str], passage: str, kind: SpanKind) -> list[Span]:
    return [Span(found[0].rstrip(".,"), found.start(), kind) for found in pattern.finditer(passage)]


def _without_opener(span: Span) -> Span | None:
    """A name without the function word that a sentence begins with ("Since Germany"); None where one word is left."""
    first, _, rest = span.text.partition(" ")
    if first.lower() not in _OPENERS:
        return span
    return Span(rest, span.start + len(first) + 1, span.kind) if " " in rest else None


def _phrases(passage: str) -> list[Span]:
    """Runs of two to four content words with nothing but spaces between them."""
    found: list[Span] = []
    run: list[re.Match[str]] = []

    def close() -> None:
        if 2 <= len(run) <= 4:
            found.append(Span(passage[run[0].start() : run[-1].end()], run[0].start(), "phrase"))
        run.clear()

    for word in _WORD.finditer(passage):
        if run and passage[run[-1].end() : word.start()] != " ":
            close()
        if word[0].lower() in STOP_WORDS:
            close()
        else:
            run.append(word)
    close()
    return found
