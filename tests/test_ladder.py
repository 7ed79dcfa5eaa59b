"""The evaluation ladder: rows that are never paid twice, measures, causes, verdicts, reports."""

import asyncio
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, AnsweringChat, HashedWords, ScriptedChat, json_lines, passage
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda

from artrag import System, build_evaluate
from artrag.errors import ModelCallError, RunLockedError, UsageError
from artrag.evaluation.answering import Answered, measures, quality
from artrag.evaluation.causes import cause
from artrag.evaluation.intervals import Interval
from artrag.evaluation.ladder import Ladder, Rung, ladder
from artrag.evaluation.ladder_markdown import as_markdown
from artrag.evaluation.ladder_page import SHOWN, as_html
from artrag.evaluation.plots import frontier_plot
from artrag.evaluation.questions import Question
from artrag.index import Index
from artrag.interfaces import ladder as rooms
from artrag.remembering import Remembered, sparing

Say = Callable[[str], Any]
READ = ({"id": "d#0", "document": "d", "text": "The pump runs at 4 bar.", "context": "Pumps"},)


def system(name: str, say: Say, **more: Any) -> System:
    return System(name, RunnableLambda(lambda given: {"answer": say(given["question"])}), **more)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "question": f"How much is {n} and {n}?", "answer": 2 * n} for n in range(24)]
    return json_lines(tmp_path / "questions.jsonl", rows)


def climb(systems: Sequence[System], questions: Path, run: Path, /, **more: Any) -> dict[str, Any]:
    graph = build_evaluate(systems, embedder=more.pop("embedder", None), truster=more.pop("truster", None)).compile()
    found = graph.invoke({"questions": str(questions), "run": str(run), **more})  # type: ignore[arg-type]
    return found["report"]  # type: ignore[no-any-return]


def doubled(question: str) -> str:
    return f"Answer: {2 * int(question.split()[3])}"


# --- the graph


def test_systems_become_figures_a_verdict_and_three_files(asked: Path, tmp_path: Path) -> None:
    systems = [system("low", lambda _: "Answer: 7"), system("high", doubled, over="low", adds="tuning")]
    report = climb(systems, asked, tmp_path / "run", at_once=3)
    low, high = report["systems"]["low"], report["systems"]["high"]
    assert low["quality"]["value"] == low["accuracy"]["value"] == 0 and high["quality"]["value"] == 1
    assert high["gain"] == {"value": 1.0, "low": 1.0, "high": 1.0} and low["gain"] is None
    assert report["lacking"] == "behaviour" and report["keep"] == "high" and report["questions"] == 24
    assert "Behaviour (fine-tuning) is what you lacked: 'high' gains +100.0 [+100.0, +100.0]" in report["verdict"][0]
    assert low["causes"] == {"wrong reasoning": 24} and high["causes"] == {}
    told = json.loads(Path(report["json"]).read_text("utf-8"))
    assert told == {name: value for name, value in report.items() if name not in ("page", "markdown", "json")}
    assert "| high | tuning | 100.0 [100.0, 100.0] | +100.0" in Path(report["markdown"]).read_text("utf-8")
    assert Path(report["page"]).read_text("utf-8").count("<svg") >= 2


def test_a_row_is_paid_once_and_a_changed_system_is_asked_anew(asked: Path, tmp_path: Path) -> None:
    calls: list[str] = []

    def say(question: str) -> str:
        calls.append(question)
        return "Answer: 7"

    for about, paid in (("one", 24), ("one", 24), ("two", 48), ("one", 48)):
        report = climb([system("a", say, about=about)], asked, tmp_path / "run")
        assert len(calls) == paid and report["systems"]["a"]["counts"]["quality"] == 24
    rows = (tmp_path / "run/answers.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 48 and len({json.loads(row)["key"] for row in rows}) == 48


def test_a_killed_run_goes_on(asked: Path, tmp_path: Path) -> None:
    calls: list[str] = []

    def say(question: str) -> str:
        calls.append(question)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return "Answer: 7"

    with pytest.raises(KeyboardInterrupt):
        climb([system("a", say)], asked, tmp_path / "run", at_once=1)
    path = tmp_path / "run/answers.jsonl"
    assert 9 <= len(path.read_text("utf-8").splitlines()) < 24  # what was begun beside it may end
    with path.open("a") as file:
        file.write('{"key": "half')
    climb([system("a", say)], asked, tmp_path / "run")
    assert len(calls) == 25 and len(set(calls)) == 24


@pytest.mark.parametrize("asynchronous", [False, True])
def test_of_two_runs_in_one_folder_the_second_is_refused(asked: Path, tmp_path: Path, asynchronous: bool) -> None:
    second: list[Exception] = []

    def say(question: str) -> str:
        if not second:
            with pytest.raises(RunLockedError) as refused:
                climb([system("b", doubled)], asked, tmp_path / "run")
            second.append(refused.value)
        return doubled(question)

    graph = build_evaluate([system("a", say)]).compile()
    given: Any = {"questions": str(asked), "run": str(tmp_path / "run"), "at_once": 1}
    state = asyncio.run(graph.ainvoke(given)) if asynchronous else graph.invoke(given)
    assert state["report"]["systems"]["a"]["quality"]["value"] == 1
    told = str(second[0])
    assert repr(str(tmp_path / "run")) in told and f"this same process ({os.getpid()} on" in told
    assert not (tmp_path / "run/writer.json").exists()
    assert climb([system("b", doubled)], asked, tmp_path / "run")["systems"]["b"]["quality"]["value"] == 1


HOLDER = """
import sys, time
from pathlib import Path
from artrag.errors import RunLockedError
from artrag.holding import Hold
hold = Hold.take(Path(sys.argv[1]), told="it", otherwise=RunLockedError)
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_is_held_by_a_process_and_free_when_that_is_killed(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(RunLockedError, match=rf"run' of this run is being written by process {holder.pid} on"):
            climb([system("a", doubled)], asked, tmp_path / "run")
        holder.kill()
    assert climb([system("a", doubled)], asked, tmp_path / "run")["systems"]["a"]["quality"]["value"] == 1


def test_the_systems_are_made_once_and_a_later_node_needs_them_no_more(asked: Path, tmp_path: Path) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    made: list[str] = []

    def ladder_of(_: Any, state: Any) -> dict[str, System]:
        made.append(state["run"])
        return {"low": system("low", lambda _: "7"), "high": system("high", doubled, over="low")}

    saver, config = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    given: Any = {"questions": str(asked), "run": str(tmp_path / "run"), "systems": ["high", "low"]}
    graph = build_evaluate(ladder_of).compile(checkpointer=saver, interrupt_before=["report"])
    state = graph.invoke(given, config)  # type: ignore[arg-type]
    assert [one["name"] for one in state["rungs"]] == ["low", "high"] and not state["report"] and len(made) == 1
    again = build_evaluate(ladder_of).compile(checkpointer=saver)  # as another process would
    report = again.invoke(None, config)["report"]  # type: ignore[arg-type]
    assert report["systems"]["high"]["gain"]["value"] == 1 and len(made) == 1
    (tmp_path / "run/answers.jsonl").unlink()
    state = graph.invoke(given | {"systems": ["low"]}, config)  # type: ignore[arg-type]
    (tmp_path / "run/answers.jsonl").unlink()
    with pytest.raises(UsageError, match="lacks answers of 'low'"):
        again.invoke(None, config)  # type: ignore[arg-type]


def test_a_question_that_fails_is_kept_with_its_error_counts_as_wrong_and_is_asked_again(
    asked: Path, tmp_path: Path
) -> None:
    broken = True

    def say(question: str) -> str:
        if broken and " 3 " in question:
            raise ModelCallError("the model is away: start it")
        if broken and " 4 " in question:
            raise ValueError("odd")
        return doubled(question)

    report = climb([system("a", say)], asked, tmp_path / "run")
    one = report["systems"]["a"]
    assert one["failed"] == 2 and one["coverage"] == pytest.approx(22 / 24)
    assert one["quality"]["value"] == pytest.approx(22 / 24) and one["causes"] == {"failed": 2}
    errors = [json.loads(line)["error"] for line in (tmp_path / "run/answers.jsonl").read_text("utf-8").splitlines()]
    assert sorted(filter(None, errors)) == ["ValueError: odd", "the model is away: start it"]
    broken = False
    assert climb([system("a", say)], asked, tmp_path / "run")["systems"]["a"]["failed"] == 0


def test_a_run_is_compared_with_an_earlier_one_over_the_same_questions(asked: Path, tmp_path: Path) -> None:
    first, later = tmp_path / "first", tmp_path / "later"
    climb([system("a", doubled), system("b", lambda _: "7")], asked, first)
    worse = [system("a", lambda q: doubled(q) if " 1" in q else "7"), system("b", lambda _: "7"), system("c", doubled)]
    told = climb(worse, asked, later, against=str(first))["against"]
    assert told["worse"] == ["a"] and told["new"] == ["c"] and told["gains"]["a"]["high"] < 0
    assert told["gains"]["b"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "Since " in (later / "report.html").read_text("utf-8")
    other = json_lines(tmp_path / "other.jsonl", [{"id": "q0", "question": "How much is 1 and 1?", "answer": 2}])
    gold = [{"id": f"q{n}", "question": f"How much is {n} and {n}?", "answer": 2 * n + (n == 3)} for n in range(24)]
    corrected = json_lines(tmp_path / "gold.jsonl", gold)
    part = json_lines(tmp_path / "part.jsonl", [{"id": "q0", "question": "How much is 0 and 0?", "answer": 0}])
    for questions, before, said in (
        (other, first, "1 of these are not among them, such as 'q0'"),
        (part, first, "asked 24 questions, this run 1, and 0 of these are not among them:"),
        (corrected, first, "1 of these are not among them, such as 'q3': compare runs over .* the same right answers"),
        (asked, tmp_path / "none", "is no finished run"),
    ):
        with pytest.raises(UsageError, match=said):
            climb([system("a", doubled)], questions, tmp_path / "third", against=str(before))
    with pytest.raises(UsageError, match="has the systems a, b, and none of these"):
        climb([system("z", doubled)], asked, tmp_path / "third", against=str(first))


def test_questions_that_are_asked_twice_are_told(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{n}", "question": f"How much is {n % 23} and {n % 23}?", "answer": 2 * (n % 23)} for n in range(24)
    ]
    given: Any = {"questions": str(json_lines(tmp_path / "twice.jsonl", rows)), "run": str(tmp_path / "run")}
    graph = build_evaluate([system("a", doubled)]).compile()
    told = [part["message"] for part in graph.stream(given, stream_mode="custom")]
    assert any("asked further up already: 1, such as 'q23'" in message for message in told)


def test_fewer_than_20_questions_are_no_loss_either(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "question": f"How much is {n} and {n}?", "answer": 2 * n} for n in range(19)]
    questions = json_lines(tmp_path / "few.jsonl", rows)
    climb([system("a", doubled)], questions, tmp_path / "first")
    report = climb([system("a", lambda _: "x")], questions, tmp_path / "later", against=str(tmp_path / "first"))
    assert report["against"]["gains"]["a"]["high"] < 0 and report["against"]["worse"] == []
    assert "19 different questions are too few" in Path(report["page"]).read_text("utf-8")
    assert "19 different questions are too few" in Path(report["markdown"]).read_text("utf-8")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_graph_below_costs_is_counted_and_its_interrupts_and_threads_stay_its_own(
    asked: Path, tmp_path: Path, asynchronous: bool
) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    from artrag import build_contextual_rag

    chat = AnsweringChat(lambda prompt: "Answer: 7")
    retriever: Runnable[Any, Any] = RunnableLambda(lambda _: [passage("A passage.")])
    inner = build_contextual_rag(chat=chat, retriever=retriever).compile()
    graph = build_evaluate([System("inner", inner)]).compile(checkpointer=InMemorySaver())
    given: Any = {"questions": str(asked), "run": str(tmp_path / "run"), "at_once": 4, "price": [1.0, 2.0]}
    config: Any = {"configurable": {"thread_id": "1"}}
    state = asyncio.run(graph.ainvoke(given, config)) if asynchronous else graph.invoke(given, config)
    again = asyncio.run(graph.ainvoke(given, config)) if asynchronous else graph.invoke(given, config)
    assert again["usage"]["plan"]["seconds"] < 1 and "score" in again["usage"]
    assert again["usage"]["score"]["calls"] == 0, "an earlier run on the thread counts no more"
    cost = state["report"]["systems"]["inner"]["cost"]
    assert (cost["calls"], cost["prompt_tokens"], cost["completion_tokens"]) == (1, 10, 5)
    assert cost["money"] == pytest.approx(20e-6) and 0 < cost["seconds"] < 5
    assert state["usage"]["score"]["calls"] == 24
    row = json.loads((tmp_path / "run/answers.jsonl").read_text("utf-8").splitlines()[0])
    assert row["passages"] == [{"id": "a.md#0", "document": "a.md", "text": "A passage.", "context": ""}]
    assert row["confidence"] is None  # nobody judged it


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_page_leads_to_the_trace_of_every_answer(asked: Path, tmp_path: Path, asynchronous: bool) -> None:
    from artrag import build_contextual_rag

    chat = AnsweringChat(lambda prompt: "Answer: 7")
    retriever: Runnable[Any, Any] = RunnableLambda(lambda _: [passage("A passage.")])
    inner = System("inner", build_contextual_rag(chat=chat, retriever=retriever).compile())
    run = tmp_path / "run"
    climb([inner], asked, run)
    assert "traces/" not in (run / "report.html").read_text("utf-8") and not (run / "traces").exists()
    graph = build_evaluate([inner, system("other", doubled)]).compile()
    given: Any = {"questions": str(asked), "run": str(run), "traces": True}
    asyncio.run(graph.ainvoke(given)) if asynchronous else graph.invoke(given)
    links = re.findall(r'<a href="(traces/[0-9a-f]{24}\.html)">trace</a>', (run / "report.html").read_text("utf-8"))
    assert len(set(links)) == 24  # what was answered before has none
    pages = [(run / link).read_text("utf-8") for link in links]
    assert all(page.count("How much is") for page in pages) and not any("retrieve" in page for page in pages)
    graph.invoke({**given, "run": str(tmp_path / "anew")})
    told = (tmp_path / "anew/report.html").read_text("utf-8")
    assert len(re.findall(r">trace</a>", told)) == 48
    assert sum("retrieve" in page.read_text("utf-8") for page in (tmp_path / "anew/traces").iterdir()) == 24


def test_confidence_and_abstention_come_along(asked: Path, tmp_path: Path) -> None:
    answers: Runnable[Any, Any] = RunnableLambda(
        lambda given: (
            {"answer": "?", "abstained": True, "confidence": 0.1, "decision": "not sure"}
            if " 5 " in given["question"]
            else {"answer": doubled(given["question"]), "confidence": 0.9}
        )
    )
    one = climb([System("a", answers)], asked, tmp_path / "run")["systems"]["a"]
    assert one["abstained"] == 1 and one["causes"] == {"wrongly abstained": 1}
    assert 0 < one["calibration"]["ece"] < 0.2 and 0 <= one["calibration"]["aurc"] < 0.05


def test_relevancy_is_measured_with_an_embedder(asked: Path, tmp_path: Path) -> None:
    systems = [system("echo", lambda question: question), system("off", lambda _: "zebra")]
    found = climb(systems, asked, tmp_path / "run", embedder=HashedWords())["systems"]
    assert found["echo"]["relevancy"]["value"] == pytest.approx(1) and found["off"]["relevancy"]["value"] < 0.5


@pytest.mark.parametrize("made", [ConnectionError("reset"), None, [[1.0]], [[float("nan")] * 4] * 24])
def test_an_embedder_that_fails_at_relevancy_is_named(
    asked: Path, tmp_path: Path, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(*_: Any) -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    monkeypatch.setattr(HashedWords, "embed_documents", embed)
    with pytest.raises(ModelCallError, match="the embedder failed at the answers"):
        climb([system("echo", lambda question: question)], asked, tmp_path / "run", embedder=HashedWords())
    assert len((tmp_path / "run" / "answers.jsonl").read_text("utf-8").splitlines()) == 24


@pytest.mark.parametrize(
    ("gives", "answer"),
    [
        (lambda _: "four", "four"),
        (lambda _: AIMessage("four"), "four"),
        (lambda _: {"messages": [AIMessage("four")], "confidence": None}, "four"),
        (lambda _: {"answer": "four", "passages": ["It is four.", {"text": "Four.", "id": "d#1"}]}, "four"),
        (lambda _: {"answer": 4}, None),
        (lambda _: {"answer": "four", "confidence": 85}, None),
    ],
)
def test_any_app_can_climb_along(tmp_path: Path, gives: Any, answer: str | None) -> None:
    questions = json_lines(tmp_path / "q.jsonl", [{"id": "q", "question": "How many?", "answer": "four"}])
    one = climb([System("mine", RunnableLambda(gives))], questions, tmp_path / "run")["systems"]["mine"]
    assert one["failed"] == (answer is None) and one["quality"]["value"] == (answer is not None)


def test_like_questions_are_asked_once_and_a_failure_never_replaces_an_answer(tmp_path: Path) -> None:
    calls: list[str] = []

    def say(question: str) -> str:
        calls.append(question)
        return "four"

    rows = [{"id": name, "question": "How many?", "answer": "four"} for name in "ab"]
    questions = json_lines(tmp_path / "q.jsonl", rows)
    one = climb([system("mine", say)], questions, tmp_path / "run")["systems"]["mine"]
    assert len(calls) == 1 and one["quality"]["value"] == 1
    path = tmp_path / "run/answers.jsonl"
    path.write_text(path.read_text("utf-8") + path.read_text("utf-8").replace('"error": ""', '"error": "x"'), "utf-8")
    assert climb([system("mine", say)], questions, tmp_path / "run")["systems"]["mine"]["failed"] == 0
    path.write_text("no json\n", "utf-8")
    with pytest.raises(UsageError, match="answers.jsonl:1: no JSON object"):
        climb([system("mine", say)], questions, tmp_path / "run")


def test_what_cannot_be_reported_is_said_before_anybody_is_asked(asked: Path, tmp_path: Path) -> None:
    def never(_: str) -> str:
        raise AssertionError("it was asked")

    for given in ({"against": str(tmp_path / "none")}, {"price": [1.0]}):
        with pytest.raises(UsageError):
            climb([system("a", never)], asked, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_is_said(asked: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing can be written into '.*questions.jsonl/run'.*give another folder"):
        climb([system("a", doubled)], asked, asked / "run")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"run": ""}, "no run is named"),
        ({"systems": ["a", "nope"]}, "no system 'nope' here: there are a;"),
        ({"price": [1.0]}, "two numbers"),
    ],
)
def test_what_cannot_be_measured_is_said(asked: Path, tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        graph = build_evaluate([system("a", doubled)]).compile()
        graph.invoke({"questions": str(asked), "run": str(tmp_path / "run")} | given)  # type: ignore[arg-type]


def test_systems_have_names_of_their_own_and_stand_on_something() -> None:
    for bad in ([], [system("a", doubled), system("a", doubled)], [system("a", doubled, over="b")]):
        with pytest.raises(UsageError):
            build_evaluate(bad)


# --- measures and causes


def words(*answers: str, **more: Any) -> Question:
    return Question("q", "At how many bar does the pump run?", answers, **more)


def row(answer: str, **more: Any) -> Answered:
    return Answered("a", "q", answer, **more)


def test_measures_of_words_with_passages() -> None:
    found = measures(words("4 bar", relevant=("d",)), row("It runs at 4 bar [1]", passages=READ))
    assert found["em"].value == 0 and 0 < found["f1"].value < 1 and found["gives_answer"].value == 1
    assert found["quality"] == found["f1"] and found["rouge_l"].value == pytest.approx(4 / 7)
    assert found["support"].value == 1 and found["answer_in_passages"].value == 1
    assert found["recall"].value == found["mrr"].value == found["ndcg"].value == 1
    two = (READ[0] | {"id": "e#1", "document": "e"}, READ[0])
    found = measures(words("4 bar", relevant=("d#0", "x")), row("4 bar", passages=two))
    assert found["recall"].value == 0.5 and found["mrr"].value == 0.5
    assert found["ndcg"].value == pytest.approx(1 / math.log2(3) / (1 + 1 / math.log2(3)))
    refused = measures(words("4 bar"), row("The passages do not say.", passages=READ))
    assert "support" not in refused and refused["quality"].value < 0.5
    verdict = Question("q", "Does the pump run at 4 bar?", ("yes",))
    assert measures(verdict, row("Yes [1]", passages=READ))["support"].value == 1
    hedged = ({"id": "d#0", "document": "d", "text": "The time is not given in winter. It runs at 4 bar."},)
    assert measures(words("4 bar"), row("9", passages=hedged))["answer_in_passages"].value == 1
    worked = measures(words("4 bar"), row("The pump is old. It was made to run slowly.\nAnswer: 4 bar"))
    assert worked["quality"].value == worked["em"].value == worked["rouge_l"].value == 1


def test_measures_of_others() -> None:
    yes = Question("q", "Does it run?", ("yes",))
    assert set(measures(yes, row("Yes"))) == {"quality", "accuracy"}
    untold = Question("q", "Why?", ())
    assert measures(untold, row("The passages do not say.", passages=READ))["refusal"].value == 1
    assert quality(untold, row("?", abstained=True)).value == 1 and quality(yes, row("yes", abstained=True)).value == 0
    assert quality(yes, row("yes", error="boom")).value == 0
    assert measures(yes, row("", error="boom", passages=())).keys() == {"quality", "accuracy"}


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        (words("4 bar"), row("", error="boom"), "failed"),
        (Question("q", "Why?", ()), row("Because."), "answers what is not told"),
        (words("4 bar"), row("9 bar", abstained=True, passages=READ), "wrongly abstained"),
        (words("4 bar"), row("9 bar", passages=READ, draft="4 bar [1]"), "wrongly refined"),
        (words("4 bar"), row("9 bar", passages=READ, draft="red"), "retrieved but not used"),
        (words("4 bar"), row("The passages do not say.", passages=READ), "wrongly refused"),
        (words("7 bar"), row("The passages do not say.", passages=READ), "not retrieved"),
        (words("4 bar"), row("2 + 3 = 6, so 6 bar", passages=READ), "wrong calculation"),
        (words("4 bar"), row("9 bar"), "wrong reasoning"),
        (words("7 bar"), row("9 bar", passages=READ), "not retrieved"),
        (words("4 bar", relevant=("x",)), row("9 bar", passages=READ), "not retrieved"),
        (words("4 bar", relevant=("d",)), row("red", passages=READ), "retrieved but not used"),
        (words("4 bar of pressure in all the pipes"), row("pump runs at 4", passages=READ), "not retrieved"),
        (words("4 bar all told", relevant=("d",)), row("the pump runs at 4", passages=READ), "in other words"),
        (Question("q", "So?", ("yes",)), row("No", passages=READ), "retrieved but not used"),
        (Question("q", "So?", ("yes",)), row("No", passages=()), "not retrieved"),
    ],
)
def test_a_wrong_answer_has_a_cause(question: Question, answer: Answered, why: str) -> None:
    assert cause(question, answer) == why


# --- verdicts


def rated(questions: int = 60, **values: Callable[[int], float]) -> Ladder:
    """A ladder whose systems are right on a question where their function says 1; `name_adds` names what is added."""
    asked = [Question(f"q{n}", f"Question {n}?", ("yes",), group=str(n)) for n in range(questions)]
    rows, rungs, below = {}, [], ""
    for seconds, (name, right) in enumerate(values.items(), start=1):
        adds: Any = name.split("_")[1] if "_" in name else None
        said = ["Yes" if right(n) else "No" for n in range(questions)]
        rows[name] = [Answered(name, f"q{n}", text, seconds=seconds) for n, text in enumerate(said)]
        rungs.append(Rung(name, below, adds))
        below = name
    return ladder(asked, rows, rungs)


def test_the_step_that_gains_most_is_what_was_lacking() -> None:
    found = rated(low=lambda n: n % 10 == 0, rag_retrieval=lambda n: n % 2, art_doubt=lambda n: n % 5 > 0)
    assert found.lacking == "retrieval" and found.keep == "art_doubt"
    assert found.verdict[0].startswith("Retrieval is what you lacked: 'rag_retrieval' gains +40.0 [")
    assert found.verdict[-1].startswith("Keep 'art_doubt': it is the best")


def test_harm_is_said_and_the_cheaper_is_kept() -> None:
    found = rated(low=lambda n: n % 2, rag_retrieval=lambda n: n % 10 > 0, art_doubt=lambda n: n % 10 > 4)
    assert any(sentence.startswith("'art_doubt' does harm: -40.0") for sentence in found.verdict)
    assert found.keep == "rag_retrieval"
    found = rated(low=lambda n: n % 2, rag_retrieval=lambda n: n % 10 > 1, art_doubt=lambda n: n % 20 > 2)
    assert found.keep == "rag_retrieval" and "that 'art_doubt', which is dearer, is better" in found.verdict[-1]


def test_without_a_sure_gain_the_cheaper_is_kept() -> None:
    found = rated(low=lambda n: n % 2, rag_retrieval=lambda n: n % 2 or n == 0)
    assert found.verdict == ["No significant difference between the steps: keep the cheaper, 'low'."]
    assert found.keep == "low" and found.lacking == ""


def test_a_gain_or_harm_without_a_name_is_still_one() -> None:
    found = rated(low=lambda n: n % 2, high=lambda n: 1)
    assert found.verdict[0].startswith("'high' gains +50.0") and found.keep == "high" and found.lacking == ""
    found = rated(low=lambda n: 1, rag_retrieval=lambda n: n % 2)
    assert found.verdict[0].startswith("'rag_retrieval' does harm: -50.0") and found.keep == "low"
    assert rated(low=lambda n: 1).verdict == []


def test_few_questions_conclude_nothing() -> None:
    found = rated(19, low=lambda n: 0, rag_retrieval=lambda n: 1)
    assert "19 different questions are too few" in found.verdict[0] and found.keep == found.lacking == ""


def test_a_rung_that_is_left_out_is_stepped_over(asked: Path, tmp_path: Path) -> None:
    systems = [system("a", lambda _: "7"), system("b", doubled, over="a"), system("c", doubled, over="b", adds="doubt")]
    told = climb(systems, asked, tmp_path / "run", systems=["a", "c"])
    assert told["systems"]["c"]["over"] == "a" and told["systems"]["c"]["gain"]["value"] == 1
    assert told["systems"]["c"]["adds"] is None and told["lacking"] == ""  # it may have been what "b" adds
    assert told["verdict"][0].startswith("'c' gains +100.0 [+100.0, +100.0] points over 'a'.")
    turned = climb(systems, asked, tmp_path / "run", systems=["c", "a"])
    assert list(turned["systems"]) == ["a", "c"] and turned["systems"]["c"]["over_first"]["value"] == 1


def test_other_questions_are_refused() -> None:
    asked = [Question("q1", "So?", ("yes",))]
    with pytest.raises(UsageError, match="'b' answered other questions"):
        ladder(asked, {"a": [Answered("a", "q1", "")], "b": [Answered("b", "q2", "")]}, [Rung("a"), Rung("b", "a")])
    with pytest.raises(UsageError, match="no questions"):
        ladder([], {}, [])


# --- the page


def test_hostile_texts_stay_text() -> None:
    evil = "<script>alert(1)</script> | \u202e\n"
    asked = [Question(f"q{n}", f"{evil}{n}?", (evil,), group=str(n)) for n in range(SHOWN + 5)]
    read = ({"id": evil, "document": "d", "text": evil, "context": evil},)
    rows = {evil: [Answered(evil, one.id, evil, passages=read, decision=evil, confidence=0.5) for one in asked]}
    found = ladder(asked, rows, [Rung(evil)])
    shown = as_html(found, asked, rows)
    assert "<script" not in shown and "&lt;script&gt;" in shown
    assert shown.count("<details><summary>&lt;script") == SHOWN and f"{SHOWN} of {SHOWN + 5} are shown" in shown
    assert "\\|" in as_markdown(found)


def test_the_page_says_first_what_is_lacking_and_what_to_keep(asked: Path, tmp_path: Path) -> None:
    def some(question: str) -> str:
        return doubled(question) if int(question.split()[3]) % 2 else "7"

    systems = [
        system("low", lambda _: "7"),
        system("rag", some, over="low", adds="retrieval"),
        system("art", lambda question: doubled(question) if " 1" in question else some(question), over="rag"),
    ]
    report = climb(systems, asked, tmp_path / "run")
    assert len(report["verdict"]) == 3
    shown = Path(report["page"]).read_text("utf-8").split("<h2>")[0]
    bold = re.findall("<p><b>(.*?)</b></p>", shown)
    assert [sentence.split()[0] for sentence in bold] == ["Retrieval", "Keep"]
    assert shown.count("<li>") == 1 and "<li>&#x27;art&#x27; gains" in shown
    assert Path(report["markdown"]).read_text("utf-8").count("\n- ") == 3
    one = climb(systems[:1], asked, tmp_path / "one")
    assert "<p><b>" not in Path(one["page"]).read_text("utf-8").split("<h2>")[0]


def test_why_every_answer_is_wrong_is_kept(asked: Path, tmp_path: Path) -> None:
    right = lambda question: doubled(question) if " 1" in question else "Answer: 7"  # noqa: E731
    climb([system("a", right), system("b", doubled)], asked, tmp_path / "run")
    kept = [json.loads(line) for line in (tmp_path / "run/qualities.jsonl").read_text("utf-8").splitlines()]
    assert {one["id"]: one["causes"] for one in kept} == {
        f"q{n}": {} if str(n).startswith("1") else {"a": "wrong reasoning"} for n in range(24)
    }


def test_citations_are_checked() -> None:
    rows = {"a": [row("It runs at 4 bar [1]. The moon is made of cheese [1][2].", passages=READ)]}
    asked = [words("4 bar")]
    found = ladder(asked, rows, [Rung("a")])
    shown = as_html(found, asked, rows)
    assert "<td>1</td><td>1</td><td>3</td><td>33.3</td>" in shown
    assert "citations: [1] holds, [1] does not hold, [2] does not hold" in shown


def test_what_a_router_found_and_where_it_was_right_is_told(asked: Path, tmp_path: Path) -> None:
    def routed(given: dict[str, Any]) -> dict[str, Any]:
        odd = int(given["question"].split()[3]) % 2
        return {"answer": doubled(given["question"]) if odd else "?", "need": "arithmetic" if odd else "retrieval"}

    report = climb([System("routed", RunnableLambda(routed))], asked, tmp_path / "run")
    needs = report["systems"]["routed"]["needs"]
    assert needs == {k: {"questions": 12, "quality": v} for k, v in (("arithmetic", 1.0), ("retrieval", 0.0))}
    assert "<td>routed</td><td>arithmetic</td><td>12</td><td>100.0</td>" in Path(report["page"]).read_text("utf-8")
    assert "| routed | retrieval | 12 | 0.0 |" in Path(report["markdown"]).read_text("utf-8")
    again = climb([system("plain", doubled)], asked, tmp_path / "plain")
    assert again["systems"]["plain"]["needs"] == {} and "What questions need" not in Path(again["page"]).read_text()


def test_the_draft_before_a_refinement_is_kept(asked: Path, tmp_path: Path) -> None:
    def refined(given: dict[str, Any]) -> dict[str, Any]:
        right = doubled(given["question"])
        drafts = [{"stage": "draft", "text": right}, {"stage": "refined", "text": "7"}]
        return {"answer": "7", "candidates": drafts if " 5 " in given["question"] else drafts[1:]}

    one = climb([System("a", RunnableLambda(refined))], asked, tmp_path / "run")["systems"]["a"]
    assert one["causes"] == {"wrong reasoning": 23, "wrongly refined": 1}
    rows = [json.loads(line) for line in (tmp_path / "run/answers.jsonl").read_text("utf-8").splitlines()]
    assert [row["draft"] for row in rows if row["draft"]] == [doubled("How much is 5 and 5?")]


def test_markdown_tells_what_the_page_tells(asked: Path, tmp_path: Path) -> None:
    wrong = system("low", lambda _: "7")
    first = str(tmp_path / "first")
    climb([wrong], asked, tmp_path / "first")
    report = climb([wrong, system("high", doubled, over="low")], asked, tmp_path / "run", against=first)
    told = Path(report["markdown"]).read_text("utf-8")
    assert "| quality | 0.0 [0.0, 0.0] | 100.0 [100.0, 100.0] |" in told and "| low | 24 |" in told
    assert f"## Since {first}" in told and "| low | +0.0 [+0.0, +0.0] |" in told
    found = replace(rated(low=lambda n: n % 2), about={"judge": "the judge fails its check"})
    assert "the judge fails its check." in as_markdown(found)


def test_the_figure_of_a_large_report_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    figure = importlib.import_module("report_size")
    figure.write_run(tmp_path, 30)
    found = figure.report(tmp_path)  # whoever was asked would fail
    assert found["peak_mib"] > 0 and found["report_s"] <= found["seconds"]
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))["systems"]
    assert len(report) == len(figure.RUNGS) and report["all together"]["over_first"]["low"] > 0
    assert report["rag"]["counts"]["quality"] == 30 and report["rag"]["failed"] < 5


# --- replies that are known already


def test_replies_are_remembered_with_their_cost_and_time(tmp_path: Path) -> None:
    memory = Remembered(tmp_path / "replies.jsonl", "a")
    chat = ScriptedChat("one", "two").model_copy(update={"cache": memory})
    with sparing() as first:
        assert chat.invoke("A?").text == "one" and chat.invoke("B?").text == "two"
    again = ScriptedChat().model_copy(update={"cache": Remembered(tmp_path / "replies.jsonl", "a")})
    with sparing() as second:
        said = again.invoke("A?")
    assert said.text == "one" and said.usage_metadata is not None and said.usage_metadata["output_tokens"] == 5
    assert first == [] and len(second) == 1 and second[0] > 0


def test_the_time_of_a_call_that_failed_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / "replies.jsonl", [0.0]
    monkeypatch.setattr("artrag.remembering.time.perf_counter", lambda: now[0])
    chat = ScriptedChat(ConnectionError("reset"), "one").model_copy(update={"cache": Remembered(path, "a")})
    with pytest.raises(ConnectionError):
        chat.invoke("A?")
    now[0] = 1200.0
    chat.invoke("A?")
    assert json.loads(path.read_text("utf-8"))["seconds"] == 0


def test_another_model_or_prompt_is_asked_and_an_empty_reply_is_not_kept(tmp_path: Path) -> None:
    memory, other = (Remembered(tmp_path / "replies.jsonl", name) for name in "ab")
    assert ScriptedChat("one").model_copy(update={"cache": memory}).invoke("A?").text == "one"
    assert ScriptedChat("two").model_copy(update={"cache": other}).invoke("A?").text == "two"
    chat = ScriptedChat("", "three").model_copy(update={"cache": memory})
    assert [chat.invoke("C?").text for _ in range(3)] == ["", "three", "three"]


# --- the rungs that settings make


@pytest.fixture
def pump(monkeypatch: pytest.MonkeyPatch) -> AnsweringChat:
    chat = AnsweringChat(lambda prompt: "downstream occlusion [1]" if "<passage>" in prompt else "I do not know")
    monkeypatch.setattr(rooms, "load_chat", lambda *_, **__: chat)
    return chat


def test_rungs_climb_from_a_prompt_to_doubt(
    build: Callable[..., Any], corpus: Path, tmp_path: Path, embedder: HashedWords, pump: AnsweringChat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from artrag.settings import EMBEDDED_BASE, Settings

    build(corpus, index=tmp_path / "auto")
    build(corpus, index=tmp_path / "none", context="none")
    monkeypatch.setattr(rooms, "open_index", lambda path, _: Index.open(Path(path), embedder=embedder))
    settings = Settings(chat=EMBEDDED_BASE, asker="evidence", truster="evidence")
    names = [
        "direct",
        "instructed",
        "reasoned",
        "rag",
        "hybrid",
        "contextual",
        "routed",
        "self-refine",
        "always-refine",
        "art",
    ]
    paths = [str(tmp_path / "auto"), str(tmp_path / "none")]
    made = rooms.rungs(settings, paths, tmp_path / "run")
    assert [one.name for one in made] == names
    over = {one.name: one.over for one in made}
    assert over["rag"] == "instructed" and over["contextual"] == "hybrid" and over["art"] == "contextual"
    assert [one.name for one in rooms.rungs(settings, [], tmp_path / "run")] == names[:3] + names[7:]
    assert [one.name for one in rooms.rungs(settings, paths[:1], tmp_path / "run")] == names[:5] + names[6:]
    tuned = rooms.rungs(settings, paths, tmp_path / "run", tuned="openai:some-model")
    assert [one.name for one in tuned][10:] == ["fine-tuned", "fine-tuned rag", "all together"]
    with pytest.raises(UsageError, match="give one, or one made with --context none"):
        rooms.rungs(settings, [paths[0], str(tmp_path / "auto") + "/"], tmp_path / "run")
    rows = [{"id": "a", "question": "What does alarm PMP-417 mean?", "answer": "downstream occlusion"}]
    questions = json_lines(tmp_path / "q.jsonl", rows)
    found = climb(made, questions, tmp_path / "run")["systems"]
    assert all(one["failed"] == 0 for one in found.values())
    assert found["direct"]["quality"]["value"] == 0 and found["contextual"]["quality"]["value"] == 1
    drafts = len([prompt for prompt in pump.asked if "<passage>" in prompt and prompt.endswith("PMP-417 mean?")])
    assert found["art"]["quality"]["value"] == 1 and drafts <= 3  # the rungs with the same passages share the draft
    assert {one.about for one in made} == {one.about for one in rooms.rungs(settings, paths, tmp_path / "run")}
    assert len({one.about for one in made}) == len(made)
    build(corpus / "manual.md", index=tmp_path / "auto")
    changed = {one.name: one.about for one in rooms.rungs(settings, paths, tmp_path / "run")}
    assert {one.name for one in made if changed[one.name] != one.about} == {*names[5:]}


@pytest.mark.parametrize(
    "costs",
    [(0.0, 0.0), (0.02, 0.02), (1e-3, math.nextafter(1e-3, 1)), (0.0, 1e-300), (0.0, 5.0), (1e-6, 1e6)],
)
def test_a_frontier_of_any_costs_has_an_axis_with_a_length(costs: tuple[float, float]) -> None:
    points = {name: (cost, Interval(0.5, 0.4, 0.6)) for name, cost in zip(("low", "high"), costs, strict=True)}
    assert frontier_plot(points, "seconds").count("low") == 1


class Remembering:
    """A Truster that trusts what is short, and remembers what it was shown."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def confidence(self, question: str, answer: str, passages: Any = None) -> float:
        if answer == "fail":
            raise ConnectionError("reset")
        self.asked.append(answer)
        assert passages[0].page_content == "It is four."
        return 0.9 if len(answer) < 4 else 0.2


def reading(name: str, answer: str) -> System:
    return System(name, RunnableLambda(lambda _: {"answer": answer, "passages": [{"text": "It is four."}]}))


def test_faithfulness_is_measured_with_a_truster_once_an_answer(asked: Path, tmp_path: Path) -> None:
    systems = [reading("short", "4"), reading("long", "four and more"), system("alone", lambda _: "4")]
    one, other = Remembering(), Remembering()
    found = climb(systems, asked, tmp_path / "run", truster=one)["systems"]
    assert found["short"]["faithfulness"]["value"] == pytest.approx(0.9)
    assert found["long"]["faithfulness"]["value"] == pytest.approx(0.2) and len(one.asked) == 48
    assert found["alone"]["faithfulness"] is None
    again = climb(systems, asked, tmp_path / "run", truster=other)["systems"]
    assert again["long"]["faithfulness"] == found["long"]["faithfulness"] and not other.asked


def test_a_truster_that_fails_is_named_and_keeps_the_answers(asked: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelCallError, match="the Truster failed at the answers .*reset"):
        climb([reading("bad", "fail")], asked, tmp_path / "run", truster=Remembering())
    assert len((tmp_path / "run" / "answers.jsonl").read_text("utf-8").splitlines()) == 24
