"""What can be checked about a worked answer, as numbers: the input of the trained Asker's and Truster's heads.

Nothing here asks a model. The calculator recomputes every step, each operand is traced to the question or to an earlier
result, each result to where it is used; the rest is the form of the final number and of the subquestions.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from artrag.evidence import is_refusal
from artrag.final_answer import read_number
from artrag.text import terms
from artrag.working import LONGEST, NUMBER, Step, near, read_steps

VERSION = 1
"""Raised with every change of the list: heads trained on another version are refused."""

MOST_NUMBERS = 100
"""Numbers of a question that are looked at (ten times as many of an answer): the time stays bounded."""

_NUMBER = re.compile(NUMBER)
_WORD = re.compile(r"[a-z]+")
_ASKED = re.compile(r"(?<![^.?!\n])[^.?!\n]*\?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_FINAL = re.compile(r"final answer", re.IGNORECASE)
_UNSURE = re.compile(
    r"not (?:enough|given|specified|provided|mentioned|stated|known|sufficient)|cannot|can't|unknown|n't know|unclear"
    r"|impossible|no information|depends|need (?:more|to know)|insufficient",
    re.IGNORECASE,
)
_WORDS = {word: float(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_WORDS |= {word: n + 11.0 for n, word in enumerate("eleven twelve thirteen fourteen fifteen sixteen".split())}
_WORDS |= {"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_WORDS |= {"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100, "thousand": 1000, "million": 1e6}
_WORDS |= {"dozen": 12, "couple": 2, "pair": 2, "pairs": 2, "twice": 2, "double": 2, "doubled": 2, "doubles": 2}
_WORDS |= {"thrice": 3, "triple": 3, "tripled": 3, "triples": 3, "half": 0.5, "halves": 0.5, "third": 1 / 3}
_WORDS |= {"thirds": 1 / 3, "quarter": 0.25, "quarters": 0.25, "fourth": 0.25, "fourths": 0.25, "fifth": 0.2}
_WORDS |= {"fifths": 0.2, "sixth": 1 / 6, "eighth": 0.125, "tenth": 0.1, "week": 7, "weeks": 7, "weekly": 7, "daily": 7}
_WORDS |= {"day": 24, "days": 24, "hour": 60, "hours": 60, "minute": 60, "minutes": 60, "year": 12, "years": 12}
_WORDS |= {"annual": 52, "month": 4, "months": 12, "monthly": 12, "foot": 12, "feet": 12, "yard": 3, "percent": 100}
_UNITS = {0, 1, 2, 3, 4, 7, 10, 12, 24, 30, 31, 36, 50, 52, 60, 100, 365, 1000, 3600}
_CUES = {
    "left": r"\bleft\b|remain",
    "total": r"total|altogether|in all|combined",
    "each": r"\beach\b|\bper\b|\bevery\b",
    "percent": r"%|percent",
    "times": r"half|twice|double|times as",
    "than": r"more than|less than|fewer",
    "average": r"average|mean",
    "difference": r"how (?:much|many) (?:more|less|fewer)|difference",
    "ratio": r"ratio",
    "rest": r"\brest\b|remaining|other",
    "money": r"profit|save|change|discount",
    "age": r"years? old|\bage\b",
    "time": r"hours?|minutes?|days?|weeks?|months?",
}

_BESIDE = {
    "each": re.compile(r"\beach\b|\bper\b|\bevery\b|\bapiece\b|\ba (?:day|week|month|year|hour|minute|piece|pound)\b"),
    "percent": re.compile(r"# ?(?:%|percent)"),
    "more": re.compile(r"# (?:\w+ )?(?:more|fewer|less|additional|extra|older|younger|taller|longer)\b|\banother #"),
    "times": re.compile(r"# times\b"),
    "gone": re.compile(r"\b(?:gave|gives|lost|loses|spent|spends|ate|eats|sold|used|paid|pays|left)\b[^#]*#"),
}
"""What stands beside a number ("#") of the question."""


def signals(question: str, answer: str) -> dict[str, float]:
    """Named signals about one worked answer; all finite, most between 0 and 10."""
    question, answer = question[:LONGEST], answer[:LONGEST]
    steps = read_steps(answer)
    final = read_number(answer)
    body = _working(answer)
    given = given_numbers(question)
    ask = asked_for(question)
    return (
        _recomputed(steps)
        | _final_number(final, steps, given, ask)
        | _operands(question, body, steps, given)
        | _flow(steps, final)
        | _trace(question, steps, given, final)
        | _usage(question, steps)
        | _unexplained(question, body, steps, given)
        | _operators(steps)
        | _wording(question, ask)
        | _form(question, body, ask, steps, given)
        | _last_line(body, final)
        | {"refuses": float(is_refusal(answer)), "unsure": float(min(len(_UNSURE.findall(answer)), 4))}
    )


def _working(answer: str) -> str:
    """The sentences before the final answer that ask or hold a number; words to a judge are no work."""
    lines = []
    for line in _FINAL.split(answer)[0].split("\n"):
        sentences = [s for s in _SENTENCE.split(line) if s.rstrip().endswith("?") or any(c.isdigit() for c in s)]
        if sentences:
            lines.append(" ".join(sentences))
    return "\n".join(lines)


def given_numbers(question: str) -> list[float]:
    """The numbers of a question in digits, in order, each once; the first 100."""
    return list(dict.fromkeys(_numbers(question)))[:MOST_NUMBERS]


def _numbers(text: str) -> list[float]:
    """The numbers of a text in digits, in order; one too large for a float is none."""
    values = (float(found[0].replace(",", "")) for found in _NUMBER.finditer(text))
    return [value for value in values if math.isfinite(value)]


def worded_numbers(question: str) -> list[float]:
    """The numbers that words of a question stand for, each once: "half" is 0.5, "dozen" 12, "hours" 60."""
    return list(dict.fromkeys(float(_WORDS[word]) for word in _WORD.findall(question.lower()) if word in _WORDS))


def asked_for(question: str) -> str:
    """The last sentence of a question that asks something."""
    sentences = _SENTENCE.split(question.strip())
    asked = [sentence for sentence in sentences if sentence.endswith("?")]
    return asked[-1] if asked else sentences[-1]


def _recomputed(steps: Sequence[Step]) -> dict[str, float]:
    wrong = [step for step in steps if not step.correct]
    return {
        "steps": min(len(steps), 12),
        "no_steps": float(not steps),
        "wrong": min(len(wrong), 4),
        "any_wrong": float(bool(wrong)),
        "wrong_share": _share(len(wrong), len(steps)),
        "last_wrong": float(bool(steps) and not steps[-1].correct),
    }


def _final_number(final: float | None, steps: Sequence[Step], given: Sequence[float], ask: str) -> dict[str, float]:
    value = -1.0 if final is None else final
    results = [step.stated for step in steps]
    small = min(abs(value), 1e12)
    size = math.log10(1 + small)
    largest = math.log10(1 + max(given, default=1.0))
    whole = abs(value - round(value)) < 1e-6
    many = "how many" in ask.lower()
    fractions = _share(sum(abs(r - round(r)) > 1e-6 for r in results), len(results))
    return {
        "no_final": float(final is None),
        "negative": float(value < 0),
        "zero": float(value == 0),
        "one": float(value == 1),
        "fraction": float(not whole),
        "long_fraction": float(abs(100 * small - round(100 * small)) > 1e-6),
        "fraction_of_many": float(many and not whole),
        "size": size,
        "size_to_given": size - largest,
        "size_off_given": abs(size - largest),
        "final_is_given": float(any(near(value, number) for number in given)),
        "final_is_last": float(bool(results) and near(value, results[-1])),
        "final_is_result": float(any(near(value, result) for result in results)),
        "final_is_largest": float(bool(results) and near(value, max(results))),
        "result_negative": float(any(result < 0 for result in results)),
        "result_fractions": fractions,
        "result_fractions_of_many": fractions * many,
        "asks_how_many": float(many),
        "asks_how_much": float("how much" in ask.lower()),
    }


def _operands(question: str, body: str, steps: Sequence[Step], given: Sequence[float]) -> dict[str, float]:
    """Are the question's numbers used, and does every number used come from somewhere?"""
    used = [number for step in steps for number in step.operands]
    unused = [g for g in given if not any(near(u, g) or near(100 * u, g) or near(u / 100, g) for u in used)]
    mentioned = set(_numbers(body))
    known = [*given, *worded_numbers(question)]
    strange = units = 0
    for step in steps:
        for number in step.operands:
            if not any(_derives(number, source) for source in known):
                units += number in _UNITS
                strange += number not in _UNITS
        known += [step.stated, step.actual]
    return {
        "given": min(len(given), 10),
        "unused": min(len(unused), 5),
        "unused_share": _share(len(unused), len(given)),
        "unmentioned_share": _share(sum(number not in mentioned for number in given), len(given)),
        "strange": min(strange, 5),
        "units": min(units, 4),
    }


