"""Ragas through our adapter: what the library itself returns, and judges that fail."""

import asyncio
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import AnsweringChat, HashedWords, json_lines, passage

from artrag.errors import MissingExtraError
from artrag.evaluation import ragas_scores as adapter
from artrag.evaluation.answering import Answered
from artrag.evaluation.metrics import Score
from artrag.evaluation.questions import Question
from artrag.evaluation.ragas_scores import Judged, check_judge, coverage, embedder_of, judge_of, ragas_scores
from artrag.nodes.evaluate.judge import known_rows

ROW = Judged("How hot is it?", "It is 4 degrees. It rains.", ("It is 4 degrees.", "Nothing else."), "4 degrees")


def said(prompt: str) -> str:
    """A judge that believes what the context says word for word."""
    if '"verdict": ' in prompt or "verdict" in prompt:
        if "classifications" in prompt:
            attributed = {"statement": "It is 4 degrees", "reason": "there", "attributed": 1}
            return json.dumps({"classifications": [attributed, {"statement": "x", "reason": "not", "attributed": 0}]})
        if "statements" in prompt:
            body = prompt[prompt.rindex('"context"') :]
            holds = "4 degrees" in body.split('"statements"')[0]
            told = [{"statement": "It is 4 degrees.", "reason": "so", "verdict": int(holds)}]
            return json.dumps({"statements": [*told, {"statement": "It rains.", "reason": "no", "verdict": 0}]})
        return "Sure! " + json.dumps(
            {"reason": "so", "verdict": int("4 degrees" in prompt[prompt.rindex("context") :])}
        )
    if "classifications" in prompt:
        return json.dumps({"classifications": [{"statement": "a", "reason": "b", "attributed": 1}]})
    if "noncommittal" in prompt:
        return json.dumps({"question": "How hot is it?", "noncommittal": 0})
    return json.dumps({"statements": ["It is 4 degrees.", "It rains."]})


def scored(chat: AnsweringChat, *rows: Judged, **more: Any) -> list[dict[Any, Score]]:
    return asyncio.run(ragas_scores(rows, chat, **more))


def needs_ragas() -> None:
    pytest.importorskip("instructor", reason="ragas is an extra: pip install 'artrag[ragas]'")
    try:
        adapter._library()
    except MissingExtraError as error:
        pytest.skip(str(error))


def test_the_adapter_returns_what_the_library_returns() -> None:
    needs_ragas()
    from ragas.metrics import collections as library

    chat = AnsweringChat(said)
    (found,) = scored(chat, ROW, embedder=HashedWords())
    llm, vectors, passages = judge_of(chat), embedder_of(HashedWords()), list(ROW.passages)
    given: dict[str, Any] = {"user_input": ROW.question, "retrieved_contexts": passages}

    async def direct() -> dict[str, float]:
        faithful = await library.Faithfulness(llm=llm).ascore(**given, response=ROW.answer)
        relevant = await library.AnswerRelevancy(llm=llm, embeddings=vectors).ascore(
            user_input=ROW.question, response=ROW.answer
        )
        precise = await library.ContextPrecision(llm=llm).ascore(**given, reference=ROW.reference)
        recalled = await library.ContextRecall(llm=llm).ascore(**given, reference=ROW.reference)
        return {
            "faithfulness": float(faithful.value),
            "answer_relevancy": float(relevant.value),
            "context_precision": float(precise.value),
            "context_recall": float(recalled.value),
        }

    assert {name: score.value for name, score in found.items()} == asyncio.run(direct())
    assert found["faithfulness"].value == 0.5 and not any(math.isnan(one.value) for one in found.values())


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (lambda _: "I would rather not say.", "ValueError: no JSON object in 'I would rather not say.'"),
        (lambda _: '{"statements": 7}', "statements"),
        (lambda _: '{"statements": []}', "made no statement"),
    ],
)
def test_a_judge_that_fails_gives_nan_and_a_reason(judge: Callable[[str], str], told: str) -> None:
    needs_ragas()
    found = scored(AnsweringChat(judge), ROW, ROW, metrics=["faithfulness"])
    assert len(found) == 2 and all(math.isnan(one["faithfulness"].value) for one in found)
    assert told in found[0]["faithfulness"].reason
    assert coverage([one["faithfulness"] for one in found]) == 0


