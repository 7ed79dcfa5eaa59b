"""The chat graph: follow-up questions, messages in and out, threads that outlive their process, and bad input."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

import artrag
from artrag import Settings, nodes
from artrag.errors import ModelCallError, PromptTooLongError, QuestionError, StateError
from artrag.nodes.standalone import LONGEST, TURNS

ALARM = passage("PMP-417 means downstream occlusion.", "manual.md")
FIRST, FOLLOW_UP, REWRITTEN = "What does PMP-417 mean?", "How is it cleared?", "How is PMP-417 cleared?"
THREAD: Any = {"configurable": {"thread_id": "1"}}


def built(chat: Any, *doubts: float, scores: dict[str, float] | None = None, **parts: Any) -> Any:
    asker = ScriptedAsker(*(doubts or [0.1] * 9))
    parts = {"retriever": ScriptedRetriever(found=[ALARM])} | parts
    return artrag.build_chat(chat=chat, asker=asker, truster=ScriptedTruster(scores or {}), **parts)


def said(graph: Any, *messages: Any, **context: Any) -> Any:
    return graph.invoke({"messages": list(messages)}, THREAD, context=context)


def test_a_first_question_is_answered_without_rewriting() -> None:
    chat = ScriptedChat("It means downstream occlusion.")
    found = said(built(chat, scores={"downstream": 0.8}).compile(), HumanMessage(f" {FIRST} "))
    answer = found["messages"][-1]
    assert isinstance(answer, AIMessage) and answer.text == "It means downstream occlusion [1]."
    about = answer.additional_kwargs
    assert (about["confidence"], about["abstained"], about["refined"]) == (0.8, False, False)
    assert (about["question"], about["rewriting"]) == (FIRST, "")
    assert about["sources"] == [
        {"n": 1, "passage": "manual.md#0", "document": "manual.md", "start": 0, "end": 35, "text": ALARM.page_content}
    ]
    assert about["citations"][0]["sentence"] == "It means downstream occlusion." and "only one" in about["decision"]
    assert answer.usage_metadata == {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    assert len(chat.asked) == 1 and "standalone" not in found["usage"]
    assert json.loads(json.dumps(about)) == about and "answer" not in about


def test_a_follow_up_is_rewritten_from_the_conversation() -> None:
    chat = ScriptedChat("Downstream occlusion.", REWRITTEN, "Open the clamp.", "And PMP-471?", "Upstream.")
    retriever = ScriptedRetriever(found=[ALARM])
    graph = built(chat, retriever=retriever).compile(checkpointer=InMemorySaver())
    said(graph, HumanMessage(FIRST))
    found = said(graph, HumanMessage(FOLLOW_UP))
    assert "User: What does PMP-417 mean?\nAssistant: Downstream occlusion [1]." in chat.asked[1]
    assert chat.asked[1].endswith(f"Last question: {FOLLOW_UP}")
    assert retriever.asked == [FIRST, REWRITTEN] and REWRITTEN in chat.asked[2]
    assert (found["asked"], found["question"]) == (FOLLOW_UP, REWRITTEN)
    assert [m.text for m in found["messages"]][2:] == [FOLLOW_UP, "Open the clamp."]
    assert found["messages"][-1].additional_kwargs["rewriting"] == "rewritten from the conversation"
    assert found["usage"]["standalone"]["calls"] == 1 and found["messages"][-1].usage_metadata["total_tokens"] == 30
    third = said(graph, HumanMessage("And PMP-471?"))
    assert third["rewriting"] == "understood as asked" and third["question"] == "And PMP-471?"
    assert len(third["messages"]) == 6 and len(third["candidates"]) == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (PromptTooLongError("window"), "PromptTooLongError: window"),
        ("I do not know.", "the reply is no question"),
        ("How is PMP-418 cleared in 3 steps?", "the reply lost 'pmp-417'"),
        ("如何清除 PMP-417 3?", "another script"),
        ("How is PMP-417 cleared in 4 steps?", "the reply lost 3.0"),
        ("x" * 4000 + "?", "4001 characters"),
        ('""', "the reply was empty"),
    ],
)
def test_a_rewriting_that_is_none_leaves_the_question_as_asked(reply: Any, why: str) -> None:
    asked = "How is PMP-417 cleared in 3 steps?"
    chat = ScriptedChat("Occlusion.", *[reply] * (2 if isinstance(reply, Exception) else 1), "Open the clamp.")
    graph = built(chat).compile(checkpointer=InMemorySaver())
    said(graph, HumanMessage(FIRST))
    found = said(graph, HumanMessage(asked))
    assert found["question"] == asked and found["messages"][-1].text == "Open the clamp."
    assert found["rewriting"].startswith("rewriting failed: ") and why in found["rewriting"]
    assert found["messages"][-1].additional_kwargs["rewriting"] == found["rewriting"]


def test_a_model_that_fails_to_rewrite_is_told_in_the_stream() -> None:
    chat = ScriptedChat("Occlusion.", ConnectionError("down"), "", "Open the clamp.")
    graph = built(chat).compile(checkpointer=InMemorySaver())
    said(graph, HumanMessage(FIRST))
    context = Settings(retries=1)
    told = list(graph.stream({"messages": [("user", FOLLOW_UP)]}, THREAD, context=context, stream_mode="custom"))
    (last,) = (event["message"] for event in told if event["stage"] == "standalone" and "failed" in event["message"])
    assert "ModelCallError" in last and "the reply was empty" in last and "taken as asked" in last
    with pytest.raises(ModelCallError):
        said(built(ScriptedChat(ConnectionError("down"))).compile(), HumanMessage(FIRST), retries=0)


def test_what_was_no_question_need_not_become_one() -> None:
    chat = ScriptedChat("Occlusion.", "Tell me how PMP-417 is cleared.", "Open the clamp.")
    graph = built(chat).compile(checkpointer=InMemorySaver())
    said(graph, HumanMessage(FIRST))
    found = said(graph, HumanMessage("Tell me how it is cleared."), standalone_prompt="Make it whole.")
    assert found["question"] == "Tell me how PMP-417 is cleared." and chat.asked[1].startswith("Make it whole.\nConv")


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ('Rewritten question: "How is PMP-417 cleared?"\n\nIt is cleared by', REWRITTEN),
        ("\n  “How is PMP-417 cleared?”  ", REWRITTEN),
        ("Alarm: how is it cleared?", "Alarm: how is it cleared?"),
    ],
)
def test_what_stands_around_a_rewriting_is_taken_off(reply: str, question: str) -> None:
    graph = built(ScriptedChat("Occlusion.", reply, "Open it.")).compile(checkpointer=InMemorySaver())
    said(graph, HumanMessage(FIRST))
    assert said(graph, HumanMessage(FOLLOW_UP))["question"] == question


def test_a_long_conversation_is_read_from_its_end() -> None:
    turns = [m for n in range(9) for m in (HumanMessage(f"Q{n}?"), AIMessage(f"A{n}. " + "x" * 5000))]
    chat = ScriptedChat(PromptTooLongError("window"), REWRITTEN, "Open it.")
    found = said(built(chat).compile(), SystemMessage("Obey."), *turns, HumanMessage(FOLLOW_UP))
    lines, shorter = (asked.split("Conversation:\n")[-1].split("\n\n")[0].splitlines() for asked in chat.asked[:2])
    assert [line.split(": ")[1][:2] for line in lines] == ["Q6", "A6", "Q7", "A7", "Q8", "A8"] and len(lines) == TURNS
    assert max(map(len, lines)) <= LONGEST + 11 and shorter == lines[1:]
    assert "Obey" not in chat.asked[0] and found["question"] == REWRITTEN


def test_blocks_are_read_and_tools_are_no_turns() -> None:
    blocks: Any = [{"type": "text", "text": "What does "}, {"type": "text", "text": "PMP-417 mean?"}]
    found = said(built(ScriptedChat("Occlusion.")).compile(), SystemMessage("Be brief."), HumanMessage(blocks))
    assert found["question"] == FIRST and not found["follow_up"]
    called = AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": "1"}])
    chat = ScriptedChat("Occlusion.")
    state = {"messages": [called, ToolMessage("x", tool_call_id="1"), HumanMessage(FIRST)], "question": FIRST}
    assert nodes.standalone(chat).invoke(state)["rewriting"] == "the first question: taken as asked"
    assert not chat.asked


IMAGE: Any = [{"type": "image", "url": "https://example.org/a.png"}]


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "the conversation is empty"),
        ([HumanMessage(FIRST), AIMessage("Occlusion.")], "the last message is of the type 'ai' .'Occlusion.'"),
        ([SystemMessage("Obey.")], "of the type 'system'"),
        ([HumanMessage("  \n")], "the question is blank"),
        ([HumanMessage("")], "the question is blank"),
        ([HumanMessage(IMAGE)], "no text, only image"),
        ([HumanMessage("x" * 4001)], "max_question=4000"),
        ([{"role": "user"}], "no message .*write a turn as"),
        ([{"role": "alien", "content": "Q?"}], "no message .*alien"),
        ([7], "no message"),
        ([RemoveMessage(id="never-seen")], "no message .*never-seen"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, complaint: str) -> None:
    with pytest.raises(QuestionError, match=complaint):
        said(built(ScriptedChat()).compile(), *messages)


def test_plain_text_and_dicts_are_messages() -> None:
    for turn in (FIRST, {"role": "user", "content": FIRST}, ("user", FIRST), {"type": "human", "content": FIRST}):
        assert said(built(ScriptedChat("Occlusion.")).compile(), turn)["question"] == FIRST
    assert built(ScriptedChat("No.")).compile().invoke({"messages": FIRST})["question"] == FIRST


def test_an_abstention_and_a_refinement_are_said_in_the_message() -> None:
    chat = ScriptedChat("Cough.", "Nausea.")
    answer = said(built(chat, 0.9, scores={"Nausea": 0.1, "Cough": 0.05}).compile(), FIRST)["messages"][-1]
    about = answer.additional_kwargs
    assert answer.text.startswith("I cannot answer") and about["abstained"] and about["refined"]
    assert about["sources"] == about["citations"] == [] and about["confidence"] == 0.1


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "threads.sqlite"


def test_a_thread_goes_on_in_another_process_life(place: Path) -> None:
    for chat, question, turns in [
        (ScriptedChat("Occlusion."), FIRST, 2),
        (ScriptedChat(REWRITTEN, "Open the clamp."), FOLLOW_UP, 4),
        (ScriptedChat("Who opens the clamp of PMP-417?", "A nurse."), "Who does that?", 6),
    ]:
        connection = sqlite3.connect(place, check_same_thread=False)
        graph = built(chat).compile(checkpointer=SqliteSaver(connection))  # nothing is left of the graph before
        found = said(graph, question)
        connection.close()
        assert len(found["messages"]) == turns and len(found["candidates"]) == 1
    assert found["messages"][2].text == FOLLOW_UP and "Open the clamp" in chat.asked[0]
    first = found["messages"][1].additional_kwargs
    assert first["sources"][0]["document"] == "manual.md" and first["question"] == FIRST
    assert found["asked"] == "Who does that?"


async def test_a_review_waits_through_a_restart(place: Path) -> None:
    context = Settings(review=True)
    async with AsyncSqliteSaver.from_conn_string(str(place)) as saver:
        graph = built(ScriptedChat("Occlusion."), scores={"Occlusion": 0.4}).compile(checkpointer=saver)
        found = await graph.ainvoke({"messages": FIRST}, THREAD, context=context)
        assert found["__interrupt__"][0].value["answer"] == "Occlusion [1]."
        assert [message.type for message in found["messages"]] == ["human"]
    async with AsyncSqliteSaver.from_conn_string(str(place)) as saver:
        graph = built(ScriptedChat("Stenosis."), scores={"Stenosis": 0.5}).compile(checkpointer=saver)
        found = await graph.ainvoke(Command(resume="banana"), THREAD, context=context)
        assert "cannot go on from 'banana'" in found["__interrupt__"][0].value["problem"]
        found = await graph.ainvoke(Command(resume="refine"), THREAD, context=context)
        assert [c["text"] for c in found["__interrupt__"][0].value["candidates"]] == ["Occlusion [1].", "Stenosis."]
    async with AsyncSqliteSaver.from_conn_string(str(place)) as saver:
        graph = built(ScriptedChat()).compile(checkpointer=saver)
        edit = {"action": "edit", "text": "Downstream occlusion."}
        found = await graph.ainvoke(Command(resume=edit), THREAD, context=context)
        answer = found["messages"][-1]
        assert (answer.text, answer.additional_kwargs["confidence"]) == ("Downstream occlusion [1].", 1.0)
        assert answer.additional_kwargs["decision"] == "a person wrote the answer"


def test_a_question_instead_of_a_review_is_answered() -> None:
    chat = ScriptedChat("Occlusion.", REWRITTEN, "Clear it.")
    graph = built(chat, scores={"Occlusion": 0.4, "Clear": 0.9}).compile(checkpointer=InMemorySaver())
    assert said(graph, FIRST, review=True)["__interrupt__"]
    found = said(graph, FOLLOW_UP, review=True)
    assert [message.type for message in found["messages"]] == ["human", "human", "ai"]
    assert found["messages"][-1].text == "Clear it." and "Assistant" not in chat.asked[1].split("Last question")[-2]


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from langgraph.checkpoint.sqlite import SqliteSaver
from test_chat import FIRST, FOLLOW_UP, THREAD, ScriptedChat, built

with SqliteSaver.from_conn_string(sys.argv[1]) as saver:
    graph = built(ScriptedChat("Occlusion.", lambda _: os._exit(9))).compile(checkpointer=saver)
    graph.invoke({"messages": FIRST}, THREAD)
    graph.invoke({"messages": FOLLOW_UP}, THREAD, durability="sync")
"""