def _derives(number: float, source: float) -> bool:
    """Is a number another one, or a percentage of it?"""
    return any(
        near(number, form)
        for form in (source, source / 100, 1 - source / 100, 1 + source / 100, 100 - source, 100 * source)
    )


def _flow(steps: Sequence[Step], final: float | None) -> dict[str, float]:
    """Is every result used, and does every step build on the ones before?"""
    loose = built = 0
    for place, step in enumerate(steps):
        later = [number for other in steps[place + 1 :] for number in other.operands]
        ends_here = final is not None and near(final, step.stated)
        loose += not ends_here and not any(near(n, step.stated) or near(100 * n, step.stated) for n in later)
        built += any(near(n, earlier.stated) for n in step.operands for earlier in steps[:place])
    distinct = {(step.operands, step.operators) for step in steps}
    last = steps[-1] if len(steps) > 1 else None
    return {
        "loose": min(loose, 6),
        "loose_share": _share(loose, len(steps)),
        "repeated": min(len(steps) - len(distinct), 4),
        "idle": min(sum(any(near(step.stated, n) for n in step.operands) for step in steps), 4),
        "built_share": built / (len(steps) - 1) if len(steps) > 1 else float(bool(steps)),
        "last_built": float(last is not None and any(near(n, s.stated) for n in last.operands for s in steps[:-1])),
    }


