"""Collecting answers: the nodes' own prompts, resuming, budgets, faults, the command line; and traces as rows."""

import asyncio
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    AnsweringChat,
    HashedWords,
    ScriptedAsker,
    ScriptedChat,
    ScriptedRetriever,
    ScriptedTruster,
    json_lines,
    passage,
)
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import MemorySaver
from langgraph.types import Command
from openai_server import After, Fail, OpenAIServer

import artrag
from artrag import prompts
from artrag.errors import ModelCallError, PredictionsError, UnknownModelError, UsageError
from artrag.evaluation.predictions import Prediction, read_predictions
from artrag.index.manifest import read_manifest
from artrag.interfaces import cli, collecting, wiring
from artrag.interfaces.solving import NodeSolver, read_subquestions, sampled
from artrag.models import LocalChat, load_chat, references
from artrag.settings import Settings
from artrag.tracing import LocalTracer, read_spans, recorded_runs
from artrag.training.collect import Budget, Collected, Recipe, collect, seed_of, shown
from artrag.training.convert import convert
from artrag.training.feedback import labelled_runs, read_feedback

RECIPE = Recipe(chat="fake", k=2, subquestions="none")
PASSAGE = passage("Alarm PMP-417 means downstream occlusion.")


def questions(count: int = 3, **about: Any) -> list[Prediction]:
    return convert([{"id": f"q{n}", "question": f"What is {n} + 1?", "final": n + 1, **about} for n in range(count)])


class Echo:
    """A solver that says the sum in each question, wrongly where it is told to; some questions it cannot do."""

    def __init__(self, *, wrong: Sequence[str] = (), failing: Sequence[str] = (), wait: float = 0.0) -> None:
        self.wrong, self.failing, self.wait = wrong, failing, wait
        self.seeds: list[int] = []
        self.asked: list[str] = []
        self.now = self.most = 0

    async def passages(self, question: str) -> list[Document] | None:
        return None

    async def drafts(self, question: str, passages: Any, k: int, seed: int) -> list[str]:
        self.now += 1
        self.most = max(self.most, self.now)
        self.asked.append(question)
        self.seeds.append(seed)
        await asyncio.sleep(self.wait)
        self.now -= 1
        if question in self.failing:
            raise ModelCallError("no reply")
        a, b = map(int, re.findall(r"\d+", question))
        return [f"Draft {n}. Answer: {a + b + (n == 0 and question in self.wrong)}" for n in range(k)]

    async def subquestions(self, question: str, seed: int) -> list[str]:
        self.seeds.append(seed)
        return ["Which sum?"]

    async def refine(self, question: str, draft: str, subquestions: Any, passages: Any, seed: int) -> str:
        self.seeds.append(seed)
        return f"{draft} refined by {len(subquestions)}. Answer: {sum(map(int, re.findall(r'[0-9]+', question)))}"


def gather(asked: Sequence[Prediction], out: Path, solver: Any, recipe: Recipe = RECIPE, **options: Any) -> Collected:
    return asyncio.run(collect(asked, out, recipe=recipe, solver=solver, **options))


def test_a_row_holds_drafts_and_their_refinements_with_labels(tmp_path: Path) -> None:
    found = gather(questions(2), tmp_path / "p.jsonl", Echo(wrong=["What is 0 + 1?"]))
    first = read_predictions(tmp_path / "p.jsonl")[0]
    assert [(c.stage, c.predicted, c.correct) for c in first.candidates] == [
        ("initial", 2, False),
        ("refined", 1, True),
        ("sample", 1, True),
        ("refined", 1, True),
    ]
    assert first.gold == 1 and first.candidates[0].source == "fake" and first.candidates[1].text.startswith("Draft 0.")
    assert (found.done, found.skipped, found.remaining, found.failures) == (2, 0, 0, {})
    assert found.answers() == {"initial": (2, 0.5), "refined": (4, 1.0), "sample": (2, 1.0)}


