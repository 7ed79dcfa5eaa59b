"""Which of the questions that a model asked itself are kept: checks by rule, and what the round trip must bring back.

A kept pair of SimRAG (Xu et al., arXiv 2410.17952, Section 3.3) brings its answer back: retrieval by the question
alone finds a passage that holds it, and the model itself answers from there. Every rejection has one of `REASONS`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from artrag.evaluation.metrics import normal_tokens, token_f1
from artrag.evaluation.predictions import normal_question
from artrag.evidence import is_refusal, without_marks
from artrag.text import terms
from artrag.training.fitting import nearness, saying, told_already

PairKind = Literal["short", "long", "choice", "claim"]
Reason = Literal[
    "not one question",
    "needs its text",
    "the answer is in the question",
    "not an answer in its passage",
    "the passage says something else",
    "too few wrong options",
    "a duplicate",
    "retrieval does not bring it back",
    "it is not sure enough",
    "the model does not answer it",
]
REASONS: tuple[Reason, ...] = Reason.__args__  # type: ignore[attr-defined]
CLAIM_START = "Is it true that "
SHORTEST, LONGEST = 12, 250
"""Characters of a question."""
SAME = 0.7
"""Token F1 from which on two answers say the same."""
MUCH = 0.5
"""Of a long answer, which a model says in fewer words: token F1, of which all but `1 - SAME` must be its words."""
SURE = 0.82
"""The least `sureness` of a kept pair.

Of 374 labelled pairs that pass the rules (`benchmarks/labels`) 80% are right, of the 199 that pass this, too, 90%
(cross-validated).
"""
_SURE = (5.33, 1.37, -0.72, 0.82)
"""Logistic weights, fitted to these pairs: constant, log likelihood, log of the sentence's characters, nearness.

The likelihoods are those of the shipped answerer; another teacher's are taken as they are.
"""
REPEATED = 0.8
"""Share of terms that two questions about one answer may have in common."""

_POINTS = re.compile(
    r"\b(?:this|these|that|those|the (?:present|current|above|following|given|same|first|second)?\s?)\s?"
    r"(?:stud(?:y|ies)|papers?|articles?|authors?|trials?|passages?|texts?|surveys?|reviews?|figures?|tables?|cohorts?|"
    r"experiments?|works?|sections?|cases?|documents?|data ?sets?|samples?|sentences?|paragraphs?|chapters?|findings?|"
    r"results?|patients?|participants?|groups?|women|men|children|subjects?)\b(?!\s(?:of|with|who|in|from|at|on)\b)",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"\b(?:participants?|researchers?|investigators?|authors?|abstract|primary (?:endpoint|outcome))\b"
    r"(?!\s(?:of|with|who|in|from|at|on)\b)",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:he|she|they|we|you|our|my|his|her|their|them|him|this|these|those|ones|such)\b", re.IGNORECASE
)
_NEGATION = re.compile(r"\b(?:not|no|never|none|without|neither|nor|\w+n['’]t)\b", re.IGNORECASE)
_FIGURE = re.compile(r"[-−–]?\d[\d.,]*")
_EARLY_IT = re.compile(r"^(?:\W*\w+){0,4}?\W*\bits?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question that a model asked itself.

    Attributes:
        kind: how it is asked: for a few words, for a clause, for one of several options, or whether a claim holds.
        question: the question.
        answer: the right answer: words of the passage, an option's key, or "Yes" or "No".
        span: the words of the passage that it rests on.
        passage: id of the passage.
        text: the passage.
        context: what situates it.
        options: of "choice", key -> words.
        asks: the question that a claim answers; else empty.
    """

    kind: PairKind
    question: str
    answer: str
    span: str
    passage: str
    text: str
    context: str = ""
    options: tuple[tuple[str, str], ...] = ()
    asks: str = ""

    @property
    def plain(self) -> str:
        """The question that asks for words."""
        return self.asks or self.question


def fault(pair: Pair) -> Reason | None:
    """Why a pair is unusable by itself; None where it is fine."""
    asked = " ".join(pair.plain.split())
    if not SHORTEST <= len(asked) <= LONGEST or not asked.endswith(("?", "？")) or asked.count("?") > 1:
        return "not one question"
    if _POINTS.search(asked) or _BARE.search(asked) or _PRONOUN.search(asked) or _EARLY_IT.search(asked):
        return "needs its text"
    if pair.span not in pair.text or not normal_tokens(pair.span):
        return "not an answer in its passage"
    if told_already(asked, pair.span, pair.text):
        return "the answer is in the question"
    if not saying(asked, pair.span, pair.text):
        return "the passage says something else"
    if pair.kind == "choice" and len(pair.options) < 3:
        return "too few wrong options"
    return None


class Seen:
    """The questions kept so far."""

    def __init__(self) -> None:
        self._questions: set[str] = set()
        self._by_answer: dict[str, list[frozenset[str]]] = {}

    def again(self, pair: Pair) -> bool:
        """Was it asked before, in these words or about the same answer in nearly these? If not, it is from now on."""
        key = f"{pair.kind} {normal_question(pair.question)}"
        own = frozenset(terms(pair.question))
        known = self._by_answer.setdefault(f"{pair.kind} {pair.span.lower()}", [])
        if key in self._questions or any(_shared(own, other) >= REPEATED for other in known):
            return True
        self._questions.add(key)
        known.append(own)
        return False


def brought_back(pair: Pair, found: Sequence[tuple[str, str]]) -> bool:
    """Is the passage among those found, or another that holds the answer?

    Args:
        pair: the question.
        found: (id, text) of the passages that retrieval brings by the question alone.
    """
    telling = " " in pair.span and any(map(str.isalpha, pair.span))  # "1987" stands in many passages
    return any(name == pair.passage or (telling and pair.span in text) for name, text in found)


def answered(pair: Pair, said: str) -> bool:
    """Does what the model says from the passage mean the pair's answer: about its words, its numbers and negations?"""
    said = without_marks(said)
    if is_refusal(said):
        return False
    told, span = ([pattern.findall(text.lower()) for pattern in (_FIGURE, _NEGATION)] for text in (said, pair.span))
    alike = token_f1(said, [pair.span]).value
    if pair.kind == "long":  # a part of it says it
        spoken, known = normal_tokens(said), set(normal_tokens(pair.span))
        own = sum(word in known for word in spoken) >= SAME * len(spoken)
        return own and alike >= MUCH and told[1] == span[1] and set(told[0]) <= set(span[0])
    return alike >= SAME and told == span


def sureness(pair: Pair, likelihood: float) -> float:
    """How probable it is that a pair is right, 0 to 1.

    Args:
        pair: it passes the rules.
        likelihood: of its plain question, a token, where the teacher is shown its answer's sentence alone.
    """
    sentence = saying(pair.plain, pair.span, pair.text) or pair.text
    signs = (1.0, math.log(max(likelihood, 1e-9)), math.log(len(sentence)), nearness(pair.plain, pair.span, sentence))
    return 1 / (1 + math.exp(-sum(weight * sign for weight, sign in zip(_SURE, signs, strict=True))))


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, min(len(one), len(other)))
