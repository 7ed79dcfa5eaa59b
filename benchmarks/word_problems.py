"""Word problems for benchmarks/live_art.py: their solutions in words, right and spoilt, and what a solver reads."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from artrag.evaluation.rows import read_rows
from artrag.models.causal_model import Message
from artrag.text import numbers
from artrag.training.causal_data import Row
from artrag.working import read_steps

OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


EXACT = 0.005
MOST_NOTES = 4
Fault = Literal["right", "only the result is wrong", "another calculation", "no calculation"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem; `prefix` is its calculation in Polish notation, "" where it is not given."""

    id: str
    question: str
    final: float
    prefix: str = ""


def solution(prefix: str, *, slip: float = 0.0) -> tuple[str, float] | None:
    """The calculation step by step and what it comes to; None where a step has no short decimal.

    `slip` is added to the result of the last step: a slip of the pen.
    """
    tokens, steps = prefix.split(), []

    def value() -> float:
        token = tokens.pop(0)
        if token not in OPERATORS:
            return float(token)
        a, b = value(), value()
        result = OPERATORS[token](a, b)
        if round(result, 4) != result:
            raise ValueError(result)
        steps.append((f"{shown(a)} {token} {shown(b)}", result))
        return result

    try:
        final = value()
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    if slip and steps:
        final += slip
        steps[-1] = (steps[-1][0], final)
    lines = [f"{step} = {shown(result)}." for step, result in steps]
    return " ".join([*lines, f"Final answer: {shown(final)}"]), final


def shown(number: float) -> str:
    """A number in digits, as far as it has any: 1059955, not 1.05996e+06."""
    return f"{number:.12g}"


def spoilt(problem: Problem, draw: random.Random) -> str:
    """A wrong solution: a slip in the result (half of them), another calculation (a quarter), or both.

    Another calculation has another operation or another number of the question in it. Small solvers slip far and
    often, so slips go up to a third of the result.
    """
    tokens = problem.prefix.split()
    places = [i for i, token in enumerate(tokens) if token in OPERATORS]
    for _ in range(10):
        kind = draw.randrange(4)
        changed, slip = list(tokens), 0.0
        if kind in (0, 1):
            if draw.random() < 0.5:
                place = draw.choice(places)
                changed[place] = draw.choice([name for name in OPERATORS if name != tokens[place]])
            else:
                place = draw.choice([i for i, token in enumerate(tokens) if token not in OPERATORS])
                changed[place] = shown(draw.choice(numbers(problem.question) or [1.0]))
        if kind != 0:
            size = draw.choice([1.0, 10.0, float(draw.randint(1, max(2, round(abs(problem.final) / 3))))])
            slip = size if draw.random() < 0.5 or size > problem.final else -size
        made = solution(" ".join(changed), slip=slip)
        if made and abs(made[1] - problem.final) > 1e-6:
            return made[0]
    return "Final answer: 0"


def solve_prompt(question: str) -> list[Message]:
    """What the solver reads."""
    return [{"role": "system", "content": "Solve the problem."}, {"role": "user", "content": question}]


def refine_prompt(question: str, draft: str, *, asked: bool = True) -> list[Message]:
    """What the solver reads to correct its draft; with the open questions, which the calculator answers, or without."""
    text = f"{question}\n\nDraft: {draft}"
    if asked:
        # Exact, unlike `Step.correct`: nobody rounds here, and a slip of 1 in 500 is a slip.
        wrong = [step for step in read_steps(draft) if abs(step.stated - step.actual) > EXACT][:MOST_NOTES]
        notes = [f"- {step.claim} is wrong: it is {shown(step.actual)}" for step in wrong]
        text += "\n\nOpen questions:\n" + "\n".join(notes or ["- Is the draft right?"])
    return [{"role": "system", "content": "Correct the draft."}, {"role": "user", "content": text}]


def solver_rows(problems: Sequence[Problem], seed: int) -> list[Row]:
    """One solution a problem, and for every second one the same draft corrected with and without open questions.

    A third of the drafts is right.
    """
    draw, rows = random.Random(seed), []  # noqa: S311
    for place, problem in enumerate(problems):
        made = solution(problem.prefix)
        if made is None:
            continue
        said = [{"role": "assistant", "content": made[0]}]
        rows.append(Row(prompt=solve_prompt(problem.question), completion=said))
        if place % 2:
            draft = made[0] if place % 6 == 1 else spoilt(problem, draw)
            rows += [
                Row(prompt=refine_prompt(problem.question, draft, asked=asked), completion=said)
                for asked in (True, False)
            ]
    return rows


def fault(draft: str, final: float, correct: bool) -> Fault:
    """What is wrong with a draft: the calculator can mend a wrong result, but no wrong calculation."""
    if correct:
        return "right"
    steps = read_steps(draft)
    if not steps:
        return "no calculation"
    return "only the result is wrong" if abs(steps[-1].actual - final) <= EXACT else "another calculation"


def problems_of(path: Path) -> list[Problem]:
    """The problems of a file."""
    return [
        Problem(row["id"], row["question"], row["final"], row.get("equation_prefix", "")) for _, row in read_rows(path)
    ]
