"""The end of a build: vectors for what is new, BM25 over all, and one atomic swap."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from langchain_core.embeddings import Embeddings

import artrag
from artrag.errors import ArtragError, EmptyCorpusError, IndexStoreError
from artrag.index import lock
from artrag.index.bm25 import BM25
from artrag.index.build import Cache, folder, give_up, working, writing
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.embedding import embed_all
from artrag.index.late import LateWriter
from artrag.index.manifest import (
    BM25_FILE,
    CATALOG,
    DENSE,
    FORMAT,
    LATE,
    PROXIMITY,
    ContextKind,
    Manifest,
    entry_of,
    faults,
    read_manifest,
    sync,
    write_manifest,
)
from artrag.index.proximity import Proximity
from artrag.index.store import fingerprint
from artrag.index.tokens import tokenize
from artrag.index.vectors import collect

LATE_CHUNKS = 20_000
"""With more chunks late interaction does not earn its size: about a gigabyte for as many."""


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
    late: bool = True,
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
        late: keep token vectors for late interaction, where the embedder gives them and there are no more than
            `LATE_CHUNKS` chunks.

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
        late = late and chunks <= LATE_CHUNKS
        if not anew and (old := _unchanged(path, made, embedder, reference, context, late)) is not None:
            _clear(path, old)
            give_up(path, build)
            return Finished(old, kept=True)
        with writing(path):
            able = hasattr(embedder, "encode_tokens")
            with ExitStack() as stack:
                catalog = stack.enter_context(Catalog.open(made / CATALOG))
                writer = stack.enter_context(LateWriter(made / "late.part")) if late and able else None
                made_by = partial(embed_all, embedder=embedder, reference=reference, workers=workers)
                found = collect(path, build, catalog, fingerprint(embedder), made_by, writer, tell)
                dense = Dense.build(found.dense)
                dense.save(made / DENSE)
                BM25.build(tokenize(chunk.indexed) for chunk in catalog.chunks()).save(made / BM25_FILE)
                Proximity.build(tokenize(chunk.indexed) for chunk in catalog.chunks()).save(made / PROXIMITY)
                if writer is not None and found.places is not None:
                    writer.save(made / LATE, found.places)
            manifest = Manifest(
                format=FORMAT,
                artrag=artrag.__version__,
                generation=f"generation-{build}",
                embedder=reference,
                embedder_fingerprint=fingerprint(embedder),
                dimension=found.dense.shape[1],
                context=context,
                documents=documents,
                chunks=chunks,
                dense=dense.about(),
                late=late if able else None,
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
    return Finished(manifest, found.made, found.truncated)


def _unchanged(
    path: Path, made: Path, embedder: Embeddings, reference: str, context: ContextKind, late: bool
) -> Manifest | None:
    """The manifest of what is there, if a new generation would be the same; no model is opened to find out."""
    try:
        old = read_manifest(path)
    except ArtragError:
        return None
    # A catalogue that nobody wrote to is, byte for byte, the copy that it began as.
    if entry_of(made / CATALOG) != old.files.get(CATALOG) or (old.artrag, old.context) != (artrag.__version__, context):
        return None
    if old.late not in (late, None):
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