@pytest.mark.parametrize(
    ("kind", "given", "asked", "origin"),
    [
        ("given", ["Given?"], ["Given?"], "given"),
        ("given", [], ["Which sum?"], "generated"),
        ("generated", ["Given?"], ["Which sum?"], "generated"),
        ("none", ["Given?"], [], "none"),
    ],
)
def test_subquestions_come_from_the_data_or_the_model(
    tmp_path: Path, kind: Any, given: list[str], asked: list[str], origin: str
) -> None:
    gather(questions(1, subquestions=given), tmp_path / "p.jsonl", Echo(), Recipe("fake", 1, subquestions=kind))
    (row,) = read_predictions(tmp_path / "p.jsonl")
    assert [[q.text for q in answer.subquestions] for answer in row.candidates] == [asked, asked]
    assert row.metadata["subquestions_from"] == origin and f"by {len(asked)}" in row.candidates[1].text


def test_without_refining_there_are_drafts_only(tmp_path: Path) -> None:
    gather(questions(1), tmp_path / "p.jsonl", Echo(), Recipe("fake", 3, subquestions="none", refine=False))
    assert [c.stage for c in read_predictions(tmp_path / "p.jsonl")[0].candidates] == ["initial", "sample", "sample"]


def test_seeds_do_not_depend_on_the_order(tmp_path: Path) -> None:
    one, two = Echo(), Echo()
    gather(questions(4), tmp_path / "1.jsonl", one, concurrency=1)
    gather(questions(4)[::-1], tmp_path / "2.jsonl", two, concurrency=3)
    assert sorted(one.seeds) == sorted(two.seeds) and len(set(one.seeds)) == len(one.seeds)
    assert seed_of(0, "a", 0) != seed_of(1, "a", 0) and 0 <= seed_of(0, "ü\ud800", 0) < 2**32


def test_options_are_shown_and_labelled(tmp_path: Path) -> None:
    (asked,) = convert([{"id": "m", "question": "Capital?", "options": {"A": "Rome", "B": "Paris"}, "answer": "B"}])

    class Chooses(Echo):
        async def drafts(self, question: str, *_: Any) -> list[str]:
            self.asked.append(question)
            return ["Answer: B", "Answer: A"]

    solver = Chooses()
    gather([asked], tmp_path / "p.jsonl", solver, Recipe("fake", 2, subquestions="none", refine=False))
    (row,) = read_predictions(tmp_path / "p.jsonl")
    assert solver.asked == [shown(asked)] == [row.question] == ["Capital?\nA) Rome\nB) Paris"]
    assert [c.correct for c in row.candidates] == [True, False]


def test_a_second_run_does_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    first, second = Echo(failing=["What is 1 + 1?"]), Echo()
    found = gather(questions(3), out, first)
    assert found.failures == {"q1": "ModelCallError: no reply"} and found.done == 2
    assert {row.id for row in read_predictions(out)} == {"q0", "q2"}
    again = gather(questions(4), out, second)
    assert sorted(second.asked) == ["What is 1 + 1?", "What is 3 + 1?"]
    assert (again.done, again.skipped) == (2, 2) and {row.id for row in again.rows} == {"q0", "q1", "q2", "q3"}


@pytest.mark.parametrize("cut", [1, 2, 40, -1])
def test_a_torn_last_line_is_mended(tmp_path: Path, cut: int) -> None:
    out, solver = tmp_path / "p.jsonl", Echo()
    gather(questions(3), out, Echo(), concurrency=1)
    whole = out.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    out.write_bytes(whole[: start + cut] if cut > 0 else whole[:cut])
    assert gather(questions(3), out, solver).done == 1
    assert solver.asked == ["What is 2 + 1?"] and out.read_bytes() == whole


def test_a_file_that_holds_a_torn_line_only(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    gather(questions(1), out, Echo())
    whole = out.read_bytes()
    out.write_bytes(whole[:30])
    assert gather(questions(1), out, Echo()).done == 1 and out.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    gather(questions(2), out, Echo())
    out.write_bytes(b"{torn\n" + out.read_bytes())
    with pytest.raises(PredictionsError, match=r"p\.jsonl:1: no JSON object"):
        gather(questions(2), out, Echo())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Recipe("other", 2, subquestions="none"), "chat='fake', not 'other'"),
        (Recipe("fake", 3, subquestions="none"), "k=2, not 3"),
        (Recipe("fake", 2, subquestions="none", temperature=0.5), "temperature=0.7, not 0.5"),
        (Recipe("fake", 2, subquestions="none", initial="decomposition"), "initial='cot', not 'decomposition'"),
        (Recipe("fake", 2, subquestions="none", prompts={"solve": "x"}), "prompts={}, not {'solve': 'x'}"),
        (Recipe("fake", 2, subquestions="none", index="g2"), "index='', not 'g2'"),
        (Recipe("fake", 2, subquestions="none", seed=1), "seed=0, not 1"),
        (Recipe("fake", 2, subquestions="generated"), "subquestions='none', not 'generated'"),
        (Recipe("fake", 2, subquestions="none", refine=False), "refine=True, not False"),
    ],
)
def test_answers_of_two_recipes_are_never_mixed(tmp_path: Path, other: Recipe, named: str) -> None:
    out = tmp_path / "p.jsonl"
    gather(questions(1), out, Echo())
    before = out.read_bytes(), (tmp_path / "p.jsonl.meta.json").read_bytes()
    with pytest.raises(UsageError, match=f"was collected with {re.escape(named)}"):
        gather(questions(2), out, Echo(), other)
    assert before == (out.read_bytes(), (tmp_path / "p.jsonl.meta.json").read_bytes())


