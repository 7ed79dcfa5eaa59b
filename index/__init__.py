"""The index: tokens, chunks, BM25, dense vectors, fusion, and their directory on disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artrag.index.passage import Passage
    from artrag.index.qdrant import QdrantIndex
    from artrag.index.retriever import IndexRetriever
    from artrag.index.store import Index

_HOME = {
    "Index": "artrag.index.store",
    "IndexRetriever": "artrag.index.retriever",
    "Passage": "artrag.index.passage",
    "QdrantIndex": "artrag.index.qdrant",
}
__all__ = ["Index", "IndexRetriever", "Passage", "QdrantIndex"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'artrag.index' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
