"""A dead model is left alone, and tried again."""

import asyncio
import gc
from typing import Any

import pytest
from fakes import AnsweringChat, ScriptedAsker, ScriptedChat, ScriptedTruster
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

import artrag
from artrag.errors import ModelCallError
from artrag.nodes import calling, circuit
from artrag.nodes.circuit import Circuit, circuit_of


class Refused(Exception):
    status_code = 429


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr(circuit, "time", Clock)
    return now


def ask(chat: Any) -> str:
    graph = artrag.build_art(chat=chat, asker=ScriptedAsker(0.0), truster=ScriptedTruster({})).compile()
    return str(graph.invoke({"question": "Which?"}, context={"retries": 0})["answer"])


def test_a_model_that_fails_ten_times_in_a_row_is_left_alone_and_then_tried_once(clock: list[float]) -> None:
    chat = ScriptedChat(*[ConnectionError("reset")] * 11, "Nausea.", "Nausea.")
    for _ in range(10):
        with pytest.raises(ModelCallError, match="no usable reply"):
            ask(chat)
    left = len(chat.script)
    with pytest.raises(ModelCallError, match=r"failed 10 times in a row \(ConnectionError: reset\).* another 15 s"):
        ask(chat)
    assert len(chat.script) == left, "it was asked"
    clock[0] += 15
    with pytest.raises(ModelCallError, match="no usable reply"):
        ask(chat)
    with pytest.raises(ModelCallError, match="another 15 s"):
        ask(chat)
    clock[0] += 15.5
    assert ask(chat) == "Nausea." and ask(chat) == "Nausea."


def test_while_one_tries_the_others_wait(clock: list[float]) -> None:
    one = Circuit()
    for _ in range(10):
        one.failed("reset")
    clock[0] += 16
    one.check()
    with pytest.raises(ModelCallError):
        one.check()
    one.answered()
    one.check()


def test_a_refusal_after_the_pause_says_that_the_model_is_alive(clock: list[float]) -> None:
    chat = ScriptedChat(*[ConnectionError("reset")] * 10, Refused("slow down"), "Nausea.")
    for _ in range(10):
        with pytest.raises(ModelCallError):
            ask(chat)
    clock[0] += 15
    with pytest.raises(ModelCallError, match="Refused"):
        ask(chat)
    assert ask(chat) == "Nausea."


def test_an_answer_between_faults_and_a_refusal_do_not_count() -> None:
    chat = ScriptedChat(*[ConnectionError("reset")] * 9, "Nausea.", *[ConnectionError("reset")] * 9, "Nausea.")
    for _ in range(2):
        for _ in range(9):
            with pytest.raises(ModelCallError):
                ask(chat)
        assert ask(chat) == "Nausea."
    busy = ScriptedChat(*[Refused("slow down")] * 20, "Nausea.")
    for _ in range(20):
        with pytest.raises(ModelCallError, match="Refused"):
            ask(busy)
    assert ask(busy) == "Nausea."


def test_a_model_that_fails_too_many_calls_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "FIRST_PAUSE", 0.0)
    graph = artrag.build_art(chat=(chat := Flaky()), asker=ScriptedAsker(0.0), truster=ScriptedTruster({})).compile()
    given: Any = ({"question": "Which?"}, None)
    for _ in range(20):  # a reset, then an answer: 20 retries are there, and half a one is earned each time
        assert graph.invoke(*given, context={"retries": 1})["answer"] == "Nausea."
    for _ in range(19):
        assert graph.invoke(*given, context={"retries": 1})["answer"] == "Nausea."
    with pytest.raises(ModelCallError, match=r"in 1 try \(ConnectionError: reset; it fails so many calls"):
        graph.invoke(*given, context={"retries": 1})
    chat.fault = Refused("slow down")  # its own limit, which is waited for
    for _ in range(30):
        chat.broken = True
        assert graph.invoke(*given, context={"retries": 1})["answer"] == "Nausea."


class Flaky(RunnableLambda[Any, Any]):
    """Fails every other call."""

    def __init__(self) -> None:
        super().__init__(self._said)
        self.broken = True
        self.fault: Exception = ConnectionError("reset")

    def _said(self, _: Any) -> AIMessage:
        self.broken, broken = not self.broken, self.broken
        if broken:
            raise self.fault
        return AIMessage("Nausea.")


async def test_concurrent_runs_share_the_circuit() -> None:
    asked = 0

    def reset(_: Any) -> Any:
        nonlocal asked
        asked += 1
        return ConnectionError("reset")

    graph = artrag.build_art(chat=AnsweringChat(reset), asker=ScriptedAsker(), truster=ScriptedTruster({})).compile()
    runs = [graph.ainvoke({"question": "Which?"}) for _ in range(40)]
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(error, ModelCallError) for error in ended)
    assert any("in a row" in str(error) for error in ended)
    assert asked <= 40 + circuit.RETRIES  # each alone would have tried three times


def test_each_model_has_its_own_and_it_goes_with_it() -> None:
    one, other = ScriptedChat("a"), ScriptedChat("b")
    assert circuit_of(one) is circuit_of(one) is not circuit_of(other)
    held = len(circuit._OWN)
    del one
    gc.collect()
    assert len(circuit._OWN) < held

    class Named:
        reference = "openai:gpt@http://127.0.0.1:1/v1"

    assert circuit_of(Named()) is circuit_of(Named())
