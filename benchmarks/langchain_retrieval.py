"""Side by side with LangChain's own parts: BM25Retriever, the FAISS store and EnsembleRetriever, on the code set.

    python benchmarks/langchain_retrieval.py --data ../shared/data --out build/retrieval

Both have the same given chunks and the same embedder (MiniLM), and are asked the same 142 questions for 20 passages.
LangChain's parts as they come: BM25 splits on white space, FAISS compares by L2, the ensemble fuses with equal weights
and a rank constant of 60; then also BM25 with our tokens, and the ensemble on top of 150 candidates of each. Ours with
its deterministic context and, for fairness, without; and LangChain's on chunks with our context. One line of JSON a
system: Pass@5/10/20 with 95% intervals, the median milliseconds of a search (the question's vector remembered), and the
paired difference of ours minus it, on the same texts.
"""

import argparse
import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever

# Kept beside this file; a script's own folder is on its path.
from retrieval import KS, SETS, index_of

from artrag.evaluation.queries import read_queries
from artrag.evaluation.retrieval import Judged, Table, differences, intervals, judge, scores, table_of
from artrag.index import Index, IndexRetriever
from artrag.index.catalog import StoredChunk
from artrag.index.tokens import tokenize
from artrag.interfaces.searching import Remembering, keyed, open_indexes
from artrag.models import load_embedder
from artrag.settings import Settings

DEEP = 150
MEASURES = tuple(f"pass@{k}" for k in KS)
OURS = "artrag"


def langchain_systems(documents: list[Document], vectors: Any, embedder: Embeddings) -> Iterator[tuple[str, Any]]:
    """LangChain's retrievers over the documents, by name."""
    with warnings.catch_warnings():  # the package says at import that it is being retired
        warnings.filterwarnings("ignore", message=".*langchain-community.*", category=DeprecationWarning)
        from langchain_classic.retrievers import EnsembleRetriever
        from langchain_community.retrievers import BM25Retriever
        from langchain_community.vectorstores import FAISS

    pairs = list(zip((d.page_content for d in documents), vectors.tolist(), strict=True))
    store = FAISS.from_embeddings(pairs, embedder, metadatas=[d.metadata for d in documents])

    def dense(k: int) -> Any:
        return store.as_retriever(search_kwargs={"k": k})

    def bm25(k: int, **options: Any) -> Any:
        return BM25Retriever.from_documents(documents, k=k, **options)

    def both(*retrievers: Any) -> Any:
        return EnsembleRetriever(retrievers=list(retrievers), weights=[0.5, 0.5])

    deepest = max(KS)
    yield "langchain FAISS", dense(deepest)
    yield "langchain BM25, its own tokens", bm25(deepest)
    yield "langchain BM25, our tokens", bm25(deepest, preprocess_func=tokenize)
    yield "langchain ensemble, its own tokens", both(bm25(deepest), dense(deepest))
    yield "langchain ensemble, our tokens", both(bm25(deepest, preprocess_func=tokenize), dense(deepest))
    deep = both(bm25(DEEP, preprocess_func=tokenize), dense(DEEP))
    yield f"langchain ensemble, our tokens, {DEEP} candidates", deep


def measured(retriever: BaseRetriever, judged: Sequence[Judged]) -> tuple[Table, float]:
    """Each question's figures, and the median milliseconds of a search."""
    rows, took = [], []
    retriever.invoke(judged[0].query.question)
    for one in judged:
        started = time.perf_counter()
        found = retriever.invoke(one.query.question)
        took.append(1000 * (time.perf_counter() - started))
        rows.append(scores(one, [document.metadata["id"] for document in found], KS))
    return table_of(rows), median(took)


def line(name: str, context: str, table: Table, ms: float, ours: Table) -> dict[str, Any]:
    """One system as a line."""

    def plain(found: Any) -> dict[str, list[float]]:
        return {m: [round(x, 4) for x in (found[m].value, found[m].low, found[m].high)] for m in MEASURES}

    figure = {"system": name, "context": context, "questions": len(table["mrr"]), "p50_ms": round(ms, 2)}
    compared = {} if name == OURS else {"artrag_minus_it": plain(differences(table, ours))}
    return figure | plain(intervals(table)) | compared


def vectors_of(folder: Path, texts: list[str], embedder: Remembering) -> Any:
    """The vectors of the texts, kept in a file of the folder."""
    file = folder / f"langchain-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}.npy"
    if not file.exists():
        np.save(file, np.asarray(embedder.embed_documents(texts), dtype=np.float32))
    return np.load(file)


def side_by_side(index: Index, embedder: Remembering, queries: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Ours and LangChain's on the texts that this index indexes."""
    kind = index.manifest.context
    keys, _ = keyed(index)
    judged = judge(read_queries(queries), keys)
    chunks: list[StoredChunk] = list(index.chunks())
    for one in judged:  # every system finds the question's vector remembered
        embedder.embed_query(one.query.question)
    ours, ms = measured(IndexRetriever(index=index, k=max(KS)), judged)
    yield line(OURS, kind, ours, ms, ours)
    # The ensemble merges by text: given twins (19 chunks) become one there, as in any application.
    documents = [Document(chunk.indexed, metadata={"id": chunk.id}) for chunk in chunks]
    vectors = vectors_of(folder, [document.page_content for document in documents], embedder)
    for name, retriever in langchain_systems(documents, vectors, embedder):
        table, took = measured(retriever, judged)
        yield line(name, kind, table, took, ours)


def main() -> None:
    """Build what is missing, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    one = SETS["contextual"]
    folders = {"none": given.out / "contextual-none", "auto": given.out / "contextual"}
    for kind, folder in folders.items():
        index_of(given.data / one.corpus, folder, load_embedder(Settings().embedder), context=kind)
    for index, embedder in open_indexes(list(folders.values())):
        with closing(index):
            for figure in side_by_side(index, embedder, given.data / one.queries, given.out):
                print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
