"""receive: check the question, and forget what the last question on this thread left behind."""

import time
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import QuestionError
from artrag.nodes.node import Run, node
from artrag.state import QAState


def receive() -> Runnable[Any, Any]:
    """The first node of a question-answering graph.

    Reads `question`; writes every key of `QAState` anew.

    Raises:
        QuestionError: the question is missing, blank, or longer than `Settings.max_question`.
    """

    def body(state: QAState, run: Run) -> dict[str, Any]:
        question = state.get("question")
        if not isinstance(question, str) or not question.strip():
            raise QuestionError(f"the question is blank ({question!r}): ask something")
        if len(question) > run.settings.max_question:
            raise QuestionError(
                f"the question has {len(question)} characters, more than max_question={run.settings.max_question}: "
                "ask it more briefly, or raise the setting"
            )
        return {
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
            "due": time.time() + run.settings.deadline if run.settings.deadline else 0.0,
        }

    return node("receive", body)