def test_files_that_cannot_be_continued(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    gather(questions(1), out, Echo())
    with pytest.raises(PredictionsError, match="holds another question 'q0'"):
        gather(convert([{"id": "q0", "question": "Another?", "final": 1}]), out, Echo())
    (tmp_path / "p.jsonl.meta.json").unlink()
    with pytest.raises(UsageError, match="does not say how its answers were made"):
        gather(questions(1), out, Echo())
    with pytest.raises(UsageError, match="cannot be appended to"):
        gather(questions(1), tmp_path / "p.jsonl.gz", Echo())


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"id": "a", "question": "Q?", "final": None}], "'a' has no gold answer"),
        ([{"id": "a", "question": "Q?", "final": 1}] * 2, "'a' stands there twice"),
        ([{"id": "a", "question": "Q?", "answer": "X", "options": {"A": "x1"}}], "none of the options"),
    ],
)
def test_questions_that_cannot_be_labelled_are_refused_before_a_call(
    tmp_path: Path, rows: list[dict[str, Any]], complaint: str
) -> None:
    solver = Echo()
    with pytest.raises(PredictionsError, match=complaint):
        gather(convert(rows), tmp_path / "p.jsonl", solver)
    assert not solver.asked and not (tmp_path / "p.jsonl").exists()


def test_two_runs_do_not_write_the_same_file(tmp_path: Path) -> None:
    class Meets(Echo):
        async def passages(self, question: str) -> None:
            with pytest.raises(UsageError, match="being written by another run"):
                await collect(questions(1), tmp_path / "p.jsonl", recipe=RECIPE, solver=Echo())

    assert gather(questions(1), tmp_path / "p.jsonl", Meets()).done == 1


def test_questions_are_worked_on_side_by_side_and_bounded(tmp_path: Path) -> None:
    solver, told = Echo(wait=0.01), []
    gather(questions(12), tmp_path / "p.jsonl", solver, concurrency=4, tell=lambda *state: told.append(state))
    assert solver.most == 4 and told[0] == (0, 0, 12) and told[-1] == (12, 0, 12) and len(told) == 13


def test_ten_failures_in_a_row_end_the_run(tmp_path: Path) -> None:
    solver = Echo(failing=[question.question for question in questions(40)])
    found = gather(questions(40), tmp_path / "p.jsonl", solver, concurrency=2)
    assert found.stopped == "10 questions in a row have failed" and len(found.failures) <= 11
    assert found.remaining == 40 - len(found.failures) and found.rows == []


def test_an_error_of_all_questions_ends_the_run_at_once(tmp_path: Path) -> None:
    class Breaks(Echo):
        async def passages(self, question: str) -> None:
            if "3" in question:
                raise UnknownModelError("no such model")

    with pytest.raises(UnknownModelError, match="no such model"):
        gather(questions(30), tmp_path / "p.jsonl", Breaks(), concurrency=2)
    assert 0 < len(read_predictions(tmp_path / "p.jsonl")) < 30


def test_a_broken_question_is_left_out_whatever_the_error(tmp_path: Path) -> None:
    class Breaks(Echo):
        async def refine(self, question: str, *rest: Any) -> str:
            if "1 +" in question:
                raise ValueError("strange")
            return await super().refine(question, *rest)

    found = gather(questions(3), tmp_path / "p.jsonl", Breaks())
    assert found.failures == {"q1": "ValueError: strange"} and {row.id for row in found.rows} == {"q0", "q2"}


