"""The real OpenAI client against a server on the loopback address: answers, faults, concurrency, streams."""

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes import ScriptedAsker, ScriptedTruster
from openai_server import PROMPT_TOKENS, After, Fail, Garbage, OpenAIServer, Said

import artrag
from artrag.errors import ModelCallError, RemoteRefusedError
from artrag.models import load_chat

QUESTION: Any = {"question": "Which event was most common?"}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running
    gc.collect()  # a socket that a client forgot shows here, in the test that opened it


def art(server: OpenAIServer, *doubts: float, **scores: float) -> Any:
    chat = load_chat(server.reference, local_only=True)
    return artrag.build_art(chat=chat, asker=ScriptedAsker(*doubts), truster=ScriptedTruster(scores)).compile()


def test_it_answers_and_tokens_are_counted(server: OpenAIServer) -> None:
    server.script = ["Cough was.", "Nausea was the one."]
    found = art(server, 0.9, Nausea=0.8, Cough=0.2).invoke(QUESTION)
    assert (found["answer"], found["rounds"], found["confidence"]) == ("Nausea was the one.", 1, 0.8)
    assert QUESTION["question"] in server.asked[0] and "Cough was." in server.asked[1]
    for stage, words in (("answer", 2), ("refine", 4)):
        used = found["usage"][stage]
        assert (used["calls"], used["prompt_tokens"], used["completion_tokens"]) == (1, PROMPT_TOKENS, words)


@pytest.mark.parametrize("fault", [Fail(500), Fail(429), Fail(503), "", " \n", Garbage()], ids=repr)
def test_faults_are_retried_and_then_answered(server: OpenAIServer, fault: Said) -> None:
    server.script = [fault, fault, "Nausea."]
    found = art(server, 0.1).invoke(QUESTION)
    assert found["answer"] == "Nausea." and len(server.asked) == 3
    assert found["usage"]["answer"]["calls"] == 3


@pytest.mark.parametrize(
    ("fault", "named"),
    [(Fail(500), ".*Error code: 500"), (Fail(429), ".*Error code: 429"), ("", "the reply was empty")],
    ids=repr,
)
async def test_a_failing_server_is_an_error_and_never_an_answer(server: OpenAIServer, fault: Said, named: str) -> None:
    server.otherwise = fault
    states: list[Any] = []
    with pytest.raises(ModelCallError, match=rf"no usable reply in 3 tries \({named}"):
        async for state in art(server, 0.1).astream(QUESTION, stream_mode="values"):
            states.append(state)
    assert len(server.asked) == 3
    assert states and not any(state.get("answer") or state.get("draft") for state in states)


def test_no_server_is_an_error_that_says_what_to_do() -> None:
    with OpenAIServer() as gone:
        reference = gone.reference
    graph = artrag.build_art(chat=load_chat(reference), asker=ScriptedAsker(), truster=ScriptedTruster({})).compile()
    with pytest.raises(ModelCallError, match="ConnectionError.*check that it is up and reachable"):
        graph.invoke(QUESTION)


def test_where_only_refining_fails_the_draft_stands(server: OpenAIServer) -> None:
    server.script, server.otherwise = ["Nausea."], Fail(500)
    found = art(server, 0.9).invoke(QUESTION)
    assert found["answer"] == "Nausea." and len(server.asked) == 4
    assert "refine failed: ModelCallError" in found["decision"] and found["stop_reason"] == "refining failed"


async def test_a_hanging_server_does_not_hold_a_cancelled_run(server: OpenAIServer) -> None:
    server.otherwise = After(60, "too late")
    started = time.perf_counter()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(art(server, 0.1).ainvoke(QUESTION), 0.5)
    assert time.perf_counter() - started < 10


def test_local_only_takes_the_loopback_server_and_no_other(server: OpenAIServer) -> None:
    assert load_chat(server.reference, local_only=True).invoke("Which event?").text == "Nausea."
    for host in ("10.0.0.7", "models.example.org", "127.0.0.1.example.org"):
        with pytest.raises(RemoteRefusedError, match=f"{host}.*local_only"):
            load_chat(f"openai:fake@http://{host}:8000/v1", local_only=True)
    assert len(server.asked) == 1


async def test_concurrent_runs_wait_side_by_side(server: OpenAIServer) -> None:
    server.otherwise = After(0.2, "Nausea.")
    graph = art(server, *[0.9] * 30)
    started = time.perf_counter()
    found = await asyncio.gather(*(graph.ainvoke(QUESTION) for _ in range(30)))
    assert time.perf_counter() - started < 6  # thirty runs of two calls take twelve seconds one after another
    assert all(state["answer"] == "Nausea." for state in found) and len(server.asked) == 60


async def test_tokens_are_streamed_and_counted(server: OpenAIServer) -> None:
    server.script = ["Cough was the most common.", "Nausea was the most common event."]
    graph = art(server, 0.9, Nausea=0.8, Cough=0.2)
    said: dict[str, list[str]] = {}
    state: Any = {}
    async for mode, event in graph.astream(QUESTION, stream_mode=["messages", "values"]):
        if mode == "messages":
            chunk, about = event
            said.setdefault(about["langgraph_node"], []).append(chunk.text)
        else:
            state = event
    assert "".join(said["answer"]) == "Cough was the most common."
    assert "".join(said["refine"]) == "Nausea was the most common event." == state["answer"]
    assert all(len([piece for piece in pieces if piece]) >= 5 for pieces in said.values())
    assert all(body["stream"] for body in server.bodies)
    assert [state["usage"][stage]["completion_tokens"] for stage in ("answer", "refine")] == [5, 6]


def test_the_server_lists_its_model(server: OpenAIServer) -> None:
    assert httpx.get(f"{server.url}/models").json()["data"][0]["id"] == "fake"
