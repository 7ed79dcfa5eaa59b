"""Runs of one event loop begin a little apart."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fakes import AnsweringChat, ScriptedRetriever, passage

from artrag import build_contextual_rag
from artrag.nodes import pacing


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """How long each beginning waited; no time passes meanwhile."""

    class Loop:
        def time(self) -> float:
            return 100.0

    told: list[float] = []
    loop = Loop()

    async def sleep(seconds: float) -> None:
        told.append(seconds)

    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(get_running_loop=lambda: loop, sleep=sleep))
    yield told


async def test_runs_that_begin_at_once_begin_one_after_another(waits: list[float]) -> None:
    await asyncio.gather(*(pacing.begin_apart() for _ in range(4)))
    assert waits == pytest.approx([pacing.APART, 2 * pacing.APART, 3 * pacing.APART])


async def test_of_a_graph_the_first_stage_waits_alone(waits: list[float]) -> None:
    chat, retriever = AnsweringChat(lambda _: "It is 4 bar [1]."), ScriptedRetriever(found=[passage("It is 4 bar.")])
    graph = build_contextual_rag(chat=chat, retriever=retriever).compile()
    await graph.ainvoke({"question": "How much?"})
    assert waits == []
    await asyncio.gather(*(graph.ainvoke({"question": "How much?"}) for _ in range(3)))
    assert waits == pytest.approx([pacing.APART, 2 * pacing.APART, 3 * pacing.APART])
