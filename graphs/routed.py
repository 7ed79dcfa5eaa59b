"""routed: retrieve -> route -> {answer | recall}."""

from typing import Any, Literal

from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph

from artrag import nodes
from artrag.graphs.edges import edge
from artrag.settings import Settings
from artrag.state import QAInput, QAState


def build_routed(
    *, chat: Runnable[Any, Any], retriever: Runnable[Any, Any]
) -> StateGraph[QAState, Settings, QAInput, QAState]:
    """A question to an answer by the way that it needs: from passages, by calculating, or from memory.

    Args:
        chat: any LangChain chat model.
        retriever: any LangChain retriever.
    """
    graph = StateGraph(QAState, context_schema=Settings, input_schema=QAInput)
    graph.add_node("receive", nodes.receive())
    graph.add_node("retrieve", nodes.retrieve(retriever))
    graph.add_node("route", nodes.route())
    graph.add_node("answer", nodes.answer(chat))
    graph.add_node("recall", nodes.recall(chat))
    graph.add_edge(START, "receive")
    graph.add_edge("receive", "retrieve")
    graph.add_edge("retrieve", "route")
    graph.add_conditional_edges(
        "route", after_route, {"from passages or by calculating": "answer", "from memory": "recall"}
    )
    graph.add_edge("answer", END)
    graph.add_edge("recall", END)
    return graph


@edge
def after_route(state: QAState) -> Literal["from passages or by calculating", "from memory"]:
    """Go the way that `route` found."""
    return "from memory" if state["need"] == "neither" else "from passages or by calculating"
