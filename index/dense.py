"""Dense vectors in faiss: inner product of unit vectors, which is their cosine.

Up to `FLAT_LIMIT` chunks every vector is compared, in half precision: reading them from memory is what takes the time.
Above, the vectors lie in cells around centroids (faiss's IVF), and a query looks into the nearest ones; how many is
measured on the corpus itself.
"""

import math
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from artrag.errors import EmbedderMismatchError, EmptyCorpusError, IndexDamagedError, IndexStoreError

FLAT_LIMIT = 100_000
"""Vectors up to which the index is flat."""
TARGET_RECALL, RECALL_AT = 0.98, 150
"""The share of the exact best 150 that looking into cells has to find."""
_SAMPLE = 200  # rows that stand in for questions
_BLOCK = 16_384  # rows handed to faiss at once
_HALF = 4  # faiss's number of the form, `ScalarQuantizer.QT_fp16`
_POINTS_A_CELL = 40  # in the training of the centroids; faiss's least is 39
Kind = Literal["flat", "ivf"]


class Dense:
    """A faiss index over unit vectors; `load` maps the file into memory, so that a query reads what it compares."""

    def __init__(self, index: Any, *, recall: float | None = None) -> None:
        self._index = index
        self._recall = recall
        self._kind: Kind = "ivf" if hasattr(index, "nlist") else "flat"

    @classmethod
    def build(
        cls,
        vectors: NDArray[np.float32] | Iterable[NDArray[np.float32]],
        *,
        flat_limit: int = FLAT_LIMIT,
        scratch: Path | None = None,
    ) -> "Dense":
        """Index unit vectors.

        Args:
            vectors: shape (chunks, dimension), float32, which may be memory-mapped; or blocks of such rows, which are
                first written to an unnamed file. Beside them, memory is taken for the index alone.
            flat_limit: vectors up to which the index is flat.
            scratch: where that file is made; None: in the system's temporary directory.

        Raises:
            EmptyCorpusError: there is no block at all.
        """
        if not isinstance(vectors, np.ndarray):
            with TemporaryFile(dir=scratch) as spool:
                return cls.build(_spooled(vectors, spool), flat_limit=flat_limit)
        if len(vectors) > flat_limit:
            return cls._in_cells(vectors)
        faiss = _faiss()

        half = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexScalarQuantizer(vectors.shape[1], half, faiss.METRIC_INNER_PRODUCT)
        for block in _blocks(vectors):
            index.add(block)
        return cls(index, recall=1.0)

    @classmethod
    def _in_cells(cls, vectors: NDArray[np.float32]) -> "Dense":
        faiss = _faiss()

        count, dimension = vectors.shape
        draw = np.random.default_rng(0)
        cells = round(2 * math.sqrt(count))
        # The reference to the quantizer lives as long as the index does: faiss keeps a bare pointer.
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical, index.cp.niter, index.cp.seed = True, 10, 0
        index.cp.min_points_per_centroid = 1
        sample = np.sort(draw.choice(count, min(count, _POINTS_A_CELL * cells), replace=False))
        index.train(np.ascontiguousarray(vectors[sample], dtype=np.float32))
        for block in _blocks(vectors):
            index.add(block)
        rows = np.sort(draw.choice(count, min(count, 2 * _SAMPLE), replace=False))
        return cls(index, recall=_choose_probes(index, vectors, np.ascontiguousarray(draw.permutation(vectors[rows]))))

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    def about(self) -> dict[str, str | int | float]:
        """What kind of index it is, for the manifest: `kind`; in cells `cells`, `probes`, `recall` and `recall_at`.

        The recall is the share of the exact best 150 that is found. It is known where the index was just built, and is
        measured on 200 rows of the corpus other than those that `probes` was chosen on.
        """
        if self._kind == "flat":
            return {"kind": "flat"}
        known = {} if self._recall is None else {"recall": self._recall, "recall_at": RECALL_AT}
        return {"kind": "ivf", "cells": int(self._index.nlist), "probes": int(self._index.nprobe), **known}

    def vectors(self) -> NDArray[np.float32]:
        """All vectors, shape (size, dimension); those of a flat index are rounded to half precision."""
        return np.asarray(self._index.reconstruct_n(0, self.size), dtype=np.float32)

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, shape (rows, dimension)."""
        if self._kind == "ivf" and self._index.direct_map.no():
            self._index.make_direct_map()
        return np.asarray(self._index.reconstruct_batch(rows), dtype=np.float32)

    def top(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[tuple[int, float]]:
        """The best `k` rows for one unit vector: (row, cosine), best first.

        Args:
            query: shape (dimension,).
            k: how many; fewer come only where fewer are allowed.
            allowed: shape (size,); which rows may be found. None: all. The fewer, the more cells are looked into.

        Raises:
            EmbedderMismatchError: the query has another length than the vectors.
        """
        faiss = _faiss()

        if query.shape != (self.dimension,):
            raise EmbedderMismatchError(
                f"the question's vector has the shape {query.shape!r}, those of the index have {self.dimension!r} "
                "numbers: search with the embedder that built the index, or ingest again"
            )
        count = self.size if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, count)
        if not k:
            return []
        selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        question = np.ascontiguousarray(query.reshape(1, -1), dtype=np.float32)
        if self._kind == "flat":
            scores, rows = self._index.search(question, k, params=faiss.SearchParameters(sel=selector))
        else:
            cells = int(self._index.nlist)
            # Of the rows in a cell only some are allowed, and a deeper list reaches further.
            probes = math.ceil(self._index.nprobe * max(1, k / RECALL_AT) * self.size / count)
            for looked_into in (min(probes, cells), cells):
                wanted = faiss.SearchParametersIVF(sel=selector, nprobe=looked_into)
                scores, rows = self._index.search(question, k, params=wanted)
                if (rows[0] >= 0).all():
                    break
        # Plain numbers: numpy's own would not survive a checkpointer.
        found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return [(row, score) for row, score in found if 0 <= row < self.size]

    def save(self, path: Path) -> None:
        """Write faiss's own file.

        Raises:
            IndexStoreError: it could not be written whole.
        """
        faiss = _faiss()

        try:
            faiss.write_index(self._index, str(path))
            _check(path)  # faiss says nothing when the last bytes find no room
        except (RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise IndexStoreError(f"{str(path)!r} could not be written ({reason}): is the disk full?") from None

    @classmethod
    def load(cls, path: Path) -> "Dense":
        """Map what `save` wrote.

        Raises:
            IndexDamagedError: the file is cut, altered in its structure, or not ours.
        """
        faiss = _faiss()

        kind = _check(path)
        try:
            if kind == "flat":
                return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))
            # Mapping cells is not to be had on Windows.
            index = faiss.read_index(str(path), 0 if os.name == "nt" else faiss.IO_FLAG_MMAP)
            cells = faiss.downcast_InvertedLists(index.invlists)
            if hasattr(cells, "prefetch_nthread"):
                cells.prefetch_nthread = 0  # starting the threads takes longer than the search
            return cls(index)
        except RuntimeError as error:
            raise _damaged(path, str(error).splitlines()[0]) from None


def _faiss() -> Any:
    """The library; its own type stubs know neither its selectors nor its search parameters."""
    import faiss

    return faiss


def _blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(vectors), _BLOCK):
        yield np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32)


def _spooled(blocks: Iterable[NDArray[np.float32]], spool: IO[bytes]) -> NDArray[np.float32]:
    dimension = 0
    for block in blocks:
        dimension = block.shape[1]
        spool.write(np.ascontiguousarray(block, dtype=np.float32).data)
    spool.flush()
    if not spool.tell():
        raise EmptyCorpusError("there are no vectors to index: give at least one chunk")
    return np.asarray(np.memmap(spool, np.float32, "r")).reshape(-1, dimension)


def _choose_probes(index: Any, vectors: NDArray[np.float32], questions: NDArray[np.float32]) -> float:
    """Set the fewest probes that reach the target on half of the questions; returns the recall on the other half."""
    faiss = _faiss()

    k = min(RECALL_AT, len(vectors))
    exact, _ = faiss.knn(questions, np.ascontiguousarray(vectors, dtype=np.float32), k, faiss.METRIC_INNER_PRODUCT)
    half = len(questions) // 2

    def recall(probes: int, part: slice) -> float:
        scores, _ = index.search(questions[part], k, params=faiss.SearchParametersIVF(nprobe=probes))
        # By score: rows of the same vector are as good as each other.
        return float((scores >= exact[part, -1:] - 1e-5).mean())

    enough = 1
    while enough < index.nlist and recall(enough, slice(half)) < TARGET_RECALL:
        enough = min(2 * enough, index.nlist)
    low, high = enough // 2, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if recall(middle, slice(half)) >= TARGET_RECALL else (middle, high)
    index.nprobe = high
    return round(recall(high, slice(half, None)), 4)


def _check(path: Path) -> Kind:
    """The kind of index that a file holds.

    Walks through faiss's file before faiss does: it takes the sizes in it at their word, and allocates them.

    Raises:
        IndexDamagedError: a size in it does not fit the file.
    """
    try:
        with path.open("rb") as file:
            walk = _Walk(file, os.fstat(file.fileno()).st_size)
            code, dimension, count = walk.header()
            if code == b"IxSQ":
                walk.halves(count, dimension)
            elif code == b"IxFI":  # flat ones were in full precision once
                walk.vectors(count, dimension)
            elif code == b"IwFl":
                walk.cells(count, dimension)
            else:
                raise ValueError(f"an index of the kind {code!r}")
            if walk.at != walk.size:
                raise ValueError(f"{walk.size} bytes where {walk.at} are expected")
    except (OSError, ValueError, struct.error) as error:
        raise _damaged(path, str(error)) from None
    return "ivf" if code == b"IwFl" else "flat"


class _Walk:
    """Reads faiss's layout (faiss/impl/index_write.cpp, the same since 2017) up to where the vectors lie."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size, self.at = file, size, 0

    def take(self, form: str) -> tuple[Any, ...]:
        """The next values."""
        length = struct.calcsize(form)
        self.skip(length)
        return struct.unpack(form, self.file.read(length))

    def skip(self, length: int) -> None:
        """Account for what comes next."""
        self.at += length
        if self.at > self.size:
            raise ValueError(f"{self.size} bytes where at least {self.at} are expected")

    def header(self) -> tuple[bytes, int, int]:
        """Kind, dimension and number of vectors of an index."""
        code, dimension, count, _, _, trained, metric = self.take("<4siqqqBi")
        if not 0 < dimension <= 65536 or count < 0 or trained != 1 or metric != 0:
            raise ValueError(f"{count} vectors of dimension {dimension}, metric {metric}")
        return code, dimension, count

    def halves(self, count: int, dimension: int) -> None:
        """Pass the vectors of a flat index in half precision."""
        form, _, _, width, bytes_each, trained = self.take("<iifQQQ")
        (length,) = self.take("<Q")
        if (form, width, bytes_each, trained) != (_HALF, dimension, 2 * dimension, 0) or length != count * bytes_each:
            raise ValueError(f"{length} bytes of the form {form} for {count} vectors of dimension {dimension}")
        self.skip(length)

    def vectors(self, count: int, dimension: int) -> None:
        """Pass vectors in full precision."""
        (numbers,) = self.take("<Q")
        if numbers != count * dimension:
            raise ValueError(f"{numbers} numbers for {count} vectors of dimension {dimension}")
        self.skip(4 * numbers)
        self.file.seek(self.at)

    def cells(self, count: int, dimension: int) -> None:
        """Pass the rest of an IVF index: centroids, and the vectors of each cell with their rows."""
        cells, probes = self.take("<QQ")
        code, width, centroids = self.header()
        if code != b"IxFI" or width != dimension or centroids != cells or not 0 < probes <= cells:
            raise ValueError(f"{cells} cells, {probes} probes, {centroids} centroids of dimension {width}")
        self.vectors(centroids, width)
        direct, mapped = self.take("<BQ")
        code, lists, width, form, sizes = self.take("<4sQQ4sQ")
        if (direct, mapped, code, lists, width) != (0, 0, b"ilar", cells, 4 * dimension):
            raise ValueError(f"cells of the form {code!r}, {lists} of them, {width} bytes a vector")
        if (form, sizes) != (b"full", cells) and (form != b"sprs" or sizes % 2 or sizes > 2 * cells):
            raise ValueError(f"cells of the form {form!r} with {sizes} sizes")
        self.skip(8 * sizes)
        known = np.fromfile(self.file, dtype="<u8", count=sizes)
        if form == b"sprs":  # pairs of cell and size
            if (known[::2] >= cells).any():
                raise ValueError(f"a cell beyond the {cells} cells")
            known = known[1::2]
        if (known > count).any() or int(known.sum()) != count:
            raise ValueError(f"cells that do not hold {count} vectors")
        self.skip(count * (4 * dimension + 8))


def _damaged(path: Path, reason: str) -> IndexDamagedError:
    return IndexDamagedError(f"{str(path)!r} is no vector index of ours, or was cut ({reason}): ingest again")
