"""Searching indexes for many questions at once: what `evaluate retrieval`, `tune` and the benchmarks measure on."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from artrag.errors import UsageError
from artrag.evaluation.retrieval import Judged, ranks, share
from artrag.evaluation.retrieval_figures import HYBRID, RERANKED, Searched
from artrag.index.fusion import Fusion, Hits
from artrag.index.store import DEPTH, Index

TIMED = 200
"""Single arms are timed on so many questions: their rankings come with the fused ones, timing them is a search more."""
RERANKS = 50
"""Passages that a reranker reads."""

Tell = Callable[[int, int], None]


class Remembering(Embeddings):
    """An embedder, opened when it is first asked, that embeds each question once and keeps how long that took.

    Attributes:
        fingerprint: of the embedder.
        spent: seconds spent opening and embedding since it was last set to 0.
        used: seconds that the questions asked for since then take, remembered ones too.
    """

    def __init__(self, fingerprint: str, load: Callable[[], Embeddings]) -> None:
        self.fingerprint, self._load = fingerprint, load
        self._live: Embeddings | None = None
        self._known: dict[tuple[str, str], tuple[Any, float]] = {}
        self.spent = self.used = 0.0

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "model_name"):  # it goes by its fingerprint: nobody need open it for its name
            raise AttributeError(name)
        return getattr(self.live(), name)

    def live(self) -> Embeddings:
        """The embedder itself; its first call, the slowest, is behind it."""
        if self._live is None:
            self._live = self._load()
            self._live.embed_query("warm")
        return self._live

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self._remembered("embed_query", text, text)  # type: ignore[no-any-return]

    def encode_tokens(self, texts: list[str]) -> Any:
        """The vectors of one question and of its tokens; see `artrag.protocols.TokenEmbedder`."""
        (text,) = texts
        return self._remembered("encode_tokens", text, texts)

    def _remembered(self, method: str, text: str, given: Any) -> Any:
        if (method, text) not in self._known:
            asked = time.perf_counter()
            live = self.live()
            started = time.perf_counter()
            made = getattr(live, method)(given)
            done = time.perf_counter()
            self._known[method, text] = made, done - started
            self.spent += done - asked
        made, took = self._known[method, text]
        self.used += took
        return made

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """See `Embeddings`."""
        return self.live().embed_documents(texts)


def open_indexes(paths: Sequence[Path], *, local_only: bool = False) -> list[tuple[Index, Remembering]]:
    """The indexes at `paths`; those with the same embedder share one, so that a question is embedded once.

    Raises:
        UsageError: one is no directory.
        IndexStoreError: one cannot be used, and why.
    """
    embedders: dict[str, Remembering] = {}
    opened = []
    for path in paths:
        if str(path).startswith("qdrant+"):
            raise UsageError(f"{str(path)!r} is no directory: measure the directory that was published there")
        plain = Index.open(path, local_only=local_only)
        name = plain.manifest.embedder_fingerprint
        embedder = embedders.setdefault(name, Remembering(name, plain.embedder))
        opened.append((Index.open(path, embedder=embedder), embedder))
        plain.close()
    return opened


def keyed(index: Index) -> tuple[list[tuple[str, str, str]], dict[int, str]]:
    """(id, document id, text) of every chunk, and the id by row."""
    chunks, names = [], {}
    for chunk in index.chunks():
        chunks.append((chunk.id, chunk.document, chunk.text))
        names[chunk.row] = chunk.id
    return chunks, names


def search_all(
    index: Index,
    embedder: Remembering,
    judged: Sequence[Judged],
    names: Mapping[int, str],
    *,
    arms: Sequence[str],
    k: int,
    reranker: BaseDocumentCompressor | None = None,
    tell: Tell = lambda done, total: None,
) -> Searched:
    """What each arm finds for each question, and how long it takes.

    Rankings of all arms, and their fusion, come from one search a question. The times of single arms are those of
    searches of their own.

    Args:
        index: opened with `embedder`.
        embedder: remembers questions and times.
        judged: the questions.
        names: the chunk ids by row.
        arms: of the index, and "hybrid"; those that this index lacks are left out.
        k: how many ids are wanted of each.
        reranker: reorders the best 50 of "hybrid"; the result is one more arm, "reranked".
        tell: is called with the questions done and all.
    """
    arms = [*arms, RERANKED] if reranker else list(arms)
    fused = HYBRID in arms or RERANKED in arms
    wanted = [arm for arm in index.arms if fused or arm in arms]
    rankings: dict[str, list[list[str]]] = {arm: [] for arm in arms}
    search_ms: dict[str, list[float]] = {arm: [] for arm in arms}
    total_ms: dict[str, list[float]] = {arm: [] for arm in arms}

    def timed(arm: str, work: Callable[[], Any]) -> Any:
        embedder.spent = embedder.used = 0.0
        started = time.perf_counter()
        made = work()
        took = time.perf_counter() - started - embedder.spent
        if arm in search_ms:
            search_ms[arm].append(1000 * took)
            total_ms[arm].append(1000 * (took + embedder.used))
        return made

    def found_by_all(question: str) -> tuple[dict[str, Hits], Hits]:
        found = index.rankings(question, depth, arms=wanted)
        return found, index.fusion.fuse(found) if fused else []

    def reranked(question: str, reranker: BaseDocumentCompressor) -> list[str]:
        found, best = found_by_all(question)
        passages = [passage.to_document() for passage in index.passages(best[: max(RERANKS, k)], found)]
        return [str(passage.metadata["id"]) for passage in reranker.compress_documents(passages, question)][:k]

    depth = max(DEPTH, k)
    for number, one in enumerate(judged, start=1):
        question = one.query.question
        found, best = timed(HYBRID, partial(found_by_all, question))
        for arm in (arm for arm in arms if arm in found):
            rankings[arm].append([names[row] for row, _ in found[arm][:k]])
            if number <= TIMED:
                timed(arm, partial(index.rankings, question, depth, arms=[arm]))
        if HYBRID in arms:
            rankings[HYBRID].append([names[row] for row, _ in best[:k]])
        if reranker:
            rankings[RERANKED].append(timed(RERANKED, partial(reranked, question, reranker)))
        tell(number, len(judged))
    about = {
        "documents": index.manifest.documents,
        "chunks": index.manifest.chunks,
        "embedder": index.manifest.embedder_fingerprint,
        "fusion": index.fusion.model_dump(),
    }
    made = {arm: found for arm, found in rankings.items() if found}  # an index may lack an arm
    return Searched(str(index.path), index.manifest.context, judged, made, search_ms, total_ms, about)


def fused_values(
    index: Index,
    judged: Sequence[Judged],
    names: Mapping[int, str],
    tried: Sequence[Fusion],
    ks: Sequence[int],
    *,
    tell: Tell = lambda done, total: None,
) -> NDArray[np.float64]:
    """pass@k of every fusion on every question: (fusions, questions, ks)."""
    rows = {name: row for row, name in names.items()}
    values = np.empty((len(tried), len(judged), len(ks)))
    for n, one in enumerate(judged):
        found = index.rankings(one.query.question, max(DEPTH, *ks))
        wanted = [frozenset(rows[name] for name in chunks) for chunks in one.by_text]
        for m, fusion in enumerate(tried):
            placed = ranks([row for row, _ in fusion.fuse(found)[: max(ks)]], wanted)
            values[m, n] = [share(placed, k) for k in ks]
        tell(n + 1, len(judged))
    return values