def _trace(question: str, steps: Sequence[Step], given: Sequence[float], final: float | None) -> dict[str, float]:
    """Follow the final number back through the steps to the numbers it was made of."""
    sources = [*given, *worded_numbers(question)]
    leaves: Counter[float] = Counter()
    taken: set[int] = set()
    depth = 0
    ends = [place for place, step in enumerate(steps) if final is not None and near(final, step.stated)]
    # A step counts as often as its result is used: doubling forty times must not be followed on 2**40 ways.
    level = Counter(ends[-1:])
    sound = bool(level)
    while level:
        depth += 1
        taken.update(level)
        below: Counter[int] = Counter()
        for place, times in level.items():
            sound = sound and (steps[place].correct or _reversed(steps[place]))
            for number in steps[place].operands:
                made = [n for n in range(place) if near(number, steps[n].stated)]
                if made and number not in given and made[-1] not in taken:
                    below[made[-1]] += times
                elif not (made and number not in given):
                    leaves[number] += times
        level = below
    used = [g for g in given if any(near(leaf, g) or near(100 * leaf, g) or near(leaf / 100, g) for leaf in leaves)]
    strange = sum(n for leaf, n in leaves.items() if not any(_derives(leaf, source) for source in sources))
    return {
        "traced": float(bool(ends)),
        "traced_sound": float(sound),
        "traced_from_given": float(sound and not strange),
        "traced_given_share": _share(len(used), len(given)),
        "traced_strange": min(strange, 4),
        "traced_depth": min(depth, 8),
        "traced_steps_share": _share(len(taken), len(steps)),
        "traced_reuses": min(leaves.total() - len(leaves), 4),
        "traced_leaves_less_given": max(-6, min(leaves.total() - len(given), 6)),
    }


def _reversed(step: Step) -> bool:
    """A difference taken the other way round: 195 - 450 = 255."""
    return "-" in step.operators and step.actual < 0 and near(step.stated, -step.actual)


