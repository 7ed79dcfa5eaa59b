"""The modules under benchmarks/ that the figures of issue "ART with trained parts" come from."""

import gzip
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ROOT, ScriptedTruster

from artrag.evaluation.predictions import Prediction, RecordedAnswer
from artrag.evaluation.scoring import Scored, score_rows
from artrag.protocols import Doubt


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield


def module(name: str) -> Any:
    return importlib.import_module(name)


def row(n: int, draft: bool, refined: bool, *, source: str = "m", who: str = "w") -> Prediction:
    answers = (
        RecordedAnswer("initial", f"{who} draft {n} {'good' if draft else 'bad'}", n, draft, source=source),
        RecordedAnswer("refined", f"refined {n} {'good' if refined else 'bad'}", n + 1, refined, source=source),
    )
    return Prediction(f"q{n}", f"question {n}?", answers, n, None, {"questioner": who})


class Doubting:
    """Doubts bad drafts, more or less."""

    def ask(self, question: str, draft: str, passages: Any = None) -> Doubt:
        return Doubt([], 0.9 if "bad" in draft else 0.2, "")


TRUSTS = ScriptedTruster({"good": 0.9, "bad": 0.1})


def test_one_row_a_question_and_model_whatever_the_order() -> None:
    rows = [row(n, n % 2 == 0, True, source=s, who=f"w{k}") for n in range(9) for s in "ab" for k in range(5)]
    questions = module("art_questions")
    chosen = questions.one_each(rows)
    assert len(chosen) == 18 == len({(one.id, one.candidates[0].source) for one in chosen})
    by_name = {(one.id, one.candidates[0].source): one for one in questions.one_each(rows[::-1])}
    assert all(by_name[one.id, one.candidates[0].source] == one for one in chosen)
    assert len({one.metadata["questioner"] for one in chosen}) > 2
    wide = questions.with_samples(chosen, rows)
    for one, many in zip(chosen, wide, strict=True):
        assert many.candidates[:2] == one.candidates
        assert [a.stage for a in many.candidates[2:]] == 4 * ["sample"]
        assert one.candidates[0].text not in {a.text for a in many.candidates[2:]}
        assert {a.source for a in many.candidates} == {one.candidates[0].source}


