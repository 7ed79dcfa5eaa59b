"""Calling a chat model so that a fault is retried, then named; a silent empty reply is a fault."""

import random
import re
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from artrag.errors import ArtragError, ModelCallError
from artrag.nodes.node import Run
from artrag.steps import Steps, invoke, pause

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0

_MADE_UP = re.compile(r"\s*(?:</?passage>|\n\s*(?:Question|Passage|Answer the question)\b)", re.IGNORECASE)


def say(chat: Runnable[Any, Any], messages: list[BaseMessage], run: Run) -> Steps[str]:
    """The model's reply to `messages` as text, retried with jittered, doubling pauses (`Settings.retries`).

    Raises:
        ModelCallError: no usable reply after all tries; it names the last fault.
        ArtragError: our own errors (a prompt over the window, a missing package) pass at once: retrying cannot help.
    """
    fault = ""
    for attempt in range(run.settings.retries + 1):
        if attempt:
            wait = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311
            run.tell(f"trying again: {fault}", attempt=attempt)
            yield pause(wait)
        try:
            reply = yield invoke(chat, messages)
        except ArtragError:
            raise
        except Exception as error:  # every provider has classes of its own
            if _is_signal(error):
                raise
            fault = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        text = str(reply.text).strip() if isinstance(reply, BaseMessage) else str(reply).strip()
        if text:
            return text
        fault = "the reply was empty"
    raise ModelCallError(
        f"the chat model gave no usable reply in {run.settings.retries + 1} tries ({fault}): "
        "check that it is up and reachable, or name another one"
    )


def own_words(text: str) -> str:
    """A short answer without the next passage or question that small models go on to make up."""
    kept = _MADE_UP.split(text, maxsplit=1)[0].strip()
    return kept or text.strip()


def _is_signal(error: Exception) -> bool:
    """LangGraph's own control flow (interrupts) travels as exceptions; it is never a fault."""
    from langgraph.errors import GraphBubbleUp

    return isinstance(error, GraphBubbleUp)
