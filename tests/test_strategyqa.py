"""The pure functions of benchmarks/strategyqa.py."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def study() -> Iterator[Any]:
    """The script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("strategyqa")


@pytest.fixture(scope="module")
def questions(study: Any) -> Any:
    """Its questions."""
    return importlib.import_module("strategy_questions")


ROW = {"id": "a", "question": "Is A older than B?", "answer": True, "term": "A", "decomposition": ["When was A born?"]}


def test_the_pool_holds_each_fact_and_each_question_once(questions: Any) -> None:
    facts, cases = questions.pooled(
        ROW | {"facts": ["A was born in 1900.", "B was born in 1950. "]},
        ROW | {"id": "b", "question": "is A older than  B", "facts": ["C is here."]},
        ROW | {"id": "c", "question": "Else?", "facts": ["a was born in 1900", "D."]},
    )
    assert facts == ["A was born in 1900.", "B was born in 1950.", "C is here.", "D."]
    assert [(case.id, case.facts) for case in cases] == [("a", (0, 1)), ("c", (0, 3))]


@pytest.mark.parametrize(
    ("step", "said", "text"),
    [
        ("Is #1 in #2?", ["Rome", "Italy"], "Is Rome in Italy?"),
        ("What are #2's parts?", ["x"], "What are parts?"),
        ("Was #12 it?", ["x"], "Was it?"),
        ("No reference", ["x"], "No reference"),
    ],
)
def test_references_are_filled_or_dropped(questions: Any, step: str, said: list[str], text: str) -> None:
    assert questions.filled(step, said) == text


@pytest.mark.parametrize(
    ("step", "needs"),
    [
        ("Is #1 greater than or equal to #2?", False),
        ("Are any of #1 included in #2?", False),
        ("What is #1 multiplied by 12?", False),
        ("Is #1 in Florida?", True),
        ("When was #1 founded?", True),
        ("Who is it?", True),  # nothing earlier is spoken of
        ("", False),
    ],
)
def test_steps_over_earlier_answers_need_no_fact(questions: Any, step: str, needs: bool) -> None:
    assert questions.needs_fact(step) is needs


def test_two_questions_in_a_line_are_two_steps(questions: Any) -> None:
    assert questions.split_steps(["Who?  Is #1 it? ", "When?"]) == ["Who?", "Is #1 it?", "When?"]


def a_case(questions: Any, **changes: Any) -> Any:
    steps = ("Who wrote it?", "When was #1 born?", "Is #2 before 1900?")
    fields = {"id": "q", "question": "Q?", "answer": True, "term": "T", "steps": steps, "facts": (1, 2)} | changes
    return questions.Case(**fields)


@pytest.mark.parametrize(
    ("way", "second"),
    [
        ("dropped", "When was born?"),
        ("term", "When was T born?"),
        ("found", "When was Ann wrote it born?"),
        ("behind the question", "Q? When was born?"),
    ],
)
def test_each_step_that_needs_a_fact_is_asked(questions: Any, way: str, second: str) -> None:
    asked = []

    def search(query: str) -> list[int]:
        asked.append(query)
        return {"Q?": [0, 1], "Who wrote it?": [3, 1]}.get(query.removeprefix("Q? "), [1, 2])

    found = questions.gathered(search, ["z", "y", "x", "Ann wrote it"], a_case(questions), a_case(questions).steps, way)
    first = "Q? Who wrote it?" if way == "behind the question" else "Who wrote it?"
    assert asked == ["Q?", first, second]
    assert found == [1, 0, 3, 2]  # 1/2 + 1/2 + 1, then 1, 1, 1/2


def test_recall_counts_facts_among_the_first(questions: Any) -> None:
    assert questions.recall([5, 1, 2], [1, 2, 9], 2) == pytest.approx(1 / 3)
    assert questions.recall([5, 1, 2], [1, 2], 3) == 1


def test_answers_are_read_off_the_filled_steps(questions: Any) -> None:
    steps = ["Who wrote it?", "When was #1 born (roughly)?", "Is #2 before #1's death?", "Was #9 reworded?"]
    known = ["Who wrote it?", "When was Ann Lee born (roughly)?", "Is 1890 before Ann Lee's death?", "Another?"]
    assert questions.answers_of(steps[:2] + steps[3:], known[:2] + known[3:]) == {0: "Ann Lee"}
    assert questions.answers_of(steps[1:2], ["Reworded?"]) == {}


