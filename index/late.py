"""Late interaction: a question's tokens against a chunk's, as in ColBERT (Khattab and Zaharia, arXiv 2004.12832).

Each content token of a chunk keeps its own vector, in int8: about 50 kB a chunk at 384 dimensions. That is too much to
search through, so only chunks that the other arms found are scored.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artrag.errors import IndexDamagedError
from artrag.index.arrays import map_arrays, save_arrays

SCALE = 127.0
"""An int8 vector divided by it has length 1, give or take rounding."""


ROUNDING = 1e-5
"""Cosines of the same vectors differ by less."""


def as_int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Unit vectors [tokens, dimension], a byte a number."""
    return np.asarray(np.rint(vectors * SCALE), dtype=np.int8)


class Late:
    """The token vectors of all chunks; those of row r are `vectors[begins[r]:begins[r] + lengths[r]]`.

    Chunks with the same text share theirs.
    """

    def __init__(self, vectors: NDArray[np.int8], begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self._vectors, self._begins, self._lengths = vectors, begins, lengths

    @property
    def size(self) -> int:
        """Number of chunks."""
        return len(self._begins)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    def of(self, row: int) -> NDArray[np.int8]:
        """The token vectors of a chunk, shape (tokens, dimension)."""
        begin = int(self._begins[row])
        return self._vectors[begin : begin + int(self._lengths[row])]

    def score(self, question: NDArray[np.float32], rows: Iterable[int]) -> list[tuple[int, float]]:
        """MaxSim, weighted: each token of the question takes its nearest token of the chunk.

        The score is the weighted mean of their cosines. A token weighs as it tells these chunks apart: what it finds in
        the best of them above what it finds in the mean one. A word that all of them hold decides nothing.

        Args:
            question: unit vectors of the question's content tokens, shape (tokens, dimension).
            rows: the chunks to score.

        Returns:
            (row, score), best first, ties by row; a chunk without tokens scores 0.
        """
        among = sorted(set(rows))
        near = np.zeros((len(among), len(question)), dtype=np.float32)
        for place, row in enumerate(among):
            if len(tokens := self.of(row)):
                near[place] = (question @ tokens.astype(np.float32).T).max(axis=1) / SCALE
        if not near.size:
            return [(row, 0.0) for row in among]
        weights = near.max(axis=0) - near.mean(axis=0)
        weights[weights < ROUNDING] = 0.0
        scores = np.average(near, axis=1, weights=weights if weights.any() else None)
        order = np.argsort(-scores, kind="stable")
        return [(among[place], float(scores[place])) for place in order]

    @classmethod
    def load(cls, path: Path) -> "Late":
        """Open what a `LateWriter` saved; the vectors stay on disk.

        Raises:
            IndexDamagedError: it is cut, or no such file.
        """
        found = map_arrays(path, {"vectors": np.int8, "begins": np.int64, "lengths": np.int64})
        vectors, begins, lengths = found["vectors"], found["begins"], found["lengths"]
        if vectors.ndim != 2 or begins.ndim != 1 or begins.shape != lengths.shape:
            raise IndexDamagedError(f"{str(path)!r} holds arrays of other shapes: ingest again")
        if len(begins) and (min(begins.min(), lengths.min()) < 0 or (begins + lengths).max() > len(vectors)):
            raise IndexDamagedError(f"{str(path)!r} points beyond its {len(vectors)} vectors: ingest again")
        return cls(vectors, begins, lengths)


class LateWriter:
    """Collects the token vectors of texts on disk, in whatever order they come."""

    def __init__(self, beside: Path) -> None:
        self._path = beside
        self._file = beside.open("wb")
        self._begins, self._lengths = [0], list[int]()
        self._dimension = 0

    def __enter__(self) -> "LateWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, tokens: NDArray[np.int8]) -> int:
        """Take the token vectors of a text; returns its place for `save`."""
        self._dimension = tokens.shape[1]
        self._file.write(np.ascontiguousarray(tokens, dtype=np.int8).tobytes())
        self._lengths.append(len(tokens))
        self._begins.append(self._begins[-1] + len(tokens))
        return len(self._lengths) - 1

    def save(self, path: Path, places: Sequence[int]) -> None:
        """Write the file for chunks whose texts have these places, in the order of their rows."""
        self._file.flush()
        shape = (self._begins[-1], self._dimension)
        vectors = np.memmap(self._path, np.int8, "r", shape=shape) if shape[0] else np.empty(shape, np.int8)
        begins, lengths = (np.asarray(of, dtype=np.int64)[list(places)] for of in (self._begins, self._lengths))
        save_arrays(path, {"vectors": vectors, "begins": begins, "lengths": lengths})
