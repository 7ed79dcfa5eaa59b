"""Replies of chat models that are kept on disk: the same prompt to the same model is paid for once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from artrag.ledger import line_of, read_lines

_SPARED: ContextVar[list[float] | None] = ContextVar("spared", default=None)


@contextmanager
def sparing() -> Iterator[list[float]]:
    """Collects the seconds that replies took which are given from memory now, in this context and those it starts."""
    spared: list[float] = []
    token = _SPARED.set(spared)
    try:
        yield spared
    finally:
        _SPARED.reset(token)


class Remembered(BaseCache):
    """A LangChain cache in a file of JSON lines; pass it as a chat model's `cache`.

    A reply with more than text, such as a call of a tool, is not kept.

    Args:
        path: the file; several may share one.
        of: tells the model from others: not every LangChain chat model tells the cache its own name.
    """

    def __init__(self, path: Path, of: str) -> None:
        self._path, self._of, self._known = path, of, {row["key"]: row for row in read_lines(path)}
        self._begun: dict[str, float] = {}
        self._lock = threading.Lock()

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The replies to a prompt, where they are known."""
        key = self._key(prompt, llm_string)
        row = self._known.get(key)
        if row is None:
            with self._lock:
                self._begun[key] = time.perf_counter()  # one that failed before counts no more
            return None
        spared = _SPARED.get()
        if spared is not None:
            spared.append(row["seconds"])
        return [ChatGeneration(message=AIMessage(one["text"], usage_metadata=one["usage"])) for one in row["said"]]

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the replies to a prompt, and how long they took."""
        key = self._key(prompt, llm_string)
        if key in self._known:  # asked twice at once: the first reply told how long it takes
            return
        with self._lock:
            begun = self._begun.pop(key, time.perf_counter())
        messages = [getattr(one, "message", None) for one in return_val]
        said = [_plain(message) for message in messages if isinstance(message, AIMessage) and not message.tool_calls]
        if len(said) == len(messages) and all(one["text"].strip() for one in said):
            row = {"key": key, "seconds": round(time.perf_counter() - begun, 4), "said": said}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, self._path.open("ab") as file:
                file.write(line_of(row))
            self._known[key] = row

    def _key(self, prompt: str, llm_string: str) -> str:
        return sha256(f"{self._of}\n{llm_string}\n{prompt}".encode("utf-8", "replace")).hexdigest()[:32]

    def clear(self, **_: Any) -> None:
        """Forget what was read so far; the file stays."""
        self._known.clear()


def _plain(message: AIMessage) -> dict[str, Any]:
    return {"text": message.text, "usage": dict(message.usage_metadata) if message.usage_metadata else None}
