"""The end of a build: vectors for what is new, BM25 over all, and one atomic swap."""

import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

import artrag
from artrag.errors import ArtragError, EmptyCorpusError, IndexDamagedError, IndexStoreError
from artrag.index import lock
from artrag.index.bm25 import BM25
from artrag.index.build import Cache, digest, folder, give_up, working, writing
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.embedding import Embedded, embed_all
from artrag.index.manifest import (
    CATALOG,
    FORMAT,
    ContextKind,
    Manifest,
    entry_of,
    fault_of,
    faults,
    latest_manifest,
    read_manifest,
    sync,
    write_manifest,
)
from artrag.index.store import fingerprint
from artrag.index.tokens import tokenize

EMBED_BATCH = 64
DENSE, BM25_FILE = "dense.faiss", "bm25.npz"


@dataclass(frozen=True, slots=True)
class Finished:
    """A build that ended.

    Attributes:
        manifest: of the index as it is now.
        embedded: vectors that were made; equal texts share one.
        truncated: of those, how many were longer than the embedder's window and were cut.
        kept: nothing was different, so the old generation stayed.
    """

    manifest: Manifest
    embedded: int = 0
    truncated: int = 0
    kept: bool = False


def finish(
    path: Path,
    build: str,
    *,
    embedder: Embeddings,
    reference: str,
    context: ContextKind,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
    anew: bool = False,
    workers: int = 1,
) -> Finished:
    """Embed, lay out the arms, and swap the new generation in; where nothing is different, keep the old one.

    Args:
        path: the index.
        build: what `begin` gave.
        embedder: makes the vectors that are missing.
        reference: the model reference that opens it again, for the manifest.
        context: the kind of context that the chunks have.
        tell: called with the number of chunks that have their vector, and of all.
        anew: lay out the arms even where nothing is different.
        workers: processes that embed; above 1 they open the embedder by its reference.

    Raises:
        EmptyCorpusError: there is no chunk to index.
        IndexStoreError: it cannot be written, because the disk is full, say; the old index stays.
    """
    made = folder(path, build)
    with working(path, build) as catalog:
        catalog.renumber()
        catalog.commit()
        documents, chunks = catalog.counts()
        if not chunks:
            raise EmptyCorpusError(f"nothing to index in {str(path)!r}: give at least one document with text")
    try:
        if not anew and (old := _unchanged(path, made, embedder, reference, context)) is not None:
            _clear(path, old)
            give_up(path, build)
            return Finished(old, kept=True)
        with writing(path):
            with Catalog.open(made / CATALOG) as catalog:
                made_by = partial(embed_all, embedder=embedder, reference=reference, workers=workers)
                vectors, embedded, truncated = _vectors(
                    path, build, catalog, fingerprint(embedder), made_by, chunks, tell
                )
                dense = Dense.build(vectors)
                dense.save(made / DENSE)
                BM25.build(tokenize(chunk.indexed) for chunk in catalog.chunks()).save(made / BM25_FILE)
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
                dense=dense.about(),
                files={file.name: entry_of(file) for file in sorted(made.iterdir())},
            )
            _swap(path, made, manifest)
    except BaseException:
        give_up(path, build)
        raise
    try:
        _clear(path, manifest)
    finally:
        lock.release(build)
    return Finished(manifest, embedded, truncated)


def _unchanged(path: Path, made: Path, embedder: Embeddings, reference: str, context: ContextKind) -> Manifest | None:
    """The manifest of what is there, if a new generation would be the same; no model is opened to find out."""
    try:
        old = read_manifest(path)
    except ArtragError:
        return None
    # A catalogue that nobody wrote to is, byte for byte, the copy that it began as.
    if entry_of(made / CATALOG) != old.files.get(CATALOG) or (old.artrag, old.context) != (artrag.__version__, context):
        return None
    # A "pypi:" reference is pinned by checksum: the same reference is the same model.
    pinned = reference.startswith("pypi:") and reference == old.embedder
    if reference != old.embedder or not (pinned or fingerprint(embedder) == old.embedder_fingerprint):
        return None
    return None if faults(path, old) else old


