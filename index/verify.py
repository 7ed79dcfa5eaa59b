"""Is an index what it was when it was written, and do its parts agree? And what to do where they do not."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings

from artrag.errors import ArtragError, IndexDamagedError, IndexNotFoundError
from artrag.index.bm25 import BM25
from artrag.index.build import CACHE, begin, give_up, working
from artrag.index.catalog import Catalog, StoredChunk
from artrag.index.dense import Dense
from artrag.index.embedding import embed
from artrag.index.finish import Finished, finish
from artrag.index.late import Late
from artrag.index.manifest import (
    BM25_FILE,
    CATALOG,
    DENSE,
    LATE,
    PROXIMITY,
    Manifest,
    faults,
    latest_manifest,
    read_manifest,
)
from artrag.index.proximity import Proximity
from artrag.index.tokens import tokenize

LOOKED_UP, EMBEDDED = 2000, 32
"""Chunks whose row is looked up in BM25, and in the dense arm, where an embedder is given."""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: with which file, what, and the checksum that the file must have, where there is one."""

    file: str
    what: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found.

    Attributes:
        checked: what was looked at.
        problems: what is wrong; none: the index is sound.
        left_over: of runs that were killed; the next ingest removes it.
    """

    checked: tuple[str, ...]
    problems: tuple[Problem, ...]
    left_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repaired:
    """What `repair` did.

    Attributes:
        found: what was wrong.
        lost: what could not be brought back, each in a sentence.
        finished: the index as it is now; None where nothing was wrong.
    """

    found: tuple[Problem, ...]
    lost: tuple[str, ...] = ()
    finished: Finished | None = None


def verify(path: Path, embedder: Embeddings | None = None) -> Verdict:
    """Check manifest, checksums, SQLite's integrity, counts and offsets, and that each arm holds the catalogue's rows.

    Every part is checked that can be, whatever is wrong with the others.

    Args:
        path: the index.
        embedder: the one it was built with, to embed some chunks again and compare; None: vectors are only checked for
            number, length and sense.

    Raises:
        IndexNotFoundError: no index is there.
    """
    checked: list[str] = []
    problems = list(_problems(path, embedder, checked))
    counts = "" if (manifest := _manifest(path)) is None else manifest.generation
    folders = [*path.glob("building-*"), *path.glob("generation-*")]
    left_over = sorted(folder.name for folder in folders if folder.name != counts) if counts else []
    return Verdict(tuple(checked), tuple(problems), tuple(left_over))


def repair(
    path: Path,
    embedder: Embeddings,
    *,
    reference: str = "",
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Repaired:
    """Build again what can be built from the catalogue: BM25, and of the vectors those that are not sound.

    Of an altered catalogue, the documents stay whose checksums hold. What is not sound and cannot be rebuilt is named.

    Args:
        path: the index.
        embedder: the one it was built with; with another, all vectors are made anew.
        reference: its model reference, for the manifest.
        tell: called with the number of chunks that have their vector, and of all.

    Raises:
        IndexNotFoundError: no index is there.
        IndexDamagedError: neither the catalogue nor any document in it can be read; nothing was changed.
        IndexLockedError: somebody is writing it.
    """
    found = verify(path).problems
    if not found:
        return Repaired(found)
    manifest = latest_manifest(path)
    if manifest is None:
        raise _beyond_repair(path, "no generation has a sound manifest")
    begun = begin(path)
    try:
        with working(path, begun.build) as catalog:
            if not catalog.counts()[1]:
                raise _beyond_repair(path, "; ".join(begun.lost) or "it holds no chunk")
        lost = list(begun.lost)
        if any(problem.file == CACHE for problem in found):
            (path / CACHE).replace(path / f"{CACHE}.damaged")
            lost.append(
                f"{str(path / CACHE)!r} was put aside as '{CACHE}.damaged': contexts in it may be paid for again"
            )
        finished = finish(
            path,
            begun.build,
            embedder=embedder,
            reference=reference,
            context=manifest.context,
            tell=tell,
            anew=True,
            late=manifest.late is not False,
        )
    except BaseException:
        give_up(path, begun.build)
        raise
    return Repaired(found, tuple(lost), finished)


def _beyond_repair(path: Path, why: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"the index at {str(path)!r} cannot be repaired ({why}): ingest its documents into a new directory"
    )


def _manifest(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except ArtragError:
        return None


def _problems(path: Path, embedder: Embeddings | None, checked: list[str]) -> Iterator[Problem]:
    checked.append("manifest")
    manifest = _manifest(path)
    if manifest is None:
        try:
            read_manifest(path)
        except IndexNotFoundError as error:
            if not any(path.glob("generation-*")):
                raise
            yield Problem("manifest.json", str(error))
        except ArtragError as error:
            yield Problem("manifest.json", str(error))
        return
    checked.append("checksums")
    folder = path / manifest.generation
    wrong = faults(path, manifest)
    for name, fault in wrong.items():
        wanted = manifest.files.get(name)
        yield Problem(f"{manifest.generation}/{name}", f"is {fault}", wanted.sha256 if wanted else "")
    checked.append("cache")
    if (path / CACHE).exists():
        yield from _cache_problems(path)
    # A file whose checksum is wrong is not read on: what it says would be no news.
    if CATALOG in wrong:
        return
    place = f"{manifest.generation}/{CATALOG}"
    checked.append("catalogue")
    try:
        with Catalog.open(folder / CATALOG) as catalog:
            yield from (Problem(place, what) for what in _catalog_problems(catalog, manifest, checked))
            if BM25_FILE not in wrong:
                checked.append("bm25")
                yield from _named(f"{manifest.generation}/{BM25_FILE}", _bm25_problems(folder, catalog, manifest))
            if PROXIMITY not in wrong:
                checked.append("proximity")
                yield from _named(f"{manifest.generation}/{PROXIMITY}", _proximity_problems(folder, catalog, manifest))
            if DENSE not in wrong:
                checked.append("dense")
                problems = _dense_problems(folder, catalog, manifest, embedder)
                yield from _named(f"{manifest.generation}/{DENSE}", problems)
            if LATE in manifest.files and LATE not in wrong:
                checked.append("late")
                yield from _named(f"{manifest.generation}/{LATE}", _late_problems(folder, manifest))
    except (ArtragError, sqlite3.DatabaseError, ValueError) as error:
        yield Problem(place, f"cannot be read: {error}")


def _named(file: str, problems: Iterator[str]) -> Iterator[Problem]:
    try:
        yield from (Problem(file, what) for what in problems)
    except (ArtragError, RuntimeError, ValueError, LookupError) as error:  # of faiss, numpy, rows that are not there
        yield Problem(file, f"cannot be read: {error}")


def _cache_problems(path: Path) -> Iterator[Problem]:
    try:
        with closing(sqlite3.connect(f"{(path / CACHE).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            for table in ("contexts", "vectors"):
                connection.execute(f"SELECT key FROM {table} LIMIT 1")
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        said = f"cannot be read: {error}"
    if said != "ok":
        yield Problem(CACHE, str(said))


def _catalog_problems(catalog: Catalog, manifest: Manifest, checked: list[str]) -> Iterator[str]:
    yield from catalog.problems()
    checked.append("counts")
    counts = catalog.counts()
    if counts != (manifest.documents, manifest.chunks):
        yield f"holds {counts[0]} documents and {counts[1]} chunks, not {manifest.documents} and {manifest.chunks}"
    if (rows := catalog.rows()) and (rows[0], rows[-1]) != (0, len(rows) - 1):
        yield f"numbers its chunks from {rows[0]} to {rows[-1]}, not from 0 to {len(rows) - 1}"
    checked.append("offsets")
    if astray := catalog.astray():
        yield f"chunks do not stand in their documents where they say: {_few(astray)}"
    if unproven := sorted(catalog.unproven()):
        yield f"documents are not what their checksums say: {_few(unproven)}"


def _bm25_problems(folder: Path, catalog: Catalog, manifest: Manifest) -> Iterator[str]:
    bm25 = BM25.load(folder / BM25_FILE)
    if bm25.size != manifest.chunks:
        yield f"holds {bm25.size} chunks, not {manifest.chunks}"
        return
    astray = []
    for chunk in _some(catalog, manifest.chunks, LOOKED_UP):
        # Its longest word is likely its own; whoever has another row has another word.
        word = max(tokenize(chunk.indexed), key=len, default="")
        only = np.zeros(bm25.size, dtype=np.bool_)
        only[chunk.row] = True
        if word and not bm25.top([word], 1, only):
            astray.append(chunk.id)
    if astray:
        yield f"does not find chunks by their own words: {_few(astray)}"


def _proximity_problems(folder: Path, catalog: Catalog, manifest: Manifest) -> Iterator[str]:
    proximity = Proximity.load(folder / PROXIMITY)
    if proximity.size != manifest.chunks:
        yield f"holds {proximity.size} chunks, not {manifest.chunks}"
        return
    some = _some(catalog, manifest.chunks, LOOKED_UP)
    if astray := [chunk.id for chunk in some if not proximity.holds(chunk.row, tokenize(chunk.indexed))]:
        yield f"holds other words than chunks have: {_few(astray)}"


def _late_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    late = Late.load(folder / LATE)
    if (late.size, late.dimension) != (manifest.chunks, manifest.dimension):
        yield f"holds {late.size} chunks of {late.dimension} numbers, not {manifest.chunks} of {manifest.dimension}"


def _dense_problems(folder: Path, catalog: Catalog, manifest: Manifest, embedder: Embeddings | None) -> Iterator[str]:
    dense = Dense.load(folder / DENSE)
    if (dense.size, dense.dimension) != (manifest.chunks, manifest.dimension):
        yield f"holds {dense.size} x {dense.dimension} numbers, not {manifest.chunks} x {manifest.dimension}"
        return
    vectors = dense.vectors()
    for start in range(0, len(vectors), 10_000):
        lengths = np.linalg.norm(vectors[start : start + 10_000], axis=1)
        odd = np.flatnonzero(~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0)))
        if len(odd):
            yield f"holds vectors that are not of length 1, the first in row {start + int(odd[0])}"
            return
    if embedder is not None and manifest.chunks:
        chunks = list(_some(catalog, manifest.chunks, EMBEDDED))
        made = embed(embedder, [chunk.indexed for chunk in chunks]).vectors
        near = np.einsum("ij,ij->i", made, vectors[[chunk.row for chunk in chunks]])
        if astray := [chunk.id for chunk, cosine in zip(chunks, near, strict=True) if cosine < 0.99]:
            yield f"holds other vectors than the embedder gives for {_few(astray)}"


def _some(catalog: Catalog, count: int, most: int) -> Iterator[StoredChunk]:
    """At most so many chunks, spread evenly."""
    rows = sorted({int(row) for row in np.linspace(0, count - 1, min(count, most))}) if count else []
    yield from (chunk for chunk, _ in catalog.at(rows))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
