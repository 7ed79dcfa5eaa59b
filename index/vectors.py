"""The vectors of an index's chunks: from the old generation, from the cache of a killed run, or made now."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artrag.errors import IndexDamagedError
from artrag.index import lock
from artrag.index.build import Cache, digest
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.embedding import Embedded
from artrag.index.late import Late, LateWriter
from artrag.index.manifest import CATALOG, DENSE, LATE, fault_of, latest_manifest

EMBED_BATCH = 64


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a build has to index.

    Attributes:
        dense: unit vectors (chunks, dimension) by row.
        places: for each row the place of its text's token vectors in the `LateWriter`; None without late interaction.
        made: texts embedded now; equal texts are embedded once.
        truncated: of those, how many were longer than the embedder's window and were cut.
    """

    dense: NDArray[np.float32]
    places: list[int] | None
    made: int
    truncated: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What the old generation holds: a row for each text, unit vectors, and the token vectors where there are any."""

    rows: dict[bytes, int]
    dense: NDArray[np.float32]
    late: Late | None


def collect(
    path: Path,
    build: str,
    catalog: Catalog,
    model: str,
    made_by: Callable[..., Generator[Embedded]],
    late: LateWriter | None,
    tell: Callable[[int, int], None],
) -> Vectors:
    """The vectors of all chunks by row; what is made is kept in the cache at once.

    Args:
        path: the index.
        build: of the lock, which is kept alive.
        catalog: of the new generation, its rows given out.
        model: the embedder's fingerprint.
        made_by: embeds texts, as `embed_all` does.
        late: takes the token vectors; None where none are wanted.
        tell: called with the number of chunks that have their vectors, and of all.
    """
    keys = catalog.keys()
    known = _known(path, model)
    vectors = np.empty((len(keys), known.dense.shape[1]), dtype=np.float32) if known.rows else None
    places = None if late is None else [0] * len(keys)
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)

    def place(key: bytes, vector: NDArray[np.float32], tokens: NDArray[np.int8] | None) -> None:
        nonlocal vectors
        if vectors is None:
            vectors = np.empty((len(keys), len(vector)), dtype=np.float32)
        vectors[rows[key]] = vector
        if late is not None and places is not None and tokens is not None:
            at = late.add(tokens)
            for row in rows[key]:
                places[row] = at

    missing: list[bytes] = []
    with Cache(path) as cache:
        for key in rows:
            old = known.rows.get(key)
            if old is not None and (late is None or known.late is not None):
                place(key, known.dense[old], None if known.late is None else known.late.of(old))
            elif kept := _kept(cache, digest(model, key.hex()), known.dense.shape[1], late is not None):
                place(key, *kept)
            else:
                missing.append(key)
        todo = sum(len(rows[key]) for key in missing)
        embedded = truncated = 0
        tell(len(keys) - todo, len(keys))
        batches = [missing[start : start + EMBED_BATCH] for start in range(0, len(missing), EMBED_BATCH)]
        texts = (chunk.indexed for batch in batches for chunk, _ in catalog.at([rows[key][0] for key in batch]))
        dimension = 0 if vectors is None else vectors.shape[1]
        with closing(made_by(texts, batch=EMBED_BATCH, dimension=dimension, late=late is not None)) as parts:
            for batch, part in zip(batches, parts, strict=True):
                for n, key in enumerate(batch):
                    tokens = None if part.tokens is None else part.tokens[n]
                    place(key, part.vectors[n], tokens)
                    own = None if tokens is None else tokens.tobytes()
                    cache.keep_vector(digest(model, key.hex()), part.vectors[n].tobytes(), own)
                    embedded += len(rows[key])
                truncated += part.cut
                cache.commit()
                lock.touch(path, build)
                tell(len(keys) - todo + embedded, len(keys))
    assert vectors is not None  # there is a chunk, and every chunk has a vector
    return Vectors(vectors, places, len(missing), truncated)


def _kept(
    cache: Cache, key: str, dimension: int, late: bool
) -> tuple[NDArray[np.float32], NDArray[np.int8] | None] | None:
    """A unit vector and token vectors out of the cache; None where they are not there, or of another dimension."""
    body, tokens = cache.vector(key), cache.tokens(key) if late else None
    if body is None or (late and tokens is None):
        return None
    vector = np.frombuffer(body, dtype=np.float32)
    if dimension and len(vector) != dimension:
        return None
    return vector, None if tokens is None else np.frombuffer(tokens, dtype=np.int8).reshape(-1, len(vector))


def _known(path: Path, model: str) -> _Known:
    """What the old generation has; whatever of it is altered is not used."""
    nothing = _Known({}, np.empty((0, 0), dtype=np.float32), None)
    old = latest_manifest(path)
    if old is None or old.embedder_fingerprint != model or fault_of(path, old, DENSE):
        return nothing
    generation = path / old.generation
    try:
        vectors = Dense.load(generation / DENSE).vectors()
        with Catalog.open(generation / CATALOG) as catalog:
            # Of an altered catalogue that holds together, what was proven was taken over by its keys.
            keys = [] if fault_of(path, old, CATALOG) and catalog.problems() else catalog.keys()
        sound = LATE in old.files and not fault_of(path, old, LATE)
        late = Late.load(generation / LATE) if sound else None
    except (IndexDamagedError, RuntimeError, sqlite3.DatabaseError):
        return nothing
    if vectors.shape != (len(keys), old.dimension) or (late and (late.size, late.dimension) != vectors.shape):
        return nothing
    return _Known({key: row for row, key in enumerate(keys)}, vectors, late)
