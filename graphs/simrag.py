"""simrag: plan -> ingest -> propose -> keep -> finetune -> score -> {propose again | conclude}."""

from typing import Any, Literal

from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph

from artrag.graphs.edges import edge
from artrag.graphs.ingest import build_ingest
from artrag.nodes import simrag as nodes
from artrag.settings import EMBEDDED_CHAT, Settings
from artrag.state import SimragInput, SimragState


def build_simrag(
    *, teacher: Runnable[Any, Any], embedder: Embeddings, student: str = EMBEDDED_CHAT, plan: nodes.Plan = nodes.HOW
) -> StateGraph[SimragState, Settings, SimragInput, SimragState]:
    """Documents to a better answerer for them, or the word that it is not better: SimRAG (Xu et al., arXiv 2410.17952).

    Args:
        teacher: any LangChain chat model; finds candidate answers, asks for them, and answers in the round trip.
        embedder: any LangChain embedder, for the index of the documents.
        student: reference of the local chat model that learns.
        plan: how it is trained.
    """
    graph = StateGraph(SimragState, context_schema=Settings, input_schema=SimragInput)
    graph.add_node("plan", nodes.plan())
    graph.add_node("ingest", build_ingest(embedder=embedder).compile())
    graph.add_node("propose", nodes.propose(teacher))
    graph.add_node("keep", nodes.keep(teacher, embedder))
    graph.add_node("finetune", nodes.finetune(student, plan))
    graph.add_node("score", nodes.score(student, embedder))
    graph.add_node("conclude", nodes.conclude())
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "ingest")
    graph.add_edge("ingest", "propose")
    graph.add_edge("propose", "keep")
    graph.add_conditional_edges("keep", after_keep, {"something to learn": "finetune", "nothing kept": "conclude"})
    graph.add_edge("finetune", "score")
    graph.add_conditional_edges("score", after_score, {"not better yet": "propose", "decided": "conclude"})
    graph.add_edge("conclude", END)
    return graph


@edge
def after_keep(state: SimragState) -> Literal["something to learn", "nothing kept"]:
    """There is no training on nothing."""
    return "something to learn" if state["kept"] else "nothing kept"


@edge
def after_score(state: SimragState) -> Literal["not better yet", "decided"]:
    """Go on while the gate says so."""
    return "not better yet" if state["decision"] == "again" else "decided"
