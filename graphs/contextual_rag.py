"""contextual_rag: retrieve -> rerank -> answer."""

from typing import Any

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph

from artrag import nodes
from artrag.settings import Settings
from artrag.state import QAInput, QAState


def build_contextual_rag(
    *, chat: Runnable[Any, Any], retriever: Runnable[Any, Any], reranker: BaseDocumentCompressor | None = None
) -> StateGraph[QAState, Settings, QAInput, QAState]:
    """A question to an answer with citations, from retrieved passages (Anthropic, "Contextual Retrieval", 2024).

    Args:
        chat: any LangChain chat model.
        retriever: any LangChain retriever; `artrag.index.IndexRetriever` gives contextual passages.
        reranker: any LangChain document compressor.
    """
    graph = StateGraph(QAState, context_schema=Settings, input_schema=QAInput)
    graph.add_node("receive", nodes.receive())
    graph.add_node("retrieve", nodes.retrieve(retriever, for_reranking=True))
    graph.add_node("rerank", nodes.rerank(reranker))
    graph.add_node("answer", nodes.answer(chat))
    graph.add_edge(START, "receive")
    graph.add_edge("receive", "retrieve")
    graph.add_edge("retrieve", "rerank")
    graph.add_edge("rerank", "answer")
    graph.add_edge("answer", END)
    return graph
