"""Asking a chat model many things: a local model reads together what begins alike, a remote one is asked at once."""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from artrag.errors import ModelCallError, PromptTooLongError
from artrag.ledger import Ledger, read_lines
from artrag.nodes.calling import say
from artrag.nodes.node import Run
from artrag.steps import Call, Steps, side_by_side

FAILURES = 3
"""Calls that may fail one after another, retries included, before the model counts as down."""


def replies(chat: Any, path: Path, wanted: Mapping[str, Sequence[BaseMessage]], run: Run) -> Steps[dict[str, str]]:
    """What the model says to each prompt, by its name; kept in a file as soon as it exists.

    Each line has the `seconds` since the one before, which together are what the asking took, kills or none.
    A reply is known again by the model and the words of the prompt: another model or another prompt is asked anew. A
    prompt that is too long for the model, or whose call fails, has no reply.

    Args:
        chat: any chat model; one with `answer_many` and `fits`, as `LocalChat` has them, decodes in batches.
        path: the file.
        wanted: the prompts; those that begin alike should stand together.
        run: of the node.

    Raises:
        ModelCallError: three calls failed in a row.
    """
    said: dict[str, str] = yield Call(_said, None, (path,))
    ledger: Ledger = yield Call(Ledger.open, None, (path,))
    try:
        keys = {name: key_of(chat, messages) for name, messages in wanted.items()}
        left = [name for name, key in keys.items() if key not in said]

        last = time.monotonic()

        def keep(number: int, text: str) -> None:
            nonlocal last
            said[keys[left[number]]] = text
            took, last = time.monotonic() - last, time.monotonic()
            ledger.add({"key": keys[left[number]], "said": text, "seconds": round(took, 3)})
            run.progress(path.stem, sum(key in said for key in keys.values()), len(wanted))

        conversations = [wanted[name] for name in left]
        if not left:
            pass
        elif hasattr(type(chat), "answer_many"):
            yield Call(_together, None, (chat, conversations, keep))
        else:
            yield from _side_by_side(chat, conversations, run, keep)
    finally:
        ledger.close()
    return {name: said[key] for name, key in keys.items() if key in said}


def _said(path: Path) -> dict[str, str]:
    return {row["key"]: row["said"] for row in read_lines(path)}


def key_of(chat: Any, messages: Sequence[BaseMessage]) -> str:
    """What is known again: the model and the words."""
    names = (getattr(chat, name, None) for name in ("name_or_path", "model_name", "model"))
    model = next((name for name in names if isinstance(name, str)), type(chat).__name__)
    return sha256(repr((model, [(message.type, message.text) for message in messages])).encode()).hexdigest()[:24]


def _together(chat: Any, conversations: Sequence[Sequence[BaseMessage]], keep: Callable[[int, str], None]) -> None:
    fitting = [number for number, messages in enumerate(conversations) if chat.fits(messages)]

    def done(place: int, answer: AIMessage) -> None:
        keep(fitting[place], answer.text.strip())

    if fitting:
        chat.answer_many([conversations[number] for number in fitting], done=done)


def _side_by_side(
    chat: Any, conversations: Sequence[Sequence[BaseMessage]], run: Run, keep: Callable[[int, str], None]
) -> Steps[None]:
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
