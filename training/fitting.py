"""Does a question fit its answer, as its sentence says it? What small models get wrong most often, found by rule.

The rules are for English questions; others pass them. They were chosen on the labelled pairs of `benchmarks/labels`.
"""

import re

from artrag.text import is_cjk, numbers, sentences, stem, terms
from artrag.training.candidates import is_number, kind_of, numbers_of
from artrag.training.distractors import MONTHS, form_of

STRANGE = 1 / 3
"""At most this share of the words that a question is about may be missing from the sentence of its answer."""

LONGEST = 300
"""Characters of a sentence that is asked about: of 800 pairs about longer ones three were kept."""
NEAR = 80
"""Characters on either side of an answer that the words of its question are looked for in."""
_ONE_MORE = re.compile(r"\s?,?\s(?:and|or)\s(\S+)")
_ONE_BEFORE = re.compile(r"(\S+),?\s(?:and|or)\s$")
_ASKS = re.compile(r"\b(?:what|which|who|whom|whose|when|where|why|how)\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|none|without|neither|nor|lack\w*|\w+n['’]t)\b", re.IGNORECASE)
_SHARE = re.compile(r"\b(?:percentages?|proportion)\b", re.IGNORECASE)
_COUNT = re.compile(r"^how many\b", re.IGNORECASE)
_SHARE_ITSELF = re.compile(r"%|\bper ?cent\b", re.IGNORECASE)
_OF_SHARE = re.compile(r"^\s?(?:%|per ?cent)", re.IGNORECASE)
_MONTH = re.compile(rf"^ (?:{MONTHS})\b")
_FIGURE = re.compile(
    r"\d|\b(?:no|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|hundred|thousand|half)\b",
    re.IGNORECASE,
)
_NAMES = re.compile(r"\b(?:the|a) (?:names?|terms?|classification)\b", re.IGNORECASE)
_LEANS = re.compile(r"^\W*(?:it|its|they|their|this|these|those|he|his|she|her|such)\b", re.IGNORECASE)
_ASKING = frozenset(
    map(
        stem,
        """name type kind term sort many much number percentage percent proportion used use group study main primary
        total called one found heavy weigh long old tall far high large big wide deep often fast last take reason
        purpose goal people person""".split(),
    )
)
"""Words that say what is wanted, not what it is about."""


def saying(question: str, answer: str, passage: str) -> str:
    """The sentence with these words that says what the question asks for: of the right form, as affirmed or denied.

    What "the name" of something is, small models ask about whatever looks like one; of two measures in a sentence they
    take either.

    Args:
        question: what is asked.
        answer: words of the passage.
        passage: what is asked about.

    Returns:
        It is empty where there is none. Of other languages the first with these words.
    """
    spoken = sentences(passage)
    places = _places(answer, spoken)
    if not _ASKS.search(question) or is_cjk(question):
        return places[0][1] if places else passage
    if _NAMES.search(question):
        return ""
    fitting = (
        one
        for n, one, found in places
        if _right_form(question, answer, one[found.end() :])
        and _stands_out(answer, one, found.start())
        and bool(_NEGATION.search(question)) == bool(_NEGATION.search(one))
        and _known(question, f"{spoken[n - 1]} {one}" if n and _LEANS.search(one) else one)
    )
    return next(fitting, "")


def askable(answer: str, passage: str) -> bool:
    """May a question ask for these words of a passage, as far as can be told before there is one?

    A sentence that says it has at most `LONGEST` characters, and nothing else in it that would answer.
    """
    spoken = sentences(passage)
    return is_cjk(passage) or any(
        len(one) <= LONGEST and _stands_out(answer, one, found.start()) for _, one, found in _places(answer, spoken)
    )


def told_already(question: str, answer: str, passage: str) -> bool:
    """Is the answer in the question? All of its words, its numbers, or what it abbreviates, "... blood cells (RBC)"."""
    said = set(terms(answer))
    if (said and said <= set(terms(question))) or set(numbers(answer)) & set(numbers(question)):
        return True
    at = passage.find(f"({answer})")
    named = set(terms(passage[: max(0, at)])[-4:])
    return at >= 0 and len(named & set(terms(question))) >= 2


def _places(answer: str, spoken: list[str]) -> list[tuple[int, str, re.Match[str]]]:
    """Which sentences hold these words, and where; the 20 of 2020 and of 20.5 is none."""
    whole = re.compile(rf"(?<![\w.,]){re.escape(answer)}(?![\w])(?![.,]\d)")
    return [(n, one, found) for n, one in enumerate(spoken) for found in whole.finditer(one)]


def _stands_out(answer: str, sentence: str, start: int) -> bool:
    return not _one_of_several(answer, sentence) and not _listed(answer, sentence, start)


def _right_form(question: str, answer: str, after: str) -> bool:
    share = bool(_OF_SHARE.search(after) or _SHARE_ITSELF.search(answer))
    if _SHARE.search(question):
        return share
    if _COUNT.search(question):
        return bool(_FIGURE.search(answer)) and not share and not _MONTH.search(after)
    return True


def _one_of_several(answer: str, sentence: str) -> bool:
    """Is there another measure of the same form? Counts are told apart by what is counted."""
    form = form_of(answer)
    return (
        is_number(answer) and not answer.isdigit() and form in map(form_of, numbers_of(sentence.replace(answer, "", 1)))
    )


def _listed(answer: str, sentence: str, start: int) -> bool:
    """Is it one of a list, or does something else in the sentence belong to what is asked about?"""
    if "respectively" in sentence:
        return True
    if kind_of(answer) == "phrase":  # what follows may be a verb
        return False
    beside = (_ONE_MORE.match(sentence, start + len(answer)), _ONE_BEFORE.search(sentence[:start]))
    like = re.compile(r"[$€£<>]?\d" if is_number(answer) else r"\W*(?:[A-Z]|\w*\d)")
    return any(found and like.match(found[1]) for found in beside)


def nearness(question: str, answer: str, sentence: str) -> float:
    """The share of the words that a question is about which stand near the answer, 0 to 1."""
    about, at = set(terms(question)) - _ASKING, max(0, sentence.find(answer))
    near = sentence[max(0, at - NEAR) : at + len(answer) + NEAR]
    return len(about & set(terms(near))) / max(1, len(about))


def _known(question: str, spoken: str) -> bool:
    about = set(terms(question)) - _ASKING
    return len(about - set(terms(spoken))) <= STRANGE * len(about)
