"""review: ask a person about an answer that is not trusted enough."""

import time
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import Runnable
from langgraph.types import interrupt

from artrag.errors import UsageError
from artrag.nodes.node import Run, node
from artrag.passages import cite
from artrag.state import Candidate, QAState, SubquestionRecord

ACTIONS = ("accept", "edit", "refine")
_NAME = "answer"


def review() -> Runnable[Any, Any]:
    """A node that interrupts with all candidates, scores and subquestions, and goes on as the person says.

    Resume with `{"action": "accept"}` (optionally `"candidate": n`, from 0), `{"action": "edit", "text": ...}` or
    `{"action": "refine"}` for one more round (optionally `"text"`: what it should settle); a bare string is short for
    the action of that name. Chat clients that know LangChain's human-in-the-loop requests show buttons, and resume with
    `{"decisions": [{"type": "approve"}]}`, an `edit` or a `reject`, which asks for one more round.

    Reads `question`, `answer`, `draft`, `candidates`, `subquestions`, `confidence`, `decision`, `passages`; writes
    `answer`, `draft`, `citations`, `candidates`, `subquestions`, `confidence`, `abstained`, `decision`, `stop_reason`,
    `needs_refining`, `needs_review`. A resume value that is none of these interrupts again, and `problem` says why.
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
                    **_buttons(state, problem),
                }
            )
            try:
                action, wish = _understood(said, len(state["candidates"]))
                break
            except UsageError as error:  # an exception would leave the thread stuck on this resume value
                problem = str(error)
        if action == "refine":
            run.tell("a person asked for one more round", wish=wish)
            asked = list(state["subquestions"])
            if wish:
                asked.append(SubquestionRecord(text=wish, answered=False))
            return {
                "subquestions": asked,
                "needs_refining": True,
                "refine_reason": "a person asked for one more round",
                "stop_reason": "",
                "needs_review": False,
                "due": time.time() + run.settings.deadline if run.settings.deadline else 0.0,
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


def _buttons(state: QAState, problem: str) -> dict[str, Any]:
    """The same request in LangChain's form (`langchain.agents.middleware.human_in_the_loop.HITLRequest`)."""
    lines = [problem, f"{state['question']}\nConfidence {state['confidence']:.2f}: {state['decision']}"]
    request = {"name": _NAME, "args": {_NAME: state["draft"]}, "description": "\n\n".join(filter(None, lines))}
    allowed = {"action_name": _NAME, "allowed_decisions": ["approve", "edit", "reject"]}
    return {"action_requests": [request], "review_configs": [allowed]}


def _understood(said: Any, candidates: int) -> tuple[str, Any]:
    """The action and what it carries: a candidate's place, the person's text, or what to settle."""
    order = _order(said)
    action, text = order.get("action"), order.get("text")
    words = text.strip() if isinstance(text, str) else ""
    if action == "refine" and (text is None or words):
        return action, words or None
    if action == "edit" and words:
        return action, words
    if action == "accept":
        place = order.get("candidate")
        if place is None or (type(place) is int and 0 <= place < candidates):
            return action, place
    raise UsageError(
        f"cannot go on from {said!r}: resume with 'accept', 'refine', "
        f'{{"action": "accept", "candidate": 0 to {candidates - 1}}} or {{"action": "edit", "text": "..."}}'
    )


def _order(said: Any) -> Mapping[str, Any]:
    """The person's order, whichever form it came in; nothing where it is in none."""
    if isinstance(said, str):
        return {"action": said}
    if not isinstance(said, Mapping):
        return {}
    decisions = said.get("decisions")
    if not isinstance(decisions, list) or len(decisions) != 1 or not isinstance(decisions[0], Mapping):
        return said
    decision = decisions[0]
    if decision.get("type") == "approve":
        return {"action": "accept"}
    if decision.get("type") == "reject":
        return {"action": "refine", "text": decision.get("message") or None}
    edited = decision.get("edited_action")
    args = edited.get("args") if isinstance(edited, Mapping) else None
    return {"action": decision.get("type"), "text": args.get(_NAME) if isinstance(args, Mapping) else None}
