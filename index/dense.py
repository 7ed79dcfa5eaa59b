"""Dense vectors in faiss: inner product of unit vectors, which is their cosine."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Dense:
    """A flat faiss index; exact."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> "Dense":
        """Index unit vectors, shape (chunks, dimension), float32."""
        import faiss

        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(index)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    def vectors(self) -> NDArray[np.float32]:
        """All vectors, shape (size, dimension)."""
        return np.asarray(self._index.reconstruct_n(0, self.size), dtype=np.float32)

    def top(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """The best `k` rows for one unit vector: (row, cosine), best first."""
        scores, rows = self._index.search(query.reshape(1, -1), min(k, self.size))
        # Plain numbers: numpy's own would not survive a checkpointer.
        return [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]

    def save(self, path: Path) -> None:
        """Write faiss's own file."""
        import faiss

        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path) -> "Dense":
        """Read what `save` wrote."""
        import faiss

        return cls(faiss.read_index(str(path)))
