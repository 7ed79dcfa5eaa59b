"""Asking a chat model many things: a local model reads together what begins alike, a remote one is asked at once."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from artrag.errors import ModelCallError, PromptTooLongError
from artrag.nodes.calling import say
from artrag.nodes.node import Run
from artrag.steps import Call, Steps, side_by_side

FAILURES = 3
"""Calls that may fail one after another, retries included, before the model counts as down."""

Keep = Callable[[int, str], None]


def ask_all(chat: Any, conversations: Sequence[Sequence[BaseMessage]], run: Run, keep: Keep) -> Steps[None]:
    """Ask each of the conversations; those that begin alike should stand together.

    A conversation that is too long for the model, or whose call fails, is left out.

    Args:
        chat: any chat model; one with `answer_many` and `fits`, as `LocalChat` has them, decodes in batches.
        conversations: the prompts.
        run: of the node.
        keep: takes the number and the text of each answer, as soon as it exists.

    Raises:
        ModelCallError: three calls failed in a row.
    """
    if hasattr(type(chat), "answer_many"):
        yield Call(_together, None, (chat, conversations, keep))
        return
    failed = 0

    def one(number: int) -> Steps[None]:
        nonlocal failed
        try:
            said = yield from say(chat, list(conversations[number]), run)
        except PromptTooLongError:
            return
        except ModelCallError:
            failed += 1
            if failed >= FAILURES:
                raise
            return
        failed = 0
        yield Call(keep, None, (number, said))

    def of(number: int) -> Callable[[], Steps[None]]:
        return lambda: one(number)

    yield from side_by_side([of(number) for number in range(len(conversations))], run.settings.context_calls)


def _together(chat: Any, conversations: Sequence[Sequence[BaseMessage]], keep: Keep) -> None:
    fitting = [number for number, messages in enumerate(conversations) if chat.fits(messages)]

    def done(place: int, answer: AIMessage) -> None:
        keep(fitting[place], answer.text.strip())

    if fitting:
        chat.answer_many([conversations[number] for number in fitting], done=done)
