"""The end of a build: vectors for what is new, BM25 over all, and one atomic swap."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

import artrag
from artrag.errors import EmptyCorpusError
from artrag.index.bm25 import BM25
from artrag.index.build import Cache, current, digest, folder, give_up, release, touch, working
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.manifest import FILES, FORMAT, ContextKind, Manifest, entry_of, write_manifest
from artrag.index.store import fingerprint, unit
from artrag.index.tokens import tokenize

EMBED_BATCH = 64


def finish(
    path: Path,
    build: str,
    *,
    embedder: Embeddings,
    reference: str,
    context: ContextKind,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Manifest, int]:
    """Embed, lay out the arms, and swap the new generation in; returns its manifest and the number of new vectors.

    Raises:
        EmptyCorpusError: there is no chunk to index.
    """
    made = folder(path, build)
    with working(path, build) as catalog:
        catalog.renumber()
        catalog.commit()
        documents, chunks = catalog.counts()
        if not chunks:
            raise EmptyCorpusError(f"nothing to index in {str(path)!r}: give at least one document with text")
        vectors, embedded = _vectors(path, build, catalog, embedder, chunks, tell)
        Dense.build(vectors).save(made / "dense.faiss")
        BM25.build(tokenize(chunk.indexed) for chunk in catalog.chunks()).save(made / "bm25.npz")
    try:
        manifest = Manifest(
            format=FORMAT,
            artrag=artrag.__version__,
            generation=f"generation-{build}",
            embedder=reference,
            embedder_fingerprint=fingerprint(embedder),
            dimension=vectors.shape[1],
            context=context,
            documents=documents,
            chunks=chunks,
            files={name: entry_of(made / name) for name in FILES},
        )
        made.rename(path / manifest.generation)
        write_manifest(path, manifest)
    except BaseException:
        give_up(path, build)
        raise
    for generation in path.glob("generation-*"):
        if generation.name != manifest.generation:
            shutil.rmtree(generation, ignore_errors=True)
    with Cache(path) as cache:
        cache.forget_vectors()
    release(path)
    return manifest, embedded


def _vectors(
    path: Path, build: str, catalog: Catalog, embedder: Embeddings, count: int, tell: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], int]:
    """The vectors of all chunks by row: from the old generation, from the cache of a killed run, or made now."""
    model = fingerprint(embedder)
    known = _known_vectors(path, model)
    rows: list[NDArray[np.float32] | None] = []
    missing: list[tuple[int, str, str]] = []
    with Cache(path) as cache:
        for chunk in catalog.chunks():
            key = digest(model, chunk.indexed)
            vector = known.get(key)
            if vector is None and (kept := cache.vector(key)) is not None:
                vector = np.frombuffer(kept, dtype=np.float32)
            rows.append(vector)
            if vector is None:
                missing.append((chunk.row, key, chunk.indexed))
        tell(count - len(missing), count)
        for start in range(0, len(missing), EMBED_BATCH):
            batch = missing[start : start + EMBED_BATCH]
            made = unit(np.asarray(embedder.embed_documents([text for *_, text in batch]), dtype=np.float32))
            for (row, key, _), vector in zip(batch, made, strict=True):
                rows[row] = vector
                cache.keep_vector(key, vector.tobytes())
            cache.commit()
            touch(path, build)
            tell(count - len(missing) + start + len(batch), count)
    return np.stack([row for row in rows if row is not None]), len(missing)


def _known_vectors(path: Path, model: str) -> dict[str, NDArray[np.float32]]:
    old = current(path)
    if old is None or old.embedder_fingerprint != model:
        return {}
    vectors = Dense.load(path / old.generation / "dense.faiss").vectors()
    with Catalog.open(path / old.generation / "catalog.sqlite") as catalog:
        return {digest(model, chunk.indexed): vectors[chunk.row] for chunk in catalog.chunks()}
