"""Solutions of word problems: marks that are read, other right forms, and mistakes that are mistakes."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import json_lines
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artrag.errors import PredictionsError, TrainingDataError
from artrag.models.step_graph import quantities
from artrag.training.solutions import Calculation, Problem, Solution, read_problems, rewritten, spoilt
from artrag.working import near


def calculation(text: str) -> Calculation:
    """ "3*4=12" with single signs between its numbers."""
    left, stated = text.split("=")
    signs = tuple(sign for sign in left if sign in "+-*/")
    for sign in signs:
        left = left.replace(sign, " ")
    return Calculation(tuple(map(float, left.split())), signs, float(stated))


def solution(*texts: str) -> Solution:
    steps = tuple(map(calculation, texts))
    return Solution(steps, steps[-1].stated, len(steps))


def shown(found: Solution) -> str:
    def told(step: Calculation) -> str:
        signs = ["", *step.operators]
        return "".join(f"{sign}{n:g}" for sign, n in zip(signs, step.numbers, strict=True)) + f"={step.stated:g}"

    return f"{' '.join(map(told, found.steps))} -> {found.final:g}"


def solved(answer: str, question: str = "How many?", **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **more}


def test_marked_solutions_are_read(tmp_path: Path) -> None:
    rows = [
        solved("She sold 48/2 = <<48/2=24>>24.\nSo 48+24 = $<<48+24=72>>72.\n#### 72", "Clips?"),
        solved("20% of 1,000 is <<1,000*20%=200>>200, less .5: <<200-.5=199.5>>199.5 #### $199.50", "Shares?"),
        solved("<<5=5>>5 and <<2*3*4=24>>24", "Stated?", final=24),
        solved("<<10/3=3.33>>3.33 and <<5-9=-4>> #### -4", "Rounded?"),
    ]
    found = read_problems(json_lines(tmp_path / "rows.jsonl", rows))
    assert [problem.question for problem in found] == ["Clips?", "Shares?", "Stated?", "Rounded?"]
    assert [shown(problem.solution) for problem in found] == [
        "48/2=24 48+24=72 -> 72",
        "1000*0.2=200 200-0.5=199.5 -> 199.5",
        "2*3*4=24 -> 24",
        "10/3=3.33 5-9=-4 -> -4",
    ]
    assert all(problem.solution.sound == len(problem.solution.steps) for problem in found)


@pytest.mark.parametrize(
    "row",
    [
        solved("3*4 = 12 #### 12"),  # no mark
        solved("<<3*4=12>>12"),  # no final number
        solved("<<3*4=12>>12 #### twelve"),
        solved("<<3*4=13>>13 #### 13"),  # a wrong mark
        solved("<<(2+3)*4=20>>20 #### 20"),  # brackets are not kept
        solved("<<1+1=2>>" * 13 + "#### 2"),  # more than anybody needs
        solved("<<3*4=12>>12 #### 12", ""),
        solved("<<1/0=0>>0 #### 0"),
        solved("<<100000*100000=10000000000>> #### 10000000000"),
        solved("<<3*4=12>>12", final=True),
        solved("<<3*4=12>>12", final=10**400),
        {"question": 7, "answer": None, "final": 7},
        {},
    ],
)
def test_rows_that_teach_nothing_are_left_out(row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(TrainingDataError, match=r"marked as in GSM8K"):
        read_problems(json_lines(path, [row]))
    good = solved("<<2+2=4>>4 #### 4", "Good?")
    assert [problem.question for problem in read_problems(json_lines(path, [row, good]))] == ["Good?"]


def test_numbers_beyond_all_bounds_are_no_final_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Q?", "answer": "<<3*4=12>>12 #### 12", "final": 1e999}\n', "utf-8")
    assert [problem.solution.final for problem in read_problems(path)] == [12]
    with pytest.raises(PredictionsError):
        read_problems(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("numbers", "signs", "value"),
    [
        ((2, 3, 4), "+*", 14),
        ((-3, 4), "*", -12),
        ((3, -4), "-", 7),
        ((1e-7, 3), "*", 3e-7),
        ((1, 0), "/", None),
        ((1e5, 1e5), "*", None),
        ((-1e5, 1e5), "*", None),
        ((1e16, 1), "/", None),
        ((math.inf, 1), "+", None),
        ((math.nan, 1), "+", None),
        ((1.0,) * 90, "+" * 89, None),  # longer than an expression may be
    ],
)
def test_the_value_of_a_calculation(numbers: tuple[float, ...], signs: str, value: float | None) -> None:
    assert Calculation(numbers, tuple(signs), 0.0).value() == (value if value is None else pytest.approx(value))


def forms(*texts: str, draws: int = 400) -> set[str]:
    return {shown(rewritten(solution(*texts), random.Random(seed))) for seed in range(draws)}


def test_all_forms_of_a_solution_are_drawn() -> None:
    assert forms("3+4=7") == {"3+4=7 -> 7", "4+3=7 -> 7"}
    assert forms("7-3=4") == {"7-3=4 -> 4"} and forms("8/2=4") == {"8/2=4 -> 4"}
    assert forms("80*0.3=24") == {f"{left}=24 -> 24" for left in ("80*0.3", "0.3*80", "80*30/100", "30/100*80")}
    assert forms("8*0.5=4") == {"8*0.5=4 -> 4", "0.5*8=4 -> 4"}  # nobody says 50 per cent for a half
    assert forms("80*30/100=24") == {"80*30/100=24 -> 24", "80*0.3=24 -> 24"}
    assert forms("1+2+4=7") == {"1+2+4=7 -> 7", "1+2=3 3+4=7 -> 7"}
    assert forms("9-2-4=3") == {"9-2-4=3 -> 3", "9-2=7 7-4=3 -> 3"}
    assert forms("8/2/2=2") == {"8/2/2=2 -> 2"} and forms("2+3-1=4") == {"2+3-1=4 -> 4"}
    assert forms("8/2=4", "4-1=3") == {"8/2=4 4-1=3 -> 3", "8/2-1=3 -> 3"}
    assert forms("9-2=7", "7/2=3.5") == {"9-2=7 7/2=3.5 -> 3.5"}  # 9-2/2 is another number
    rounded = forms("1/70=0.01", "0.01*7000=70")
    assert "1/70=0.01 7000*0.01=70 -> 70" in rounded and "1/70*7000=70 -> 70" not in rounded  # that would be 100
    assert forms("8/2=4", "4-1=3", "4/3=1.3333") == {"8/2=4 4-1=3 4/3=1.3333 -> 1.3333"}  # 4 is needed again


def test_a_long_product_that_goes_out_of_bounds_stays_as_it_is() -> None:
    assert forms("100000*100000*0.0001=1000000") == {"100000*100000*0.0001=1e+06 -> 1e+06"}


@st.composite
def solutions(draw: Callable[..., Any]) -> Problem:
    """A right solution whose later steps may build on earlier results, and its question."""
    number = st.integers(1, 400).map(float) | st.sampled_from([0.0, 0.5, 0.2, 0.35, 1.25, 100.0, 90_000.0])
    given = draw(st.lists(number, min_size=2, max_size=5))
    made: list[Calculation] = []
    for _ in range(draw(st.integers(1, 5))):
        pool = st.sampled_from([*given, *(step.stated for step in made)])
        numbers = tuple(draw(st.lists(pool, min_size=2, max_size=4)))
        alike = draw(st.booleans())
        sign = st.sampled_from("+-*/")
        signs = (
            (draw(sign),) * (len(numbers) - 1)
            if alike
            else tuple(draw(st.lists(sign, min_size=len(numbers) - 1, max_size=len(numbers) - 1)))
        )
        value = Calculation(numbers, signs, 0.0).value()
        if value is not None:
            made.append(Calculation(numbers, signs, round(value, 4)))
    made = made or [Calculation((2.0, 3.0), ("+",), 5.0)]
    question = " ".join(f"{n:g}" for n in given)
    return Problem(question, Solution(tuple(made), made[-1].stated, len(made)))


def holds(step: Calculation) -> bool:
    value = step.value()
    return value is not None and near(value, step.stated)


@settings(max_examples=200, deadline=None)
@given(solutions(), st.integers(0, 10**6))
@example(Problem("", solution("100000*100000*0.0001=1000000")), 1)
def test_another_form_is_as_right(problem: Problem, seed: int) -> None:
    right = problem.solution
    found = rewritten(right, random.Random(seed))
    assert found == rewritten(right, random.Random(seed))
    assert all(map(holds, found.steps)) and near(found.steps[-1].stated, right.final)
    assert found.final == right.final and found.sound == len(found.steps) >= 1
    # Its numbers are those of the solution, its own results, or the percentage of a share.
    known = {n for step in right.steps for n in step.numbers}
    known |= {round(100 * n) for n in known} | {n / 100 for n in known} | {100}
    for step in found.steps:
        assert all(any(near(n, other) for other in known) for n in step.numbers)
        assert len(step.operators) == len(step.numbers) - 1
        known.add(step.stated)


@settings(max_examples=400, deadline=None)
@given(solutions(), st.integers(0, 10**6))
def test_a_spoilt_solution_ends_elsewhere_and_is_sound_so_far(problem: Problem, seed: int) -> None:
    right = problem.solution
    found = spoilt(problem, right, random.Random(seed))
    assert found == spoilt(problem, right, random.Random(seed))
    if found is None:
        return
    assert not near(found.final, right.final) and math.isfinite(found.final)
    assert all(step.value() is not None for step in found.steps)
    # What stands before the mistake is of the solution, of which one step may have been left out.
    sound = found.steps[: found.sound]
    dropped = [right.steps[:n] + right.steps[n + 1 :] for n in range(len(right.steps))]
    assert any(sound == steps[: found.sound] for steps in (right.steps, *dropped)) and all(map(holds, sound))
    # All steps but a slip of the pen are calculated rightly, a wrong one as well.
    assert all(holds(step) for place, step in enumerate(found.steps) if place != found.sound)
    if found.sound < len(found.steps):
        meant = (*right.steps, None)[found.sound + (len(found.steps) < len(right.steps))]
        assert found.steps[found.sound] != meant and found.final == found.steps[-1].stated
    else:
        given = [quantity.values[0] for quantity in quantities(problem.question)]
        assert found.final in [*given, *(step.stated for step in found.steps)]


MISTAKES = {
    "another operator": ("3+4=7 7+5=12 -> 12", 0),
    "another operator, later": ("3*4=12 12-5=7 -> 7", 1),
    "another number": ("3*5=15 15+5=20 -> 20", 0),
    "another number, a result": ("3*4=12 12+12=24 -> 24", 1),
    "a step left out": ("4+5=9 -> 9", 0),
    "an end too early": ("3*4=12 -> 12", 1),
    "the result of an earlier step": ("3*4=12 12+5=17 -> 12", 2),
    "a step too many": ("3*4=12 12+5=17 17*4=68 -> 68", 2),
    "a number of the question": ("3*4=12 12+5=17 -> 5", 2),
    "a slip of the pen": ("3*4=13 13+5=18 -> 18", 0),
    "a slip at the end": ("3*4=12 12+5=27 -> 27", 1),
    "a nought too many": ("3*4=120 120+5=125 -> 125", 0),
}


def mistakes(question: str, *texts: str) -> set[tuple[str, int]]:
    problem = Problem(question, solution(*texts))
    made = [spoilt(problem, problem.solution, random.Random(seed)) for seed in range(1500)]
    return {(shown(one), one.sound) for one in made if one is not None}


def test_all_kinds_of_mistakes_are_made() -> None:
    made = mistakes("Tom has 3 boxes of 4 pens and 5 pens.", "3*4=12", "12+5=17")
    assert [kind for kind, wanted in MISTAKES.items() if wanted not in made] == []
    # A share taken for its rest, for what is put on, for its inverse.
    made = mistakes("A coat of 80 is 20% off.", "80*0.2=16", "80-16=64")
    assert {("80*0.8=64 80-64=16 -> 16", 0), ("80*1.2=96 80-96=-16 -> -16", 0)} <= made
    made = mistakes("", "80*1.25=100")
    assert {("80*0.25=20 -> 20", 0), ("80*0.8=64 -> 64", 0)} <= made


def test_a_problem_without_numbers_can_be_spoilt() -> None:
    assert ("3*4=12 12*2=24 -> 24", 1) in mistakes("How many?", "3*4=12")
    assert all(final != "-> 12" for text, _ in mistakes("How many?", "3*4=12") for final in [text.split()[-1]])
