"""Metrics and bootstrap intervals, against values worked out by hand."""

import numpy as np
import pytest
from fakes import passage
from hypothesis import given
from hypothesis import strategies as st

from artrag.evaluation import bootstrap, evidence_recall, exact_match, holds_answer, paired, token_f1
from artrag.evaluation.metrics import normal_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The quick, brown FOX!", ["quick", "brown", "fox"]),
        ("an apple a day [2].", ["apple", "day"]),
        ("1,098 units", ["1098", "units"]),
        ("1,234,567.5", ["1234567.5"]),
        ("2019,2020 and 4,5", ["2019", "2020", "and", "4", "5"]),
        ("4.2 points.", ["4.2", "points"]),
        ("每两个月", ["每", "两", "个", "月"]),
        ("答えは東京です", ["答", "えは", "東", "京", "です"]),
        ("Überdruck 3bar", ["überdruck", "3", "bar"]),
        (" -- ", []),
    ],
)
def test_tokens_are_normalised_as_in_squad_and_numbers_stay_whole(text: str, tokens: list[str]) -> None:
    assert normal_tokens(text) == tokens


def test_exact_match_looks_past_case_articles_punctuation_and_marks() -> None:
    assert exact_match("The 4.2 Points [1].", ["3.1 points", "4.2 points"]).value == 1
    assert exact_match("about 4.2 points", ["4.2 points"]).value == 0
    assert exact_match("4.2 points", []).value == 0


@pytest.mark.parametrize(
    ("answer", "references", "value"),
    [
        ("the cat sat", ["a cat sat"], 1),  # 2 of 2 and 2 of 2
        ("the cat sat", ["the cat sat down"], 0.8),  # precision 2/2, recall 2/3
        ("red red blue", ["red green"], 0.4),  # one red counts once: 1/3 and 1/2
        ("cat", ["dog", "big cat"], 2 / 3),  # the best reference counts
        ("每两个月", ["两个月"], 6 / 7),
        ("cat", ["dog"], 0),
        ("", ["dog"], 0),
        ("cat", [], 0),
    ],
)
def test_token_f1_is_what_the_hand_computes(answer: str, references: list[str], value: float) -> None:
    assert token_f1(answer, references).value == pytest.approx(value)


def test_scores_say_why() -> None:
    assert token_f1("cat", ["dog", "big cat"]).reason == "1 tokens shared with 'big cat'"
    assert "none of ['dog']" in holds_answer("cat", ["dog"]).reason
    assert exact_match("Dog", ["dog"]).reason == "equals 'dog'"


@pytest.mark.parametrize(
    ("answer", "references"),
    [
        ("There are 8 left.", ["8"]),
        ("There are 8.0 left.", ["8"]),
        ("It ships 1,098 units.", ["1098"]),
        ("It ships 1098 units.", ["1,098"]),
        ("It fell by 3.10 points.", ["3.1"]),
        ("It was nausea, in 13 per cent [1].", ["cough", "Nausea"]),
        ("The answer: a downstream occlusion.", ["downstream occlusion"]),
        ("Yes, it does.", ["yes"]),
        ("No.", ["no"]),
        ("滤网应每两个月清洁一次 [1]。", ["每两个月"]),
    ],
)
def test_an_answer_that_gives_a_reference_is_right(answer: str, references: list[str]) -> None:
    assert holds_answer(answer, references).value == 1


@pytest.mark.parametrize(
    ("answer", "references"),
    [
        ("There are 18 left.", ["8"]),
        ("There are 8.5 left.", ["8"]),
        ("It rose by 4.25 points.", ["4.2"]),
        ("Between 2019,2020", ["20192020"]),
        ("I would say yes.", ["yes"]),
        ("Nothing is known, no.", ["no"]),
        ("occlusion, downstream", ["downstream occlusion"]),
        ("每三个月", ["每两个月"]),
        ("The passages do not say whether it is 8.", ["8"]),
        ("I don't know, perhaps 8.", ["8"]),
        ("", ["8"]),
        ("anything", ["the"]),
        ("", ["the"]),
    ],
)
def test_an_answer_without_a_reference_in_its_words_is_wrong(answer: str, references: list[str]) -> None:
    assert holds_answer(answer, references).value == 0


def test_what_cannot_be_answered_must_not_be() -> None:
    for said in ("The passages do not say.", "I cannot answer this with enough confidence (0.2).", " "):
        assert holds_answer(said, []).value == 1
    assert holds_answer("8", []).value == 0


def test_evidence_counts_where_the_text_itself_holds_it() -> None:
    passages = [passage("After treatment\n  participants improved."), passage("x", context="Alphadrug trial")]
    assert evidence_recall(passages, ["treatment participants  improved"]).value == 1
    half = evidence_recall(passages, ["participants improved", "Alphadrug trial"])
    assert half.value == 0.5 and half.reason == "missing 'Alphadrug trial'"
    assert evidence_recall([], ["anything"]).value == 0
    assert evidence_recall([], []).value == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    found = bootstrap(values)
    assert found.low <= found.high
    assert min(values) - 1e-9 <= found.low and found.high <= max(values) + 1e-9
    assert found.value == pytest.approx(sum(values) / len(values))


def test_the_interval_of_a_fair_coin_is_the_textbooks() -> None:
    found = bootstrap([0, 1] * 50)
    assert found.low < found.value < found.high
    assert (found.low, found.high) == (pytest.approx(0.402, abs=0.015), pytest.approx(0.598, abs=0.015))
    assert str(found).startswith("0.500 [0.4")


def test_an_interval_can_be_had_again() -> None:
    values = list(np.random.default_rng(1).random(40))
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_more_questions_narrow_the_interval() -> None:
    few, many = bootstrap([0, 1] * 10), bootstrap([0, 1] * 160)
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.15)


def test_constant_values_leave_no_doubt() -> None:
    found = bootstrap([0.25] * 7)
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_no_values_are_no_interval() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_pairs_are_compared_question_by_question() -> None:
    first = list(np.random.default_rng(0).random(30))
    better = paired(first, [value + 0.1 for value in first])
    assert (better.low, better.value, better.high) == pytest.approx((0.1, 0.1, 0.1))
    assert paired([1, 0, 1], [0, 0, 1]).value == pytest.approx(-1 / 3)
    assert paired(first, first[::-1]).low < 0 < paired(first, first[::-1]).high
    with pytest.raises(ValueError, match="zip"):
        paired([1, 2], [1])
