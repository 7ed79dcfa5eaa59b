"""Runs as LangSmith experiments: offline with the real SDK, and to and from a data set of a fake client."""

import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artrag.errors import UsageError
from artrag.evaluation.answering import Answered
from artrag.evaluation.questions import Question, read_questions
from artrag.interfaces.experiments import as_experiments, read_dataset

QUESTIONS = [
    Question("a", "Colour?", ("deep red",), relevant=("d",)),
    Question("b", "Which?", ("B",), options=(("A", "x"), ("B", "y"))),
]
ROWS = {
    "low one": [Answered("low one", "a", "blue"), Answered("low one", "b", "A")],
    "high": [Answered("high", "a", "deep red", confidence=0.9), Answered("high", "b", "", error="boom")],
}


class FakeClient:
    """Keeps data sets as LangSmith does."""

    def __init__(self) -> None:
        self.sets: dict[str, list[Any]] = {}

    def has_dataset(self, *, dataset_name: str) -> bool:
        return dataset_name in self.sets

    def create_dataset(self, name: str, **_: Any) -> Any:
        self.sets[name] = []
        return SimpleNamespace(id=name)

    def create_examples(self, *, dataset_id: str, examples: list[dict[str, Any]]) -> None:
        self.sets[dataset_id] += [SimpleNamespace(id=uuid.uuid4(), **one) for one in examples]

    def list_examples(self, *, dataset_name: str) -> list[Any]:
        return self.sets[dataset_name]


def test_offline_every_measure_comes_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was sent")

    monkeypatch.setattr("requests.Session.request", refused)
    found = as_experiments(QUESTIONS, ROWS)
    assert list(found) == ["low one", "high"]
    by_id = {row["inputs"]["id"]: row for row in found["high"]}
    assert by_id["a"]["outputs"]["answer"] == "deep red" and by_id["a"]["outputs"]["confidence"] == 0.9
    assert by_id["a"]["scores"]["em"] == (1.0, "equals 'deep red'")
    assert by_id["b"]["scores"]["quality"] == (0.0, "failed: boom")
    assert {row["inputs"]["id"]: row["scores"]["quality"][0] for row in found["low one"]} == {"a": 0.0, "b": 0.0}


def test_a_data_set_is_made_once_and_read_back_as_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []

    def evaluated(target: Any, **given: Any) -> list[Any]:
        sent.append(given | {"said": [target(one.inputs)["answer"] for one in given["data"]]})
        return []

    monkeypatch.setattr("artrag.interfaces.experiments.evaluate", evaluated)
    client: Any = FakeClient()
    for _ in range(2):
        as_experiments(QUESTIONS, ROWS, dataset="mine", client=client, upload=True)
    assert len(client.sets["mine"]) == 2 and [one["said"] for one in sent[:2]] == [["blue", "A"], ["deep red", ""]]
    assert sent[0]["experiment_prefix"] == "mine-low-one" and sent[0]["upload_results"] is True
    assert read_dataset("mine", tmp_path / "q.jsonl", client) == 2
    first, second = read_questions(tmp_path / "q.jsonl")
    assert first.answers == ("deep red",) and first.relevant == ("d",) and first.id == "a"
    assert second.options == QUESTIONS[1].options and second.answers == ("B",)
    more = [*QUESTIONS, Question("c", "New?", ("x",))]
    with pytest.raises(UsageError, match="lacks 1 of 3 questions, such as 'c'"):
        as_experiments(more, {}, dataset="mine", client=client, upload=True)
    client.sets["mine"][0].outputs = {}
    with pytest.raises(UsageError, match="has inputs .* and outputs"):
        read_dataset("mine", tmp_path / "q.jsonl", client)
    assert len(json.loads((tmp_path / "q.jsonl").read_text("utf-8").splitlines()[0])) >= 3
