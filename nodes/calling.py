"""Calling a chat model so that a fault is retried, then named; a silent empty reply is a fault."""

import random
from collections.abc import Mapping
from typing import Any

from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.errors import ArtragError, ModelCallError, PromptTooLongError
from artrag.nodes.circuit import circuit_of
from artrag.nodes.node import Run
from artrag.steps import Call, Steps, invoke, method, pause
from artrag.telling import told
from artrag.text import readable

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0
LONGEST_REPLY = 20_000
"""Characters of a reply that are read: what goes on longer runs away."""
LONGEST_ASKED = 120.0
"""Seconds that a server may ask us to wait."""


def messages_of(name: str, values: Mapping[str, str], system: str = "") -> Steps[list[BaseMessage]]:
    """The prompt `name` with its values filled in; `system`, where given, stands in for its system message."""
    prompt = yield method(prompts, "load", name)
    messages: list[BaseMessage] = prompt.format_messages(**values)
    if not system.strip():
        return messages
    return [SystemMessage(system.strip()), *(message for message in messages if message.type != "system")]


def say(chat: Runnable[Any, Any], messages: list[BaseMessage], run: Run) -> Steps[str]:
    """The model's reply to `messages` as text, retried with jittered, doubling pauses (`Settings.retries`).

    A server that says how long to wait (`retry-after`) is waited for that long, up to two minutes. A model that failed
    many runs in a row is left alone for a while, and one that fails too many calls is not tried again
    (`artrag.nodes.circuit`).

    Raises:
        ModelCallError: no usable reply after all tries; it names the last fault.
        ArtragError: our own errors (a prompt over the window, a missing package) pass at once: retrying cannot help.
    """
    fault, asked, refused = "", 0.0, False
    circuit, tries = circuit_of(chat), 0
    for attempt in range(run.settings.retries + 1):
        if attempt:
            if not refused and not circuit.retry():
                fault += "; it fails so many calls that none is tried again for now"
                break
            yield again(fault, attempt, run, at_least=asked)
        circuit.check()
        tries += 1
        try:
            reply = yield invoke(chat, messages)
        except ArtragError:
            raise
        except ContextOverflowError as error:
            raise PromptTooLongError(
                f"the prompt is longer than the chat model can read: {str(error)[:200]}; "
                "ask less, pass fewer passages, or name a model with a longer window"
            ) from error
        except Exception as error:  # every provider has classes of its own
            unless_signal(error)
            fault, asked = told(error, 200), _asked_to_wait(error)
            refused = 400 <= (getattr(error, "status_code", None) or 0) < 500
            if refused:
                circuit.answered()  # it is alive, and sees to itself that it is not asked too often
            else:
                circuit.failed(fault)
            continue
        circuit.answered()
        text = readable(str(reply.text) if isinstance(reply, BaseMessage) else str(reply)).strip()
        if len(text) > LONGEST_REPLY:
            run.tell(f"a reply of {len(text)} characters is cut to {LONGEST_REPLY}")
        if text:
            return text[:LONGEST_REPLY]
        fault, asked, refused = "the reply was empty", 0.0, False
    raise ModelCallError(
        f"the chat model gave no usable reply in {tries} {'try' if tries == 1 else 'tries'} ({fault}): "
        "check that it is up and reachable, or name another one"
    ) from None  # what the provider raised may quote the key


def again(fault: str, attempt: int, run: Run, *, at_least: float = 0.0) -> Call:
    """The jittered, doubling pause before another try of what failed; it is told."""
    run.tell(f"trying again: {fault}", attempt=attempt)
    wait = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311
    return pause(max(wait, at_least))


def _asked_to_wait(error: Exception) -> float:
    """Seconds that a refused call's answer asks to wait, in the HTTP header `retry-after`; 0 where it does not."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        seconds = float(headers.get("retry-after-ms", 0)) / 1000 or float(headers.get("retry-after", 0))
    except (TypeError, ValueError, AttributeError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED)


def unless_signal(error: Exception) -> None:
    """Raise LangGraph's own control flow (interrupts) again: it travels as exceptions, and is never a fault."""
    from langgraph.errors import GraphBubbleUp

    if isinstance(error, GraphBubbleUp):
        raise error
