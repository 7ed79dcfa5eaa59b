"""The benchmark of given against generated subquestions, on recorded answers made up for the test."""

import gzip
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artrag.models.encoder_model import verdicts

ROOT = Path(__file__).parents[1]
QUESTIONERS = ("gpt2-small/bc", "chatgpt", "a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def script() -> Any:
    """The script benchmarks/subquestions.py as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("subquestions")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ids = [f"q{n}" for n in range(24)]
    (folder / "gsm8k").mkdir()
    (folder / "llm_predictions").mkdir()
    split = {"train": ids[:14], "dev": ids[14:19], "test": ids[19:]}
    (folder / "gsm8k" / "resplit_1319.json").write_text(json.dumps(split))

    def write(path: str, rows: list[dict[str, Any]]) -> None:
        (folder / path).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def asked(n: int, *steps: str) -> list[str]:
        return [f"How many {step} does box {n} hold?" for step in steps]

    texts = [f"Box {n} holds {n} pears and 5 plums. How many fruits does box {n} hold?" for n in range(24)]
    facts = [{"id": a, "question": text, "answer": "#### 1", "final": 1} for a, text in zip(ids, texts, strict=True)]
    write("gsm8k/test.jsonl", facts)
    gold = [[{"subquestion": one, "answer": "gold"} for one in asked(n, "pears", "fruits")] for n in range(24)]
    socratic = [{"id": a, "question": "?", "steps": steps, "final": 1} for a, steps in zip(ids, gold, strict=True)]
    write("gsm8k/test_socratic.jsonl", socratic)
    own = [{"id": a, "subquestions": asked(n, "plums"), "subanswers": ["told"]} for n, a in enumerate(ids)]
    write("llm_predictions/gsm8k_chatgpt_subquestions.jsonl", own)
    for answerer in ("chatgpt", "llama13b"):
        rows = [
            {"id": name, "answerer": answerer, "questioner": who, "subquestions": asked(n, "pears", who)}
            | {"subanswers": [f"It holds {n} pears.", f"It holds {n} + {k} = {n + 5} {who}."]}
            | {"final_text": str(n + 5), "predicted": n + 5, "is_correct": (k + n) % 2 == 0}
            for n, name in enumerate(ids)
            for k, who in enumerate(QUESTIONERS)
        ]
        with gzip.open(folder / "llm_predictions" / f"gsm8k_subq_{answerer}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def test_drafts_are_the_same_whatever_their_order_and_never_follow_a_generator(script: Any, data: Path) -> None:
    parts = script.drafts(data)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 84, "dev": 30, "test": 30}
    for rows in parts.values():
        assert {(one.id, one.source): 0 for one in rows}.keys() == {
            (one.id, source) for one in rows for source in ("chatgpt", "llama13b")
        }
        assert not [one for one in rows if "small/bc does" in one.text or "chatgpt does" in one.text]
    first = parts["dev"][0]
    told = {kind: [one.replace("box 14", "it") for one in asked] for kind, asked in first.asked.items()}
    assert told == {
        "given": ["How many pears does it hold?", "How many fruits does it hold?"],
        "generated": ["How many plums does it hold?"],
        "weak": ["How many pears does it hold?", "How many gpt2-small/bc does it hold?"],
        "another": ["How many plums does box 15 hold?"],
    }
    assert parts["dev"][-1].asked["another"] == ["How many plums does box 14 hold?"]
    pool = script.chains(data, "chatgpt", script.convert(script.read(data / "gsm8k" / "test.jsonl")))[:7]
    assert script.chosen(pool) == script.chosen(pool[::-1]) and len(script.chosen(pool * 2)) == 3


def draft(script: Any, text: str, *asked: str) -> Any:
    return script.Draft("q", "Ann has 3 pears and 5 plums. How many fruits?", "m", text, True, {"given": list(asked)})


def test_a_line_answers_that_says_a_number(script: Any) -> None:
    asked = "How many pears does Ann have?", "How many plums did Bob sell?"
    said = "How many pears does Ann have in 3 bags? {}\nFinal answer: 8"
    marks = [
        [one.answered for one in draft(script, said.format(answer), *asked).told("given")]
        for answer in ("She has 3.", "Some.")
    ]
    assert marks == [[True, False], [False, False]]
    one = draft(script, said.format("She has 3 + 5 = 9."), *asked)
    found = script.relations(one, "given")
    assert (found["asked"], found["asked_answered"], found["asked_last_answered"]) == (2, 0.5, 0)
    assert (found["steps_less_asked"], found["lines_less_asked"], found["asked_less_given"]) == (-1, -1, 0)
    assert script.relations(one, "none") == {} and script.relations(one, "given #") == {"asked": 2}
    alone = draft(script, "Plums: 3 + 5 = 8 fruits\nFinal answer: 8", "The fruits?")
    assert script.relations(alone, "given")["asked_ends"] == 1 and found["asked_ends"] == 0
    silent = replace(one, asked={"given": []})
    assert script.relations(silent, "given").keys() == found.keys()


def test_the_encoder_reads_them_behind_the_draft_and_its_checks_stay(script: Any) -> None:
    one = draft(script, "Pears and plums: 3 + 5 = 9\nFinal answer: 9", "The plums?", "How many 7s?")
    assert script.joined(one, "none") == one.text
    joined = script.joined(one, "given")
    assert joined == f"{one.text}\nSubquestions:\n- The plums? (answered)\n- How many 7s? (open)\n"
    assert verdicts(one.question, joined, None) == verdicts(one.question, one.text, None)


def test_figures_are_paired_and_drawn_by_question(script: Any) -> None:
    rows = [
        replace(draft(script, "t"), id=f"q{n // 2}", right=n % 2 == 0) for n in range(16)
    ]  # a right and a wrong one a question
    wrong = np.array([float(not one.right) for one in rows])
    ids = np.arange(16) // 2
    scores = {"none": np.array([ids, -wrong]), "given": np.array([wrong, ids + wrong / 2])}
    found = script.figures(scores, rows)
    assert found["none"]["seeds"] == [0.5, 0.0] and found["given"]["seeds"][0] == 1.0
    gained = found["given minus none"]
    assert gained["within a question"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert gained["auc"]["value"] == pytest.approx(found["given"]["auc"]["value"] - 0.25)
    assert gained["auc"]["low"] > 0 and set(found) == {"none", "given", "given minus none"}


def test_it_trains_once_a_kind_and_prints_every_figure(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, read = [], []

    def train(rows: Any, check: Any, folder: Path, **options: Any) -> dict[str, Any]:
        trained.append((folder.name, rows[0].candidates[0].text, len({one.id for one in check}), len(check)))
        folder.mkdir(parents=True)
        (folder / script.MANIFEST).write_text("{}")
        return {}

    class Model:
        @staticmethod
        def load(_: Path, folder: Path) -> Any:
            return type(
                "M", (), {"scores": lambda self, items: read.append(items[0][1]) or [len(i[1]) for i in items]}
            )()

    monkeypatch.setattr(script, "train_encoder_asker", train)
    monkeypatch.setattr(script, "weights_folder", Path)
    monkeypatch.setattr(script, "EncoderModel", Model)
    command = ["-", "--data", str(data), "--out", str(tmp_path), "--seeds", "1", "--encoder", "none", "given"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        script.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second and first["part"] == "dev" and len(trained) == 2 and len(read) == 3
    assert [name for name, *_ in trained] == ["encoder-none-500", "encoder-given-500"]
    assert "Subquestions" in trained[1][1] and "Subquestions" not in trained[0][1] and trained[0][2:] == (5, 5)
    assert ["pears does box" in text.partition("Subquestions")[2] for text in read] == [False, True, False]
    assert set(script.RUNS) <= set(first["numbers"]) and "weak minus generated" in first["numbers"]
    assert [name for name in first["encoder"] if "minus" not in name] == ["none", "given", "given, then generated"]
    assert all(0 <= first["numbers"][run]["auc"]["value"] <= 1 for run in script.RUNS)
    assert first["subquestions"]["weak"]["a question"] == 2
