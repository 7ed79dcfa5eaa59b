"""BM25 by `rank_bm25.BM25Okapi`'s definition, its weights laid out once as a sparse matrix.

A query is then the sum of a few columns instead of a pass over every document.
"""

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artrag.errors import IndexDamagedError
from artrag.index.arrays import map_arrays, save_arrays

K1, B, EPSILON = 1.5, 0.75, 0.25
"""Those of `BM25Okapi`."""
_PORTION = 1 << 20  # postings sorted at once
_GROUP = 256  # rows that share a maximum, when the best are looked for
_ARRAYS = {"lengths": "<u4", "words": "|u1", "ends": "<i8", "starts": "<i8", "rows": "<u4", "weights": "<f8"}


class BM25:
    """Weights in compressed columns: the postings of term t are `rows[starts[t]:starts[t + 1]]`.

    The terms are sorted UTF-8, one after another in `words`, and are found by bisection: an index opens without
    reading them. All arrays may be memory-mapped, so that a query reads the columns of its own terms and nothing else.

    Attributes:
        size: number of documents.
    """

    def __init__(
        self,
        lengths: NDArray[np.uint32],
        words: NDArray[np.uint8],
        ends: NDArray[np.int64],
        starts: NDArray[np.int64],
        rows: NDArray[np.uint32],
        weights: NDArray[np.float64],
    ) -> None:
        self.size = len(lengths)
        self._lengths, self._words, self._ends = lengths, words, ends
        self._starts, self._rows, self._weights = starts, rows, weights

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]]) -> "BM25":
        """Lay out the weights of tokenised documents, read one at a time; 20 bytes a posting while it is done.

        A posting is one term of one document. A document may be empty.
        """
        found: defaultdict[str, int] = defaultdict()
        found.default_factory = found.__len__  # a new term gets the next number
        terms, counts, distinct, tokens_of = array("I"), array("I"), array("I"), array("I")
        for tokens in documents:
            frequencies = Counter(tokens)
            terms.extend(map(found.__getitem__, frequencies))
            counts.extend(frequencies.values())
            distinct.append(len(frequencies))
            tokens_of.append(len(tokens))
        lengths, postings = np.frombuffer(tokens_of, dtype=np.uint32), len(terms)
        of_posting = np.frombuffer(terms, dtype=np.uint32)
        document_frequency = np.bincount(of_posting, minlength=len(found)).astype(np.int64)
        idf = _idf(document_frequency, len(lengths))
        mean = sum(tokens_of) / max(1, len(lengths))
        # In the order of BM25Okapi: equal to the last bit. Without any token there is nothing to weigh.
        norm = K1 * (1 - B + B * lengths / (mean or 1))

        words = [term.encode("utf-8", "surrogatepass") for term in found]
        order = sorted(range(len(words)), key=words.__getitem__)
        words = [words[old] for old in order]
        column = np.empty(len(order), dtype=np.int64)
        column[order] = np.arange(len(order))
        starts = np.concatenate([[0], np.cumsum(document_frequency[order])]).astype(np.int64)
        idf = idf[order]

        # A counting sort by term, portion by portion; within a term the rows stay in order.
        rows, weights = np.empty(postings, dtype=np.uint32), np.empty(postings, dtype=np.float64)
        free = starts[:-1].copy()
        first_of = np.concatenate([[0], np.cumsum(np.frombuffer(distinct, dtype=np.uint32))]).astype(np.int64)
        for start in range(0, postings, _PORTION):
            end = min(start + _PORTION, postings)
            columns = column[of_posting[start:end]]
            by_term = np.argsort(columns, kind="stable")
            columns = columns[by_term]
            runs = np.flatnonzero(np.diff(columns, prepend=-1))
            run_lengths = np.diff(runs, append=len(columns))
            place = free[columns] + np.arange(len(columns)) - np.repeat(runs, run_lengths)
            free[columns[runs]] += run_lengths
            row = np.searchsorted(first_of, start + by_term, side="right") - 1
            count = np.frombuffer(counts, dtype=np.uint32)[start:end][by_term].astype(np.float64)
            rows[place] = row
            weights[place] = idf[columns] * (count * (K1 + 1) / (count + norm[row]))
        text = np.frombuffer(b"".join(words), dtype=np.uint8)
        ends = np.cumsum([0, *map(len, words)], dtype=np.int64)
        return cls(lengths, text, ends, starts, rows, weights)

    def scores(self, query: Iterable[str]) -> NDArray[np.float64]:
        """The score of every document, shape (size,); equal to `BM25Okapi.get_scores`.

        Raises:
            IndexDamagedError: the arrays contradict each other.
        """
        return self._sum(self._columns(query))

    def top(self, query: Iterable[str], k: int, allowed: NDArray[np.bool_] | None = None) -> list[tuple[int, float]]:
        """The best `k` documents that share a term with the query: (row, score), best first, ties by row.

        In a corpus of a few documents a shared term may well weigh nothing or less: such documents count, too.

        Args:
            query: its tokens, with repetitions.
            k: how many.
            allowed: shape (size,); which rows may be found. None: all.

        Raises:
            IndexDamagedError: the arrays contradict each other.
        """
        columns = self._columns(query)
        total = self._sum(columns)
        outside = 0.0
        if any(self._weights[start] <= 0 for start, _ in columns):  # then a score does not tell who shares a term
            outside = -math.inf
            shared = np.zeros(self.size, dtype=np.bool_)
            for start, end in columns:
                shared[self._rows[start:end]] = True
            total[~shared] = outside
        if allowed is not None:
            total[~allowed] = outside
        rows = _best(total, k, outside)
        rows = rows[np.lexsort((rows, -total[rows]))][:k]
        # Plain numbers: numpy's own would not survive a checkpointer.
        return [(int(row), float(total[row])) for row in rows]

    def rarity(self, term: str) -> float:
        """The inverse document frequency of a term, log(1 + (N - n + 1/2) / (n + 1/2)); never below 0."""
        n = sum(end - start for start, end in self._columns([term]))
        return math.log(1 + max(0.0, self.size - n + 0.5) / (n + 0.5))

    def _columns(self, query: Iterable[str]) -> list[tuple[int, int]]:
        """Where the postings of the query's known terms start and end."""
        found, bounds, words = [], self._ends.data, self._words.data
        known = range(len(bounds) - 1)
        for term in query:
            wanted = term.encode("utf-8", "surrogatepass")
            column = bisect_left(known, wanted, key=lambda n: words[bounds[n] : bounds[n + 1]].tobytes())
            if column < len(known) and words[bounds[column] : bounds[column + 1]] == wanted:
                start, end = int(self._starts[column]), int(self._starts[column + 1])
                if not 0 <= start < end <= len(self._rows):
                    raise IndexDamagedError(f"the BM25 postings of {term!r} are out of bounds: ingest again")
                found.append((start, end))
        return found

    def _sum(self, columns: Iterable[tuple[int, int]]) -> NDArray[np.float64]:
        total = np.zeros(self.size, dtype=np.float64)
        try:
            for start, end in columns:
                np.add.at(total, self._rows[start:end], self._weights[start:end])
        except IndexError as error:
            raise IndexDamagedError(
                f"the BM25 arrays name a document that is not there ({error}): ingest again"
            ) from None
        return total

    def save(self, path: Path) -> None:
        """Write plain arrays, no pickle."""
        arrays = self._lengths, self._words, self._ends, self._starts, self._rows, self._weights
        save_arrays(path, dict(zip(_ARRAYS, arrays, strict=True)))

    @classmethod
    def load(cls, path: Path) -> "BM25":
        """Map what `save` wrote.

        Raises:
            IndexDamagedError: the file is cut, or no such file.
        """
        arrays = lengths, words, ends, starts, rows, weights = tuple(map_arrays(path, _ARRAYS).values())
        if (
            any(array.ndim != 1 for array in arrays)
            or not len(ends) == len(starts) > 0
            or len(rows) != len(weights)
            or (ends[0], ends[-1], starts[0], starts[-1]) != (0, len(words), 0, len(rows))
        ):
            raise IndexDamagedError(f"{str(path)!r} holds arrays that do not fit each other: ingest again")
        return cls(lengths, words, ends, starts, rows, weights)


def _idf(document_frequency: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """The inverse document frequency of each term; where it is negative, a share of the mean."""
    idf = np.array([math.log(size - n + 0.5) - math.log(n + 0.5) for n in document_frequency.tolist()])
    if len(idf):
        idf[idf < 0] = EPSILON * (sum(idf.tolist()) / len(idf))
    return idf


def _best(values: NDArray[np.float64], k: int, above: float) -> NDArray[np.int64]:
    """The places of the best `k` values above a bound, and maybe of a few more, in no order.

    The k-th best of the maxima of groups bounds the k-th best value from below, and few others reach it: much cheaper
    than to partition all values.
    """
    group = max(1, min(_GROUP, len(values) // (2 * k)))
    maxima = np.maximum.reduceat(values, np.arange(0, len(values), group)) if len(values) else values
    least = np.partition(maxima, len(maxima) - k)[len(maxima) - k] if k < len(maxima) else above
    return np.flatnonzero(values >= least if least > above else values > above)
