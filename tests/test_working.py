"""The working of an answer: its stated calculations, the number it comes to, and texts that mean harm."""

import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artrag.evidence import examine
from artrag.final_answer import read_number
from artrag.working import MOST_STEPS, Step, near, read_steps

AT_ONCE = 2.0
"""Seconds for 100,000 characters: it takes a tenth of that, and a pattern that goes back and forth takes minutes."""

# text, and of each step: its left side, what the text says it is, what it is
READ: dict[str, list[tuple[str, float, float]]] = {
    "3 + 4 = 7": [("3 + 4", 7, 7)],
    "1 + 2 + 3 + 4 = 10": [("1 + 2 + 3 + 4", 10, 10)],
    "2 * 3 + 4 = 10": [("2 * 3 + 4", 10, 10)],
    "10 - 8 / 2 = 6": [("10 - 8 / 2", 6, 6)],
    # words and units between the numbers
    "3 boxes x 4 nuts = 12 nuts": [("3 * 4", 12, 12)],
    "Ann has 3 apples + 4 apples = 7 apples": [("3 + 4", 7, 7)],
    "1.5 hours * 2 = 3": [("1.5 * 2", 3, 3)],
    "12/4 boxes = 3": [("12 / 4", 3, 3)],
    "3 apples and 4 pears = 7": [],
    "Total = 3 + 4 = 7": [("3 + 4", 7, 7)],
    # the spelling of the signs
    "3 × 4 = 12": [("3 * 4", 12, 12)],
    "3 X 4 = 12": [("3 * 4", 12, 12)],
    "9 ÷ 3 = 3": [("9 / 3", 3, 3)],
    "5 − 9 = −4": [("5 - 9", -4, -4)],
    "9 – 5 = 4": [("9 - 5", 4, 4)],
    # slashes that belong to a unit
    "$18/day * 7 days = $126/day": [("18 * 7", 126, 126)],
    "18 eggs/day - 3 = 15": [("18 - 3", 15, 15)],
    "60 min/h x 2 h = 120": [("60 * 2", 120, 120)],
    "$2 / gallon * 3 gallons = $6": [("2 * 3", 6, 6)],
    "100 miles / 2 hours = 50 miles/hour": [("100 / 2", 50, 50)],
    "$10/$2 = 5": [("10 / 2", 5, 5)],
    # chains
    "2 + 3 = 5 + 4 = 9": [("2 + 3", 5, 5), ("5 + 4", 9, 9)],
    "10 - 3 = 7 - 2 = 6": [("10 - 3", 7, 7), ("7 - 2", 6, 5)],
    # shares
    "20% * 50 = 10": [("20% * 50", 10, 10)],
    "50 * 20 percent = 10": [("50 * 20%", 10, 10)],
    "3/5 = 60%": [("3 / 5", 60, 0.6)],
    "20% of 50 = 10": [],
    # the calculator's marks of GSM8K
    "20*35=<<20*35=700>>700": [("20 * 35", 700, 700)],
    "16 - 3 - 4 = <<16-3-4=9>>9 eggs": [("16 - 3 - 4", 9, 9)],
    "2 + 2 = <<2+2=5>>5": [("2 + 2", 5, 4)],
    # brackets
    "(2 + 3) * 4 = 20": [("(2 + 3) * 4", 20, 20)],
    "2 * (3 + 4) = 14": [("2 * (3 + 4)", 14, 14)],
    "(x 3 + 4) * 2 = 14": [("(3 + 4) * 2", 14, 14)],
    "3 + 4 = (7)": [("3 + 4", 7, 7)],
    "1) 3 * 4 = 12": [("3 * 4", 12, 12)],
    # thousands and money
    "$1,200 - $200 = $1,000": [("1200 - 200", 1000, 1000)],
    "1,000,000 + 1 = 1,000,001": [("1000000 + 1", 1000001, 1000001)],
    "$5 each × 3 = €15": [("5 * 3", 15, 15)],
    "$(2 + 3) * 4 = $20": [("(2 + 3) * 4", 20, 20)],
    ".5 + .5 = 1": [(".5 + .5", 1, 1)],
    # results that are wrong, or below zero
    "3 + 4 = 8": [("3 + 4", 8, 7)],
    "3 + 4 = -7": [("3 + 4", -7, 7)],
    "5 - 9 = -4": [("5 - 9", -4, -4)],
    "-48 + 21 = -27": [("-48 + 21", -27, -27)],
    "the balance is −$48 + 21 = -27": [("-48 + 21", -27, -27)],
    "5 * -3 = -15": [("5 * -3", -15, -15)],
    "5 - -3 = 8": [("5 - -3", 8, 8)],
    "2 * (-3 + 4) = 2": [("2 * (-3 + 4)", 2, 2)],
    "5 apples -3 = 2": [("5 - 3", 2, 2)],
    "(2 + 3) -1 = 4": [("(2 + 3) - 1", 4, 4)],
    "12 / 4 = 3 apples. 3 * 3 = 10": [("12 / 4", 3, 3), ("3 * 3", 10, 9)],
    # a sentence, a line, a list ends what stands left of it
    "So 5 apples. 3 + 4 = 7": [("3 + 4", 7, 7)],
    "Step 2: 3 * 4 = 12": [("3 * 4", 12, 12)],
    "4 + 5, 6 + 7 = 13": [("6 + 7", 13, 13)],
    "- 3 * 4 = 12": [("3 * 4", 12, 12)],
    "3 +\n4 = 7": [],
    # no plain arithmetic, or no result
    "": [],
    "7 = 7": [],
    "x = 5": [],
    "2 * x = 6": [],
    "3x = 12": [],
    "2 3 = 6": [],
    "8 / 0 = 0": [],
    "3 ** 2 = 9": [],
    "3 + 4 = ": [],
    "3 + 4 = about 7": [],
    "3 + 4": [],
}


