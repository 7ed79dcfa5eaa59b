"""Solutions of word problems: read, written another way, and spoilt; what the step reader learns first.

GSM8K's solutions (Cobbe et al., arXiv 2110.14168) mark every calculation, "20*35=<<20*35=700>>700"; the marks are all
that is read.
"""

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from artrag.arithmetic import evaluate
from artrag.errors import CalculationError, TrainingDataError
from artrag.evaluation.rows import read_rows
from artrag.final_answer import plain_number
from artrag.models.step_graph import quantities
from artrag.working import near, read_steps

MOST_STEPS = 12
_MARK = re.compile(r"<<([^<>=]{1,200}=[^<>]{1,40})>>")


@dataclass(frozen=True, slots=True)
class Calculation:
    """`numbers` with `operators` between them, and what the solution says they come to."""

    numbers: tuple[float, ...]
    operators: tuple[str, ...]
    stated: float

    @property
    def expression(self) -> str:
        """As plain arithmetic; a number below zero stands in brackets."""
        texts = [repr(number) if number >= 0 else f"({number!r})" for number in self.numbers]
        return texts[0] + "".join(sign + text for sign, text in zip(self.operators, texts[1:], strict=True))

    def value(self) -> float | None:
        """What they do come to; None where that is no number or a very large one."""
        try:
            found = evaluate(self.expression)
        except CalculationError:
            return None
        return found if abs(found) <= 1e9 else None


@dataclass(frozen=True, slots=True)
class Solution:
    """Calculations that end in a number; `sound` counts those before the first wrong one."""

    steps: tuple[Calculation, ...]
    final: float
    sound: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its right solution."""

    question: str
    solution: Solution


def read_problems(path: Path) -> list[Problem]:
    """Problems with 1 to 12 marked calculations, from rows {"question", "answer"} with an optional number "final".

    Raises:
        PredictionsError: the file cannot be read.
        TrainingDataError: no row has marked calculations.
    """
    found = []
    for _, row in read_rows(path):
        question, answer = str(row.get("question", "")), str(row.get("answer", ""))
        stated = row.get("final")
        final = float(stated) if _is_number(stated) else plain_number(answer)
        steps = [calculation for mark in _MARK.findall(answer) for calculation in _calculations(mark)]
        # Brackets are not kept: what comes to something else without them is left out.
        flat = all((value := step.value()) is not None and near(value, step.stated) for step in steps)
        if question and final is not None and 0 < len(steps) <= MOST_STEPS and flat:
            found.append(Problem(question, Solution(tuple(steps), final, len(steps))))
    if not found:
        raise TrainingDataError(
            f"no row of {str(path)!r} is {json.dumps({'question': '...', 'answer': '... <<6*7=42>>42 ... #### 42'})}: "
            "give solutions whose calculations are marked as in GSM8K"
        )
    return found


def _is_number(stated: object) -> TypeGuard[int | float]:
    """Is it a number that fits a float? JSON's may be larger, and "true" is none."""
    try:
        return isinstance(stated, int | float) and not isinstance(stated, bool) and math.isfinite(stated)
    except OverflowError:
        return False


def _calculations(mark: str) -> list[Calculation]:
    return [Calculation(step.operands, step.operators, step.stated) for step in read_steps(mark)[:1]]


def rewritten(solution: Solution, draw: random.Random) -> Solution:
    """The same solution in another right form: operands swapped, long sums in steps, shares as percentages."""
    made: list[Calculation] = []
    for step in solution.steps:
        numbers, signs, chance = list(step.numbers), list(step.operators), draw.random()
        if len(signs) == 1 and signs[0] in "+*" and chance < 0.4:
            numbers.reverse()
        if len(signs) > 1 and len(set(signs)) == 1 and signs[0] in "+-*" and chance < 0.5:
            made += _one_by_one(numbers, signs[0]) or [step]
            continue
        if signs == ["*"] and chance > 0.6:
            numbers, signs = _as_percentage(numbers, draw)
        elif signs == ["*", "/"] and numbers[2] == 100 and chance > 0.5:
            numbers, signs = [numbers[0], numbers[1] / 100], ["*"]
        made.append(Calculation(tuple(numbers), tuple(signs), step.stated))
    if len(made) > 1 and draw.random() < 0.25:
        _join(made, draw.randrange(len(made) - 1))
    return Solution(tuple(made), solution.final, len(made))


def _one_by_one(numbers: Sequence[float], sign: str) -> list[Calculation]:
    """A long sum in steps; none where one of them is out of bounds."""
    steps, so_far = [], numbers[0]
    for number in numbers[1:]:
        step = Calculation((so_far, number), (sign,), 0.0)
        value = step.value()
        if value is None:
            return []
        so_far = value
        steps.append(Calculation(step.numbers, step.operators, so_far))
    return steps


def _as_percentage(numbers: list[float], draw: random.Random) -> tuple[list[float], list[str]]:
    for place, number in enumerate(numbers):
        if 0 < number < 1 and number != 0.5 and abs(number * 100 - round(number * 100)) < 1e-9:
            whole, other = float(round(number * 100)), numbers[1 - place]
            if draw.random() < 0.5:
                return [other, whole, 100.0], ["*", "/"]
            return [whole, 100.0, other], ["/", "*"]
    return numbers, ["*"]


