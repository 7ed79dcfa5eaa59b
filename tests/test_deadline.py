"""A run that has a deadline ends with the best answer so far."""

import asyncio
import time
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedTruster
from langgraph.checkpoint.memory import InMemorySaver

import artrag
from artrag import Subquestion
from artrag.errors import DeadlineError


def art(chat: Any, *doubts: float, scores: dict[str, float] | None = None, **parts: Any) -> Any:
    asker = ScriptedAsker(*doubts, subquestions=[Subquestion("How common was nausea?", False)])
    truster = parts.pop("truster", None) or ScriptedTruster(scores or {})
    return artrag.build_art(chat=chat, asker=asker, truster=truster, **parts)


class SlowChat(ScriptedChat):
    """Says the script, each line after a wait; a line that is a number is the wait before the next."""

    waits: list[float] = []

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self.waits.pop(0))
        return super()._generate(*args, **kwargs)

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.waits.pop(0))
        return super()._generate(*args, **kwargs)


def slow(*lines: tuple[str, float]) -> SlowChat:
    chat = SlowChat(*(text for text, _ in lines))
    chat.waits = [seconds for _, seconds in lines]
    return chat


@pytest.mark.parametrize("later", [False, True])
async def test_at_the_deadline_the_best_answer_so_far_is_given(later: bool) -> None:
    graph = art(slow(("Nausea.", 0.0), ("Cough.", 30.0)), 0.9, scores={"Nausea": 0.8}).compile()
    began = time.monotonic()
    inputs, context = {"question": "Which event?"}, {"deadline": 1.0}
    found = await graph.ainvoke(inputs, context=context) if later else graph.invoke(inputs, context=context)
    assert 0.8 < time.monotonic() - began < 5
    assert (found["answer"], found["confidence"]) == ("Nausea.", 0.8)
    assert found["stop_reason"] == "the deadline of 1 s is over"
    assert "refine failed: DeadlineError: the time that this run may take is over" in found["decision"]


@pytest.mark.parametrize("later", [False, True])
async def test_a_deadline_before_any_draft_is_a_typed_error(later: bool) -> None:
    graph = art(slow(("Nausea.", 30.0)), 0.1).compile()
    with pytest.raises(DeadlineError, match="raise the setting 'deadline'"):
        if later:
            await graph.ainvoke({"question": "Which event?"}, context={"deadline": 0.2})
        else:
            graph.invoke({"question": "Which event?"}, context={"deadline": 0.2})


async def test_samples_that_come_too_late_are_left_out() -> None:
    graph = art(ScriptedChat("Nausea.", "Cough."), 0.9, sampler=slow(("Cold.", 30.0)), scores={"Nausea": 0.8})
    found = await graph.compile().ainvoke({"question": "Which?"}, context={"deadline": 0.5, "samples": 1})
    assert found["answer"] == "Nausea." and [c["stage"] for c in found["candidates"]] == ["initial"]


def test_no_round_begins_after_the_deadline_and_the_next_question_has_its_own() -> None:
    """The Truster is not sure, rounds are left, but there is no time."""

    class Thoughtful(ScriptedTruster):
        def confidence(self, question: str, answer: str, passages: Any = None) -> float:
            time.sleep(0.6)
            return super().confidence(question, answer, passages)

    chat = ScriptedChat("Nausea.", "Cough.", "Rash.")
    truster = Thoughtful({"Nausea": 0.4, "Cough": 0.3, "Rash": 0.7})
    graph = art(chat, 0.9, 0.9, 0.1, truster=truster).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    found = graph.invoke({"question": "Which?"}, thread, context={"deadline": 2.0, "rounds": 3})
    assert found["rounds"] == 1 and found["stop_reason"] == "the deadline of 2 s is over"
    assert found["answer"] == "Nausea." and len(found["candidates"]) == 2
    again = graph.invoke({"question": "Which?"}, thread, context={"rounds": 0})
    assert again["due"] == 0.0 and again["answer"] == "Rash."


async def test_a_timeout_of_the_model_itself_is_a_fault_like_others() -> None:
    chat = ScriptedChat(TimeoutError("no reply"), "Nausea.")
    found = await art(chat, 0.1).compile().ainvoke({"question": "Which?"}, context={"deadline": 20})
    assert found["answer"] == "Nausea."
