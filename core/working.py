"""The working of an answer: the steps `a op b = c` that it writes down, recomputed."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from artrag.arithmetic import evaluate, written
from artrag.errors import CalculationError

MOST_STEPS = 40
LONGEST = 20_000
"""Characters that are looked at; the rest of a longer answer is left out."""

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's "20*35=<<20*35=700>>700"
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"(?P<number>{NUMBER})(?P<percent>\s?%|\s?percent\b)?|(?P<sign>[-+*/×÷−–=()])"
    r"|(?P<end>[.;:?!,\n])|(?P<word>[^\W\d_][^\W\d_']*|[$€£])"
)
_SPELLING = {"×": "*", "÷": "/", "−": "-", "–": "-"}
_MONEY = "$€£"
_MINUS = re.compile(r"[-−–][$€£]?\.?\d")  # it touches its number; "- 3 * 4" is an item of a list
_BEFORE_A_NUMBER = ("+", "-", "*", "/", "(")
_SIGN = re.compile(r"(?<=[\d)%])[-+*/]")


@dataclass(frozen=True, slots=True)
class Step:
    """One calculation that a text states.

    Attributes:
        text: its left side as an expression.
        operands: the numbers of the left side, in order ("20%" counts as 0.2).
        operators: what stands between them: `+ - * /`.
        stated: the result the text gives.
        actual: the result it has.
    """

    text: str
    operands: tuple[float, ...]
    operators: tuple[str, ...]
    stated: float
    actual: float

    @property
    def correct(self) -> bool:
        """True when both sides agree to half a per cent (texts round), or as a percentage ("3/5 = 60")."""
        return near(self.stated, self.actual) or near(self.stated, 100 * self.actual)

    @property
    def claim(self) -> str:
        """What the text states: "12 * 3 = 35"."""
        return f"{self.text} = {written(self.stated)}"


def near(first: float, second: float) -> bool:
    """Do two numbers agree to half a per cent, or to a cent?"""
    return abs(first - second) <= max(0.005 * abs(second), 0.011)


def read_steps(text: str) -> list[Step]:
    """The calculations a text states, in order; words between numbers are passed over ("3 boxes x 4 = 12").

    Of "a + b = c + d = e" both are read. What is no plain arithmetic is left out.
    """
    text = _CALCULATOR_MARK.sub("", text[:LONGEST])
    tokens = list(_TOKEN.finditer(text))
    steps: list[Step] = []
    left: list[tuple[str, str]] = []
    counting = below_zero = False  # is there a number to the left? does a minus belong to the next one?
    for place, token in enumerate(tokens):
        if token["number"]:
            sign = "-" if below_zero else ""
            left.append(("number", sign + token["number"].replace(",", "") + ("%" if token["percent"] else "")))
            counting, below_zero = True, False
        elif _MINUS.match(text, token.start()) and (not counting or left[-1][1] in _BEFORE_A_NUMBER):
            below_zero = True
        elif token["end"]:
            left, counting = [], False
        elif token["word"]:
            left.append(("sign", "*") if counting and token["word"] in "xX" else ("word", token["word"]))
        elif token["sign"] != "=":
            left.append(("sign", _SPELLING.get(token["sign"], token["sign"])))
        else:
            stated = _stated(tokens[place + 1 : place + 6])
            step = _step(left, stated) if stated is not None else None
            if step:
                steps.append(step)
            if len(steps) == MOST_STEPS:
                break
            left, counting = [], False
    return steps


def _stated(after: Sequence[re.Match[str]]) -> float | None:
    """The number right of "="; a currency sign, a minus or one letter may stand before it."""
    sign = 1.0
    for token in after:
        if token["number"]:
            value = sign * float(token["number"].replace(",", ""))
            return value if math.isfinite(value) else None
        if token["sign"] and token["sign"] in "-−–":
            sign = -sign
        elif not (token["sign"] == "(" or (token["word"] and (token["word"] in _MONEY or len(token["word"]) == 1))):
            return None
    return None


def _step(left: Sequence[tuple[str, str]], stated: float) -> Step | None:
    """The longest run `number (sign number)*` that ends the left side, evaluated; a slash before a word is a unit."""
    plain = [
        token
        for place, token in enumerate(left)
        if token[0] != "word"
        and not (
            token == ("sign", "/")
            and place + 1 < len(left)
            and left[place + 1][0] == "word"
            and left[place + 1][1] not in _MONEY
        )
    ]
    run: list[tuple[str, str]] = []
    wanted = "number"
    for token in reversed(plain):
        if token[1] in "()":
            run.append(token)
            continue
        if token[0] != wanted:
            break
        run.append(token)
        wanted = "sign" if wanted == "number" else "number"
    run.reverse()
    while run and run[0][0] == "sign" and run[0][1] != "(":
        run.pop(0)
    numbers = [value for kind, value in run if kind == "number"]
    operators = tuple(value for kind, value in run if kind == "sign" and value not in "()")
    if len(numbers) < 2 or len(operators) != len(numbers) - 1:
        return None
    expression = "".join(value for _, value in run)
    if expression.count("(") != expression.count(")"):
        expression = expression.replace("(", "").replace(")", "")
    try:
        actual = evaluate(expression)
    except CalculationError:
        return None
    operands = tuple(float(n.rstrip("%")) / (100 if n.endswith("%") else 1) for n in numbers)
    return Step(_SIGN.sub(r" \g<0> ", expression), operands, operators, stated, actual)
