"""The graphs as LangGraph Studio and `langgraph dev` open them: factories without arguments, no checkpointer.

What they run on comes from the run's context (`artrag.Settings`) or from `ARTRAG_*` in the environment.
"""

from typing import Any

from langgraph.graph.state import CompiledStateGraph

from artrag.interfaces.wiring import wired_art, wired_contextual_rag, wired_ingest


def ingest() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Index files and folders: load, chunk, contextualize, build the index."""
    return wired_ingest().compile(name="ingest")


def contextual_rag() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Answer a question from an index of contextual passages, with citations."""
    return wired_contextual_rag().compile(name="contextual_rag")


def art() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Answer a question, doubt the answer, refine it, and say how far to trust it."""
    return wired_art().compile(name="art")