def test_a_slow_judge_is_left_and_a_row_without_passages_is_no_disaster() -> None:
    needs_ragas()

    class Slow(AnsweringChat):
        async def _agenerate(self, *_: Any, **__: Any) -> Any:
            await asyncio.sleep(30)

    (found,) = scored(Slow(said), ROW, metrics=["faithfulness"], seconds=0.05)
    assert "did not answer in 0.05 s" in found["faithfulness"].reason
    bare = Judged(ROW.question, ROW.answer, (), "")
    (found,) = scored(AnsweringChat(said), bare, metrics=["faithfulness"])
    assert "retrieved_contexts is missing" in found["faithfulness"].reason


def test_a_judge_is_checked_on_known_rows() -> None:
    needs_ragas()
    wrong = Judged(ROW.question, ROW.answer, ("It snows.",), ROW.reference)
    good = asyncio.run(check_judge([ROW] * 3, [wrong] * 3, [], AnsweringChat(said)))
    assert good.passes and good.auc == 1 and good.coverage == 1 and "can tell" in str(good)
    assert math.isnan(good.answerable) and "without an answer" not in str(good)
    both = asyncio.run(check_judge([ROW] * 3, [wrong] * 3, [wrong], AnsweringChat(said)))
    assert both.passes and both.answerable == 1 and both.rows == 7 and "1.00 against questions without" in str(both)
    fooled = asyncio.run(check_judge([ROW] * 3, [wrong] * 3, [ROW], AnsweringChat(said)))
    assert not fooled.passes and (fooled.auc, fooled.answerable) == (1, 0.5) and "cannot tell" in str(fooled)
    blind = AnsweringChat(lambda prompt: said(prompt.replace("It snows.", "It is 4 degrees.")))
    found = asyncio.run(check_judge([ROW] * 3, [wrong] * 3, [], blind))
    assert not found.passes and found.auc == 0.5 and "cannot tell" in str(found)
    mute = asyncio.run(check_judge([ROW], [wrong], [], AnsweringChat(lambda _: "no")))
    assert not mute.passes and mute.coverage == 0


