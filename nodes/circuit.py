"""A circuit breaker and a budget of retries for each chat model, over all runs.

One that is dead is not asked again by every run that comes along, and one that is overloaded not twice by each.
"""

import threading
import time
import weakref
from functools import lru_cache
from typing import Any

from artrag.errors import ModelCallError

MOST_FAULTS = 10
"""Failed calls in a row, of all runs together, after which a model is left alone."""
PAUSE = 15.0
"""Seconds until one call may try again; the others wait for its outcome."""
RETRIES = 20.0
"""Retries that a model has at first, and at most."""
EARNED = 0.5
"""Of a retry, by each answer: a model that fails most calls gets at most half as many retries as it gave answers."""


class Circuit:
    """Counts the failed calls of one model, and refuses further ones for a while; keeps its budget of retries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults, self._closed_until, self._last = 0, 0.0, ""
        self._retries = RETRIES

    def check(self) -> None:
        """Raise ModelCallError while the model is left alone; after the pause the first caller is let through."""
        with self._lock:
            if self._faults < MOST_FAULTS:
                return
            left = self._closed_until - time.monotonic()
            if left <= 0:
                self._closed_until = time.monotonic() + PAUSE
                return
            raise ModelCallError(
                f"the chat model failed {self._faults} times in a row ({self._last}) and is not asked for another "
                f"{left:.0f} s: check that it is up and reachable, or name another one"
            )

    def retry(self) -> bool:
        """Take a retry from the budget; False where none is left."""
        with self._lock:
            if self._retries < 1:
                return False
            self._retries -= 1
            return True

    def failed(self, fault: str) -> None:
        """A call failed by no fault of its own."""
        with self._lock:
            self._faults, self._last = self._faults + 1, fault
            self._closed_until = time.monotonic() + PAUSE

    def answered(self) -> None:
        """A call came back."""
        with self._lock:
            self._faults, self._retries = 0, min(RETRIES, self._retries + EARNED)


def circuit_of(chat: Any) -> Circuit:
    """The circuit of a chat model: by its `reference` where it has one, else its own as long as it lives."""
    reference = getattr(chat, "reference", None)
    if isinstance(reference, str):
        return _named(reference)
    key = id(chat)
    held = _OWN.get(key)
    if held is None or held[0]() is not chat:
        held = _OWN[key] = (weakref.ref(chat, lambda _: _OWN.pop(key, None)), Circuit())
    return held[1]


_OWN: dict[int, tuple[weakref.ref[Any], Circuit]] = {}


@lru_cache(maxsize=256)
def _named(reference: str) -> Circuit:
    return Circuit()
