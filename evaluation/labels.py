"""Is an answer right? It is read as its gold answer asks for it: a number, an option, yes or no, or words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from artrag.errors import PredictionsError
from artrag.evaluation.metrics import exact_match, normal_tokens, token_f1
from artrag.evidence import is_refusal, without_marks
from artrag.final_answer import final_answer, plain_number, read_number

Gold = str | float | bool

_SAYS = {"yes": "yes", "true": "yes", "no": "no", "false": "no", "maybe": "maybe"}
# "No" before a noun is no verdict: "no evidence was found", "there is no reason".
_VERDICT = re.compile(
    r"\W*(?:it is |that is |it's |is )?"
    r"(yes|true|false|maybe|no(?=\W*(?:[^\w\s]|\n|$)|\s+(?:it|he|she|they|we|you|there|that|this|the|because|since)\b))\b",
    re.IGNORECASE,
)
# Within a sentence "no" is mostly no verdict: "there is no evidence".
_LATE_VERDICT = re.compile(r"\b(yes|true|false|maybe|no(?=\W*(?:[.,;!\n]|$)))\b", re.IGNORECASE)
_TWO_VERDICTS = re.compile(r"\W*(?:and|or|/|but also)\W*(?:yes|no|true|false|maybe)\b", re.IGNORECASE)
_LETTER = re.compile(
    r"\W*(?:(?i:option|choice|answer)\s+)?\(?([A-Z])(?=$|[).:,\]*\n]|\s*[-–]|\s+(?:is|because|since|and|or)\b)"
)
_MORE_LETTERS = re.compile(r"[)\]*]*\s*(?:,|/|&|and\b|or\b)\s*\(?[A-Z](?![\w'])")


@dataclass(frozen=True, slots=True)
class Label:
    """What an answer says, whether that is right (None without a gold answer), and why."""

    predicted: str | float | None
    correct: bool | None
    reason: str


def label(
    text: str,
    gold: Gold | None,
    *,
    answers: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    f1_above: float = 0.5,
) -> Label:
    """Label an answer.

    Args:
        text: the whole answer, reasoning and all.
        gold: the right answer; a number, true or false, an option's key or words, or words.
        answers: further wordings that are right.
        options: the options of a multiple-choice question, key -> words.
        f1_above: words that do not equal the gold answer are right from this token F1 on.

    Raises:
        PredictionsError: the gold answer is none of the options.
    """
    text = _tidy(text)
    if options:
        return _of_option(text, _right_option(gold, answers, options), options)
    if isinstance(gold, bool) or (isinstance(gold, str) and gold.strip().lower() in _SAYS):
        wanted = ("yes" if gold else "no") if isinstance(gold, bool) else _SAYS[gold.strip().lower()]
        said = read_verdict(text)
        return Label(said, said == wanted, f"says {said!r}, right is {wanted!r}")
    if isinstance(gold, int | float):
        return _of_number(text, float(gold))
    wordings = [answer for answer in (gold, *answers) if answer is not None]
    if not wordings:
        return Label(None, None, "there is no gold answer")
    as_number = plain_number(wordings[0])
    if as_number is not None and (counted := _of_number(text, as_number)).correct:
        return counted
    return _of_words(text, wordings, f1_above)


def read_verdict(text: str) -> str | None:
    """Yes, no or maybe, as the answer says it; None where it says none or two."""
    for part in (final_answer(text), text):
        found = _VERDICT.match(part) if part else None
        if part and found:
            return None if _TWO_VERDICTS.match(part, found.end()) else _SAYS[found[1].lower()]
    late = _LATE_VERDICT.findall(text)
    return _SAYS[late[-1].lower()] if late else None


def read_option(text: str, options: Mapping[str, str]) -> str | None:
    """The key of the option that an answer chooses, by its letter or its words; None where it names none or several."""
    if {words.strip().lower() for words in options.values()} <= set(_SAYS):
        said = read_verdict(text)
        for key, words in options.items():
            if said == _SAYS[words.strip().lower()]:
                return key
    text = _tidy(text)
    part = (final_answer(text, options=True) or text).strip()
    if part.strip("().* ").upper() in options:
        return part.strip("().* ").upper()
    found = _LETTER.match(part)
    if found and found[1] in options:
        return None if _MORE_LETTERS.match(part, found.end()) else found[1]
    tokens = normal_tokens(part)
    whole = [key for key, words in options.items() if normal_tokens(words) == tokens]
    if whole:
        return whole[0]
    named = {key: len(normal_tokens(words)) for key, words in options.items() if _holds(tokens, normal_tokens(words))}
    if named:  # "all of them" holds "them": the longest wording counts, where it is alone
        longest = max(named.values())
        chosen = [key for key, length in named.items() if length == longest]
        return chosen[0] if len(chosen) == 1 else None
    marked = [letter for letter in re.findall(r"\(([A-Z])\)", part) if letter in options]
    return marked[-1] if len(set(marked)) == 1 else None


def _tidy(text: str) -> str:
    """The text without blank lines and runs of spaces, which some patterns read slowly."""
    return "\n".join(" ".join(line.split()) for line in text.split("\n") if line.strip())


def _of_number(text: str, gold: float) -> Label:
    said = read_number(text)
    if said is None:
        return Label(None, False, f"says no number, right is {gold:g}")
    right = abs(said - gold) <= 1e-6 * max(1.0, abs(gold))
    return Label(int(said) if said.is_integer() else said, right, f"says {said:g}, right is {gold:g}")


def _of_option(text: str, gold: str, options: Mapping[str, str]) -> Label:
    said = read_option(text, options)
    return Label(said, said == gold, f"chooses {said!r}, right is {gold!r}")


def _of_words(text: str, wordings: Sequence[str], f1_above: float) -> Label:
    said = without_marks(final_answer(text) or text).strip()
    if not said or is_refusal(said):
        return Label(said or None, False, "gives no answer")
    same = exact_match(said, wordings)
    if same.value:
        return Label(said, True, same.reason)
    near = token_f1(said, wordings)
    return Label(said, near.value >= f1_above, f"token F1 {near.value:.2f}: {near.reason}")


def _right_option(gold: Gold | None, answers: Sequence[str], options: Mapping[str, str]) -> str:
    for wording in (gold, *answers):
        if isinstance(wording, str) and wording in options:
            return wording
        if isinstance(wording, bool):
            wording = "yes" if wording else "no"
        for key, words in options.items():
            if wording is not None and normal_tokens(str(wording)) == normal_tokens(words):
                return key
    raise PredictionsError(f"the gold answer {gold!r} is none of the options {list(options)!r}: give an option's key")


def _holds(tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    size = len(wanted)
    return bool(size) and any(tokens[i : i + size] == wanted for i in range(len(tokens) - size + 1))
