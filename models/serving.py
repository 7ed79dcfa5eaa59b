"""One local model, many callers: whoever asks while others are being answered joins them (continuous batching).

One thread works on the model. It takes callers in the order they came, reads each prompt, and decodes all answers side
by side; a caller that goes away leaves at the next token. Work that needs the model to itself (sampling, batches,
logits) stands in the same queue, and has it when the answers before are done.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from artrag.errors import ModelBusyError
from artrag.models.decoding import Decoding, Row, begin, read

MOST_WAITING = 1024
IDLE = 2.0
"""Seconds after which a thread without work ends."""


@dataclass(slots=True, eq=False)
class _Place:
    """A caller's place in the queue; one who cancels the answer goes away."""

    prompt: Sequence[int]
    most: int
    told: Callable[[int], None] | None = None
    answer: Future[list[int]] = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Turn:
    """A place of one who needs the model alone."""

    begun: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class Serving:
    """Serves the greedy answers of one causal language model for which `plain_attention` holds.

    Args:
        model: used through this object only.
        ended: of an answer's tokens so far: is it at its end?
        rows: answers decoded at once; further callers wait.
        most_waiting: callers that may wait.
    """

    def __init__(
        self, model: Any, ended: Callable[[list[int]], bool], *, rows: int, most_waiting: int = MOST_WAITING
    ) -> None:
        self._model, self._ended, self._rows, self._most_waiting = model, ended, rows, most_waiting
        self._waiting: deque[_Place | _Turn] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ask(self, prompt: Sequence[int], most: int, told: Callable[[int], None] | None = None) -> Future[list[int]]:
        """The tokens of an answer, to come; who cancels it goes away, and nothing more is decoded for it.

        Args:
            prompt: token ids, at least one.
            most: tokens the answer may have.
            told: called with each token as it comes, in the working thread; it must return at once.

        Raises:
            ModelBusyError: too many are waiting.
        """
        place = _Place(prompt, most, told)
        self._enter(place)
        return place.answer

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the model to oneself, once those who came before are answered.

        Raises:
            ModelBusyError: too many are waiting.
        """
        turn = _Turn()
        self._enter(turn)
        try:
            turn.begun.wait()
            yield
        finally:
            turn.over.set()

    def _enter(self, place: _Place | _Turn) -> None:
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                raise ModelBusyError(
                    f"{len(self._waiting)} callers wait for this model already: ask again later, or serve the model "
                    "with an engine made for many users (vLLM) and name it as openai:NAME@URL"
                )
            self._waiting.append(place)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="artrag-serving", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        import torch

        decoding = Decoding(self._model, self._rows)
        while True:
            with self._changed:
                if not self._waiting and not decoding.rows and not self._changed.wait_for(lambda: self._waiting, IDLE):
                    self._thread = None
                    return
            try:
                with torch.inference_mode():
                    self._admit(decoding)
                    decoding.step()
                    for row in decoding.rows:
                        self._tell(row)
                    self._settle(decoding)
            except BaseException as error:  # each caller is told; the next ones begin anew
                for row in decoding.rows:
                    settle(row.owner.answer, error)
                decoding = Decoding(self._model, self._rows)

    def _admit(self, decoding: Decoding) -> None:
        """Let those in who come next, as far as there is room."""
        while True:
            with self._changed:
                if not self._waiting:
                    return
                place = self._waiting[0]
                if isinstance(place, _Turn):
                    if decoding.rows:
                        return
                elif not (place.answer.cancelled() or decoding.room(len(place.prompt) + place.most)):
                    return
                self._waiting.popleft()
            if isinstance(place, _Turn):
                place.begun.set()
                place.over.wait()
            elif not place.answer.cancelled():
                self._read(decoding, place)
                self._settle(decoding)

    def _read(self, decoding: Decoding, place: _Place) -> None:
        try:
            beginning = begin(self._model, [])
            first, cache = read(self._model, beginning, list(place.prompt))
            row = Row(place, beginning, len(place.prompt), [first])
            decoding.enter(row, cache, len(place.prompt) + place.most)
        except BaseException as error:
            settle(place.answer, error)
        else:
            self._tell(row)

    @staticmethod
    def _tell(row: Row) -> None:
        if row.owner.told and not row.owner.answer.cancelled():
            row.owner.told(row.made[-1])

    def _settle(self, decoding: Decoding) -> None:
        """Let those go who are answered or went away."""
        for row in list(decoding.rows):
            place: _Place = row.owner
            if place.answer.cancelled() or len(row.made) >= place.most or self._ended(row.made):
                decoding.leave(row)
                settle(place.answer, row.made)


def settle(answer: Future[list[int]], made: list[int] | BaseException) -> None:
    """Give an answer, or why there is none, unless its caller went away."""
    if not answer.set_running_or_notify_cancel():
        return
    if isinstance(made, BaseException):
        answer.set_exception(made)
    else:
        answer.set_result(made)
