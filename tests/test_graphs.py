"""The state machines: routes, budgets, degradation, threads, interrupts, drawings, and both ways to run."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

import artrag
from artrag import Settings, Subquestion, nodes
from artrag.errors import ModelCallError, PromptTooLongError, QuestionError, SettingsError
from artrag.models.askers import PromptedAsker
from artrag.models.trusters import PromptedTruster
from artrag.state import QAState

NAUSEA = passage("Nausea was the most common event.", "a.md")
OPEN = Subquestion("How common was nausea?", False)


def art(chat: Any, *doubts: float | Exception, scores: dict[str, float] | None = None, **parts: Any) -> Any:
    asker = ScriptedAsker(*doubts, subquestions=[OPEN, Subquestion("Which event?", True)])
    truster = parts.pop("truster", None) or ScriptedTruster(scores or {})
    return artrag.build_art(chat=chat, asker=asker, truster=truster, **parts)


def ask(graph: Any, **context: Any) -> dict[str, Any]:
    return graph.compile().invoke({"question": " Which event? "}, context=context)  # type: ignore[no-any-return]


def test_a_draft_that_is_not_doubted_is_trusted() -> None:
    found = ask(art(ScriptedChat("Nausea."), 0.1, scores={"Nausea": 0.8}))
    assert (found["answer"], found["confidence"], found["rounds"]) == ("Nausea.", 0.8, 0)
    assert found["question"] == "Which event?" and not found["abstained"]
    assert found["stop_reason"] == "the draft needs no refining"
    assert found["passages"] is None and found["citations"] == []


def test_a_doubted_draft_is_refined_and_the_better_answer_wins() -> None:
    found = ask(art(ScriptedChat("Cough.", "Nausea."), 0.9, scores={"Nausea": 0.8, "Cough": 0.4}))
    assert (found["answer"], found["rounds"], found["refine_reason"]) == ("Nausea.", 1, "doubt 0.9")
    assert [c["stage"] for c in found["candidates"]] == ["initial", "refined"]
    assert "trusts the refined answer (0.80 against initial 0.40)" in found["decision"]


def test_the_best_answer_is_given_never_the_last() -> None:
    found = ask(art(ScriptedChat("Nausea.", "Cough."), 0.9, scores={"Nausea": 0.8, "Cough": 0.4}))
    assert found["answer"] == "Nausea." and len(found["candidates"]) == 2


def test_a_refined_answer_must_win_by_the_margin() -> None:
    scores = {"Nausea": 0.80, "Cough": 0.81}
    assert ask(art(ScriptedChat("Nausea.", "Cough."), 0.9, scores=scores))["answer"] == "Nausea."
    assert ask(art(ScriptedChat("Nausea.", "Cough."), 0.9, scores=scores), trust_margin=0)["answer"] == "Cough."


def test_rounds_are_bounded_and_stop_when_confident() -> None:
    chat = ScriptedChat("Draft.", "One.", "Two.", "Three.")
    found = ask(art(chat, 0.9, 0.9, 0.9, scores={"Three": 0.5, "Two": 0.4, "One": 0.35, "Draft": 0.1}), rounds=3)
    assert (found["rounds"], found["answer"], found["stop_reason"]) == (3, "Three.", "the budget of 3 rounds is used")
    found = ask(art(ScriptedChat("Draft.", "One."), 0.9, scores={"One": 0.9, "Draft": 0.1}), rounds=3)
    assert (found["rounds"], found["stop_reason"]) == (1, "confident enough")
    found = ask(art(ScriptedChat("Draft.", "One."), 0.9, 0.2, scores={"One": 0.4, "Draft": 0.1}), rounds=3)
    assert (found["rounds"], found["stop_reason"]) == (1, "no further refining is needed")
    found = ask(art(ScriptedChat("Draft."), 0.9), rounds=0)
    assert found["rounds"] == 0 and "no round is left" in found["refine_reason"]


def test_below_the_floor_it_abstains_and_says_so() -> None:
    found = ask(art(ScriptedChat("Cough."), 0.1, scores={"Cough": 0.1}))
    assert found["abstained"] and "0.10, below the floor of 0.20" in found["answer"]
    assert found["candidates"][0]["text"] == "Cough."
    assert not ask(art(ScriptedChat("Cough."), 0.1, scores={"Cough": 0.1}), abstain_below=0.05)["abstained"]


def test_passages_are_numbered_cited_and_cut_to_k() -> None:
    chat = ScriptedChat("Nausea was the most common event.")
    retriever = ScriptedRetriever(found=[NAUSEA, *(passage(f"other {n}", "b.md", n) for n in range(9))])
    found = ask(art(chat, 0.1, retriever=retriever), k=3)
    assert found["answer"] == "Nausea was the most common event [1]."
    assert found["citations"][0]["document"] == "a.md" and len(found["passages"]) == 3
    assert "[3] <passage>" in chat.asked[0] and "[4]" not in chat.asked[0]


def test_nothing_found_is_no_answer_and_no_call() -> None:
    found = ask(art(ScriptedChat(), 0.1, retriever=ScriptedRetriever(found=[])))
    assert found["answer"] == "The passages do not say." and found["passages"] == []


def test_no_index_means_reasoning() -> None:
    chat = ScriptedChat("3 * 4 = 12. Answer: 12")
    found = ask(art(chat, 0.1, retriever=RunnableLambda(lambda _question: None)))
    assert found["passages"] is None and found["answer"].endswith("12") and "step by step" in chat.asked[0]


def test_decomposition_is_a_setting() -> None:
    chat = ScriptedChat("12", "12")
    ask(art(chat, 0.1), initial="decomposition")
    ask(art(chat, 0.1, retriever=ScriptedRetriever(found=[NAUSEA])), initial="decomposition")
    assert all("smaller questions" in asked for asked in chat.asked)


MADE_UP = "Nausea [1]\n\nQuestion: And then?\nCough"


def test_a_made_up_next_question_is_no_part_of_a_short_answer() -> None:
    retriever = ScriptedRetriever(found=[NAUSEA])
    assert ask(art(ScriptedChat(MADE_UP), 0.1, retriever=retriever))["answer"] == "Nausea [1]"
    refined = ask(art(ScriptedChat("Cough.", MADE_UP), 0.9, retriever=retriever, scores={"Nausea": 0.9, "Cough": 0.1}))
    assert refined["answer"] == "Nausea [1]"


def test_a_chain_of_subquestions_stays_whole() -> None:
    chain = "Two steps.\nQuestion: 3 * 4?\nIt is 3 * 4 = 12.\nAnswer: 12"
    assert ask(art(ScriptedChat(chain), 0.1), initial="decomposition")["answer"] == chain
    assert ask(art(ScriptedChat("No.", chain), 0.9, scores={"12": 0.9, "No": 0.1}))["answer"] == chain
    grounded = art(ScriptedChat(chain), 0.1, retriever=ScriptedRetriever(found=[NAUSEA]))
    assert "Answer: 12" in ask(grounded, initial="decomposition")["answer"]


def test_refine_looks_up_open_subquestions_and_keeps_the_numbers() -> None:
    more = passage("Nausea: 13 per cent.", "c.md")
    retriever = ScriptedRetriever(found=[NAUSEA, more])
    chat = ScriptedChat("Cough.", "Nausea: 13 per cent [2].")
    found = ask(art(chat, 0.9, retriever=retriever, scores={"Nausea": 0.9, "Cough": 0.2}), k=1)
    assert retriever.asked == ["Which event?", "Which event? How common was nausea?"]
    assert [p.id for p in found["passages"]] == ["a.md#0", "c.md#0"]
    assert found["subquestions"][0]["found"] == "see [1] [2]"
    assert found["citations"][0]["document"] == "c.md"
    assert "How common was nausea? (see [1] [2])" in chat.asked[1] and "- Which event?" not in chat.asked[1]


def test_refine_calculates_and_calls_tools_within_the_budget() -> None:
    calls: list[str] = []

    @tool
    def lookup(text: str) -> str:
        """Look something up."""
        calls.append(text)
        return "13 per cent"

    chat = ScriptedChat("12 * 3 = 35", "36")
    asker = ScriptedAsker(0.9, subquestions=[Subquestion("What is 12 * 3?", False), OPEN, OPEN, OPEN])
    graph = artrag.build_art(chat=chat, asker=asker, truster=ScriptedTruster({}), tools=[lookup])
    found = ask(graph, tool_calls=2)
    assert found["subquestions"][0]["found"] == "36" and len(calls) == 2
    assert "12 * 3 = 35 is wrong: it is 36" in chat.asked[1] and "lookup: 13 per cent" in chat.asked[1]


def test_failures_degrade_in_the_open() -> None:
    found = ask(art(ScriptedChat("Nausea.", *[ConnectionError("down")] * 3), 0.9))
    assert found["answer"] == "Nausea." and "refine failed: ModelCallError" in found["decision"]
    assert found["stop_reason"] == "refining failed" and len(found["candidates"]) == 1
    found = ask(art(ScriptedChat("Nausea."), RuntimeError("no weights")))
    assert found["answer"] == "Nausea." and found["refine_reason"] == "ask failed: RuntimeError: no weights"

    class Broken(ScriptedTruster):
        def score(self, *_: Any) -> list[float]:
            return [float("nan")]

    found = ask(art(ScriptedChat("Nausea."), 0.1, truster=Broken({})))
    assert found["answer"] == "Nausea." and found["confidence"] == 0.5 and "trust failed" in found["decision"]

    class FailsLater(ScriptedRetriever):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
            if self.asked:
                raise TimeoutError
            return super()._get_relevant_documents(query)

    found = ask(art(ScriptedChat("Cough.", "Nausea."), 0.9, retriever=FailsLater(found=[NAUSEA])))
    assert found["rounds"] == 1 and "retrieval failed: TimeoutError" in found["subquestions"][0]["found"]


def test_calls_are_retried_and_empty_replies_are_faults() -> None:
    found = ask(art(ScriptedChat(TimeoutError("slow"), "  ", "Nausea."), 0.1))
    assert found["answer"] == "Nausea."
    with pytest.raises(ModelCallError, match=r"3 tries \(the reply was empty\)"):
        ask(art(ScriptedChat("", "", ""), 0.1))
    with pytest.raises(ModelCallError, match=r"1 try \(TimeoutError: slow"):
        ask(art(ScriptedChat(TimeoutError("slow")), 0.1), retries=0)


def test_passages_that_do_not_fit_are_left_out() -> None:
    too_long = PromptTooLongError("window")
    found = ask(art(ScriptedChat(too_long, "Nausea."), 0.1, retriever=ScriptedRetriever(found=[NAUSEA, passage("x")])))
    assert len(found["passages"]) == 1
    with pytest.raises(QuestionError, match="does not fit"):
        ask(art(ScriptedChat(too_long), 0.1))


@pytest.mark.parametrize("question", ["", "  \n", None, 7])
def test_blank_questions_are_refused(question: Any) -> None:
    with pytest.raises(QuestionError, match="blank"):
        art(ScriptedChat(), 0.1).compile().invoke({"question": question})


def test_long_questions_are_refused() -> None:
    with pytest.raises(QuestionError, match="max_question=10"):
        art(ScriptedChat(), 0.1).compile().invoke({"question": "x" * 11}, context={"max_question": 10})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="did you mean 'rounds'"):
        ask(art(ScriptedChat(), 0.1), round=3)


def test_usage_is_counted_by_stage() -> None:
    found = ask(art(ScriptedChat("Cough.", "Nausea."), 0.9))
    usage = found["usage"]
    assert {stage: used["calls"] for stage, used in usage.items()} == {
        "receive": 0,
        "answer": 1,
        "ask": 0,
        "refine": 1,
        "trust": 0,
    }
    assert usage["answer"]["prompt_tokens"] == 10 and usage["answer"]["completion_tokens"] == 5
    assert all(used["seconds"] >= 0 for used in usage.values())


def test_usage_sees_calls_made_inside_the_parts() -> None:
    from artrag.models import PromptedAsker, PromptedTruster

    chat = ScriptedChat("Nausea.", '{"refine": false}', "90", "90")
    graph = artrag.build_art(chat=chat, asker=PromptedAsker(chat), truster=PromptedTruster(chat))
    assert ask(graph)["usage"]["ask"]["calls"] == 1
    chat.script.extend(["Nausea.", '{"refine": false}', "90", "90"])
    found = asyncio.run(graph.compile().ainvoke({"question": "Which event?"}))
    assert found["usage"]["trust"]["calls"] == 2 and found["confidence"] == 0.9


def test_a_second_question_on_the_thread_starts_anew() -> None:
    chat = ScriptedChat("Cough.", "Nausea.", "Cough.")
    graph = art(chat, 0.9, 0.1, scores={"Nausea": 0.8, "Cough": 0.4}).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    first = graph.invoke({"question": "Which event?"}, thread)
    second = graph.invoke({"question": "Which other event?"}, thread)
    assert first["rounds"] == 1 and len(first["candidates"]) == 2
    assert (second["rounds"], len(second["candidates"]), second["answer"]) == (0, 1, "Cough.")
    assert second["usage"]["answer"]["calls"] == 1 and "refine" not in second["usage"]


def reviewed(chat: ScriptedChat, *doubts: float) -> tuple[Any, Any]:
    graph = art(chat, *doubts, scores={"Nausea": 0.5, "Cough": 0.4}).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    found = graph.invoke({"question": "Which event?"}, thread, context=Settings(review=True))
    (stopped,) = found["__interrupt__"]
    assert stopped.value["answer"] == "Cough." and stopped.value["confidence"] == 0.4
    assert stopped.value["subquestions"] and stopped.value["candidates"][0]["score"] == 0.4

    def resume(said: Any) -> Any:
        return graph.invoke(Command(resume=said), thread, context=Settings(review=True))

    return graph, resume


def test_a_person_accepts_edits_or_asks_for_more() -> None:
    _, resume = reviewed(ScriptedChat("Cough."), 0.1)
    assert resume("accept")["answer"] == "Cough."
    _, resume = reviewed(ScriptedChat("Cough."), 0.1)
    found = resume({"action": "edit", "text": "Headache."})
    assert (found["answer"], found["confidence"], found["candidates"][-1]["stage"]) == ("Headache.", 1.0, "edited")
    _, resume = reviewed(ScriptedChat("Cough.", "Nausea."), 0.1)
    found = resume({"action": "refine"})
    assert found["rounds"] == 1 and found["__interrupt__"][0].value["answer"] == "Nausea."
    found = resume({"action": "accept", "candidate": 0})
    assert found["answer"] == "Cough." and found["stop_reason"] == "reviewed"


NONSENSE: list[Any] = [
    "banana",
    "",
    3,
    True,
    [],
    "edit",
    {"action": "edit"},
    {"action": "edit", "text": "  "},
    {"action": "edit", "text": 7},
    {"action": "refine", "text": " "},
    {"action": "refine", "text": ["more"]},
    {"action": "accept", "candidate": 7},
    {"action": "accept", "candidate": -1},
    {"action": "accept", "candidate": False},
    {"action": "accept", "candidate": "0"},
    {"decisions": []},
    {"decisions": [{"type": "approve"}, {"type": "approve"}]},
    {"decisions": ["approve"]},
    {"decisions": [{"type": "respond", "message": "Headache."}]},
    {"decisions": [{"type": "edit", "edited_action": {"name": "answer", "args": {}}}]},
    {"decisions": [{"type": "edit"}]},
]


def test_a_nonsense_resume_is_named_and_the_thread_goes_on() -> None:
    _, resume = reviewed(ScriptedChat("Cough."), 0.1)
    for said in NONSENSE:
        (stopped,) = resume(said)["__interrupt__"]
        assert "resume with 'accept'" in stopped.value["problem"] and repr(said) in stopped.value["problem"]
        assert stopped.value["action_requests"][0]["description"].startswith(stopped.value["problem"])
    assert resume({})["__interrupt__"]  # which LangGraph takes for no word at all
    assert resume("accept")["answer"] == "Cough."


def test_a_person_says_what_one_more_round_should_settle() -> None:
    chat = ScriptedChat("Cough.", "Nausea.")
    _, resume = reviewed(chat, 0.1)
    found = resume({"action": "refine", "text": " Which event did the 2019 trial name? "})
    assert "- Which event did the 2019 trial name?" in chat.asked[1]
    assert found["__interrupt__"][0].value["subquestions"][-1]["text"] == "Which event did the 2019 trial name?"
    assert [c["score"] for c in found["__interrupt__"][0].value["candidates"]] == [0.4, 0.5]


def test_clients_with_buttons_review_too() -> None:
    from langchain.agents.middleware.human_in_the_loop import HITLRequest, HITLResponse
    from pydantic import TypeAdapter

    def request(found: Any) -> Any:
        shown = {key: found[0].value[key] for key in ("action_requests", "review_configs")}
        return TypeAdapter(HITLRequest).validate_python(shown)["action_requests"][0]

    def response(**decision: Any) -> Any:
        return TypeAdapter(HITLResponse).validate_python({"decisions": [decision]})

    graph, resume = reviewed(ScriptedChat("Cough."), 0.1)
    shown = request(graph.get_state({"configurable": {"thread_id": "1"}}).interrupts)
    assert shown["args"] == {"answer": "Cough."} and shown["description"].startswith(
        "Which event?\nConfidence 0.40: only"
    )
    assert resume(response(type="approve"))["decision"] == "a person accepted the answer"
    _, resume = reviewed(ScriptedChat("Cough."), 0.1)
    edited = resume(response(type="edit", edited_action={"name": "answer", "args": {"answer": "Headache."}}))
    assert (edited["answer"], edited["decision"]) == ("Headache.", "a person wrote the answer")
    chat = ScriptedChat("Cough.", "Nausea.", "Nausea!")
    _, resume = reviewed(chat, 0.1)
    assert (
        request(resume(response(type="reject", message="In which trial?"))["__interrupt__"])["args"]["answer"]
        == "Nausea."
    )
    assert "- In which trial?" in chat.asked[1]
    assert request(resume(response(type="reject"))["__interrupt__"])["args"]["answer"] == "Nausea."


@pytest.mark.parametrize(("confidence", "told"), [(0.299, "(0.29, below the floor of 0.30)"), (0.29, "(0.29,")])
def test_a_confidence_just_below_the_floor_does_not_look_like_it(confidence: float, told: str) -> None:
    truster = ScriptedTruster({"It": confidence})
    graph = artrag.build_art(chat=ScriptedChat("It is."), asker=ScriptedAsker(0.0), truster=truster).compile()
    assert told in graph.invoke({"question": "Which?"}, context=Settings(abstain_below=0.3))["answer"]


def test_an_abstention_is_reviewed_with_its_candidate() -> None:
    graph = art(ScriptedChat("Cough."), 0.1, scores={"Cough": 0.1}).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    (shown,) = graph.invoke({"question": "Which event?"}, thread, context=Settings(review=True))["__interrupt__"]
    assert shown.value["answer"].startswith("I cannot answer")
    assert shown.value["action_requests"][0]["args"] == {"answer": "Cough."}
    found = graph.invoke(Command(resume="accept"), thread, context=Settings(review=True))
    assert found["answer"] == "Cough." and not found["abstained"]


def test_a_confident_answer_is_not_reviewed() -> None:
    graph = art(ScriptedChat("Nausea."), 0.1, scores={"Nausea": 0.9}).compile(checkpointer=InMemorySaver())
    found = graph.invoke({"question": "Q?"}, {"configurable": {"thread_id": "1"}}, context=Settings(review=True))
    assert "__interrupt__" not in found


def test_contextual_rag_reranks_and_cites() -> None:
    class Backwards(BaseDocumentCompressor):
        def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> list[Document]:
            return list(documents)[::-1]

    retriever = ScriptedRetriever(found=[passage(f"text {n}", "b.md", n) for n in range(9)] + [NAUSEA])
    graph = artrag.build_contextual_rag(
        chat=ScriptedChat("Nausea was the most common event."), retriever=retriever, reranker=Backwards()
    )
    found = ask(graph, k=2)
    assert [p.id for p in found["passages"]] == ["a.md#0", "b.md#8"] and found["answer"].endswith("[1].")
    plain = artrag.build_contextual_rag(chat=ScriptedChat("Text 0."), retriever=retriever)
    assert [p.id for p in ask(plain, k=2)["passages"]] == ["b.md#0", "b.md#1"]


def test_progress_and_decisions_are_streamed() -> None:
    graph = art(ScriptedChat("Cough.", "Nausea."), 0.9).compile()
    events = list(graph.stream({"question": "Which event?"}, stream_mode="custom"))
    assert [event["stage"] for event in events if isinstance(event, dict)] == ["answer", "ask", "refine", "trust"]
    assert {"message": "refining", "reason": "doubt 0.9"}.items() <= events[1].items()  # type: ignore[union-attr]


async def test_ainvoke_gives_what_invoke_gives() -> None:
    def fresh() -> Any:
        retriever = ScriptedRetriever(found=[NAUSEA])
        return art(ScriptedChat("Cough.", "Nausea."), 0.9, retriever=retriever, scores={"Nausea": 0.8}).compile()

    first = fresh().invoke({"question": "Which event?"})
    second = await fresh().ainvoke({"question": "Which event?"})
    for found in (first, second):
        for used in found["usage"].values():
            used["seconds"] = 0
    assert first == second


async def test_many_runs_do_not_queue() -> None:
    async def slow(_messages: Any) -> AIMessage:
        await asyncio.sleep(0.2)
        return AIMessage("Nausea.")

    chat = RunnableLambda(lambda _: AIMessage("Nausea."), afunc=slow)
    graph = art(chat, *[0.1] * 50).compile()
    started = time.perf_counter()
    await asyncio.gather(*(graph.ainvoke({"question": "Q?"}) for _ in range(50)))
    assert time.perf_counter() - started < 5  # one after another would take ten seconds; a figure is in benchmarks/


async def test_no_thread_is_taken_where_everything_can_be_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def said(_: Any) -> AIMessage:
        return AIMessage('50 {"refine": true, "subquestions": [{"question": "Which?", "answered": false}]}')

    async def found(_: Any) -> list[Document]:
        return [NAUSEA]

    chat = RunnableLambda(lambda _: AIMessage("Nausea."), afunc=said)
    retriever = RunnableLambda(lambda _: [NAUSEA], afunc=found)
    judges: Any = {"asker": PromptedAsker(chat), "truster": PromptedTruster(chat)}
    graph = artrag.build_art(chat=chat, retriever=retriever, **judges).compile()
    first = await graph.ainvoke({"question": "Which event?"})  # reads the files of its prompts
    taken: list[Any] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", lambda *call: taken.append(call))
    assert (await graph.ainvoke({"question": "Which event?"}))["answer"] == first["answer"]
    assert first["rounds"] == 1 and taken == []


SCORES = {"Headache": 0.9, "Fever": 0.7, "Nausea": 0.6, "Cough": 0.4}


def sampling(sampler: Any, *doubts: float, chat: ScriptedChat | None = None, **parts: Any) -> Any:
    chat = chat or ScriptedChat("Cough.", "Nausea.")
    return art(chat, *(doubts or (0.9,)), sampler=sampler, scores=SCORES, **parts)


def test_samples_join_initial_and_refined_and_the_best_wins() -> None:
    chat, sampler = ScriptedChat("Cough.", "Nausea."), ScriptedChat("Fever.", "Headache.")
    found = ask(sampling(sampler, chat=chat), samples=2)
    assert [(c["stage"], c["text"], c["score"]) for c in found["candidates"]] == [
        ("initial", "Cough.", 0.4),
        ("sample", "Fever.", 0.7),
        ("sample", "Headache.", 0.9),
        ("refined", "Nausea.", 0.6),
    ]
    assert found["answer"] == "Headache." and found["decision"].startswith("trusts the sample answer (0.90 against")
    assert found["usage"]["sample"]["calls"] == 2 and found["rounds"] == 1
    assert sampler.asked == [chat.asked[0]] * 2  # the very question that the draft was asked for
    better = ask(sampling(ScriptedChat("Wrong."), chat=ScriptedChat("Cough.", "Fever.")), samples=1)
    assert better["answer"] == "Fever." and len(better["candidates"]) == 3


def test_a_failing_sample_is_left_out_and_told() -> None:
    sampler = ScriptedChat(ConnectionError("down"), "Headache.")
    events = list(
        sampling(sampler)
        .compile()
        .stream({"question": "Q?"}, context=Settings(samples=2, retries=0), stream_mode=["custom", "values"])
    )
    found: Any = events[-1][1]
    assert [c["text"] for c in found["candidates"]] == ["Cough.", "Headache.", "Nausea."]
    told = [event["message"] for kind, event in events if kind == "custom" and event["stage"] == "sample"]  # type: ignore[index]
    assert told[0] == "sampling" and told[1].startswith("a sample failed: ModelCallError") and "down" in told[1]
    found = ask(sampling(ScriptedChat(*[ConnectionError("down")] * 2)), samples=2, retries=0)
    assert (found["answer"], len(found["candidates"])) == ("Nausea.", 2)


def test_a_sample_that_says_the_same_is_left_out() -> None:
    sampler = ScriptedChat("Cough.", "Headache.", " Headache.\n", "Fever.")
    found = ask(sampling(sampler), samples=4)
    assert [c["text"] for c in found["candidates"]] == ["Cough.", "Headache.", "Fever.", "Nausea."]


def test_samples_are_drawn_once_and_only_when_doubted() -> None:
    found = ask(sampling(ScriptedChat(), 0.1), samples=2)
    assert found["answer"] == "Cough." and "sample" not in found["usage"]
    found = ask(sampling(ScriptedChat()))  # none is wanted unless the settings say so
    assert found["usage"]["sample"]["calls"] == 0 and len(found["candidates"]) == 2
    sampler, chat = ScriptedChat("One."), ScriptedChat("Cough.", "Two.", "Three.")
    found = ask(sampling(sampler, 0.9, 0.9, chat=chat), samples=1, rounds=2)
    assert found["rounds"] == 2 and len(sampler.asked) == 1
    assert [c["stage"] for c in found["candidates"]] == ["initial", "sample", "refined", "refined"]


def test_a_person_who_wants_more_gets_no_samples() -> None:
    chat, sampler = ScriptedChat("Cough.", "Nausea."), ScriptedChat()
    graph = sampling(sampler, 0.1, chat=chat).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    context = Settings(review=True, samples=2)
    graph.invoke({"question": "Q?"}, thread, context=context)
    found = graph.invoke(Command(resume={"action": "refine"}), thread, context=context)
    assert found["rounds"] == 1 and sampler.asked == []


def test_samples_read_the_passages_and_cite_them() -> None:
    sampler = ScriptedChat(f"Headache: {NAUSEA.page_content}\n\nQuestion: And then?\nCough")
    chat = ScriptedChat("Cough.", "Nausea.")
    found = ask(sampling(sampler, chat=chat, retriever=ScriptedRetriever(found=[NAUSEA])), samples=1)
    assert found["answer"] == "Headache: Nausea was the most common event [1]."
    assert found["citations"][0]["document"] == "a.md" and "<passage>" in sampler.asked[0]
    chain = "Two steps.\nQuestion: 3 * 4?\nIt is 3 * 4 = 12. Headache."
    found = ask(sampling(ScriptedChat(chain)), samples=1, initial="decomposition")
    assert found["answer"] == chain


async def test_samples_are_drawn_side_by_side() -> None:
    drawn = running = most = 0

    async def slow(_messages: Any) -> AIMessage:
        nonlocal drawn, running, most
        drawn, running = drawn + 1, running + 1
        text, most = f"Headache {drawn}.", max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return AIMessage(text)

    sampler = RunnableLambda(lambda _: AIMessage("Headache."), afunc=slow)
    found = await sampling(sampler).compile().ainvoke({"question": "Q?"}, context=Settings(samples=8))
    assert (drawn, most, len(found["candidates"])) == (8, 8, 10)


class Knowing(ScriptedTruster):
    """A Truster with thresholds of its own, that cannot judge what holds one of some words."""

    def __init__(self, limits: dict[str, float], *strange: str) -> None:
        super().__init__(SCORES)
        self.chosen, self.strange, self.seen = limits, strange, []  # type: ignore[var-annotated]

    def limits(self, passages: Any) -> dict[str, float]:
        self.seen.append(passages)
        return self.chosen

    def out_of_depth(self, question: str, answer: str, passages: Any) -> str:
        return "out of its depth: it is Greek" if any(word in answer for word in self.strange) else ""


class Sure(ScriptedAsker):
    """An Asker with a threshold of its own."""

    def __init__(self, doubt: float, refine_above: float) -> None:
        super().__init__(doubt)
        self.chosen = {"refine_above": refine_above}

    def limits(self, passages: Any) -> dict[str, float]:
        return self.chosen


def known(doubt: float = 0.9, refine_above: float = 0.5, **parts: Any) -> Any:
    parts = {"chat": ScriptedChat("Cough.", "Nausea."), "truster": ScriptedTruster(SCORES)} | parts
    return artrag.build_art(asker=Sure(doubt, refine_above), **parts)


@pytest.mark.parametrize(
    ("doubt", "chosen", "given", "refined"),
    [
        (0.9, 0.95, {}, False),
        (0.9, 0.9, {}, True),
        (0.3, 0.2, {}, True),
        (0.3, 0.2, {"refine_above": 0.5}, False),
        (0.9, 0.95, {"refine_above": 0.5}, True),
        (0.0, 0.95, {"refine_above": 0.0}, True),  # 0 is a threshold too
    ],
)
def test_the_askers_own_threshold_counts_unless_one_is_set(
    doubt: float, chosen: float, given: dict[str, float], refined: bool
) -> None:
    assert bool(ask(known(doubt, chosen), **given)["rounds"]) is refined


@pytest.mark.parametrize(
    ("chosen", "given", "answer"),
    [
        ({"trust_margin": 0.1}, {}, "Nausea."),
        ({"trust_margin": 0.25}, {}, "Cough."),
        ({"trust_margin": 0.25}, {"trust_margin": 0.0}, "Nausea."),
        ({"trust_margin": 0.0}, {"trust_margin": 0.25}, "Cough."),
        ({}, {}, "Nausea."),
    ],
)
def test_the_trusters_own_margin_counts_unless_one_is_set(
    chosen: dict[str, float], given: dict[str, float], answer: str
) -> None:
    assert ask(known(truster=Knowing(chosen)), **given)["answer"] == answer


def test_a_margin_below_zero_prefers_what_comes_later() -> None:
    chat = ScriptedChat("Nausea.", "Cough.")
    assert ask(known(chat=chat, truster=Knowing({"trust_margin": -0.25})))["answer"] == "Cough."
    chat = ScriptedChat("Nausea.", "Cough.")
    assert ask(known(chat=chat, truster=Knowing({"trust_margin": -0.15})))["answer"] == "Nausea."


@pytest.mark.parametrize(
    ("chosen", "given", "floor"),
    [
        ({"abstain_below": 0.8}, {}, "0.80"),
        ({"abstain_below": 0.5}, {}, None),
        ({"abstain_below": 0.8}, {"abstain_below": 0.0}, None),
        ({"abstain_below": 0.0}, {"abstain_below": 0.7}, "0.70"),
    ],
)
def test_the_trusters_own_floor_counts_unless_one_is_set(
    chosen: dict[str, float], given: dict[str, float], floor: str | None
) -> None:
    found = ask(known(truster=Knowing(chosen)), **given)
    assert found["abstained"] is (floor is not None)
    assert found["answer"].endswith(f"(0.60, below the floor of {floor})." if floor else "Nausea.")


def test_out_of_its_depth_the_truster_abstains_sooner_and_says_so() -> None:
    truster = Knowing({"abstain_below": 0.5}, "Nausea")
    found = ask(known(truster=truster))  # the draft can be judged, so the Truster's own floor counts, wider
    assert found["abstained"] and "(0.60, below the floor of 0.75)" in found["answer"]
    assert found["decision"].endswith("; the Truster is out of its depth: it is Greek")
    found = ask(known(truster=truster), abstain_below=0.3)
    assert not found["abstained"] and "out of its depth" in found["decision"]
    found = ask(known(truster=truster), abstain_below=0.9)
    assert "below the floor of 1.00" in found["answer"]


def test_an_answer_that_is_not_chosen_may_be_beyond_the_truster() -> None:
    found = ask(known(truster=Knowing({"abstain_below": 0.5}, "Cough")))
    assert not found["abstained"] and "depth" not in found["decision"]


def test_where_it_can_judge_no_answer_its_own_thresholds_do_not_count() -> None:
    truster = Knowing({"abstain_below": 0.01, "trust_margin": 0.9}, "Cough", "Nausea")
    found = ask(known(truster=truster))
    assert found["answer"] == "Nausea." and "out of its depth" in found["decision"] and truster.seen == []
    truster.scores = {"Nausea": 0.29, "Cough": 0.1}
    found = ask(known(truster=truster))
    assert found["abstained"] and "(0.29, below the floor of 0.30)" in found["answer"]


async def test_limits_and_depth_are_awaited_where_they_can_be() -> None:
    class Awaited(Knowing):
        async def alimits(self, passages: Any) -> dict[str, float]:
            return {"abstain_below": 0.5}

        async def aout_of_depth(self, question: str, answer: str, passages: Any) -> str:
            return "out of its depth: awaited" if "Nausea" in answer else ""

    graph = known(truster=Awaited({})).compile()
    found = await graph.ainvoke({"question": "Q?"})
    assert found["abstained"] and found["decision"].endswith("the Truster is out of its depth: awaited")


def test_limits_know_whether_there_are_passages() -> None:
    truster = Knowing({})
    ask(known(truster=truster))
    ask(known(truster=truster, retriever=ScriptedRetriever(found=[NAUSEA])))
    assert [seen and [p.id for p in seen] for seen in truster.seen] == [None, ["a.md#0"]]


def test_a_part_whose_limits_fail_degrades_in_the_open() -> None:
    class Broken(Knowing):
        def limits(self, passages: Any) -> dict[str, float]:
            raise OSError("no weights")

    found = ask(known(truster=Broken({})))
    assert found["answer"] == "Cough." and "trust failed: OSError: no weights" in found["decision"]


def test_nodes_work_in_other_peoples_graphs() -> None:
    class Mine(QAState, total=False):
        mine: str

    graph = StateGraph(Mine)
    graph.add_node("receive", nodes.receive())
    graph.add_node("answer", nodes.answer(ScriptedChat("Nausea.")))
    graph.add_edge(START, "receive")
    graph.add_edge("receive", "answer")
    graph.add_edge("answer", END)
    assert graph.compile().invoke({"question": "Q?", "mine": "kept"})["mine"] == "kept"
    alone = nodes.ask(ScriptedAsker(0.7)).invoke({"question": "Q?", "draft": "A."})
    assert alone["needs_refining"] and alone["refine_probability"] == 0.7


@dataclass
class Record:
    question: str
    draft: str = "A."
    refine_probability: float = 0.0


class Model(BaseModel):
    question: str
    draft: str = "A."
    refine_probability: float = 0.0


@pytest.mark.parametrize("schema", [Record, Model])
def test_nodes_take_states_of_any_kind(schema: Any) -> None:
    graph = StateGraph(schema)
    graph.add_node("ask", nodes.ask(ScriptedAsker(0.7)))
    graph.add_edge(START, "ask")
    assert graph.compile().invoke({"question": "Q?"})["refine_probability"] == 0.7


def test_as_a_subgraph_it_takes_its_parents_context_in_stride() -> None:
    class Outer(QAState, total=False):
        pass

    graph = StateGraph(Outer, context_schema=dict)
    graph.add_node("art", art(ScriptedChat("Nausea."), 0.1).compile())
    graph.add_edge(START, "art")
    assert graph.compile().invoke({"question": "Q?"})["answer"] == "Nausea."


DRAWN = {
    "ingest": lambda: artrag.build_ingest(embedder=None),  # type: ignore[arg-type]
    "contextual_rag": lambda: artrag.build_contextual_rag(chat=ScriptedChat(), retriever=ScriptedRetriever(found=[])),
    "art": lambda: art(ScriptedChat(), retriever=ScriptedRetriever(found=[])),
    "chat": lambda: artrag.build_chat(
        chat=ScriptedChat(),
        asker=ScriptedAsker(),
        truster=ScriptedTruster({}),
        retriever=ScriptedRetriever(found=[]),
        sampler=ScriptedChat(),
    ),
    "evaluate": lambda: artrag.build_evaluate([artrag.System("direct", ScriptedChat())]),
    "routed": lambda: artrag.build_routed(chat=ScriptedChat(), retriever=ScriptedRetriever(found=[])),
    "simrag": lambda: artrag.build_simrag(teacher=ScriptedChat(), embedder=None),  # type: ignore[arg-type]
}


def test_a_sampler_stands_before_refine() -> None:
    edges = {(edge.source, edge.target) for edge in sampling(ScriptedChat()).compile().get_graph().edges}
    assert {("ask", "sample"), ("sample", "refine"), ("ask", "trust"), ("review", "refine")} <= edges
    assert ("ask", "refine") not in edges


@pytest.mark.parametrize("name", DRAWN)
def test_the_pages_draw_the_graph_as_it_is(name: str) -> None:
    drawing = DRAWN[name]().compile().get_graph().draw_mermaid().strip()
    page = Path(ROOT / ("docs/agent-apps.md" if name == "chat" else "README.md")).read_text("utf-8")
    assert f"<!-- {name} -->\n```mermaid\n{drawing}\n```" in page
