"""The final answer of a text: what follows its own announcement, and the number it comes to.

"#### 18", "Final answer: 18", "the answer is 18", "Answer: 18", "A: 18". The first of the two former kinds counts (what
a model goes on to write is another problem), else the last announcement. An announcement that holds no number, such as
"Final answer: None", is no number.
"""

import math
import re

_HASHES = re.compile(r"####[ \t]*(?=\W{0,4}\d[\d,.]{0,30}\W{0,20}$)", re.MULTILINE)
_FINAL = re.compile(
    r"\bfinal answer\b(?:\W{0,4}:|[^.\n]{0,40}?[ \t]is\b(?:[ \t]*:)?|\W*$)", re.IGNORECASE | re.MULTILINE
)
# "This answer is correct, trust it" announces nothing.
_ANSWER = re.compile(
    r"(?<!this )\banswer\b[^.\n]{0,80}?[ \t]is\b(?![ \t]+(?:\w+ly[ \t]+)?(?:correct|incorrect|right|wrong|certain)\b)"
    r"(?:[ \t]*:)?|\banswer\W{0,3}:",
    re.IGNORECASE,
)
_LETTER_A = re.compile(r"^[ \t]*A:", re.MULTILINE)

# A minus is a sign where it touches its number and nothing stands before it: "20-4" and "20 - 4" are differences.
_NUMBER = re.compile(
    r"(?P<minus>(?<![\w.)%\]}])[-−–](?=[$€£]?\.?\d))?(?:[$€£](?P<after>[-−–](?=\d))?)?"
    r"(?<![\w.])(?P<digits>(?:\d{1,3}(?:,\d{3}){1,9}(?![\d,])|\d+)(?:\.\d+)?|\.\d+)"
)
# "3 apples + 4 apples = 7 apples" comes to 7; the clause ends at a comma or full stop that is no part of a number.
_SUM = re.compile(r"(?:[^=,;.\d]|[,.](?=\d))*\d(?:[^=,;.]|[,.](?=\d))*?[-+*/x×÷−–]\W*\d(?:[^=,;.]|[,.](?=\d))*=")
_RESULT = re.compile(r"(?:[^=,;.]|[,.](?=\d))*=")
LONGEST_SUM = 400
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()


def final_answer(text: str, *, options: bool = False) -> str | None:
    """The line that follows the answer's own announcement; "" where it breaks off, None without an announcement.

    With `options`, "A:" announces nothing: it is the first option.
    """
    found = _HASHES.search(text) or _FINAL.search(text)
    if found is None:
        announced = [*_ANSWER.finditer(text), *(() if options else _LETTER_A.finditer(text))]
        found = max(announced, key=lambda match: match.end(), default=None)
    if found is None:
        return None
    lines = (line.strip() for line in text[found.end() :].split("\n"))
    return next((line for line in lines if any(letter.isalnum() for letter in line)), "")


def read_number(text: str) -> float | None:
    """The number that an answer comes to.

    The first one of what it announces, of a calculation its result; without an announcement the last one of all.
    """
    said = final_answer(text)
    if not said:
        numbers = _numbers(text)
        return numbers[-1] if numbers else None
    numbers = _numbers(_result(said)) or _numbers(said)
    if numbers:
        return numbers[0]
    word = re.sub(r"\W+", " ", said.lower()).strip().partition(" ")[0]
    return float(_SMALL.index(word)) if word in _SMALL else None


def plain_number(text: str) -> float | None:
    """The value of a text that is a number and nothing else ("1,200", "$5"), or of a solution's "#### 18"."""
    text = text.rpartition("####")[2].strip()
    found = _NUMBER.fullmatch(text.rstrip("%."))
    return _value(found) if found else None


def _result(said: str) -> str:
    """What stands behind the last "=" of a calculation; anything else as it is."""
    found = _SUM.match(said[:LONGEST_SUM])
    while found:
        said = said[found.end() :]
        found = _RESULT.match(said)
    return said


def _numbers(text: str) -> list[float]:
    values = (_value(found) for found in _NUMBER.finditer(text.replace("{,}", ",")))
    return [value for value in values if value is not None]


def _value(found: re.Match[str]) -> float | None:
    value = float(found["digits"].replace(",", ""))
    if not math.isfinite(value):
        return None
    return -value if found["minus"] or found["after"] else value
