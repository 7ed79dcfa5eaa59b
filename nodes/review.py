"""review: ask a person about an answer that is not trusted enough."""

from typing import Any

from langchain_core.runnables import Runnable
from langgraph.types import interrupt

from artrag.errors import UsageError
from artrag.nodes.node import Run, node
from artrag.passages import cite
from artrag.state import Candidate, QAState

ACTIONS = ("accept", "edit", "refine")


def review() -> Runnable[Any, Any]:
    """A node that interrupts with all candidates, scores and subquestions, and goes on as the person says.

    Resume with `{"action": "accept"}` (optionally `"candidate": n`, from 0), `{"action": "edit", "text": ...}` or
    `{"action": "refine"}` for one more round; a bare string is short for the action of that name.

    Reads `question`, `answer`, `candidates`, `subquestions`, `confidence`, `passages`; writes `answer`, `draft`,
    `citations`, `candidates`, `confidence`, `abstained`, `decision`, `stop_reason`, `needs_refining`,
    `needs_review`. A resume value that is none of these interrupts again, and `problem` says why.
    """

    def body(state: QAState, run: Run) -> dict[str, Any]:
        problem = ""
        while True:
            said = interrupt(
                {
                    "question": state["question"],
                    "answer": state["answer"],
                    "confidence": state["confidence"],
                    "decision": state["decision"],
                    "candidates": state["candidates"],
                    "subquestions": state["subquestions"],
                    "actions": list(ACTIONS),
                    "problem": problem,
                }
            )
            try:
                action, wish = _understood(said, len(state["candidates"]))
                break
            except UsageError as error:  # an exception would leave the thread stuck on this resume value
                problem = str(error)
        if action == "refine":
            run.tell("a person asked for one more round")
            return {
                "needs_refining": True,
                "refine_reason": "a person asked for one more round",
                "stop_reason": "",
                "needs_review": False,
            }
        candidates = state["candidates"]
        if action == "edit":
            candidates = [*candidates, Candidate(stage="edited", text=wish, confidence=1.0)]
            text, decision = wish, "a person wrote the answer"
        else:
            text = state["draft"] if wish is None else candidates[wish]["text"]
            decision = "a person accepted the answer"
        cited, citations = cite(text, state.get("passages"))
        run.tell(decision)
        return {
            "answer": cited,
            "draft": text,
            "citations": citations,
            "candidates": candidates,
            "confidence": 1.0,
            "abstained": False,
            "decision": decision,
            "stop_reason": "reviewed",
            "needs_refining": False,
            "needs_review": False,
        }

    return node("review", body)


def _understood(said: Any, candidates: int) -> tuple[str, Any]:
    """The action and what it carries: a candidate's place, or the person's text."""
    order = {"action": said} if isinstance(said, str) else said
    action = order.get("action") if isinstance(order, dict) else None
    if action == "refine":
        return action, None
    if action == "edit" and isinstance(order.get("text"), str) and order["text"].strip():
        return action, order["text"].strip()
    if action == "accept":
        place = order.get("candidate")
        if place is None or (isinstance(place, int) and 0 <= place < candidates):
            return action, place
    raise UsageError(
        f"cannot go on from {said!r}: resume with 'accept', 'refine', "
        f'{{"action": "accept", "candidate": 0 to {candidates - 1}}} or {{"action": "edit", "text": "..."}}'
    )
