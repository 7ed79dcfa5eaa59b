"""receive: check the question, and forget what the last question on this thread left behind."""

import time
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from artrag.errors import QuestionError
from artrag.formats import STATE_FORMAT
from artrag.nodes.node import Run, node


def receive(*, chat: bool = False) -> Runnable[Any, Any]:
    """The first node of a question-answering graph.

    Reads `question`, or in a `chat` the last of `messages`; writes every key of `QAState` anew, and in a chat `asked`,
    `follow_up` and `rewriting`.

    Raises:
        QuestionError: the question is missing, blank, or longer than `Settings.max_question`; in a chat the
            conversation is empty, or its last message is not a person's.
    """

    def body(state: Any, run: Run) -> dict[str, Any]:
        question = _last(state.get("messages") or []) if chat else state.get("question")
        if not isinstance(question, str) or not question.strip():
            raise QuestionError(f"the question is blank ({question!r}): ask something")
        if len(question) > run.settings.max_question:
            raise QuestionError(
                f"the question has {len(question)} characters, more than max_question={run.settings.max_question}: "
                "ask it more briefly, or raise the setting"
            )
        fresh: dict[str, Any] = {
            "question": question.strip(),
            "passages": None,
            "draft": "",
            "subquestions": [],
            "refine_probability": 0.0,
            "needs_refining": False,
            "refine_reason": "",
            "refine_failure": "",
            "candidates": [],
            "answer": "",
            "citations": [],
            "confidence": 0.0,
            "abstained": False,
            "need": "",
            "decision": "",
            "stop_reason": "",
            "needs_review": False,
            "rounds": 0,
            "state_format": STATE_FORMAT,
            "due": time.time() + run.settings.deadline if run.settings.deadline else 0.0,
        }
        if not chat:
            return fresh
        earlier = any(message.type in ("human", "ai") for message in state["messages"][:-1])
        return fresh | {"asked": question.strip(), "follow_up": earlier, "rewriting": ""}

    return node("receive", body)


def _last(messages: Sequence[BaseMessage]) -> str:
    """What the last message of a conversation asks; of blocks, the text."""
    if not messages:
        raise QuestionError("the conversation is empty: begin it with a question")
    last = messages[-1]
    if last.type != "human":
        raise QuestionError(
            f"the last message is of the type {last.type!r} ({str(last.text)[:80]!r}): end the conversation with a "
            "person's question, of the type 'human'"
        )
    text = str(last.text)
    others = sorted({str(block["type"]) for block in last.content_blocks} - {"text"})
    if others and not text.strip():
        raise QuestionError(f"the last message holds no text, only {', '.join(others)}: ask in words")
    return text
