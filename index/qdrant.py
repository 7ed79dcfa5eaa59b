"""An index on a Qdrant server: the retriever of `artrag.index.store.Index`, past one machine."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from artrag.errors import EmbedderMismatchError, IndexNotFoundError, IndexStoreError, UsageError
from artrag.index.catalog import StoredDocument
from artrag.index.manifest import Manifest
from artrag.index.passage import Passage
from artrag.index.qdrant_points import as_document, as_passage, condition, point_id, query_weights, sparse
from artrag.index.qdrant_server import IN_MEMORY, Address, Facts, check_server, not_found, read_facts, talking
from artrag.index.store import DEPTH, fingerprint, opened_embedder, question_vector
from artrag.index.tokens import tokenize

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models


ARMS = ("dense", "bm25")


class QdrantIndex:
    """Dense vectors and BM25 in one Qdrant collection; the engine weighs the words, searches, filters and fuses.

    Attributes:
        address: where it is.
        manifest: what it is, and what built it.
        fusion: how the arms become one ranking: as tuned for the local index that was published.
    """

    def __init__(self, address: Address, client: "QdrantClient", embedder: Embeddings | None, local_only: bool) -> None:
        self.address = address
        self._client, self._given, self._local_only = client, embedder, local_only
        self._loaded: Embeddings | None = None
        self.refresh()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        embedder: Embeddings | None = None,
        local_only: bool = False,
        client: "QdrantClient | None" = None,
    ) -> "QdrantIndex":
        """Open the index at `url`; without `embedder`, the one that it names is loaded at the first search.

        Args:
            url: see the head of this file.
            embedder: a live embedder.
            local_only: refuse a server elsewhere, and remote embedders.
            client: a client of your own for that address, with other options.

        Raises:
            UsageError: `url` is no such address.
            RemoteRefusedError, MissingExtraError, IndexLockedError: see `Address.connect`.
            IndexNotFoundError, IndexVersionError, IndexServerError: it cannot be used, and why.
            EmbedderMismatchError: `embedder` is not the one it was built with.
        """
        address = Address.parse(url)
        if client is None and address.folder not in ("", IN_MEMORY) and not Path(address.folder, "meta.json").is_file():
            raise not_found(address)  # the client would make the folder
        own = client or address.connect(local_only=local_only)
        try:
            if not address.folder:
                check_server(own, address)
            return cls(address, own, embedder, local_only)
        except BaseException:
            if client is None:
                own.close()
            raise

    def refresh(self) -> None:
        """Look at what the alias stands for now.

        Raises:
            EmbedderMismatchError: it was rebuilt with another embedder than the one that `open` was given.
        """
        facts, parts = read_facts(self._client, self.address)
        if self._given is not None and fingerprint(self._given) != facts.embedder_fingerprint:
            raise EmbedderMismatchError(
                f"the index at {self.address.text!r} was built with {facts.embedder_fingerprint!r}, not with "
                f"{fingerprint(self._given)!r}: pass that embedder, or publish again with this one and --rebuild"
            )
        self._facts = facts
        self.fusion = self._facts.fusion
        told = [self._facts.collection, *(parts[name].generation for name in sorted(parts))]
        digest = hashlib.sha256(" ".join(told).encode()).hexdigest()
        self.manifest = Manifest(
            artrag=self._facts.artrag,
            generation=f"generation-{digest[:12]}",
            embedder=self._facts.embedder,
            embedder_fingerprint=self._facts.embedder_fingerprint,
            dimension=self._facts.dimension,
            context=self._facts.context,
            documents=sum(part.documents for part in parts.values()),
            chunks=sum(part.chunks for part in parts.values()),
            files={},
        )
        self._parts = sorted(parts)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def embedder(self) -> Embeddings:
        """The model that embeds questions.

        Raises:
            EmbedderMismatchError: the collection's reference now names other weights.
        """
        return self._embedder(self._facts)

    def _embedder(self, facts: Facts) -> Embeddings:
        if self._given is not None:  # checked by `refresh`
            return self._given
        if self._loaded is None or fingerprint(self._loaded) != facts.embedder_fingerprint:
            self._loaded = opened_embedder(
                self.address.text,
                facts.embedder,
                facts.embedder_fingerprint,
                local_only=self._local_only,
                opener="QdrantIndex.open",
                mend="ingest and publish again",
            )
        return self._loaded

    def search(
        self,
        question: str,
        k: int = 10,
        *,
        arms: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Passage]:
        """The best `k` passages for a question, best first; equal scores in the order of the points' ids.

        Args:
            question: what is asked, in plain words.
            k: how many passages.
            arms: which of "dense" and "bm25" take part; None: both.
            where: only passages with these metadata; see `artrag.index.filters` and `qdrant_points.condition`.

        Raises:
            UsageError: for an unknown arm, `k` below 1, or a filter that the engine does not know.
            IndexServerError: the server does not answer.
        """
        arms = ARMS if arms is None else arms
        unknown = [arm for arm in arms if arm not in ARMS]
        if unknown or not arms or k < 1:
            raise UsageError(
                f"cannot search with arms={list(arms)!r} and k={k!r}: arms are {list(ARMS)}, k is at least 1"
            )
        try:
            return self._search(question, k, arms, condition(where))
        except IndexNotFoundError:  # a rebuild took the collection away: ask the new one
            self.refresh()
            return self._search(question, k, arms, condition(where))

    def _search(self, question: str, k: int, arms: Sequence[str], wanted: "models.Filter | None") -> list[Passage]:
        from qdrant_client import models

        facts = self._facts  # one collection and its embedder, whatever another thread refreshes meanwhile
        queries: dict[str, Any] = {}
        if "dense" in arms:
            queries["dense"] = [float(x) for x in question_vector(self._embedder(facts), question, facts.dimension)]
        if "bm25" in arms and (weights := query_weights(tokenize(question))):
            queries["bm25"] = sparse(weights)
        if not queries:
            return []
        how = {"limit": max(k, DEPTH), "filter": wanted}
        params = {"dense": self._rescoring(facts)}
        asked = [models.QueryRequest(query=q, using=arm, params=params.get(arm), **how) for arm, q in queries.items()]
        together = self._together(list(queries))
        if together is not None:
            sources = [models.Prefetch(query=q, using=arm, params=params.get(arm), **how) for arm, q in queries.items()]
            # Twice as many as wanted: the engine leaves equal scores in any order, so they are put in order below.
            asked.append(models.QueryRequest(prefetch=sources, query=together, limit=2 * k, with_payload=True))
        with talking(self.address):
            answers = [answer.points for answer in self._client.query_batch_points(facts.collection, asked)]
        names = sorted({str(point.id) for points in answers for point in points})
        row_of = {name: row for row, name in enumerate(names)}
        found = {
            arm: [(row_of[str(point.id)], float(point.score)) for point in points]
            for arm, points in zip(queries, answers, strict=False)
        }
        ranked = self.fusion.fuse(found)
        if together is None:
            with talking(self.address):
                fetched = self._client.retrieve(facts.collection, [names[row] for row, _ in ranked[:k]])
            payloads = {row_of[str(point.id)]: point.payload or {} for point in fetched}
        else:
            payloads = {row_of[str(point.id)]: point.payload or {} for point in answers[-1]}
        seen = {
            arm: {row: {"rank": rank, "score": score} for rank, (row, score) in enumerate(hits, start=1)}
            for arm, hits in found.items()
        }
        return [
            as_passage(payloads[row], score, {arm: hits[row] for arm, hits in seen.items() if row in hits})
            for row, score in ranked
            if row in payloads
        ][:k]

    def _together(self, arms: list[str]) -> "models.RrfQuery | None":
        """The engine's fusion, where it can do ours; else the rankings are fused here.

        Its score is the sum of 1 / (rank / weight + k - 1): ours with constant k - 1 where the constant is 0 or the
        weights are equal.
        """
        from qdrant_client import models

        constant, weights = self.fusion.rank_constant, [self.fusion.weights.get(arm, 1.0) for arm in arms]
        if len(arms) < 2 or min(weights) <= 0:
            return None
        if constant == 0:
            return models.RrfQuery(rrf=models.Rrf(k=1, weights=weights))
        if constant == int(constant) and len(set(weights)) == 1:
            return models.RrfQuery(rrf=models.Rrf(k=int(constant) + 1))
        return None

    def _rescoring(self, facts: Facts) -> "models.SearchParams | None":
        """What small copies of the vectors find is scored again by the full ones."""
        from qdrant_client import models

        if facts.layout.quantization == "none" or self.address.folder:
            return None
        more = 3.0 if facts.layout.quantization == "binary" else 1.5
        return models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=more))

    def document(self, name: str) -> StoredDocument:
        """A whole document by id; of two parts that have it, the first one's.

        Raises:
            IndexStoreError: there is none of that id.
        """
        try:
            return self._document(name)
        except IndexNotFoundError:
            self.refresh()
            return self._document(name)

    def _document(self, name: str) -> StoredDocument:
        def pieces(part: str, numbers: Iterable[int]) -> list[str]:
            return [point_id(part, "document", f"{n}:{name}") for n in numbers]

        collection = self._facts.collection
        with talking(self.address):
            ids = [first for part in self._parts for first in pieces(part, [0])]
            found = {str(p.id): p.payload or {} for p in self._client.retrieve(collection, ids)}
            if not found:
                raise IndexStoreError(f"no document {name!r} in the index at {self.address.text!r}")
            first = found[next(key for key in ids if key in found)]
            others = pieces(first["part"], range(1, first["pieces"]))
            rest = self._client.retrieve(collection, others) if others else []
        return as_document([first, *(p.payload or {} for p in rest)])
