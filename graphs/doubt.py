"""ask -> {trust | [sample] -> refine -> trust}: what `art` does with a draft, for every graph that has one."""

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph

from artrag import nodes
from artrag.protocols import Asker, Truster
from artrag.settings import Settings
from artrag.state import QAState


def build_doubt(**parts: Any) -> StateGraph[QAState, Settings, QAState, QAState]:
    """A draft of somebody else's to an answer with a confidence; `parts` are those of `add_doubt`.

    It is given `question`, `draft`, `candidates` (the draft as the initial one) and `passages`.
    """
    graph = StateGraph(QAState, context_schema=Settings)
    add_doubt(graph, **parts)
    graph.add_edge(START, "ask")
    return graph


def add_doubt(
    graph: StateGraph[Any, Settings, Any, Any],
    *,
    chat: Runnable[Any, Any],
    asker: Asker,
    truster: Truster,
    retriever: Runnable[Any, Any] | None = None,
    tools: Sequence[BaseTool] = (),
    sampler: Runnable[Any, Any] | None = None,
    then: str = END,
) -> None:
    """Add the nodes from `ask` to `trust` and `review`, and the edges between them; `then` follows.

    The arguments are those of `build_art`.
    """
    graph.add_node("ask", nodes.ask(asker))
    graph.add_node("refine", nodes.refine(chat, retriever=retriever, tools=tools))
    graph.add_node("trust", nodes.trust(truster))
    graph.add_node("review", nodes.review())
    doubted = "refine"
    if sampler is not None:
        graph.add_node("sample", nodes.sample(sampler))
        graph.add_edge("sample", "refine")
        doubted = "sample"
    graph.add_conditional_edges("ask", after_ask, {"doubted": doubted, "not doubted": "trust"})
    graph.add_edge("refine", "trust")
    graph.add_conditional_edges(
        "trust", after_trust, {"not sure yet": "ask", "a person decides": "review", "answered": then}
    )
    graph.add_conditional_edges("review", after_review, {"one more round": "refine", "reviewed": then})


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
