"""recall: let the chat model answer from what it knows."""

from typing import Any

from langchain_core.runnables import Runnable

from artrag.nodes.calling import messages_of, say
from artrag.nodes.node import Run, node
from artrag.state import Candidate, QAState
from artrag.steps import Steps


def recall(chat: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A node that answers without passages and without working anything out.

    Reads `question`; writes `draft`, `candidates`, `answer`, `citations`.

    Raises:
        ModelCallError: the model gave no usable reply.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        run.tell("answering from memory")
        messages = yield from messages_of("instructed", {"question": state["question"]})
        text = yield from say(chat, messages, run)
        return {"draft": text, "candidates": [Candidate(stage="initial", text=text)], "answer": text, "citations": []}

    return node("recall", body)
