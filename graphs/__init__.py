"""One state machine a file, each reads like its diagram. The factories return uncompiled graphs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from artrag.graphs.art import build_art
from artrag.graphs.chat import build_chat
from artrag.graphs.contextual_rag import build_contextual_rag
from artrag.graphs.ingest import build_ingest
from artrag.graphs.routed import build_routed

if TYPE_CHECKING:
    from artrag.graphs.evaluate import build_evaluate
    from artrag.graphs.simrag import build_simrag

__all__ = [
    "build_art",
    "build_chat",
    "build_contextual_rag",
    "build_evaluate",
    "build_ingest",
    "build_routed",
    "build_simrag",
]

# Loaded on first use: they bring along what trains, and what measures.
_LATER = {"build_evaluate": "artrag.graphs.evaluate", "build_simrag": "artrag.graphs.simrag"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'artrag.graphs' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