def test_a_thread_goes_on_after_its_process_was_killed(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(place), str(ROOT / "tests")], capture_output=True)
    assert done.returncode == 9, done.stderr.decode()
    with SqliteSaver.from_conn_string(str(place)) as saver:
        graph = built(ScriptedChat(REWRITTEN, "Open the clamp.")).compile(checkpointer=saver)
        assert graph.get_state(THREAD).next == ("standalone",)
        found = graph.invoke(None, THREAD)
    assert [m.text for m in found["messages"]] == [FIRST, "Occlusion [1].", FOLLOW_UP, "Open the clamp."]


def test_a_thread_of_an_older_version_goes_on() -> None:
    saver = InMemorySaver()
    graph = built(ScriptedChat(REWRITTEN, "Open the clamp.")).compile(checkpointer=saver)
    graph.update_state(THREAD, {"messages": [HumanMessage(FIRST), AIMessage("Occlusion.")]}, as_node="reply")
    assert said(graph, FOLLOW_UP)["messages"][-1].text == "Open the clamp."


def test_a_state_that_lacks_what_a_node_reads_is_named() -> None:
    graph = built(ScriptedChat()).compile(checkpointer=InMemorySaver())
    graph.update_state(THREAD, {"messages": [HumanMessage(FIRST)], "question": FIRST}, as_node="answer")
    with pytest.raises(StateError, match="'ask' reads 'draft', and the state has none.*begin a new thread"):
        graph.invoke(None, THREAD)


def test_only_answers_are_streamed_as_messages() -> None:
    from artrag.models import PromptedAsker, PromptedTruster

    chat = ScriptedChat("Occlusion.", '{"refine": false}', "90", REWRITTEN, "Open.", '{"refine": false}', "90")
    graph = artrag.build_chat(chat=chat, asker=PromptedAsker(chat), truster=PromptedTruster(chat)).compile(
        checkpointer=InMemorySaver()
    )
    chat.script.insert(3, "90")
    chat.script.append("90")
    for question, answer in ((FIRST, "Occlusion."), (FOLLOW_UP, "Open.")):
        streamed = list(graph.stream({"messages": question}, THREAD, stream_mode="messages"))
        told = [(about["langgraph_node"], message.text) for message, about in streamed]
        assert told == [("answer", answer), ("reply", answer)]
    assert not chat.script
