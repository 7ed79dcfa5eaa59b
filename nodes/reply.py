"""reply: say the answer in the conversation."""

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable

from artrag.answer import Answer
from artrag.nodes.node import Run, node
from artrag.state import ChatState


def reply() -> Runnable[Any, Any]:
    """The last node of a chat: the answer as a message.

    Its `additional_kwargs` hold what `artrag.Answer` does as plain data (`confidence`, `abstained`, `decision`,
    `sources`, ...), and `rewriting`; its `usage_metadata` the tokens of all calls.

    Reads `answer` and what is known about it; writes `messages`.
    """

    def body(state: ChatState, run: Run) -> dict[str, Any]:
        answer = Answer.of(state)
        spent = list(state.get("usage", {}).values())
        read, written = (sum(used[key] for used in spent) for key in ("prompt_tokens", "completion_tokens"))
        message = AIMessage(
            answer.answer,
            additional_kwargs=answer.about() | {"rewriting": state.get("rewriting", "")},
            usage_metadata=UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written),
        )
        return {"messages": [message]}

    return node("reply", body)
