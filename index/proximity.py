"""Term proximity: words that stand near one another in the question, and do in a chunk, too.

What BM25 cannot see: "causes of fever in rats" and "rats without fever, and other causes" hold the same words. Pairs of
near words are weighed as BM25 weighs words (Büttcher, Clarke and Lushman, SIGIR 2006; Metzler and Croft, SIGIR 2005).
Only chunks that the other arms found are scored.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from artrag.errors import IndexDamagedError
from artrag.index.arrays import map_arrays, save_arrays

GAP = 3
"""Tokens of a question at most so far apart make a pair; it counts 1 / how far."""
WINDOW = 8
"""Tokens of a chunk at most so far apart are near."""
K1, B = 1.2, 0.75
MOST_TERMS = 64
"""Different tokens of a question that are looked for."""
_ARRAYS = {"tokens": "<u4", "begins": "<i8"}


class Proximity:
    """The tokens of all chunks in their order, as checksums; those of row r are `tokens[begins[r]:begins[r + 1]]`."""

    def __init__(self, tokens: NDArray[np.uint32], begins: NDArray[np.int64]) -> None:
        self._tokens, self._begins = tokens, begins

    @property
    def size(self) -> int:
        """Number of chunks."""
        return len(self._begins) - 1

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]]) -> "Proximity":
        """Keep tokenised chunks, read one at a time; 4 bytes a token."""
        tokens, begins = array("I"), array("q", [0])
        for chunk in documents:
            tokens.extend(map(_key, chunk))
            begins.append(len(tokens))
        return cls(np.frombuffer(tokens, np.uint32), np.frombuffer(begins, np.int64))

    def score(
        self, question: Sequence[str], rarity: Callable[[str], float], rows: Iterable[int]
    ) -> list[tuple[int, float]]:
        """How near the question's words stand to one another in chunks.

        Args:
            question: its tokens, in their order.
            rarity: the inverse document frequency of a token; a pair weighs what its more frequent token does.
            rows: the chunks to score.

        Returns:
            (row, score) of the chunks that hold a pair, best first, ties by row.
        """
        terms = list(dict.fromkeys(question))[:MOST_TERMS]
        weights = _pairs(question, {term: n for n, term in enumerate(terms)}, [rarity(term) for term in terms])
        chosen = np.array(sorted(set(rows)), np.int64)
        if not weights.any() or not len(chosen):
            return []
        starts = self._begins[chosen]
        lengths = self._begins[chosen + 1] - starts
        of_chunk = np.repeat(np.arange(len(chosen)), lengths)
        places = np.arange(lengths.sum())
        keys = self._tokens[places + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)]
        places += WINDOW * of_chunk  # all chunks in one row, each out of the others' reach
        wanted = np.array([_key(term) for term in terms], np.uint32)
        order = np.argsort(wanted)
        at = np.minimum(np.searchsorted(wanted[order], keys), len(wanted) - 1)
        hits = np.flatnonzero(wanted[order][at] == keys)
        found, places, of_chunk = order[at[hits]], places[hits], of_chunk[hits]
        near = np.zeros((len(chosen), len(terms), len(terms)))
        for step in range(1, min(WINDOW, len(hits) - 1) + 1):
            apart = places[step:] - places[:-step]
            one, other = found[:-step], found[step:]
            both = np.flatnonzero((apart <= WINDOW) & (weights[one, other] > 0))
            np.add.at(near, (of_chunk[both], one[both], other[both]), 1 / apart[both])
        near += near.transpose(0, 2, 1)  # a pair is one, whichever word comes first
        mean = len(self._tokens) / max(1, self.size)
        norm = K1 * (1 - B + B * lengths / (mean or 1))
        scores = (np.triu(weights, 1) * near * (K1 + 1) / (near + norm[:, None, None])).sum(axis=(1, 2))
        ranked = sorted(zip(chosen.tolist(), scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
        return [hit for hit in ranked if hit[1] > 0]

    def holds(self, row: int, tokens: Sequence[str]) -> bool:
        """Are these the tokens of a chunk?"""
        own = self._tokens[self._begins[row] : self._begins[row + 1]]
        return bool(own.tolist() == [_key(token) for token in tokens])

    def save(self, path: Path) -> None:
        """Write plain arrays."""
        save_arrays(path, dict(zip(_ARRAYS, (self._tokens, self._begins), strict=True)))

    @classmethod
    def load(cls, path: Path) -> "Proximity":
        """Map what `save` wrote.

        Raises:
            IndexDamagedError: the file is cut, or no such file.
        """
        tokens, begins = map_arrays(path, _ARRAYS).values()
        fits = tokens.ndim == begins.ndim == 1 and len(begins) > 0
        if not fits or (begins[0], begins[-1]) != (0, len(tokens)) or (np.diff(begins) < 0).any():
            raise IndexDamagedError(f"{str(path)!r} holds arrays that do not fit each other: ingest again")
        return cls(tokens, begins)


def _key(token: str) -> int:
    return crc32(token.encode("utf-8", "surrogatepass"))


def _pairs(question: Sequence[str], number: dict[str, int], rarity: Sequence[float]) -> NDArray[np.float64]:
    """What each pair of tokens weighs, [terms, terms], the same both ways."""
    weights = np.zeros((len(number), len(number)))
    for place, one in enumerate(question):
        for gap, other in enumerate(question[place + 1 : place + 1 + GAP], start=1):
            if one != other and one in number and other in number:
                first, second = number[one], number[other]
                weights[first, second] += max(0.0, min(rarity[first], rarity[second])) / gap
                weights[second, first] = weights[first, second]
    return weights
