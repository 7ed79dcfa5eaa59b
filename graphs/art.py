"""art: [retrieve] -> answer -> ask -> {trust | [sample] -> refine -> trust}."""

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph

from artrag import nodes
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
    graph.add_node("ask", nodes.ask(asker))
    graph.add_node("refine", nodes.refine(chat, retriever=retriever, tools=tools))
    graph.add_node("trust", nodes.trust(truster))
    graph.add_node("review", nodes.review())
    graph.add_edge(START, "receive")
    if retriever is None:
        graph.add_edge("receive", "answer")
    else:
        graph.add_node("retrieve", nodes.retrieve(retriever))
        graph.add_edge("receive", "retrieve")
        graph.add_edge("retrieve", "answer")
    graph.add_edge("answer", "ask")
    doubted = "refine"
    if sampler is not None:
        graph.add_node("sample", nodes.sample(sampler))
        graph.add_edge("sample", "refine")
        doubted = "sample"
    graph.add_conditional_edges("ask", after_ask, {"doubted": doubted, "not doubted": "trust"})
    graph.add_edge("refine", "trust")
    graph.add_conditional_edges(
        "trust", after_trust, {"not sure yet": "ask", "a person decides": "review", "answered": END}
    )
    graph.add_conditional_edges("review", after_review, {"one more round": "refine", "reviewed": END})
    return graph


def after_ask(state: QAState) -> Literal["doubted", "not doubted"]:
    """Refine what the Asker doubts."""
    return "doubted" if state["needs_refining"] else "not doubted"


def after_trust(state: QAState) -> Literal["not sure yet", "a person decides", "answered"]:
    """Ask again while no reason to stop is given; hand over to a person where one is wanted."""
    if not state["stop_reason"]:
        return "not sure yet"
    return "a person decides" if state["needs_review"] else "answered"


def after_review(state: QAState) -> Literal["one more round", "reviewed"]:
    """Refine once more if the person said so."""
    return "one more round" if state["needs_refining"] else "reviewed"
