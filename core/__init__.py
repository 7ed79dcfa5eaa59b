"""artrag gives LangGraph apps answers they can check: contextual retrieval, and Ask, Refine, Trust."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artrag.answer import Answer
    from artrag.graphs import (
        build_art,
        build_chat,
        build_contextual_rag,
        build_evaluate,
        build_ingest,
        build_routed,
        build_simrag,
    )
    from artrag.interfaces.agent_tool import answer_tool
    from artrag.interfaces.functions import aask, aingest, asearch, ask, ingest, search
    from artrag.interfaces.middleware import ArtMiddleware
    from artrag.protocols import Asker, Doubt, Subquestion, System, Truster
    from artrag.settings import Settings

__version__ = "0.1.0"

# Loaded on first use: importing artrag costs no more than importing langgraph.
_HOME = {
    "Answer": "artrag.answer",
    "ArtMiddleware": "artrag.interfaces.middleware",
    "Asker": "artrag.protocols",
    "Doubt": "artrag.protocols",
    "Settings": "artrag.settings",
    "Subquestion": "artrag.protocols",
    "System": "artrag.protocols",
    "Truster": "artrag.protocols",
    "aask": "artrag.interfaces.functions",
    "aingest": "artrag.interfaces.functions",
    "answer_tool": "artrag.interfaces.agent_tool",
    "asearch": "artrag.interfaces.functions",
    "ask": "artrag.interfaces.functions",
    "build_art": "artrag.graphs",
    "build_chat": "artrag.graphs",
    "build_contextual_rag": "artrag.graphs",
    "build_evaluate": "artrag.graphs",
    "build_ingest": "artrag.graphs",
    "build_routed": "artrag.graphs",
    "build_simrag": "artrag.graphs",
    "ingest": "artrag.interfaces.functions",
    "search": "artrag.interfaces.functions",
}
__all__ = [
    "Answer",
    "ArtMiddleware",
    "Asker",
    "Doubt",
    "Settings",
    "Subquestion",
    "System",
    "Truster",
    "aask",
    "aingest",
    "answer_tool",
    "asearch",
    "ask",
    "build_art",
    "build_chat",
    "build_contextual_rag",
    "build_evaluate",
    "build_ingest",
    "build_routed",
    "build_simrag",
    "ingest",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'artrag' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