def _join(steps: list[Calculation], at: int) -> None:
    """Write two steps as one where the second begins with the first one's result and nothing else needs that."""
    first, second = steps[at], steps[at + 1]
    needed = any(near(number, first.stated) for step in steps[at + 2 :] for number in step.numbers)
    fits = len(first.operators) == len(second.operators) == 1 and near(second.numbers[0], first.stated)
    if needed or not fits or not (set(first.operators + second.operators) <= {"*", "/"} or second.operators[0] in "+-"):
        return
    joined = Calculation((*first.numbers, second.numbers[1]), first.operators + second.operators, second.stated)
    value = joined.value()
    if value is not None and near(value, second.stated):
        steps[at : at + 2] = [joined]


def spoilt(problem: Problem, solution: Solution, draw: random.Random) -> Solution | None:
    """A solution with one mistake of a kind that language models make; None where the draw makes none.

    Kinds: another operator, another number, a percentage off or on, a step left out or one too many, an end too early,
    a number of the question as the result, a slip of the pen.
    """
    given = [quantity.values[0] for quantity in quantities(problem.question) if quantity.written]
    found = draw.choice(_KINDS)(list(solution.steps), given, problem.solution.final, draw)
    if found is None or near(found.final, problem.solution.final):
        return None
    return found


_Mistake = Callable[[list[Calculation], list[float], float, random.Random], Solution | None]


def _other_operator(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    at = draw.randrange(len(steps))
    signs = list(steps[at].operators)
    which = draw.randrange(len(signs))
    signs[which] = draw.choice({"+": "-*", "-": "+", "*": "/+", "/": "*-"}[signs[which]])
    return _recalculated(steps, at, Calculation(steps[at].numbers, tuple(signs), 0.0))


def _other_number(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    at = draw.randrange(len(steps))
    numbers = list(steps[at].numbers)
    which = draw.randrange(len(numbers))
    others = [n for n in (*given, *(step.stated for step in steps[:at])) if n != numbers[which]]
    if not others:
        return None
    numbers[which] = draw.choice(others)
    return _recalculated(steps, at, Calculation(tuple(numbers), steps[at].operators, 0.0))


def _other_percentage(
    steps: list[Calculation], given: list[float], final: float, draw: random.Random
) -> Solution | None:
    at = draw.randrange(len(steps))
    numbers = list(steps[at].numbers)
    shares = [place for place, number in enumerate(numbers) if 0 < number < 3 and number not in (1, 2)]
    if not shares:
        return None
    which = draw.choice(shares)
    share = numbers[which]
    numbers[which] = round(draw.choice([1 - share, 1 + share] if share < 1 else [share - 1, 1 / share]), 6)
    return _recalculated(steps, at, Calculation(tuple(numbers), steps[at].operators, 0.0))


def _step_left_out(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    """What used its result goes on with one of its numbers."""
    if len(steps) < 2:
        return None
    at = draw.randrange(len(steps) - 1)
    left_out = steps.pop(at)
    instead = draw.choice(left_out.numbers)
    for place in range(at, len(steps)):
        if any(near(number, left_out.stated) for number in steps[place].numbers):
            numbers = [instead if near(n, left_out.stated) else n for n in steps[place].numbers]
            return _recalculated(steps, place, Calculation(tuple(numbers), steps[place].operators, 0.0))
    return None


def _too_early(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    if len(steps) < 2:
        return None
    if draw.random() < 0.5:  # all steps, but the result of an earlier one
        return Solution(tuple(steps), draw.choice(steps[:-1]).stated, len(steps))
    kept = steps[: draw.randrange(1, len(steps))]
    return Solution(tuple(kept), kept[-1].stated, len(kept))


def _given_number(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    return Solution(tuple(steps), draw.choice(given), len(steps)) if given else None


def _step_too_many(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    more = Calculation((steps[-1].stated, draw.choice(given or [2.0])), (draw.choice("+-*/"),), 0.0)
    return _recalculated([*steps, more], len(steps), more)


def _slip(steps: list[Calculation], given: list[float], final: float, draw: random.Random) -> Solution | None:
    at = draw.randrange(len(steps))
    right = steps[at].stated
    wrong = right + draw.choice([1, -1, 10, -10, 2, 100, -100]) if draw.random() < 0.7 else right * 10
    return _recalculated(steps, at, steps[at], stated=wrong)


_KINDS: tuple[_Mistake, ...] = (
    *[_other_operator] * 2,
    *[_other_number] * 3,
    _other_percentage,
    _step_left_out,
    *[_too_early] * 2,
    _step_too_many,
    _given_number,
    _slip,
)


def _recalculated(
    steps: list[Calculation], at: int, changed: Calculation, stated: float | None = None
) -> Solution | None:
    """The steps with one changed and all that follows from it; None where a value is out of bounds."""
    new: dict[float, float] = {}
    made = list(steps[:at])
    for place in range(at, len(steps)):
        step = changed if place == at else steps[place]
        numbers = tuple(new.get(round(number, 6), number) for number in step.numbers) if place > at else step.numbers
        value = Calculation(numbers, step.operators, 0.0).value()
        if value is None:
            return None
        said = round(value, 4) if stated is None or place > at else stated
        if not near(said, steps[place].stated):
            new[round(steps[place].stated, 6)] = said
        made.append(Calculation(numbers, step.operators, said))
    return Solution(tuple(made), made[-1].stated, at)
