"""[standalone] -> ask -> {trust | [sample] -> refine -> trust}: what `art` does with a draft, whoever wrote it."""

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph

from artrag import nodes
from artrag.graphs.edges import edge
from artrag.protocols import Asker, Truster
from artrag.settings import Settings
from artrag.state import ChatState, QAState


def build_doubt(*, chat: Runnable[Any, Any], **parts: Any) -> StateGraph[ChatState, Settings, ChatState, ChatState]:
    """A draft of somebody else's to an answer with a confidence; the arguments are those of `build_art`.

    It is given `question`, `draft`, `candidates` (the draft as the initial one), `passages`, and as `messages` the
    conversation that ends with the question, with `follow_up` where something was said before it.
    """
    graph = StateGraph(ChatState, context_schema=Settings)
    graph.add_node("standalone", nodes.standalone(chat))
    add_doubt(graph, chat=chat, **parts)
    graph.add_conditional_edges(START, after_receive, {"a follow-up": "standalone", "a first question": "ask"})
    graph.add_edge("standalone", "ask")
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


@edge
def after_receive(state: ChatState) -> Literal["a follow-up", "a first question"]:
    """Rewrite what may need its conversation to be understood."""
    return "a follow-up" if state["follow_up"] else "a first question"


@edge
def after_ask(state: QAState) -> Literal["doubted", "not doubted"]:
    """Refine what the Asker doubts."""
    return "doubted" if state["needs_refining"] else "not doubted"


@edge
def after_trust(state: QAState) -> Literal["not sure yet", "a person decides", "answered"]:
    """Ask again while no reason to stop is given; hand over to a person where one is wanted."""
    if not state["stop_reason"]:
        return "not sure yet"
    return "a person decides" if state["needs_review"] else "answered"


@edge
def after_review(state: QAState) -> Literal["one more round", "reviewed"]:
    """Refine once more if the person said so."""
    return "one more round" if state["needs_refining"] else "reviewed"