# The nodes as the solver.


def solver_of(chat: Any, budget: Budget | None = None, retriever: Any = None, **settings: Any) -> NodeSolver:
    budget = budget or Budget()
    return NodeSolver(chat, Settings(**settings), temperature=0.7, budget=budget, retriever=retriever)


def said_of(prompt: str) -> str:
    if "Write each on a line of its own" in prompt:
        return "1. What is the first number?\n- What is the second number? It is 1.\nDone."
    a = int(re.findall(r"What is (\d+) \+ 1\?", prompt)[-1])
    return f"{a} + 1 = {a + 1}\nAnswer: {a + 1}"


def test_drafts_and_refinements_use_the_prompts_of_the_graphs(tmp_path: Path) -> None:
    chat, budget = AnsweringChat(said_of), Budget()
    recipe = Recipe("fake", 2, subquestions="generated")
    found = gather(questions(1), tmp_path / "p.jsonl", solver_of(chat, budget), recipe, budget=budget, concurrency=1)
    (row,) = found.rows
    assert found.answers() == {"initial": (1, 1.0), "refined": (2, 1.0), "sample": (1, 1.0)}
    assert budget.spent == len(chat.asked) == 5 == recipe.calls(questions(1)[0])
    ask, *drafts, one, two = chat.asked
    solve = prompts.load("solve").format_messages(question="What is 0 + 1?")
    assert drafts == ["\n".join(message.text for message in solve)] * 2
    asked = "- What is the first number?\n- What is the second number?"
    refine = prompts.load("refine_solution").format_messages(
        question="What is 0 + 1?", draft="0 + 1 = 1\nAnswer: 1", subquestions=asked
    )
    assert one == two == "\n".join(message.text for message in refine)
    assert "What is 0 + 1?" in ask and "Answer: 1" not in ask
    assert [q.text for q in row.candidates[0].subquestions] == [
        "What is the first number?",
        "What is the second number?",
    ]


def test_the_solver_meets_the_decomposing_prompt_and_counts_tokens() -> None:
    chat = AnsweringChat(said_of)
    solver = solver_of(chat, initial="decomposition")
    assert asyncio.run(solver.drafts("What is 4 + 1?", None, 2, 7)) == ["4 + 1 = 5\nAnswer: 5"] * 2
    assert "Split the question into the smaller questions" in chat.asked[0]
    assert (solver.meter.calls, solver.meter.prompt_tokens, solver.meter.completion_tokens) == (2, 20, 10)


def test_passages_are_read_cited_and_recorded(tmp_path: Path) -> None:
    chat = AnsweringChat(lambda prompt: "Downstream occlusion [1].")
    retriever = ScriptedRetriever(found=[PASSAGE] * 9)
    (asked,) = convert([{"id": "p", "question": "What does alarm PMP-417 mean?", "answer": "downstream occlusion"}])
    found = gather([asked], tmp_path / "p.jsonl", solver_of(chat, retriever=retriever, k=2))
    (row,) = found.rows
    assert all(c.correct for c in row.candidates) and len(row.candidates) == 4
    assert row.passages is not None and len(row.passages) == 2 and row.passages[0].id == PASSAGE.id
    assert "Correct the draft answer from the numbered passages" in chat.asked[-1]
    assert retriever.asked == [asked.question]  # the refinement reads what the draft read


def test_the_budget_stops_in_the_open_and_never_half_way(tmp_path: Path) -> None:
    for most, done in ((3, 0), (4, 1), (11, 2), (12, 3)):
        chat, budget, out = AnsweringChat(said_of), Budget(most), tmp_path / f"{most}.jsonl"
        found = gather(questions(5), out, solver_of(chat, budget), budget=budget, concurrency=3)
        assert (found.done, found.remaining, found.failures) == (done, 5 - done, {})
        assert found.stopped == f"{done * 4} of {most} calls are spent" and len(chat.asked) == done * 4 == budget.spent


def test_retries_count_and_a_budget_is_never_exceeded(tmp_path: Path) -> None:
    chat, budget = ScriptedChat("", *["Answer: 1"] * 3), Budget(4)
    found = gather(questions(1), tmp_path / "p.jsonl", solver_of(chat, budget), budget=budget)
    assert len(chat.asked) == budget.spent == 4 and (found.done, found.remaining) == (0, 1)
    assert found.failures == {} and found.stopped == "4 of 4 calls are spent"


