"""Metrics of answers and passages; each is a value with its reason."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from langchain_core.documents import Document

from artrag.evidence import is_refusal, without_marks
from artrag.text import numbers

_ARTICLES = {"a", "an", "the"}
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[A-Za-z\u00c0-\u024f]+|[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Score:
    """A value between 0 and 1, and why."""

    value: float
    reason: str


def normal_tokens(text: str) -> list[str]:
    """Lower-case tokens without articles and punctuation (SQuAD's normalisation); numbers stay whole."""
    return list(_tokens(text))


@lru_cache(maxsize=512)  # an answer is compared by several measures, a passage with several answers
def _tokens(text: str) -> tuple[str, ...]:
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", without_marks(text).lower())
    return tuple(token for token in _TOKEN.findall(text) if token not in _ARTICLES)


def exact_match(answer: str, references: Sequence[str]) -> Score:
    """1 where the answer is one of the references after normalisation."""
    said = normal_tokens(answer)
    for reference in references:
        if said == normal_tokens(reference):
            return Score(1.0, f"equals {reference!r}")
    return Score(0.0, f"equals none of {list(references)!r}")


def token_f1(answer: str, references: Sequence[str]) -> Score:
    """The best token F1 over the references."""
    best = Score(0.0, "shares no token with a reference")
    said = Counter(normal_tokens(answer))
    for reference in references:
        wanted = Counter(normal_tokens(reference))
        common = sum((said & wanted).values())
        if common:
            value = 2 * common / (said.total() + wanted.total())
            best = max(best, Score(value, f"{common} tokens shared with {reference!r}"), key=lambda score: score.value)
    return best


def holds_answer(answer: str, references: Sequence[str]) -> Score:
    """1 where the answer gives a reference among its words; for an unanswerable question, where it refuses.

    References count by whole tokens in a row ("8" is not in "18"); "yes" and "no" must come first.
    """
    if not references:
        refused = is_refusal(answer) or not answer.strip()
        return Score(float(refused), "rightly gives no answer" if refused else "answers what cannot be answered")
    if is_refusal(answer):
        return Score(0.0, "gives no answer")
    return holds_wording(answer, references)


def holds_wording(text: str, references: Sequence[str]) -> Score:
    """1 where a reference stands among the words of a text, such as a passage; as `holds_answer` counts it."""
    said = _spaced(text)
    for reference in references:
        wanted = _spaced(reference)
        if wanted in (" yes ", " no "):
            if said.startswith(wanted):
                return Score(1.0, f"says {reference!r}")
        elif wanted.strip() and wanted in said:
            return Score(1.0, f"gives {reference!r}")
        elif wanted.count(" ") == 2 and numbers(reference) and numbers(reference)[0] in numbers(text):
            return Score(1.0, f"gives the number {reference!r}")
    return Score(0.0, f"gives none of {list(references)!r}")


def _spaced(text: str) -> str:
    """The tokens of a text with a space around each."""
    return f" {' '.join(_tokens(text))} "


def evidence_recall(passages: Sequence[Document], evidence: Sequence[str]) -> Score:
    """The share of evidence quotations that stand in the passages' own text, white space aside."""
    if not evidence:
        return Score(1.0, "nothing to find")
    read = [" ".join(passage.page_content.split()) for passage in passages]
    missing = [quote for quote in evidence if not any(" ".join(quote.split()) in text for text in read)]
    found = 1 - len(missing) / len(evidence)
    return Score(found, f"missing {missing[0]!r}" if missing else "all evidence is there")
