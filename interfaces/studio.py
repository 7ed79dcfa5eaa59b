"""The graphs as LangGraph Studio and `langgraph dev` open them: factories, called for every run, no checkpointer.

What they run on comes from the run's context (`artrag.Settings`) or from `ARTRAG_*` in the environment.
"""

from typing import Any

from langgraph.graph.state import CompiledStateGraph
from langgraph_sdk.runtime import ServerRuntime

from artrag.interfaces.serving import spare_the_collector
from artrag.interfaces.wiring import (
    wired_art,
    wired_chat,
    wired_contextual_rag,
    wired_evaluate,
    wired_ingest,
    wired_routed,
    wired_simrag,
)
from artrag.settings import Settings


def ingest(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Index files and folders: load, chunk, contextualize, build the index."""
    _check_settings(runtime)
    return wired_ingest().compile(name="ingest")


def contextual_rag(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Answer a question from an index of contextual passages, with citations."""
    _check_settings(runtime)
    return wired_contextual_rag().compile(name="contextual_rag")


def art(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Answer a question, doubt the answer, refine it, and say how far to trust it."""
    _check_settings(runtime)
    return wired_art().compile(name="art")


def chat(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Answer the last question of a conversation as `art` does; follow-up questions are understood from it."""
    _check_settings(runtime)
    return wired_chat().compile(name="chat")


def routed(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Answer a question by the way that it needs: from passages, by calculating, or from memory."""
    _check_settings(runtime)
    return wired_routed().compile(name="routed")


def simrag(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Let a model ask itself questions about documents and learn from those that hold; ship what is better."""
    _check_settings(runtime)
    return wired_simrag().compile(name="simrag")


def evaluate(runtime: ServerRuntime[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Put questions with known answers to prompt, retrieval, doubt and fine-tuning: what helps, and what it costs."""
    _check_settings(runtime)
    return wired_evaluate().compile(name="evaluate")


def _check_settings(runtime: ServerRuntime[Any]) -> None:
    """Raise SettingsError for an unknown setting: the server drops it in silence before the graph could see it."""
    if runtime.execution_runtime:
        Settings.of(runtime.execution_runtime.context)


spare_the_collector()