def test_a_failed_refinement_fails_its_question(tmp_path: Path) -> None:
    chat = ScriptedChat("Answer: 1", "Answer: 2", *[ConnectionError("gone")] * 9)
    found = gather(questions(1), tmp_path / "p.jsonl", solver_of(chat))
    assert "refine failed" in found.failures["q0"] and "gone" in found.failures["q0"] and found.rows == []


def test_subquestions_are_read_from_any_list() -> None:
    text = "Sure:\n1. How many?\n2) How much? 3 of them\n* **Why?**\n- how many?\nHow many?\nNo question.\n?\n"
    assert read_subquestions(text) == ["How many?", "How much?", "Why?", "how many?"]
    assert len(read_subquestions("\n".join(f"Question {n}?" for n in range(20)))) == 6 and read_subquestions("") == []


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(otherwise=said_of) as running:
        yield running
    gc.collect()  # a socket that a client forgot shows here, in the test that opened it


def test_a_server_is_asked_for_temperature_and_seeds(tmp_path: Path, server: OpenAIServer) -> None:
    chat = load_chat(server.reference)
    found = gather(questions(3), tmp_path / "p.jsonl", solver_of(chat))
    assert found.done == 3 and {body["temperature"] for body in server.bodies} == {0.7}
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 12
    chat.invoke("What is 1 + 1?")
    assert not {"seed", "temperature"} & set(server.bodies[-1])  # the model itself is as it was


def test_a_server_is_asked_side_by_side(tmp_path: Path, server: OpenAIServer) -> None:
    server.otherwise = lambda prompt: After(0.15, said_of(prompt))
    started = time.perf_counter()
    found = gather(questions(12), tmp_path / "p.jsonl", solver_of(load_chat(server.reference)), concurrency=6)
    assert found.done == 12 and len(server.bodies) == 48
    assert time.perf_counter() - started < 4  # one after another they take over seven seconds


def test_faults_of_a_server_are_retried_with_the_next_seed(tmp_path: Path, server: OpenAIServer) -> None:
    server.script = [Fail(500), ""]
    recipe = Recipe("fake", 1, subquestions="none", refine=False)
    assert gather(questions(1), tmp_path / "p.jsonl", solver_of(load_chat(server.reference)), recipe).done == 1
    first, second, third = (body["seed"] for body in server.bodies)
    assert (second, third) == (first + 1, first + 2)


# Sampling on this machine.


@pytest.fixture(scope="module")
def local(tiny_chat_folder: Path) -> LocalChat:
    return LocalChat.load(str(tiny_chat_folder), max_tokens=12)


def test_local_samples_repeat_with_their_seed_and_leave_the_process_alone(local: LocalChat) -> None:
    import torch

    def say(**options: Any) -> str:
        return local.invoke("Hello", **options).text

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    texts = [say(temperature=1.5, seed=seed) for seed in (1, 1, 2, 3)]
    assert torch.equal(torch.rand(1), expected)
    assert texts[0] == texts[1] and len(set(texts)) == 3
    assert "".join(chunk.text for chunk in local.stream("Hello", temperature=1.5, seed=1)).strip() == texts[0]
    assert say() == say(seed=9) == say(temperature=0, seed=3)
    copy = sampled(local, 1.5, 1)
    assert copy.invoke("Hello").text == texts[0] and local.temperature == 0 and local.seed is None


def test_local_samples_of_one_prompt_are_made_together(local: LocalChat) -> None:
    (made,) = local.generate([[HumanMessage("Hello")]], n=4, temperature=1.5, seed=1).generations
    assert len(made) == 4 and len({generation.text for generation in made}) > 1
    (again,) = local.generate([[HumanMessage("Hello")]], n=4, temperature=1.5, seed=1).generations
    assert [one.text for one in again] == [one.text for one in made]
    used = [generation.message.usage_metadata for generation in made]  # type: ignore[union-attr]
    assert used[0]["input_tokens"] > 0 and [one["input_tokens"] for one in used[1:]] == [0, 0, 0]
    assert all(0 < one["output_tokens"] <= 12 for one in used)
    (greedy,) = local.generate([[HumanMessage("Hello")]], n=2).generations
    assert [one.text for one in greedy] == [local.invoke("Hello").text] * 2