def _swap(path: Path, made: Path, manifest: Manifest) -> None:
    """Have the new generation count, in an order that outlives a power loss: files, folder, its name, the manifest."""
    (made / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for file in made.iterdir():
        sync(file)
    sync(made)
    made.rename(path / manifest.generation)
    sync(path)
    try:
        write_manifest(path, manifest)
    except BaseException:
        if _counts(path) != manifest.generation:
            shutil.rmtree(path / manifest.generation, ignore_errors=True)
        raise


def _counts(path: Path) -> str:
    try:
        return read_manifest(path).generation
    except ArtragError:
        return ""


def _clear(path: Path, manifest: Manifest) -> None:
    """Remove what no longer counts. An open reader keeps its files: a name is removed, not what is mapped or open."""
    for generation in path.glob("generation-*"):
        if generation.name != manifest.generation:
            shutil.rmtree(generation, ignore_errors=True)
    # The new index stands: a cache that cannot be written is a matter of the next run.
    with suppress(IndexStoreError, sqlite3.Error), Cache(path) as cache:
        cache.forget_vectors()


def _vectors(
    path: Path,
    build: str,
    catalog: Catalog,
    model: str,
    made_by: Callable[..., Generator[Embedded]],
    count: int,
    tell: Callable[[int, int], None],
) -> tuple[NDArray[np.float32], int, int]:
    """The vectors of all chunks by row: from the old generation, from the cache of a killed run, or made now.

    Equal texts are embedded once. Returned beside them: how many were made, and how many of their texts were cut.
    """
    keys = catalog.keys()
    known, old = _known_vectors(path, model)
    vectors = np.empty((count, old.shape[1]), dtype=np.float32) if known else None
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)

    def place(key: bytes, vector: NDArray[np.float32]) -> None:
        nonlocal vectors
        if vectors is None:
            vectors = np.empty((count, len(vector)), dtype=np.float32)
        vectors[rows[key]] = vector

    missing: list[bytes] = []
    with Cache(path) as cache:
        for key in rows:
            if key in known:
                place(key, old[known[key]])
            elif (kept := cache.vector(digest(model, key.hex()))) and (
                vectors is None or len(kept) == vectors[0].nbytes
            ):
                place(key, np.frombuffer(kept, dtype=np.float32))
            else:
                missing.append(key)
        todo = sum(len(rows[key]) for key in missing)
        embedded = truncated = 0
        tell(count - todo, count)
        batches = [missing[start : start + EMBED_BATCH] for start in range(0, len(missing), EMBED_BATCH)]
        texts = (chunk.indexed for batch in batches for chunk, _ in catalog.at([rows[key][0] for key in batch]))
        dimension = 0 if vectors is None else vectors.shape[1]
        with closing(made_by(texts, batch=EMBED_BATCH, dimension=dimension)) as parts:
            for batch, part in zip(batches, parts, strict=True):
                for key, vector in zip(batch, part.vectors, strict=True):
                    place(key, vector)
                    cache.keep_vector(digest(model, key.hex()), vector.tobytes())
                    embedded += len(rows[key])
                truncated += part.cut
                cache.commit()
                lock.touch(path, build)
                tell(count - todo + embedded, count)
    assert vectors is not None  # there is a chunk, and every chunk has a vector
    return vectors, len(missing), truncated


def _known_vectors(path: Path, model: str) -> tuple[dict[bytes, int], NDArray[np.float32]]:
    """Which rows of which vectors the old generation has for a text; whatever of it is altered is not used."""
    nothing: tuple[dict[bytes, int], NDArray[np.float32]] = {}, np.empty((0, 0), dtype=np.float32)
    old = latest_manifest(path)
    if old is None or old.embedder_fingerprint != model:
        return nothing
    if fault_of(path, old, DENSE):
        return nothing
    generation = path / old.generation
    try:
        vectors = Dense.load(generation / DENSE).vectors()
        with Catalog.open(generation / CATALOG) as catalog:
            # Of an altered catalogue that holds together, what was proven was taken over by its keys.
            keys = [] if fault_of(path, old, CATALOG) and catalog.problems() else catalog.keys()
    except (IndexDamagedError, RuntimeError, sqlite3.DatabaseError):
        return nothing
    if vectors.shape != (len(keys), old.dimension):
        return nothing
    return {key: row for row, key in enumerate(keys)}, vectors
