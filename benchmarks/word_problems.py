"""Word problems for benchmarks/live_art.py: their solutions in words, right and spoilt, and what a solver reads."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        steps.append((f"{a:g} {token} {b:g}", result))
        return result

    try:
        final = value()
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    if slip and steps:
        final += slip
        steps[-1] = (steps[-1][0], final)
    lines = [f"{step} = {result:g}." for step, result in steps]
    return " ".join([*lines, f"Final answer: {final:g}"]), final


def spoilt(problem: Problem, draw: random.Random) -> str:
    """A wrong solution: another operation, another number of the question, or (half of them) a slip in the result."""
    tokens = problem.prefix.split()
    for _ in range(10):
        kind = draw.randrange(4)
        changed, slip = list(tokens), 0.0
        if kind == 0:
            place = draw.choice([i for i, token in enumerate(tokens) if token in OPERATORS])
            changed[place] = draw.choice([name for name in OPERATORS if name != tokens[place]])
        elif kind == 1:
            place = draw.choice([i for i, token in enumerate(tokens) if token not in OPERATORS])
            changed[place] = f"{draw.choice(numbers(problem.question) or [1.0]):g}"
        else:
            slip = draw.choice([-10.0, -1.0, 1.0, 10.0])
        made = solution(" ".join(changed), slip=slip)
        if made and abs(made[1] - problem.final) > 1e-6:
            return made[0]
    return "Final answer: 0"


def solve_prompt(question: str) -> list[Message]:
    """What the solver reads."""
    return [{"role": "system", "content": "Solve the problem."}, {"role": "user", "content": question}]


def refine_prompt(question: str, draft: str) -> list[Message]:
    """What the solver reads to correct its draft: the calculator has answered what can be calculated."""
    notes = [f"- {step.claim} is wrong: it is {step.actual:g}" for step in read_steps(draft) if not step.correct]
    asked = "\n".join(notes or ["- Is the draft right?"])
    text = f"{question}\n\nDraft: {draft}\n\nOpen questions:\n{asked}"
    return [{"role": "system", "content": "Correct the draft."}, {"role": "user", "content": text}]


def solver_rows(problems: Sequence[Problem], seed: int) -> list[Row]:
    """One solution a problem, and for every second one a correction, half of them of a right draft."""
    draw, rows = random.Random(seed), []  # noqa: S311
    for place, problem in enumerate(problems):
        made = solution(problem.prefix)
        if made is None:
            continue
        said = [{"role": "assistant", "content": made[0]}]
        rows.append(Row(prompt=solve_prompt(problem.question), completion=said))
        if place % 2:
            draft = spoilt(problem, draw) if place % 4 == 1 else made[0]
            rows.append(Row(prompt=refine_prompt(problem.question, draft), completion=said))
    return rows


def problems_of(path: Path) -> list[Problem]:
    """The problems of a file."""
    return [
        Problem(row["id"], row["question"], row["final"], row.get("equation_prefix", "")) for _, row in read_rows(path)
    ]