def _usage(question: str, steps: Sequence[Step]) -> dict[str, float]:
    """Is a number that stands by "each", "%" or "more" in the question used as such words are?"""
    counts = dict.fromkeys((f"{cue}_{how}" for cue in _BESIDE for how in ("scaled", "shifted")), 0.0)
    text = question.lower()
    for found in islice(_NUMBER.finditer(text), MOST_NUMBERS):
        value = float(found[0].replace(",", ""))
        if not math.isfinite(value):
            continue
        before, after = text[max(0, found.start() - 25) : found.start()], text[found.end() : found.end() + 30]
        beside = f"{' '.join(before.split()[-3:])} # {' '.join(after.split()[:4])}"
        hows = {
            "scaled" if operator in "*/" else "shifted"
            for step in steps
            for place, number in enumerate(step.operands)
            if near(number, value) or near(100 * number, value)
            for operator in step.operators[max(0, place - 1) : place + 1]
        }
        for cue, pattern in _BESIDE.items():
            if pattern.search(beside):
                for how in hows:
                    counts[f"{cue}_{how}"] = min(counts[f"{cue}_{how}"] + 1, 3)
    operands = [number for step in steps for number in step.operands]
    return counts | {
        "zero_operands": float(min(operands.count(0), 2)),
        "reversed": float(min(sum(map(_reversed, steps)), 2)),
        "results_reused": float(min(sum(max(0, sum(near(n, step.stated) for n in operands) - 1) for step in steps), 4)),
    }


def _unexplained(question: str, body: str, steps: Sequence[Step], given: Sequence[float]) -> dict[str, float]:
    """Numbers of the working that are neither given nor calculated."""
    known = [*given, *worded_numbers(question), *(step.stated for step in steps)]
    known = list(dict.fromkeys([*known, *(number for step in steps for number in step.operands)]))
    said = set(_numbers(body)[: 10 * MOST_NUMBERS])
    loose = [number for number in said if number > 1 and not any(near(number, source) for source in known)]
    return {"unexplained": min(len(loose), 5), "unexplained_share": _share(len(loose), len(said))}


def _operators(steps: Sequence[Step]) -> dict[str, float]:
    used = [operator for step in steps for operator in step.operators]
    last = steps[-1].operators if steps else ()
    found: dict[str, float] = {}
    for operator, name in zip("+-*/", ("add", "subtract", "multiply", "divide"), strict=True):
        found |= {
            name: min(used.count(operator), 5),
            f"last_{name}": float(operator in last),
            f"never_{name}": float(operator not in used),
        }
    return found


def _wording(question: str, ask: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, cue in _CUES.items():
        found[f"says_{name}"] = float(bool(re.search(cue, question.lower())))
        found[f"asks_{name}"] = float(bool(re.search(cue, ask.lower())))
    return found


def _form(question: str, body: str, ask: str, steps: Sequence[Step], given: Sequence[float]) -> dict[str, float]:
    """The length of the working, and whether its subquestions lead to what is asked."""
    lines = [line for line in body.split("\n") if line.strip()]
    asked = [found.strip() for found in _ASKED.findall(body)]
    wanted, whole = set(terms(ask)), set(terms(question))
    last = set(terms(asked[-1])) if asked else set()
    words = [term for subquestion in asked for term in terms(subquestion)]
    answers = [line.split("?")[-1] for line in lines]
    return {
        "length": min(len(body.split()), 400) / 100,
        "question_length": min(len(question.split()), 150) / 50,
        "lines": min(len(lines), 12),
        "steps_per_line": _share(len(steps), len(lines)),
        "steps_less_given": max(-10, min(len(steps) - len(given), 10)),
        "subquestions": min(len(asked), 10),
        "has_subquestions": float(bool(asked)),
        "repeated_subquestions": min(len(asked) - len(set(asked)), 5),
        "last_asks_wanted": _share(len(wanted & last), len(wanted)),
        "last_asks_only_wanted": _share(len(wanted & last), len(last)),
        "last_asks_same": float(bool(asked) and wanted == last),
        "last_asks_new": _share(len(last - whole), len(last)),
        "subquestions_new": _share(sum(word not in whole for word in words), len(words)),
        "question_covered": _share(len(whole & set(terms(body))), len(whole)),
        "lines_without_number": _share(sum(not any(c.isdigit() for c in line) for line in answers), len(lines)),
        "lines_without_step": _share(sum("=" not in line for line in lines), len(lines)),
    }


def _last_line(body: str, final: float | None) -> dict[str, float]:
    value = -1.0 if final is None else final
    lines = [line for line in body.split("\n") if line.strip()]
    numbers = _numbers(body)
    last = _numbers(lines[-1]) if lines else []
    return {
        "final_in_body": float(any(near(number, value) for number in numbers)),
        "final_ends_body": float(bool(numbers) and near(numbers[-1], value)),
        "final_in_last_line": float(any(near(number, value) for number in last)),
        "last_line_without_number": float(not last),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


NAMES: tuple[str, ...] = tuple(signals("", ""))
"""The names of the signals, in the order of a head's inputs."""
