"""The words of a local model: what goes in safely, what comes out token by token, and where an answer ends."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

SHORTEST_LOOP = 16


class Writing:
    """The text of an answer as its tokens come; a character is given when it is whole."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] | None) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._tokens: list[int] = []
        self._text = ""
        self.stopped = False

    def add(self, token: int) -> ChatGenerationChunk | None:
        """What is new to be read, if anything."""
        self._tokens.append(token)
        whole = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        text = until(whole, self._stop)
        self.stopped = text != whole
        new = text[len(self._text) :]
        if not new or (text.endswith("\ufffd") and not self.stopped):
            return None
        self._text = text
        return ChatGenerationChunk(message=AIMessageChunk(content=new))

    def end(self, read: int) -> ChatGenerationChunk:
        """The last chunk: what the answer has cost."""
        return ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage(read, len(self._tokens))))


class Streamer:
    """Hands on each token that transformers makes, after those of the prompt."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told, self._prompt = told, True

    def put(self, tokens: Any) -> None:
        """See transformers' `BaseStreamer`."""
        if not self._prompt:
            for token in tokens.tolist():
                self._told(token)
        self._prompt = False

    def end(self) -> None:
        """See transformers' `BaseStreamer`."""


def inert(tokenizer: Any, text: str) -> str:
    """The text with its special tokens taken apart: it cannot open a turn of its own. Half characters become "?"."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def criteria(stop: Callable[[Any], bool]) -> Any:
    """A transformers stopping criterion from a function of one answer's tokens so far."""
    import torch
    from transformers import StoppingCriteriaList

    def flags(ids: Any, *_: Any, **__: Any) -> Any:
        return torch.tensor([stop(row) for row in ids], dtype=torch.bool, device=ids.device)

    return StoppingCriteriaList([flags])


def loop(tokens: list[int]) -> int:
    """How many tokens at the end only repeat what stands before them: small models loop. 0 where they do not.

    A run of at most 40 tokens counts as a loop when its repetitions come to 16 tokens or more.
    """
    for size in range(1, 41):
        repeats = 0
        while _repeated(tokens, size, repeats + 1):
            repeats += 1
        if repeats and size * repeats >= SHORTEST_LOOP:
            return size * repeats
    return 0


def _repeated(tokens: list[int], size: int, turn: int) -> bool:
    """Does the last run of `size` tokens stand `turn` runs before the end, too?"""
    if size * (turn + 1) > len(tokens):
        return False
    return tokens[-size:] == tokens[-size * (turn + 1) : -size * turn]


def until(text: str, stop: Sequence[str] | None) -> str:
    """The text up to the first of the marks that end it."""
    ends = [at for mark in stop or () if (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def usage(read: int, made: int) -> UsageMetadata:
    """Tokens read and made, as LangChain counts them."""
    return UsageMetadata(input_tokens=read, output_tokens=made, total_tokens=read + made)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw from a generator of this seed, and leave the process's own one as it is."""
    if seed is None:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield
