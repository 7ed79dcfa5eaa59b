"""An index, opened for searching."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from artrag.errors import (
    ArtragError,
    EmbedderMismatchError,
    IndexDamagedError,
    IndexStoreError,
    ModelCallError,
    UsageError,
)
from artrag.index.bm25 import BM25
from artrag.index.catalog import Catalog, StoredChunk, StoredDocument
from artrag.index.dense import Dense
from artrag.index.fusion import Fusion, Hits, read_fusion
from artrag.index.late import Late
from artrag.index.manifest import BM25_FILE, CATALOG, DENSE, LATE, PROXIMITY, Manifest, check_files, read_manifest
from artrag.index.passage import Passage
from artrag.index.proximity import Proximity
from artrag.index.tokens import tokenize
from artrag.protocols import TokenEmbedder
from artrag.telling import told

ARMS = ("dense", "bm25", "proximity", "late")
"""The arms that an index may have; the last two score again what the first two found best."""
DEPTH = 150
"""How many chunks each arm hands to the fusion."""
SCORED_AGAIN = 100
"""How many chunks of each of the first two."""


class Index:
    """Dense vectors, BM25, proximity and late interaction over the same chunks, fused; a passage carries all views.

    Attributes:
        path: its directory.
        manifest: what it is, and what built it.
        fusion: how the arms become one ranking: as tuned for this index, else the default.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        catalog: Catalog,
        dense: Dense,
        bm25: BM25,
        proximity: Proximity,
        late: Late | None,
        embedder: Embeddings | None,
    ) -> None:
        self.path, self.manifest = path, manifest
        self._catalog, self._dense, self._bm25, self._embedder = catalog, dense, bm25, embedder
        self._proximity, self._late = proximity, late
        self.fusion: Fusion = read_fusion(path)

    @classmethod
    def open(cls, path: str | Path, *, embedder: Embeddings | None = None, local_only: bool = False) -> "Index":
        """Open the index at `path`; without `embedder`, the one that its manifest names is loaded at the first search.

        Raises:
            IndexNotFoundError, IndexVersionError, IndexDamagedError: it cannot be used, and why.
            EmbedderMismatchError: `embedder` is not the one it was built with.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if embedder is not None and fingerprint(embedder) != manifest.embedder_fingerprint:
            raise EmbedderMismatchError(
                f"the index at {str(path)!r} was built with {manifest.embedder_fingerprint!r}, not with "
                f"{fingerprint(embedder)!r}: pass that embedder, or ingest again with this one"
            )
        try:
            check_files(path, manifest)
            folder = path / manifest.generation
            parts = (
                Catalog.open(folder / CATALOG),
                Dense.load(folder / DENSE),
                BM25.load(folder / BM25_FILE),
                Proximity.load(folder / PROXIMITY),
                Late.load(folder / LATE) if LATE in manifest.files else None,
            )
        except (IndexDamagedError, OSError):
            if read_manifest(path).generation != manifest.generation:  # a writer swapped it under our eyes
                return cls.open(path, embedder=embedder, local_only=local_only)
            raise
        index = cls(path, manifest, *parts, embedder)
        index._local_only = local_only
        return index

    _local_only = False

    def close(self) -> None:
        """Close its files."""
        self._catalog.close()

    def embedder(self) -> Embeddings:
        """The model that embeds questions.

        Raises:
            EmbedderMismatchError: the manifest's reference now names other weights.
        """
        if self._embedder is None:
            made = self.manifest
            self._embedder = opened_embedder(
                str(self.path),
                made.embedder,
                made.embedder_fingerprint,
                local_only=self._local_only,
                opener="Index.open",
                mend="ingest again",
            )
        return self._embedder

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that this index has."""
        return ARMS if self._late is not None else ARMS[:-1]

    def rankings(
        self,
        question: str,
        depth: int = DEPTH,
        *,
        arms: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> dict[str, Hits]:
        """What each arm finds: its best `depth` (row, score), best first; see `search`."""
        wanted = self.arms if arms is None else tuple(arms)
        if not wanted or depth < 1 or not set(wanted) <= set(self.arms):
            raise UsageError(
                f"cannot search with arms={list(wanted)!r} and k={depth!r}: the index at {str(self.path)!r} has the "
                f"arms {list(self.arms)}, k is at least 1"
            )
        allowed = self._catalog.rows_where(where) if where else None
        found: dict[str, Hits] = {}
        tokens: NDArray[np.float32] | None = None
        again = {"proximity", "late"} & set(wanted)
        if "late" in wanted:
            with embedding(self.embedder()) as embedder:
                vectors, (tokens,) = cast(TokenEmbedder, embedder).encode_tokens([question])
            found["dense"] = self._dense.top(vectors[0], depth, allowed)
        elif "dense" in wanted or again:
            asked = question_vector(self.embedder(), question, self.manifest.dimension)
            found["dense"] = self._dense.top(asked, depth, allowed)
        words = tokenize(question)
        if "bm25" in wanted or again:
            found["bm25"] = self._bm25.top(words, depth, allowed)
        rows = {row for hits in found.values() for row, _ in hits[:SCORED_AGAIN]}
        if "proximity" in wanted:
            found["proximity"] = self._proximity.score(words, self._bm25.rarity, rows)[:depth]
        if tokens is not None and self._late is not None:
            found["late"] = self._late.score(tokens, rows)[:depth]
        if len(wanted) > 1 and (said := found.get("bm25")) and said[0][1] <= 0:
            found["bm25"] = []  # of a few chunks, where most hold a word it counts against them: that is no order
        return {arm: found[arm] for arm in wanted}

    def search(
        self,
        question: str,
        k: int = 10,
        *,
        arms: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Passage]:
        """The best `k` passages for a question, best first.

        Args:
            question: what is asked, in plain words.
            k: how many passages.
            arms: which of `arms` take part; None: all.
            where: only passages with these metadata (`artrag.index.filters`).

        Raises:
            UsageError: for an arm that the index does not have, `k` below 1, or a filter that is none.
        """
        if k < 1:
            raise UsageError(f"cannot search with k={k!r}: k is at least 1")
        found = self.rankings(question, max(k, DEPTH), arms=arms, where=where)
        return self.passages(self.fusion.fuse(found)[:k], found)

    def passages(self, ranked: Hits, found: Mapping[str, Hits]) -> list[Passage]:
        """The passages of rows, each with what the arms thought of it.

        Args:
            ranked: (row, score), best first.
            found: the rankings of the arms.
        """
        seen = {
            arm: {row: {"rank": rank, "score": score} for rank, (row, score) in enumerate(hits, start=1)}
            for arm, hits in found.items()
        }
        passages = []
        chunks = self._catalog.at([row for row, _ in ranked])
        for (row, score), (chunk, title) in zip(ranked, chunks, strict=True):
            passages.append(
                Passage(
                    id=chunk.id,
                    document=chunk.document,
                    text=chunk.text,
                    context=chunk.context,
                    score=score,
                    start=chunk.start,
                    end=chunk.end,
                    arms={arm: hits[row] for arm, hits in seen.items() if row in hits},
                    metadata=chunk.metadata | {"title": title},
                )
            )
        return passages

    def chunks(self) -> Iterator[StoredChunk]:
        """All chunks by row, read in portions."""
        return self._catalog.chunks()

    def document(self, name: str) -> StoredDocument:
        """A whole document by id.

        Raises:
            IndexStoreError: there is none of that id.
        """
        try:
            return self._catalog.document(name)
        except KeyError:
            raise IndexStoreError(f"no document {name!r} in the index at {str(self.path)!r}") from None


def opened_embedder(
    place: str, reference: str, built_with: str, *, local_only: bool, opener: str, mend: str
) -> Embeddings:
    """The embedder that an index was built with, opened by its reference.

    Args:
        place: of the index, for messages.
        reference: the model reference; empty for a live object, which cannot be opened.
        built_with: the fingerprint that it must have.
        local_only: refuse remote models.
        opener: the call that takes a live embedder.
        mend: what to do where the reference names other weights now.

    Raises:
        EmbedderMismatchError: there is no reference, or it names other weights.
    """
    if not reference:
        raise EmbedderMismatchError(
            f"the index at {place!r} was built with an embedder object ({built_with!r}): "
            f"pass it as {opener}(..., embedder=...)"
        )
    from artrag.models import load_embedder

    loaded = load_embedder(reference, local_only=local_only)
    if fingerprint(loaded) != built_with:
        raise EmbedderMismatchError(
            f"{reference!r} is now {fingerprint(loaded)!r}, but the index at {place!r} was built with "
            f"{built_with!r}: {mend}"
        )
    return loaded


def fingerprint(embedder: Any) -> str:
    """What tells an embedder from others: its own `fingerprint`, else its class and model name."""
    own = getattr(embedder, "fingerprint", "")
    model = getattr(embedder, "model", "") or getattr(embedder, "model_name", "")
    return str(own) if own else f"{type(embedder).__name__}:{model}"


@contextmanager
def embedding(embedder: Embeddings) -> Iterator[Embeddings]:
    """The embedder; whatever it raises names it.

    Raises:
        ModelCallError: in place of what its package raises.
    """
    try:
        yield embedder
    except ArtragError:
        raise
    except Exception as error:  # every provider has classes of its own
        raise ModelCallError(
            f"the embedder {fingerprint(embedder)!r} failed ({told(error, 200)}): check that "
            "it is up and reachable, and run it again"
        ) from None  # what the provider raised may quote the key


def question_vector(embedder: Embeddings, question: str, dimension: int) -> NDArray[np.float32]:
    """The vector of a question.

    Raises:
        ModelCallError: the embedder fails, or gives none of so many numbers.
    """
    with embedding(embedder):
        made = np.asarray(embedder.embed_query(question), dtype=np.float32)
    if made.shape != (dimension,) or not np.isfinite(made).all():
        raise ModelCallError(
            f"the embedder {fingerprint(embedder)!r} gave no vector of {dimension} numbers for a question, but of "
            f"shape {made.shape!r}: check its model and settings"
        )
    return made


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)
