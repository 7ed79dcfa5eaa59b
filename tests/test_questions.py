"""Questions with right answers, read from a file, and what an answer to one is worth."""

from pathlib import Path
from typing import Any

import pytest
from fakes import json_lines

from artrag.errors import UsageError
from artrag.evaluation.questions import Question, groups, read_questions


def test_what_an_answer_is_worth(tmp_path: Path) -> None:
    rows = [
        {"question": "Colour?", "answer": "deep red"},
        {"question": "Which?", "answer": "B", "options": {"A": "red", "B": "blue"}},
        {"question": "So?", "answers": ["yes"]},
        {"question": "Is it?", "answer": False},
        {"question": "How many?", "answer": 1200},
        {"question": "Untold?", "answers": []},
    ]
    rows.append({"question": "Low?", "answers": ["b"], "options": {"a": "red", "b": "blue"}})
    words, option, verdict, denied, counted, untold, low = read_questions(json_lines(tmp_path / "q.jsonl", rows))
    assert (
        words.value("Deep red [1]") == words.value("It glows.\nAnswer: deep red") == 1
        and 0 < words.value("red") < 1
        and words.value("blue") == 0
    )
    assert option.words == "Which?\nA. red\nB. blue" and option.value("B. blue [1]") == 1 and option.value("A") == 0
    assert verdict.value("Yes [2]") == 1 and verdict.value("No") == 0
    assert verdict == Question("line 3", "So?", ("yes",), group="so")
    assert denied.value("No, it is not.") == 1 and denied.value("Yes") == 0
    assert counted.value("3 * 400 = 1200\nAnswer: 1,200") == 1 and counted.value("Answer: 120") == 0
    assert low.value("B") == low.value("Answer: B. blue") == 1 and low.value("A") == 0
    assert untold.value("The passages do not say.") == 1 and untold.value("Red [1]") == 0
    assert [one.kind for one in (words, option, verdict, denied, counted, untold)] == [
        "words",
        "option",
        "verdict",
        "verdict",
        "number",
        "refusal",
    ]
    assert all(one.value(said) == 0 for one in (words, option, verdict, untold) for said in ("", "  \n"))
    assert words.score("blue").reason == "shares no token with a reference"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"answer": "x"}, "question None"),
        ({"question": " ", "answer": "x"}, "question ' '"),
        ({"question": "So?"}, "give the right answer"),
        ({"question": "So?", "answer": " "}, "give the right answer"),
        ({"question": "So?", "answers": ["a", ""]}, "give the right answer"),
        ({"question": "So?", "answers": [None]}, "give the right answer"),
        ({"question": "So?", "answer": "A", "options": ["x"]}, "{key: words}"),
        ({"question": "Which?", "answer": "C", "options": {"A": "x"}}, "'C' is no key"),
        ({"question": "So?", "answer": "x", "relevant": "d1"}, "list of ids"),
        ({"question": "So?", "answer": 1, "options": {"1": "x"}}, "by letters"),
        ({"question": "So?", "answers": [], "options": {"A": "x"}}, "give the right answer"),
        ({"question": "So?", "answer": "x", "id": "1"}, "comes twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: dict[str, Any], said: str) -> None:
    path = json_lines(tmp_path / "bad.jsonl", [{"question": "Fine?", "answer": "yes", "id": "1"}, bad])
    with pytest.raises(UsageError) as told:
        read_questions(path)
    assert f"{path}:2: " in str(told.value) and said in str(told.value)


def test_what_is_relevant_comes_along_and_like_questions_count_as_one(tmp_path: Path) -> None:
    rows = [
        {"question": "Who keeps it?", "answer": "Ann", "relevant": ["d1#2", "d1#2", "d2"]},
        {"question": "who keeps  it", "answer": "Bob", "evidence_ids": [7]},
    ]
    first, second = read_questions(json_lines(tmp_path / "q.jsonl", rows))
    assert first.relevant == ("d1#2", "d2") and second.relevant == ("7",)
    assert len(set(groups([first, second]))) == 1


def test_an_id_that_is_a_number_is_no_line(tmp_path: Path) -> None:
    rows = [{"id": "2", "question": "Fine?", "answer": "yes"}, {"question": "So?", "answer": "no"}]
    assert [one.id for one in read_questions(json_lines(tmp_path / "q.jsonl", rows))] == ["2", "line 2"]
