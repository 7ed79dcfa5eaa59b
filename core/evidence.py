"""What can be checked about an answer without a model.

Support: how much of a sentence stands in a passage. Arithmetic: the equations it states, recomputed.
The Asker, the Truster and the citations all look at an answer through this module.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from langchain_core.documents import Document

from artrag.arithmetic import written
from artrag.text import codes, numbers, sentences, terms
from artrag.working import read_steps

ON_TOPIC = 0.5
"""Share of a question's terms in one passage from which on the documents speak of it. Of train questions nine in ten
that an index answers have it, and one in ten others."""
_MARK = re.compile(r"(?<!\s)\s*\[([1-9]\d?)\]")
_REFUSAL = re.compile(
    r"\b(?:i (?:do not|don't|cannot|can't) (?:know|answer|find|say|provide|determine)"
    r"|i(?:'m| am) (?:not able|unable|sorry)"
    r"|(?:passages?|context|text|documents?) (?:do(?:es)? not|don't|doesn't|cannot) "
    r"(?:say|contain|mention|provide|state|answer|include)"
    r"|no (?:information|answer)|not (?:stated|mentioned|given) in)",
    re.IGNORECASE,
)
_VERDICT = re.compile(r"\W*(?:yes|no|maybe|true|false)\W*", re.IGNORECASE)


def is_refusal(answer: str) -> bool:
    """Does the answer say that it has no answer?"""
    return bool(_REFUSAL.search(answer))


def without_marks(text: str) -> str:
    """The text without its `[n]` citation marks."""
    return _MARK.sub("", text)


def is_verdict(answer: str) -> bool:
    """Is the answer a bare yes, no or maybe?"""
    return bool(_VERDICT.fullmatch(without_marks(answer)))


def claim(question: str, answer: str) -> str:
    """The words that an answer stands for: its own, and of a bare yes, no or maybe its question's."""
    return question if is_verdict(answer) else without_marks(answer)


def marks(text: str) -> list[int]:
    """The citation numbers a text carries, in order, each once."""
    return list(dict.fromkeys(int(n) for n in _MARK.findall(text)))


def whole(passage: Document) -> str:
    """A passage as it is indexed and read: its context, then its text."""
    context = passage.metadata.get("context", "")
    return f"{context}\n{passage.page_content}" if context else passage.page_content


def term_weights(passages: Sequence[Document]) -> Mapping[str, float]:
    """Inverse document frequency of each term over these passages, smoothed so that all weights are above zero."""
    return _weights(tuple(map(whole, passages)))


# The same passages are looked at for each sentence of each answer that was made from them.
@lru_cache(maxsize=64)
def _weights(texts: tuple[str, ...]) -> Mapping[str, float]:
    frequency = Counter(chain.from_iterable(_facts(text)[0] for text in texts))
    weights = [math.log(1 + (len(texts) + 1) / (count + 0.5)) for count in range(len(texts) + 1)]
    return {term: weights[count] for term, count in frequency.items()}


@lru_cache(maxsize=512)
def _facts(text: str) -> tuple[Mapping[str, None], frozenset[float], frozenset[str]]:
    """The terms of a text, each once and in order, its numbers and its codes."""
    return dict.fromkeys(terms(text)), frozenset(numbers(text)), frozenset(codes(text))


def coverage(claim: str, text: str, weights: Mapping[str, float] | None = None) -> float:
    """The weighted share (0 to 1) of the claim's terms, numbers and codes that stand in `text`.

    Numbers and codes weigh three times a word: a claim with the wrong number is the wrong claim. A claim without any
    term counts as 0.
    """
    here, seen_numbers, seen_codes = _facts(text)
    wanted, its_numbers, its_codes = _facts(claim)
    unknown = max(weights.values(), default=1.0) if weights else 1.0
    total = found = 0.0
    for term in wanted:
        weight = (weights or {}).get(term, unknown)
        total += weight
        found += weight * (term in here)
    exact, there = len(its_numbers) + len(its_codes), len(its_numbers & seen_numbers) + len(its_codes & seen_codes)
    total += 3 * unknown * exact
    found += 3 * unknown * there
    return found / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Support:
    """How well one sentence of an answer stands on the passages.

    `passage` is the index of the best passage, or None without passages; `share` its coverage, 0 to 1.
    """

    sentence: str
    share: float
    passage: int | None


def supports(answer: str, passages: Sequence[Document]) -> list[Support]:
    """For each sentence of `answer`, the passage that covers it best."""
    weights, texts = term_weights(passages), [whole(passage) for passage in passages]
    found = []
    for sentence in sentences(without_marks(answer)):
        shares = [coverage(sentence, text, weights) for text in texts]
        best = max(range(len(shares)), key=shares.__getitem__, default=None)
        found.append(Support(sentence, 0.0 if best is None else shares[best], best))
    return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """The checkable facts about one answer; every share lies between 0 and 1.

    Attributes:
        support: mean share of the answer's sentences that stands in their best passage (1 without passages). A bare
            yes, no or maybe has no words to look for: 1 where a passage speaks of its question, less where none does.
        on_topic: share of the question's terms found in the passages that support the answer (1 without passages).
        numbers_found: share of the answer's numbers that stand in the passages, the question or a right equation.
        equations: how many equations the answer states.
        wrong: the equations that do not hold, as "12 * 3 = 35 (it is 36)".
        used: which passages support the answer's sentences best.
        refuses: the answer says that it has none.
        empty: there is no word in it.
    """

    support: float
    on_topic: float
    numbers_found: float
    equations: int
    wrong: tuple[str, ...]
    used: tuple[int, ...]
    refuses: bool
    empty: bool


def examine(question: str, answer: str, passages: Sequence[Document] | None) -> Evidence:
    """Collect the evidence about `answer`; `passages=None` means that it was reasoned without any."""
    said, steps = claim(question, answer), read_steps(answer)
    right = [step for step in steps if step.correct]
    known = {*numbers(question), *(number for step in right for number in (step.stated, *numbers(step.text)))}
    support = on_topic = 1.0
    used: list[int] = []
    if passages is not None:
        found = supports(said, passages)
        support = sum(s.share for s in found) / len(found) if found else 0.0
        if is_verdict(answer):
            support = min(1.0, support / ON_TOPIC)
        used = sorted({s.passage for s in found if s.passage is not None})
        read = "\n".join(whole(passages[i]) for i in used)
        on_topic = coverage(question, read, term_weights(passages))
        known |= {number for passage in passages for number in numbers(whole(passage))}
    claimed = numbers(without_marks(answer))
    share = sum(number in known for number in claimed) / len(claimed) if claimed else 1.0
    return Evidence(
        support=support,
        on_topic=on_topic,
        numbers_found=share if passages is not None else 1.0,
        equations=len(steps),
        wrong=tuple(f"{step.claim} (it is {written(step.actual)})" for step in steps if not step.correct),
        used=tuple(used),
        refuses=is_refusal(answer),
        empty=not terms(said) and not numbers(answer),
    )
