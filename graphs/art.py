"""art: [retrieve] -> answer -> ask -> {trust | [sample] -> refine -> trust}."""

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.graph import START, StateGraph

from artrag import nodes
from artrag.graphs.doubt import add_doubt
from artrag.protocols import Asker, Truster
from artrag.settings import Settings
from artrag.state import QAInput, QAState


def build_art(
    *,
    chat: Runnable[Any, Any],
    asker: Asker,
    truster: Truster,
    retriever: Runnable[Any, Any] | None = None,
    tools: Sequence[BaseTool] = (),
    sampler: Runnable[Any, Any] | None = None,
) -> StateGraph[QAState, Settings, QAInput, QAState]:
    """A question to an answer with a confidence: Ask, Refine, Trust (Shridhar et al., arXiv 2311.07961).

    Args:
        chat: any LangChain chat model; drafts and refines.
        asker: doubts the draft.
        truster: chooses among all answers seen.
        retriever: any LangChain retriever; without one the chat model reasons alone.
        tools: LangChain tools that take a text; `refine` offers them each open subquestion.
        sampler: the chat model at a temperature; writes `Settings.samples` further drafts of a doubted answer.
    """
    graph = StateGraph(QAState, context_schema=Settings, input_schema=QAInput)
    graph.add_node("receive", nodes.receive())
    graph.add_node("answer", nodes.answer(chat))
    add_doubt(graph, chat=chat, asker=asker, truster=truster, retriever=retriever, tools=tools, sampler=sampler)
    graph.add_edge(START, "receive")
    if retriever is None:
        graph.add_edge("receive", "answer")
    else:
        graph.add_node("retrieve", nodes.retrieve(retriever))
        graph.add_edge("receive", "retrieve")
        graph.add_edge("retrieve", "answer")
    graph.add_edge("answer", "ask")
    return graph