def test_both_forms_of_the_same_questions(tmp_path: Path) -> None:
    for folder in ("gsm8k", "llm_predictions"):
        (tmp_path / folder).mkdir()
    lines = {
        "gsm8k/test.jsonl": [{"id": f"g{n}", "question": f"{n}?", "answer": f"#### {n}"} for n in range(4)],
        "llm_predictions/arithmetic_gpt_cot.jsonl": [
            {"id": f"c{n}", "question": f"{n}?", "solution": f"The answer is {n}.", "final": n, "predicted": n}
            | {"is_correct": True, "same_question_as": f"g{n}"}
            for n in range(3)
        ],
    }
    for name, rows in lines.items():
        (tmp_path / name).write_text("".join(json.dumps(one) + "\n" for one in rows))
    chains = [
        {"id": f"g{n}", "answerer": "chatgpt", "questioner": who, "subquestions": ["a?"], "subanswers": ["b"]}
        | {"final_text": "7", "predicted": 7, "is_correct": False}
        for n in range(1, 4)
        for who in ("chatgpt", "gpt2")
    ]
    with gzip.open(tmp_path / "llm_predictions/gsm8k_subq_chatgpt.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in chains)
    found = module("art_questions").forms(tmp_path, ["g0", "g1", "g3"])
    assert [[one.id for one in rows] for rows in found.values()] == [["g1"], ["g1"]]
    first, second = found["chain of thought"][0].candidates, found["decomposition"][0].candidates
    assert [a.stage for a in first] == [a.stage for a in second] == ["initial", "refined"]
    assert [a.correct for a in first] == [True, False] and [a.correct for a in second] == [False, True]
    assert first[0].text == "The answer is 1." and len({a.source for a in first}) == 1


class Counting:
    """A chat model that counts how often it is read."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def choice_probabilities(self, messages: Any, choices: Any) -> list[float]:
        self.seen.append("\n".join(message.text for message in messages))
        return [0.75, 0.25] if len(choices) == 2 else [0.0] * 9 + [1.0]

    def get_token_ids(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def prompt(self, messages: Any) -> str:
        return "\n".join(message.text for message in messages)


def test_readings_are_made_once_and_a_cut_line_is_read_again(tmp_path: Path) -> None:
    readings, chat, place = module("art_questions").Readings, Counting(), tmp_path / "readings.jsonl"
    read = readings(place, "m", lambda: chat)
    assert read.ask("q?", "d").refine_probability == 0.75 and read.score("q?", ["d", "e", "d"]) == [1, 1, 1]
    assert len(chat.seen) == 3 and read.tokens("q?", "d") == len(chat.seen[0])
    with place.open("a") as file:
        file.write('{"key": "cut by a k')
    again = readings(place, "m", lambda: pytest.fail("nothing is left to read"))
    assert again.ask("q?", "d").refine_probability == 0.75 and again.confidence("q?", "e") == 1
    other = readings(place, "another model", lambda: chat)
    other.ask("q?", "d")
    assert len(chat.seen) == 4 and len(place.read_text().splitlines()) == 4


def test_an_answer_that_runs_on_is_shortened_in_its_middle(tmp_path: Path) -> None:
    chat = Counting()
    module("art_questions").Readings(tmp_path / "r.jsonl", "m", lambda: chat).ask(
        "q?", "begun " + "x" * 9000 + " ended"
    )
    assert "begun" in chat.seen[0] and "ended" in chat.seen[0] and len(chat.seen[0]) < 3500


def test_a_table_pairs_policies_and_counts_what_they_cost() -> None:
    table = module("policy_table").Table([0, 0, 1, 2])
    table.add("a", (np.array([1.0, 0, 0, 0]), np.zeros(4)))
    table.add("b", (np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 1, 0])), calls=[2, 1, 2, 1], tokens=[10, 5, 10, 5])
    found = table.report("a")
    assert found["a"]["accuracy"][0] == 25 and "minus a" not in found["a"] and "calls" not in found["a"]
    assert found["b"]["minus a"][0] == 25 == table.difference("a", "b")[0] and table.difference("b", "a")[0] == -25
    assert (found["b"]["refined"], found["b"]["calls"], found["b"]["tokens"]) == (50, 1.5, 7.5)
    assert found["b"]["calls a right answer"][0] == 3 and found["b"]["tokens a right answer"][0] == 15
    low, high = found["b"]["accuracy"][1:]
    assert low < 50 < high
    mixed = module("policy_table").at_random(0.25, (np.array([0.0, 1]), np.zeros(2)), (np.array([1.0, 1]), np.ones(2)))
    assert list(mixed[0]) == [0.25, 1] and list(mixed[1]) == [0.25, 0.25]


def test_the_curve_lies_above_random_where_the_asker_knows() -> None:
    rows = [row(n, n % 3 > 0, True) for n in range(60)]
    scored = score_rows(rows, Doubting(), TRUSTS)
    found = module("art_replay").curve(scored, 0.0)
    assert found["always_above_random"] and found["lowest"] > 0
    shares, reached, line, lift = zip(*found["points"], strict=True)
    assert shares == tuple(tenth / 10 for tenth in range(11))
    assert reached[0] == line[0] == pytest.approx(66.67) and reached[10] == line[10] == 100
    assert reached[4] == 100 and line[5] == pytest.approx(83.33, abs=0.01) and lift[5][1] > 0
    lost = Scored([replace(one, doubt=1 - one.doubt) for one in scored.rows], {})
    assert not module("art_replay").curve(lost, 0.0)["always_above_random"]


def test_the_threshold_for_the_most_recent_answer() -> None:
    mended = [row(n, False, True) for n in range(10)] + [row(n, True, False) for n in range(10, 20)]
    found = module("art_replay").threshold(score_rows(mended, Doubting(), TRUSTS).rows)
    assert 0.2 < found <= 0.9


def test_every_baseline_stands_in_both_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    replayed, questions = module("art_replay"), module("art_questions")
    rows = [
        row(n, (n + k) % 3 == 0, (n + k) % 5 > 0, source=s, who=f"w{k}")
        for n in range(12)
        for s in "ab"
        for k in range(4)
    ]
    monkeypatch.setattr("artrag.evaluation.intervals.RESAMPLES", 50)
    monkeypatch.setattr("artrag.evaluation.intervals.STATISTIC_RESAMPLES", 20)
    chat = Counting()
    read = questions.Readings(tmp_path / "r.jsonl", "m", lambda: chat)
    replayed.baselines(rows, rows, rows, (Doubting(), TRUSTS, 0.5, 0.0), read)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tables: dict[str, dict[str, Any]] = {"all rows": {}, replayed.ONE_EACH: {}}
    for one in lines:
        if one["figure"] == "baseline":
            tables[one["over"]][one["name"]] = one
    cheap = {
        "initial",
        "always refine",
        replayed.TRAINED,
        "n-grams",
        "evidence",
        "most recent, trained Asker",
        "oracle",
    }
    cheap |= {"random at the same rate", "random at the same rate, trained Truster"}
    dear = {"prompted (self-refine), its own word", "prompted (self-refine), threshold chosen", "prompted + judge"}
    dear |= {"judge (expected grade), always refined", "majority vote of 5", "Truster-weighted vote of 5"}
    assert set(tables["all rows"]) >= cheap and not dear & set(tables["all rows"])
    few = tables[replayed.ONE_EACH]
    assert set(few) >= cheap | dear and {one["rows"] for one in few.values()} == {24}
    assert few["prompted (self-refine), its own word"]["accuracy"] == few["always refine"]["accuracy"]  # always 0.75
    assert few["oracle of 5"]["accuracy"][0] >= few["oracle"]["accuracy"][0] == few[replayed.TRAINED]["accuracy"][0]
    parts = {one["name"] for one in lines if one["figure"] == "parts" and one["over"] == replayed.ONE_EACH}
    assert parts == {replayed.TRAINED, "n-grams", "evidence", replayed.EMBEDDED_BASE}


def live_row(n: int, *right: bool) -> Prediction:
    stages = ["initial", "refined", "refined", *["sample"] * (len(right) - 3)]
    answers = tuple(
        RecordedAnswer(stage, f"1 + {n} = {place}{n} {'good' if good else 'bad'}", place, good)  # type: ignore[arg-type]
        for place, (stage, good) in enumerate(zip(stages, right, strict=True))
    )
    tokens = [[10 * (place + 1), 1] for place in range(len(right))]
    return Prediction(f"q{n}", f"question {n}?", answers, n, None, {"tokens": tokens})


def test_the_live_report_counts_calls_and_tokens() -> None:
    live = module("live_report")
    rows = [live_row(n, n % 2 == 0, True, n % 2 == 0, n % 3 == 0) for n in range(12)]
    doubts = live.Doubts([0.4, 0.6] * 6, [0.4, 0.6] * 6, [7] * 12)
    report = live.Report(rows, rows, doubts)
    report.add_parts(Doubting(), TRUSTS)
    report.add_parts(Doubting(), TRUSTS, ", parts of seed 1")
    found = report.as_dict()
    table = found["policies"]
    accuracy = {name: line["accuracy"][0] for name, line in table.items()}
    assert accuracy["initial"] == accuracy["ART, without subquestions"] == 50
    assert accuracy["ART"] == accuracy["self-refine, its own word"] == accuracy["ART, parts of seed 1"] == 100
    assert (table["initial"]["calls"], table["initial"]["tokens"]) == (1, 11)
    assert (table["always refine"]["calls"], table["always refine"]["tokens"]) == (2, 11 + 21)
    assert (table["ART"]["calls"], table["ART"]["tokens"]) == (1.5, 11 + 21 / 2)  # only the bad half is refined
    assert table["self-refine, its own word"]["calls"] == 2.5
    assert table["self-refine, its own word"]["tokens"] == 11 + 8 + 21 / 2
    assert (table["ART with samples"]["calls"], table["ART with samples"]["tokens"]) == (2, 11 + (21 + 41) / 2)
    assert (table["majority vote of 2, none refined"]["calls"], table["majority vote of 3"]["calls"]) == (2, 3)
    assert table["ART"]["tokens a right answer"][0] == 21.5
    assert found["differences"]["ART minus ART, without subquestions"][0] == 50
    assert found["differences"]["always refine minus always refine, without subquestions"][0] == 50
    assert found["self-refine"]["auc"] == 1 and 0.4 < found["self-refine"]["thresholds"]["self-refine"] <= 0.6
    assert found["refining"]["with"] == {
        "right to right": 6,
        "right to wrong": 0,
        "wrong to right": 6,
        "wrong to wrong": 0,
    }
    assert not found["solver under 10%"] and sum(found["drafts"].values()) == 12
    json.dumps(found)


def test_thresholds_of_the_live_report_come_from_dev() -> None:
    live = module("live_report")
    rows = [live_row(n, n % 2 == 0, True, True) for n in range(12)]
    harmful = [live_row(n, True, False, False) for n in range(12)]
    doubts = live.Doubts([0.5] * 12, [0.5] * 12, [7] * 12)
    found = live.Report(rows, harmful, doubts).as_dict()["policies"]
    assert (
        found["self-refine, threshold chosen"]["refined"] == 0 and found["self-refine, its own word"]["refined"] == 100
    )


def test_a_training_elsewhere_has_a_memory_of_its_own(tmp_path: Path) -> None:
    stages = module("live_stages")
    ballast = bytearray(300_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    kept = stages.Stages(tmp_path, {"run": 1}, lambda _: None)
    kept.train("small", json.loads, "1.5")
    cost = kept.training["small"]
    assert cost["seconds"] == 1.5  # what the work says, where that is more
    if sys.platform == "linux":
        assert cost["peak_memory_mb"] < stages.highest_memory_mb() - 200
    again = stages.Stages(tmp_path, {"run": 1}, lambda _: None)
    again.train("small", pytest.fail, "it is trained already")
    assert again.training == kept.training
    del ballast
