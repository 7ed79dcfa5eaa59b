"""One state machine a file, each reads like its diagram. The factories return uncompiled graphs."""

from typing import TYPE_CHECKING, Any

from artrag.graphs.art import build_art
from artrag.graphs.contextual_rag import build_contextual_rag
from artrag.graphs.ingest import build_ingest

if TYPE_CHECKING:
    from artrag.graphs.simrag import build_simrag

__all__ = ["build_art", "build_contextual_rag", "build_ingest", "build_simrag"]


def __getattr__(name: str) -> Any:
    if name != "build_simrag":  # loaded on first use: it brings along what trains
        raise AttributeError(f"module 'artrag.graphs' has no attribute {name!r}")
    from artrag.graphs.simrag import build_simrag

    return build_simrag