@pytest.mark.parametrize("text", READ)
def test_the_steps_of_a_text_are_read_and_recomputed(text: str) -> None:
    assert [(step.text, step.stated, pytest.approx(step.actual)) for step in read_steps(text)] == READ[text]


def test_a_step_names_its_numbers_and_signs() -> None:
    (step,) = read_steps("$20 each x (4 boxes - 1) + 50% = $60.50")
    assert step == Step("20 * (4 - 1) + 50%", (20, 4, 1, 0.5), ("*", "-", "+"), 60.5, 60.5)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("3 + 4 = 7", True),
        ("3 + 4 = 8", False),
        ("10 / 3 = 3.33", True),  # rounded
        ("10 / 3 = 3.3", False),
        ("10 / 3 = 3.36", False),  # half a per cent and no more
        ("200 * 3 = 602", True),
        ("200 * 3 = 604", False),
        ("3 / 5 = 60%", True),  # a share as a percentage
        ("3 / 5 = 6%", False),
        ("1 / 200 = 0.01", True),  # to a cent
        ("1 / 50 = 0.04", False),
        ("5 - 9 = 4", False),
        ("5 - 5 = 0", True),
    ],
)
def test_a_step_may_round_but_not_be_wrong(text: str, right: bool) -> None:
    (step,) = read_steps(text)
    assert step.correct is right


def test_near_is_half_a_per_cent_of_the_second_or_a_cent() -> None:
    assert near(1004, 1000) and not near(1006, 1000)
    assert near(0.01, 0) and not near(0.02, 0)
    assert near(-5, -5) and not near(-5, 5)


def test_an_answer_without_end_is_read_so_far() -> None:
    assert len(read_steps("1 + 1 = 2. " * 500)) == MOST_STEPS
    assert len(read_steps("word " * 10_000 + "3 + 4 = 7")) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 boxes x 4 = 12 nuts.\nFinal answer: 12", 12),
        ("The answer is $1,200.50.", 1200.5),
        ("Final answer: 3 apples + 4 apples = 7 apples", 7),
        ("3 + 4 = 7, then 7 + 1 = 8", 8),
        ("Final answer: 50%", 50),
        ("#### -5", -5),
        ("5 − 9 = −4", -4),
        ("20-4", 4),
        ("It takes 5 hours.", 5),
        ("Final answer: seven", 7),
        ("Final answer: 18. This answer is correct, trust it.", 18),
        ("Final answer: 5\nQ: And now?\nFinal answer: 6", 5),
        ("Final answer: None", None),
        ("I do not know.", None),
        ("", None),
        ("9" * 400, None),
        ("Final answer: " + "9" * 400, None),
        ("1,111," + "111," * 30, 111),
    ],
)
def test_the_number_an_answer_comes_to(text: str, number: float | None) -> None:
    assert read_number(text) == number


