"""Late interaction: a question's tokens against a chunk's, as in ColBERT (Khattab and Zaharia, arXiv 2004.12832).

Each content token of a chunk keeps its own vector, in int8: about 45 kB a chunk at 384 dimensions. That is too much to
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


def as_int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Unit vectors [tokens, dimension] in a byte a number."""
    return np.asarray(np.rint(vectors * SCALE), dtype=np.int8)


class Late:
    """The token vectors of all chunks, on disk; those of row r are `vectors[starts[r]:starts[r + 1]]`."""

    def __init__(self, vectors: NDArray[np.int8], starts: NDArray[np.int64]) -> None:
        self._vectors, self._starts = vectors, starts

    @property
    def size(self) -> int:
        """Number of chunks."""
        return len(self._starts) - 1

    def of(self, row: int) -> NDArray[np.int8]:
        """The token vectors of a chunk, shape (tokens, dimension)."""
        return self._vectors[self._starts[row] : self._starts[row + 1]]

    def score(self, question: NDArray[np.float32], rows: Sequence[int]) -> list[tuple[int, float]]:
        """MaxSim: each token of the question takes its nearest token of the chunk; their mean cosine is the score.

        Args:
            question: unit vectors of the question's content tokens, shape (tokens, dimension).
            rows: the chunks to score.

        Returns:
            (row, score), best first, ties by row; a chunk without tokens scores 0.
        """
        scores = []
        for row in sorted(set(rows)):
            tokens = self.of(row)
            near = float((question @ tokens.astype(np.float32).T).max(axis=1).mean()) / SCALE if len(tokens) else 0.0
            scores.append((row, near))
        return sorted(scores, key=lambda hit: (-hit[1], hit[0]))

    @staticmethod
    def write(path: Path, chunks: Iterable[NDArray[np.int8]], dimension: int) -> None:
        """Write the token vectors of all chunks, in the order of their rows; they pass through memory one by one."""
        starts, beside = [0], path.with_suffix(".part")
        with beside.open("wb") as file:
            for tokens in chunks:
                file.write(np.ascontiguousarray(tokens, dtype=np.int8).tobytes())
                starts.append(starts[-1] + len(tokens))
        shape = (starts[-1], dimension)
        vectors = np.memmap(beside, np.int8, "r", shape=shape) if starts[-1] else np.empty(shape, np.int8)
        save_arrays(path, {"vectors": vectors, "starts": np.asarray(starts, dtype=np.int64)})
        beside.unlink()

    @classmethod
    def load(cls, path: Path) -> "Late":
        """Open what `write` wrote; the vectors stay on disk.

        Raises:
            IndexDamagedError: it is cut, or no such file.
        """
        found = map_arrays(path, {"vectors": np.int8, "starts": np.int64})
        vectors, starts = found["vectors"], found["starts"]
        if vectors.ndim != 2 or starts.ndim != 1 or not len(starts):
            raise IndexDamagedError(f"{str(path)!r} holds arrays of another shape: ingest again")
        if starts[0] != 0 or starts[-1] != len(vectors) or (np.diff(starts) < 0).any():
            raise IndexDamagedError(f"{str(path)!r} has {len(vectors)} vectors, its chunks other ones: ingest again")
        return cls(vectors, starts)