def test_a_run_is_judged_and_the_judge_too(tmp_path: Path) -> None:
    needs_ragas()
    from langchain_core.runnables import RunnableLambda

    from artrag import System, build_evaluate

    def hot(given: dict[str, str]) -> dict[str, Any]:
        n = given["question"].split()[2]
        return {
            "answer": f"It is {n} degrees",
            "passages": [passage(f"Day {n} had 4 degrees." if n == "4" else "Rain.")],
        }

    rows = [{"id": f"q{n}", "question": f"How hot {n} ?", "answer": f"{n} degrees"} for n in range(3, 6)]
    questions = json_lines(tmp_path / "q.jsonl", rows)
    systems = [System("hot", RunnableLambda(hot)), System("bare", RunnableLambda(lambda _: {"answer": "4"}))]
    graph = build_evaluate(systems, judge=AnsweringChat(said)).compile()
    found = graph.invoke({"questions": str(questions), "run": str(tmp_path / "run")})  # type: ignore[call-overload]
    told = found["report"]["systems"]["hot"]
    assert told["ragas_faithfulness"]["value"] == pytest.approx(0.5 / 3)
    assert told["counts"]["ragas_faithfulness"] == 3 and told["ragas_faithfulness_coverage"]["value"] == 1
    assert "ragas_faithfulness" not in found["report"]["systems"]["bare"]
    assert "could not be checked" in found["report"]["judge"] == found["judge"]
    assert "could not be checked" in (tmp_path / "run/report.html").read_text("utf-8")
    lines = [json.loads(line) for line in (tmp_path / "run/judged.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 3 and lines[0]["faithfulness"][1] == "as the judge says"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_judge_that_fails_on_some_rows_ends_no_run_and_its_coverage_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    from langchain_core.runnables import RunnableLambda

    from artrag import System, build_evaluate

    async def moody(row: Judged) -> float:
        match int(row.question.split()[2]) % 4:
            case 0:
                raise ValueError("I would rather not say")
            case 1:
                await asyncio.sleep(30)
            case 2:
                return math.nan
        return 0.5

    monkeypatch.setattr(adapter, "_metrics", lambda *_: {"faithfulness": moody})  # it needs no library then
    monkeypatch.setattr(adapter.ragas_scores, "__kwdefaults__", adapter.ragas_scores.__kwdefaults__ | {"seconds": 0.05})
    rows = [{"id": f"q{n}", "question": f"How hot {n} ?", "answer": f"{n} degrees"} for n in range(24)]
    questions = json_lines(tmp_path / "q.jsonl", rows)
    hot = RunnableLambda(lambda given: {"answer": given["question"], "passages": [passage("It is 4 degrees.")]})
    graph = build_evaluate([System("hot", hot)], judge=AnsweringChat(said)).compile()
    inputs: Any = {"questions": str(questions), "run": str(tmp_path / "run")}
    state = asyncio.run(graph.ainvoke(inputs)) if asynchronous else graph.invoke(inputs)
    told = state["report"]["systems"]["hot"]
    assert told["ragas_faithfulness"]["value"] == 0.5 and told["counts"]["ragas_faithfulness"] == 6
    assert told["ragas_faithfulness_coverage"]["value"] == 0.25
    kept = {row["id"]: row for row in map(json.loads, (tmp_path / "run/judged.jsonl").read_text("utf-8").splitlines())}
    assert [kept[f"q{n}"]["faithfulness"][0] for n in range(4)] == [None, None, None, 0.5]
    reasons = [kept[f"q{n}"]["faithfulness"][1] for n in range(3)]
    assert "I would rather not say" in reasons[0] and "did not answer in" in reasons[1] and "no statement" in reasons[2]
    page = (tmp_path / "run/report.html").read_text("utf-8")
    assert "ragas_faithfulness_coverage" in page and ">25.0<" in page


def test_a_judge_that_says_nothing_usable_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.runnables import RunnableLambda

    from artrag import System, build_evaluate

    async def mute(row: Judged) -> float:
        raise ValueError("no")

    monkeypatch.setattr(adapter, "_metrics", lambda *_: {"faithfulness": mute})
    rows = [{"id": f"q{n}", "question": f"How hot {n} ?", "answer": f"{n} degrees"} for n in range(24)]
    questions = json_lines(tmp_path / "q.jsonl", rows)
    hot = RunnableLambda(
        lambda given: {"answer": "so", "passages": [passage(f"{given['question'].split()[2]} degrees")]}
    )
    graph = build_evaluate([System("hot", hot)], judge=AnsweringChat(said)).compile()
    report = graph.invoke({"questions": str(questions), "run": str(tmp_path / "run")})["report"]  # type: ignore[call-overload]
    assert "the judge cannot tell" in report["judge"] and "0% scored" in report["judge"]
    assert report["systems"]["hot"]["ragas_faithfulness"] is None
    assert report["systems"]["hot"]["ragas_faithfulness_coverage"]["value"] == 0
    assert "the judge cannot tell" in (tmp_path / "run/report.html").read_text("utf-8")


def test_known_rows_are_right_ones_swapped_ones_and_made_up_ones() -> None:
    questions = [Question(f"q{n}", f"How hot is it on day {n}?", (f"{n} degrees",)) for n in range(3)]
    questions += [Question("none", "How cold is the sun?", ()), Question("silent", "How cold is the moon?", ())]
    read = [({"id": "p", "document": "p", "text": f"On day {n} it is {n} degrees hot."},) for n in range(3)]
    rows = [Answered("a", f"q{n}", "hot", passages=read[n]) for n in range(3)]
    rows += [Answered("a", "none", "4 degrees [1]", passages=read[0])]
    rows += [Answered("a", "silent", "The passages do not say.", passages=read[0])]
    right, swapped, made_up = known_rows(questions, {"a": rows, "b": rows})
    assert len(right) == len(swapped) == 3 and all(one.reference in one.passages[0] for one in right)
    assert not any(one.reference in one.passages[0] for one in swapped)
    assert [one.answer for one in made_up] == ["How cold is the sun? 4 degrees"]


def test_a_judge_without_known_rows_is_said_to_be_unchecked() -> None:
    needs_ragas()
    assert "could not be checked" in str(asyncio.run(check_judge([], [], [], AnsweringChat(said))))
    assert "could not be checked" in str(asyncio.run(check_judge([ROW], [], [], AnsweringChat(said))))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "ragas" or name.startswith("ragas.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ragas", None)
    with pytest.raises(MissingExtraError, match=r"artrag\[ragas\]"):
        scored(AnsweringChat(said), ROW)
    assert coverage([]) == 0
