"""BM25 by `rank_bm25.BM25Okapi`'s definition, its weights laid out once as a sparse matrix.

A query is then the sum of a few columns instead of a pass over every document.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class BM25:
    """Weights in compressed columns: the postings of term t are `rows[starts[t]:starts[t + 1]]`.

    Attributes:
        size: number of documents.
        vocabulary: term -> column.
    """

    def __init__(
        self,
        size: int,
        terms: Sequence[str],
        starts: NDArray[np.int64],
        rows: NDArray[np.int32],
        weights: NDArray[np.float64],
    ) -> None:
        self.size = size
        self.vocabulary = {term: column for column, term in enumerate(terms)}
        self._starts, self._rows, self._weights = starts, rows, weights

    @classmethod
    def build(cls, documents: Iterable[list[str]]) -> "BM25":
        """Lay out the weights of tokenised documents."""
        from rank_bm25 import BM25Okapi

        # One placeholder token keeps an empty document countable: BM25Okapi divides by the mean length.
        okapi = BM25Okapi([tokens or ["\0"] for tokens in documents])
        lengths = np.asarray(okapi.doc_len, dtype=np.float64)
        norm = okapi.k1 * (1 - okapi.b + okapi.b * lengths / okapi.avgdl)
        postings: dict[str, list[tuple[int, int]]] = {}
        for row, frequencies in enumerate(okapi.doc_freqs):
            for term, frequency in frequencies.items():
                postings.setdefault(term, []).append((row, frequency))
        terms = sorted(postings)
        starts = np.zeros(len(terms) + 1, dtype=np.int64)
        rows = np.empty(sum(map(len, postings.values())), dtype=np.int32)
        weights = np.empty(len(rows), dtype=np.float64)
        for column, term in enumerate(terms):
            pairs = np.asarray(postings[term], dtype=np.int64)
            start, end = starts[column], starts[column] + len(pairs)
            starts[column + 1] = end
            rows[start:end] = pairs[:, 0]
            count = pairs[:, 1].astype(np.float64)
            weights[start:end] = okapi.idf[term] * count * (okapi.k1 + 1) / (count + norm[pairs[:, 0]])
        return cls(okapi.corpus_size, terms, starts, rows, weights)

    def scores(self, query: Iterable[str]) -> NDArray[np.float64]:
        """The score of every document, shape (size,); equal to `BM25Okapi.get_scores`."""
        return self._scored(query)[0]

    def top(self, query: Iterable[str], k: int) -> list[tuple[int, float]]:
        """The best `k` documents that share a term with the query: (row, score), best first, ties by row.

        In a corpus of a few documents a shared term may well weigh nothing or less, so scores are not looked at.
        """
        scores, touched = self._scored(query)
        rows = np.flatnonzero(touched)
        if k < len(rows):
            rows = rows[np.argpartition(-scores[rows], k)[:k]]
        rows = rows[np.lexsort((rows, -scores[rows]))]
        return [(int(row), float(scores[row])) for row in rows]

    def _scored(self, query: Iterable[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        total, touched = np.zeros(self.size, dtype=np.float64), np.zeros(self.size, dtype=np.bool_)
        for term in query:
            column = self.vocabulary.get(term)
            if column is not None:
                start, end = self._starts[column], self._starts[column + 1]
                total[self._rows[start:end]] += self._weights[start:end]
                touched[self._rows[start:end]] = True
        return total, touched

    def save(self, path: Path) -> None:
        """Write plain arrays, no pickle."""
        words = np.frombuffer("\n".join(self.vocabulary).encode(), dtype=np.uint8)
        with path.open("wb") as file:
            np.savez(
                file,
                size=np.int64(self.size),
                terms=words,
                starts=self._starts,
                rows=self._rows,
                weights=self._weights,
            )

    @classmethod
    def load(cls, path: Path) -> "BM25":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            words = data["terms"].tobytes().decode()
            terms = words.split("\n") if words else []
            return cls(int(data["size"]), terms, data["starts"], data["rows"], data["weights"])