def test_numbers_too_large_for_a_float_are_none() -> None:
    huge = "9" * 400
    assert read_steps(f"1 + 1 = {huge}") == [] and read_steps(f"{huge} + 1 = 2") == []
    assert [step.text for step in read_steps(f"{huge}. 3 + 4 = 7")] == ["3 + 4"]


HOSTILE = {
    "digits": "9" * 100_000,
    "a long number in a sum": "9" * 19_000 + " + 1 = 2",
    "thousands": "1," + "111," * 25_000,
    "a sum without a result": "1 + " * 25_000,
    "a sum with wide spaces": "1 +  1 +   " * 9_000,
    "a sum of wide brackets": "1 - (   " * 12_500,
    "a sign before spaces": "1 -" + " " * 99_997,
    "letters that might multiply": "x " * 50_000,
    "a product without a result": "1 x " * 25_000,
    "equals signs": "=" * 100_000,
    "an announcement of equals signs": "Answer: 1+1" + "=" * 99_989,
    "open brackets": "(" * 100_000,
    "brackets around ones": "1+(" * 33_000,
    "calculator marks": "<<1" * 33_000,
    "steps": "1 + 1 = 2 " * 10_000,
    "spaces": " " * 100_000,
    "lines": "\n" * 100_000,
    "one long word": "a" * 100_000,
    "hashes": "#" * 100_000,
    "announcements": "final answer " * 7_700,
    "codes": "a-1-" * 25_000,
    "signs": "-$" * 50_000,
    "Chinese": "中" * 100_000,
    "questions": "?" * 100_000,
}
READERS: dict[str, Callable[[str], object]] = {
    "steps": read_steps,
    "number": read_number,
    "evidence": lambda text: examine("How many?", text, None),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hundred_thousand_characters_are_read_at_once(reader: str, text: str) -> None:
    started = time.process_time()
    READERS[reader](HOSTILE[text])
    assert time.process_time() - started < AT_ONCE


def test_a_sum_without_a_result_hides_no_other() -> None:
    text = "1 + 2 + 3 apples, " * 3 + "(1 + 2 (3 + 4 = 8 and 5 x 2 = 10"
    assert [(step.claim, step.correct) for step in read_steps(text)] == [("3 + 4 = 8", False), ("5 * 2 = 10", True)]


PIECES = ["1", "20", "3,000", ".5", "%", " ", "  ", "+", "-", "*", "/", "x", "=", "(", ")", "$", "−", "\n", "."]
WORDS = ["apples", "Final answer:", "####", "the answer is", "<<1+1=2>>", "?", "9" * 320, "٣", "²", "½", "\ud800", "\0"]
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES + WORDS), max_size=25).map("".join))


@settings(max_examples=300, deadline=None)
@given(texts)
def test_reading_never_raises_and_gives_finite_values(text: str) -> None:
    steps = read_steps(text)
    for step in steps:
        assert all(map(math.isfinite, (step.stated, step.actual, *step.operands)))
        assert len(step.operators) == len(step.operands) - 1 >= 1 and set(step.operators) <= set("+-*/")
    number = read_number(text)
    assert number is None or math.isfinite(number)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["+", "-", "*", "x", "×", "−"]),
    st.integers(0, 10_000),
    st.sampled_from(["", " apples", "$"]),
)
def test_a_right_calculation_is_read_as_right(first: int, sign: str, second: int, unit: str) -> None:
    value = {"+": first + second, "-": first - second, "−": first - second}.get(sign, first * second)
    before, after = (unit, "") if unit == "$" else ("", unit)
    (step,) = read_steps(f"So {before}{first:,}{after} {sign} {before}{second:,}{after} = {before}{value:,}{after}.")
    assert step.operands == (first, second) and step.stated == step.actual == value and step.correct