def test_answers_that_end_early_are_not_padded(local: LocalChat, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    read = local._inputs([HumanMessage("Hello")], 12)["input_ids"]
    tokens = local.get_token_ids("ab")
    rows = [[*tokens, 2, 2, 2, 2], [*tokens * 3]]
    made = torch.cat([read.repeat(2, 1), torch.tensor(rows)], dim=1)
    monkeypatch.setattr(local._model, "generate", lambda **_: made)
    (found,) = local.generate([[HumanMessage("Hello")]], n=2, temperature=1.0).generations
    assert [one.text for one in found] == ["ab", "ababab"]
    assert [one.message.usage_metadata["output_tokens"] for one in found] == [3, 6]  # type: ignore[union-attr]


def test_drafts_of_a_local_model_are_one_call(local: LocalChat) -> None:
    budget = Budget()
    solver = solver_of(local, budget, retries=5)
    drafts = asyncio.run(solver.drafts("What is 1 + 1?", None, 5, 3))
    assert len(drafts) == 5 and budget.spent == solver.meter.calls == 1
    assert asyncio.run(solver.drafts("What is 1 + 1?", None, 5, 3)) == drafts
    assert asyncio.run(solver.drafts("What is 1 + 1?", None, 5, 4)) != drafts


# The command line.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    monkeypatch.setattr(references, "_folder", lambda reference, progress: reference.name)
    monkeypatch.setattr(references, "_local_chat", lambda *_: AnsweringChat(said_of))

    def go(*words: Any) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["artrag", *map(str, words), "--json"])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        assert said.out.count("\n") == 1, said
        return code, json.loads(said.out), said.err

    return go


def asked_file(folder: Path, count: int = 3) -> Path:
    return json_lines(folder / "q.jsonl", [{"question": f"What is {n} + 1?", "final": n + 1} for n in range(count)])


def test_the_command_collects_and_continues(run: Callable[..., Any], tmp_path: Path) -> None:
    words = ["collect", "--questions", asked_file(tmp_path), "--out", tmp_path / "p.jsonl", "--chat", "pypi:x", "-k", 2]
    code, found, told = run(*words, "--budget-calls", 11)
    assert code == 0 and (found["done"], found["remaining"], found["calls"]) == (2, 1, 10)
    assert "10 of 11 calls are spent; 1 questions remain, run again to go on" in told
    code, found, _ = run(*words)
    assert code == 0 and (found["done"], found["skipped"], found["stopped"]) == (1, 2, "")
    assert found["right"] == {"initial": 1.0, "refined": 1.0, "sample": 1.0} and found["tokens"]["prompt"] == 50
    assert found["answers"] == {"initial": 3, "refined": 6, "sample": 3} and found["seconds"] >= 0
    assert len(read_predictions(tmp_path / "p.jsonl")) == 3
    code, found, _ = run(*words, "--temperature", 0.2)
    assert code == 2 and "temperature=0.7, not 0.2" in found["error"]


def test_the_command_answers_from_an_index(
    run: Callable[..., Any], tmp_path: Path, corpus: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "_local_embedder", lambda *_: embedder)
    monkeypatch.setattr(references, "_local_chat", lambda *_: AnsweringChat(lambda _: "Occlusion [1]."))
    assert run("ingest", corpus, "--index", tmp_path / "made")[0] == 0
    rows = [{"id": "p", "question": "What does alarm PMP-417 mean?", "answers": ["downstream occlusion"]}]
    words = ["collect", "--questions", json_lines(tmp_path / "q.jsonl", rows), "--index", tmp_path / "made", "-k", 2]
    try:
        code, found, _ = run(*words, "--out", tmp_path / "p.jsonl")
        assert code == 0 and found["right"] == {"initial": 1.0, "refined": 1.0, "sample": 1.0}
        (row,) = read_predictions(tmp_path / "p.jsonl")
        assert row.passages is not None and "PMP-417" in row.passages[0].page_content
        assert row.passages[0].metadata["document"] == "manual.md" and "arms" not in row.passages[0].metadata
        meta = json.loads((tmp_path / "p.jsonl.meta.json").read_text())
        assert meta["index"] and set(meta["prompts"]) == {"answer", "refine", "subquestions"}
        (corpus / "new.md").write_text("# Another\n\nText.\n")
        assert run("ingest", corpus, "--index", tmp_path / "made")[0] == 0
        assert "was collected with index=" in run(*words, "--out", tmp_path / "p.jsonl")[1]["error"]
    finally:
        for generation in {meta["index"], read_manifest(tmp_path / "made").generation}:
            wiring._opened(str(tmp_path / "made"), False, generation).close()
        wiring._opened.cache_clear()