def test_facts_are_taken_away_and_replaced(questions: Any) -> None:
    facts = ["other", "Ann Lee wrote it.", "She was born in 1890.", "Ann Lee, again", "more"]
    case = a_case(questions)
    made = questions.none_left(case, facts, [1, 4, 2, 0, 3])
    assert [(trial.step, trial.passages, trial.answered) for trial in made[:2]] == [
        ("Who wrote it?", ("Ann Lee wrote it.", "She was born in 1890."), True),
        ("Who wrote it?", ("more", "other"), False),
    ]
    assert len(made) == 4  # the comparison needs none
    one = questions.one_missing(case, facts, [1, 3, 4, 0], {0: "Ann Lee", 1: "1890", 7: "1890"})
    assert [(trial.passages, trial.answered) for trial in one] == [
        (("Ann Lee wrote it.", "She was born in 1890."), True),
        (("more", "She was born in 1890."), False),  # fact 3 would answer, too
        (("Ann Lee wrote it.", "She was born in 1890."), True),
        (("Ann Lee wrote it.", "Ann Lee, again"), False),
    ]
    assert (
        questions.one_missing(case, ["", "Ann", "Ann born"], [0], {0: "Ann", 1: "born"}) == []
    )  # two facts; no secret


def test_signals_are_coverage_cosine_and_reference(questions: Any) -> None:
    def encode(texts: list[str]) -> Any:
        return np.asarray([[1.0, 0.0] if "Rome" in text else [0.6, 0.8] for text in texts], dtype=np.float32)

    trial = questions.Trial("q", "Is #1 in Rome Italy?", ("Rome is big", "Italy is far"), True)
    table = questions.signals([trial], encode)
    assert table[0] == pytest.approx([1, 0.5, 1, 1])


def test_answers_are_calibrated_on_held_questions(study: Any, questions: Any) -> None:
    cases = [a_case(questions, id=str(n), answer=n % 2 == 0) for n in range(4)]
    good, poor = np.array([5.0, 3, 5, 3]), np.array([3.5, 3.5, 4.5, 4.5])
    held = {"no facts": good, "retrieved facts": good - 10}
    odds = {
        "as it is": {"held": held, "test": {"no facts": poor, "along others": good}},
        "LoRA": {"held": held, "test": {"no facts": good, "along others": good}},
    }
    report = study.answers(odds, cases, cases, "test")
    assert report["share of no"] == 0.5
    first, other = report["as it is, no facts"], report["as it is, along others"]
    assert first["right"][0] == first["says yes"] == first["auc"][0] == 0.5  # cut at 4
    assert other["says yes"] == 1 and other["auc"][0] == 1  # cut at -6, as the held retrieved facts are
    assert report["LoRA, no facts"]["right"] == [1, 1, 1]
    assert report["LoRA, no facts"]["minus as it is"][0] == 0.5
    assert report["LoRA, along others"]["minus no facts"][0] == -0.5


def test_a_missing_fact_is_noticed(study: Any, questions: Any) -> None:
    def trials(ids: range) -> list[Any]:
        texts = [(("Rome lies in Italy",), True), (("Nothing of that",), False)]
        return [
            questions.Trial(str(n), step, *each)
            for n in ids
            for step in ("Is Rome in Italy?", "Is #1 far?")
            for each in texts
        ]

    def encode(texts: list[str]) -> Any:
        return np.asarray([near[text.split()[1]] for text in texts], dtype=np.float32)

    near = {"Rome": [1.0, 0.0], "lies": [1.0, 0.0], "of": [0.0, 1.0], "far?": [0.8, 0.6]}
    report = study.noticed(trials(range(8)), {"none": trials(range(3))}, encode)
    whole, alone = report["none, all steps"], report["none, self-contained steps"]
    assert (whole["questions"], whole["steps"]) == (3, 6) and (alone["questions"], alone["steps"]) == (3, 3)
    assert whole["coverage"]["false alarms"] == [0.5, 0.5, 0.5] and whole["coverage"]["auc"][0] == 0.75
    assert whole["cosine"]["told apart"] == [1, 1, 1] and whole["coverage"]["told apart"] == [0.75, 0.75, 0.75]
    assert 0.6 < whole["thresholds"]["cosine"] < 0.8
    for name in ("coverage", *study.DETECTORS):
        assert alone[name]["auc"] == alone[name]["told apart"] == alone[name]["noticed"] == [1, 1, 1]
        assert alone[name]["false alarms"] == alone[name]["auc minus coverage"] == [0, 0, 0]
    assert alone["thresholds"]["cosine"] == pytest.approx(0.5, abs=0.01)
