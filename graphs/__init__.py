"""One state machine a file, each reads like its diagram. The factories return uncompiled graphs."""

from artrag.graphs.art import build_art
from artrag.graphs.contextual_rag import build_contextual_rag
from artrag.graphs.ingest import build_ingest

__all__ = ["build_art", "build_contextual_rag", "build_ingest"]
