"""ingest: load -> chunk -> contextualize -> build_index."""

from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph

from artrag import nodes
from artrag.settings import Settings
from artrag.state import IngestInput, IngestState


def build_ingest(
    *,
    embedder: Embeddings,
    embedder_reference: str = "",
    chat: Runnable[Any, Any] | None = None,
    chat_reference: str | None = "",
) -> StateGraph[IngestState, Settings, IngestInput, IngestState]:
    """Files and folders to an index directory: input `paths` and `index`, output `report`.

    Args:
        embedder: any LangChain embedder.
        embedder_reference: the model reference that opens it again (written into the index).
        chat: writes contexts, for the kinds of `Settings.context` that want a model.
        chat_reference: its name, part of the fingerprint under which contexts are kept; None: that of the settings.
    """
    graph = StateGraph(IngestState, context_schema=Settings, input_schema=IngestInput)
    graph.add_node("load", nodes.load())
    graph.add_node("chunk", nodes.chunk())
    graph.add_node("contextualize", nodes.contextualize(chat, model=chat_reference))
    graph.add_node("build_index", nodes.build_index(embedder, reference=embedder_reference))
    graph.add_edge(START, "load")
    graph.add_edge("load", "chunk")
    graph.add_edge("chunk", "contextualize")
    graph.add_edge("contextualize", "build_index")
    graph.add_edge("build_index", END)
    return graph
