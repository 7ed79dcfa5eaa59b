"""What a model reads of a document to situate its chunks: all of it or, where that is too long, windows of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from artrag.index.build import digest
from artrag.index.catalog import StoredChunk, StoredDocument

ANSWER = 100
"""Tokens that a context is reckoned with."""
HEAD = 700
"""Tokens of a document's head that one sentence about it is written from."""
SHORTEST = 200
"""Characters below which a window tells nothing more of a document."""
_BYTES = 3  # of UTF-8 a token: source code and Chinese; English has four
_GAP = "\n...\n"


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One question to the model: situate these chunks (for the kind "document" all of its document, else one).

    Attributes:
        document: the document's id.
        chunks: ids of the chunks that get the answer.
        window: what the model reads of the document.
        chunk: the chunk's text; empty for the kind "document".
        key: fingerprint of window, chunk, prompt and model, under which the answer is kept.
        whole: the document's text; `start` and `end` are the chunk's place in it.
    """

    document: str
    chunks: tuple[str, ...]
    window: str
    chunk: str
    key: str
    whole: str
    start: int
    end: int

    def shorter(self, window: str) -> str | None:
        """Half of a window around the same chunk, for a model that cannot read it; None: it is short enough."""
        longest = len(window) // 2
        if longest < SHORTEST:
            return None
        return windows(self.whole, [(self.start, self.end)], longest)[0][0] if self.chunk else self.whole[:longest]


def pieces(
    document: StoredDocument,
    chunks: Sequence[StoredChunk],
    kind: Literal["document", "llm"],
    *,
    tokens: int,
    asked: str,
) -> Iterator[list[Piece]]:
    """The questions about a document; those with the same window, which is read once, in one list.

    Args:
        document: the document.
        chunks: its chunks, in order.
        kind: one question a document, or one a chunk.
        tokens: that the prompt may have without its fixed words, by estimate.
        asked: fingerprint of prompt and model.
    """
    text = document.text
    if not chunks:
        return
    if kind == "document":
        head = text[: _characters(text, min(tokens, HEAD))]
        yield [Piece(document.id, tuple(c.id for c in chunks), head, "", digest(asked, head), text, 0, 0)]
        return
    longest = _characters(text, max(tokens - max(estimate(c.text) for c in chunks), tokens // 2))
    for window, numbers in windows(text, [(c.start, c.end) for c in chunks], longest):
        seen = digest(asked, window)  # once for all its chunks: a window may be long
        yield [
            Piece(document.id, (c.id,), window, c.text, digest(seen, c.text), text, c.start, c.end)
            for c in (chunks[number] for number in numbers)
        ]


def windows(text: str, spans: Sequence[tuple[int, int]], longest: int) -> list[tuple[str, list[int]]]:
    """(what is read, numbers of the spans it is read for), each at most about `longest` characters.

    A text that is no longer is one window. Else a window is its head and what stands around the span. The windows lie
    on a grid, each half a window after the one before, and a span goes to the one in whose middle it stands: neighbours
    share a window, and each has a quarter of it on either side.
    """
    if len(text) <= longest:
        return [(text, list(range(len(spans))))]
    head = longest // 5
    around = longest - head - len(_GAP)
    stride = around // 2
    found: dict[int, list[int]] = {}
    for number, (start, end) in enumerate(spans):
        at = max(0, ((start + end) // 2 - around // 4) // stride) * stride
        at = min(at, len(text) - around)
        found.setdefault(0 if at <= head else at, []).append(number)
    return [
        (text[:longest] if at == 0 else f"{text[:head]}{_GAP}{text[at : at + around]}", numbers)
        for at, numbers in sorted(found.items())
    ]


def estimate(text: str) -> int:
    """About how many tokens a text has: one for three bytes of UTF-8, rather too many than too few."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) // _BYTES + 1


def _characters(text: str, tokens: int) -> int:
    """How many of a text's characters make so many tokens, by estimate."""
    return max(SHORTEST, tokens * len(text) // estimate(text))