def test_the_command_notices_a_changed_prompt(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["collect", "--questions", asked_file(tmp_path, 1), "--out", tmp_path / "p.jsonl", "-k", 1]
    assert run(*words)[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "refine_solution.md").write_text("# human\n{question} {draft} {subquestions}\n")
    monkeypatch.setenv("ARTRAG_PROMPTS", str(tmp_path / "mine"))
    code, found, _ = run(*words)
    assert code == 2 and "was collected with prompts=" in found["error"]


def test_what_the_command_refuses_or_reports(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["collect", "--questions", asked_file(tmp_path), "--out", tmp_path / "p.jsonl"]
    assert "are all the same" in run(*words, "--temperature", 0)[1]["error"]
    assert run(*words[:2], tmp_path / "none.jsonl", *words[3:])[0] == 2
    monkeypatch.setattr(references, "_local_chat", lambda *_: ScriptedChat(*[ConnectionError("gone")] * 99))
    code, found, told = run(*words, "--limit", 2)
    assert code == 1 and found["failed"] == 2 == len(found["failures"]) and "gone" in found["failures"][0]["reason"]
    assert "2 questions failed; run again to try them once more" in told


KILLED = """
import asyncio, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
sys.path.insert(0, {tests!r})
from test_collect import Echo, questions, RECIPE
from artrag.training.collect import collect
asyncio.run(collect(questions(200), Path({out!r}), recipe=RECIPE, solver=Echo(wait=0.02), concurrency=2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_continues(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "p.jsonl"
    code = KILLED.format(tests=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (not out.exists() or out.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, how)
    assert process.wait(timeout=20) != 0
    kept = out.read_bytes().count(b"\n")
    assert 5 <= kept < 200
    solver = Echo()
    found = gather(questions(200), out, solver)
    assert (found.done, found.skipped) == (200 - kept, kept) and len(solver.asked) == 200 - kept
    assert len({row.id for row in read_predictions(out)}) == 200


def test_the_command_converts(run: Callable[..., Any], tmp_path: Path) -> None:
    asked = json_lines(tmp_path / "q.jsonl", [{"id": "a", "question": "Q?", "final": 4}])
    chain = {"id": "a", "answerer": "m", "subquestions": ["S?"], "subanswers": ["4"], "final_text": "4"}
    rows = [
        chain | {"questioner": "weak", "is_correct": False, "final_text": "5"},
        chain | {"questioner": "strong", "is_correct": True},
    ]
    chains = json_lines(tmp_path / "c.jsonl", rows)
    code, found, _ = run("convert", chains, "--questions", asked, "--out", tmp_path / "o.jsonl.gz")
    assert code == 0 and {**found, "out": ""} == {
        "out": "",
        "rows": 2,
        "questions": 1,
        "answers": 2,
        "labelled": 2,
        "right": 1,
    }
    code, found, _ = run(
        "convert", chains, "--questions", asked, "--refined-by", "strong", "--out", tmp_path / "p.jsonl"
    )
    (row,) = read_predictions(tmp_path / "p.jsonl")
    assert [(c.stage, c.correct) for c in row.candidates] == [("initial", False), ("refined", True)]
    assert "--refined-by" in run("convert", chains, "--initial-by", "x", "--out", tmp_path / "x.jsonl")[1]["error"]
    twice = json_lines(tmp_path / "t.jsonl", [{"id": "a", "question": "Q?", "final": n} for n in (4, 5)])
    code, found, _ = run("convert", twice, "--out", tmp_path / "x.jsonl")
    assert code == 2 and "two gold answers" in found["error"] and not (tmp_path / "x.jsonl").exists()


# Traces as rows.


def art(*script: Any, doubt: float = 0.9, checkpointer: Any = None) -> Any:
    asker = ScriptedAsker(doubt, subquestions=[artrag.Subquestion("Which sum?", False)])
    graph = artrag.build_art(chat=ScriptedChat(*script), asker=asker, truster=ScriptedTruster({"12": 0.9}))
    return graph.compile(checkpointer=checkpointer)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three runs: refined, failed, not doubted."""
    path = tmp_path / "trace.jsonl"
    config: Any = {"callbacks": [LocalTracer(path)]}
    art("3 * 4 = 13\nAnswer: 13", "3 * 4 = 12\nAnswer: 12").invoke({"question": "What is 3 * 4?"}, config)
    with pytest.raises(ModelCallError):
        art(*[ConnectionError("gone")] * 3).invoke({"question": "What is 5 * 4?"}, config)
    art("Answer: 8", doubt=0.1).invoke({"question": "What is 2 * 4?"}, config)
    return path


def test_finished_runs_become_rows(trace: Path) -> None:
    first, second = recorded_runs(read_spans(trace))
    assert first["question"] == "What is 3 * 4?" and first["chosen"] == "3 * 4 = 12\nAnswer: 12"
    assert [c["stage"] for c in first["candidates"]] == ["initial", "refined"] and first["passages"] is None
    assert first["candidates"][1]["subquestions"] == [{"text": "Which sum?", "answered": False}]
    assert [c["text"] for c in second["candidates"]] == ["Answer: 8"] and not second["approved"]


def test_feedback_labels_runs(trace: Path, tmp_path: Path) -> None:
    runs = recorded_runs(read_spans(trace))
    said = [{"question": "what is 3 * 4", "gold": 12}, {"run": runs[1]["run"], "correct": False}]
    one, two = labelled_runs(runs, read_feedback(json_lines(tmp_path / "f.jsonl", said)))
    assert [c.correct for c in one.candidates] == [False, True] and one.gold == 12
    assert [c.correct for c in two.candidates] == [False] and two.gold is None and two.metadata["run"] == runs[1]["run"]
    assert [c.correct for row in labelled_runs(runs, []) for c in row.candidates] == [None] * 3
    with pytest.raises(PredictionsError, match="about 'What else\\?', but no such run"):
        labelled_runs(runs, [{"question": "What else?", "gold": 1}])
    for bad in ({"gold": 12}, {"run": "x"}, {"run": "x", "correct": "yes"}):
        with pytest.raises(PredictionsError, match=r"f\.jsonl:1: feedback needs"):
            read_feedback(json_lines(tmp_path / "f.jsonl", [bad]))


@pytest.mark.parametrize(
    ("resumed", "gold", "labels"),
    [
        ({"action": "edit", "text": "Answer: 12"}, "12", [False, True]),
        ({"action": "accept", "candidate": 0}, "13", [True]),
    ],
)
def test_what_a_person_says_is_feedback(tmp_path: Path, resumed: Any, gold: str, labels: list[bool]) -> None:
    path, graph = tmp_path / "trace.jsonl", art("Answer: 13", doubt=0.1, checkpointer=MemorySaver())
    config: Any = {"callbacks": [LocalTracer(path)], "configurable": {"thread_id": "t"}}
    context = Settings(review=True, review_below=1.0)
    graph.invoke({"question": "What is 3 * 4?"}, config, context=context)
    assert recorded_runs(read_spans(path)) == []  # it waits
    graph.invoke(Command(resume=resumed), config, context=context)
    (row,) = labelled_runs(recorded_runs(read_spans(path)), [])
    assert row.gold == gold and [c.correct for c in row.candidates] == labels


def test_the_command_exports_traces(run: Callable[..., Any], trace: Path, tmp_path: Path) -> None:
    said = json_lines(tmp_path / "f.jsonl", [{"question": "What is 3 * 4?", "gold": 12}])
    code, found, _ = run("traces", "export", trace, "--feedback", said, "--out", tmp_path / "o.jsonl")
    assert code == 0 and (found["rows"], found["answers"], found["labelled"], found["right"]) == (2, 3, 2, 1)
    assert len(read_predictions(tmp_path / "o.jsonl")) == 2
    (tmp_path / "empty.jsonl").write_text("")
    for missing in ("empty.jsonl", "none.jsonl"):
        code, found, _ = run("traces", "export", tmp_path / missing, "--out", tmp_path / "x.jsonl")
        assert code == 2 and missing in found["error"]


def test_the_commands_say_it_without_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    collecting._print({"done": 2, "failures": [], "stopped": ""}, as_json=False)
    assert capsys.readouterr().out == "done: 2\n"
