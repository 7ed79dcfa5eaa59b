"""What a run streams while it goes on: tokens of answers, and the decision of each stage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from openai_server import OpenAIServer

import artrag
from artrag import Settings
from artrag.interfaces.wiring import wired_art, wired_chat
from artrag.models import load_chat
from artrag.models.local_chat import LocalChat
from artrag.text import readable

DRAFT, REFINED = "Cough was the most common event.", "Nausea was the most common event."
PASSAGE = passage("Nausea was the most common event of the trial.")
THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


async def streamed(graph: Any, inputs: Any, *, awaited: bool, **given: Any) -> tuple[dict[str, list[str]], Any]:
    """The pieces of text that each node streamed, and the final state."""
    said: dict[str, list[str]] = {}
    state: Any = {}
    modes = ["messages", "values"]
    events: Any = []
    if awaited:
        async for event in graph.astream(inputs, stream_mode=modes, **given):
            events.append(event)
    else:
        events = list(graph.stream(inputs, stream_mode=modes, **given))
    for mode, event in events:
        if mode == "values":
            state = event
        elif event[0].text:
            said.setdefault(event[1]["langgraph_node"], []).append(event[0].text)
    return said, state


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("name", ["art", "chat"])
async def test_tokens_of_a_remote_model(server: OpenAIServer, name: str, awaited: bool) -> None:
    server.script = [DRAFT, REFINED]
    build = {"art": artrag.build_art, "chat": artrag.build_chat}[name]
    truster = ScriptedTruster({"Nausea": 0.8, "Cough": 0.2})
    graph = build(chat=load_chat(server.reference), asker=ScriptedAsker(0.9), truster=truster).compile()
    inputs = {"question": "Which event?"} if name == "art" else {"messages": "Which event?"}
    said, state = await streamed(graph, inputs, awaited=awaited)
    assert {node: "".join(pieces) for node, pieces in said.items() if node != "reply"} == {
        "answer": DRAFT,
        "refine": REFINED,
    }
    assert all(len(pieces) >= 5 for node, pieces in said.items() if node != "reply")
    assert said.get("reply", [REFINED]) == [REFINED] and state["answer"] == REFINED


@pytest.mark.parametrize("awaited", [False, True])
async def test_tokens_of_a_local_model(tiny_chat_folder: Path, awaited: bool) -> None:
    chat = LocalChat.load(str(tiny_chat_folder), max_tokens=120, temperature=2.0, seed=21)
    graph = artrag.build_art(chat=chat, asker=ScriptedAsker(0.1), truster=ScriptedTruster({})).compile()
    said, state = await streamed(graph, {"question": "Q?"}, awaited=awaited)
    assert set(said) == {"answer"} and len(said["answer"]) >= 2  # a piece ends at a space
    assert readable("".join(said["answer"])).strip() == state["draft"]


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_tokens_of_the_model_that_the_settings_name(
    server: OpenAIServer, tiny_chat_folder: Path, kind: str, awaited: bool
) -> None:
    reference = str(tiny_chat_folder) if kind == "local" else server.reference
    server.otherwise = DRAFT
    context = Settings(chat=reference, asker="evidence", truster="evidence", rounds=0)
    for graph, inputs in ((wired_art(), {"question": "Q?"}), (wired_chat(), {"messages": "Q?"})):
        said, state = await streamed(graph.compile(), inputs, awaited=awaited, context=context)
        assert (
            readable("".join(said["answer"])).strip() == state["draft"]
            and len(said["answer"]) >= (kind == "remote") * 4 + 1
        )


def test_judges_rewriters_and_samples_are_not_streamed_as_messages(server: OpenAIServer) -> None:
    server.script = [DRAFT, '{"refine": true, "reason": "hm"}', "A sample here.", REFINED, *["90"] * 4]
    context = Settings(chat=server.reference, asker="prompted", truster="prompted", samples=1)
    events = list(wired_art().compile().stream({"question": "Q?"}, context=context, stream_mode="messages"))
    assert {about["langgraph_node"] for message, about in events} == {"answer", "refine"}  # type: ignore[union-attr]
    assert len(server.asked) >= 7 and all(body.get("stream") for body in server.bodies)


def told(graph: Any, inputs: Any, **given: Any) -> list[tuple[str, str]]:
    events = graph.stream(inputs, stream_mode="custom", **given)
    return [(event["stage"], event["message"]) for event in events]


def test_every_stage_tells_its_decision() -> None:
    retriever = ScriptedRetriever(found=[PASSAGE])
    parts: Any = {"asker": ScriptedAsker(*[0.9] * 3), "truster": ScriptedTruster({"Nausea": 0.5, "Cough": 0.2})}
    chat = ScriptedChat("Cough.", "Nausea.", "Which event was it?", "Cough.", "Nausea.", "Headache.")
    graph = artrag.build_chat(chat=chat, retriever=retriever, **parts).compile(checkpointer=InMemorySaver())
    assert told(graph, {"messages": "Which event?"}, config=THREAD) == [
        ("retrieve", "1 passages"),
        ("answer", "drafting"),
        ("ask", "refining"),
        ("refine", "rewriting"),
        ("trust", "trusts the refined answer (0.50 against initial 0.20)"),
    ]
    second = told(graph, {"messages": "And then?"}, config=THREAD, context=Settings(review=True))
    assert second[0] == ("standalone", "rewritten from the conversation") and len(second) == 6
    resumed = told(graph, Command(resume="refine"), config=THREAD, context=Settings(review=True))
    assert resumed[0] == ("review", "a person asked for one more round") and resumed[1] == ("refine", "rewriting")
    assert told(graph, Command(resume="accept"), config=THREAD) == [("review", "a person accepted the answer")]


def test_routes_and_ranks_are_told() -> None:
    routed = artrag.build_routed(chat=ScriptedChat("Paris."), retriever=ScriptedRetriever(found=[])).compile()
    events = told(routed, {"question": "What is the capital of France?"})
    assert [stage for stage, _ in events] == ["retrieve", "route", "recall"] and events[1][1].startswith("neither: ")
    rag = artrag.build_contextual_rag(chat=ScriptedChat("Nausea."), retriever=ScriptedRetriever(found=[PASSAGE]))
    assert told(rag.compile(), {"question": "Q?"}) == [
        ("retrieve", "1 passages"),
        ("rerank", "1 passages kept"),
        ("answer", "drafting"),
    ]
