"""chat: [standalone] -> `art` -> reply: questions and answers on a thread, as messages."""

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph

from artrag import nodes
from artrag.graphs.doubt import add_doubt, after_receive
from artrag.protocols import Asker, Truster
from artrag.settings import Settings
from artrag.state import ChatInput, ChatState


def build_chat(
    *,
    chat: Runnable[Any, Any],
    asker: Asker,
    truster: Truster,
    retriever: Runnable[Any, Any] | None = None,
    tools: Sequence[BaseTool] = (),
    sampler: Runnable[Any, Any] | None = None,
) -> StateGraph[ChatState, Settings, ChatInput, ChatState]:
    """A conversation to its next message: the last question, made a standalone one, answered as `art` does.

    The message carries confidence, sources and decision in its `additional_kwargs` (`artrag.nodes.reply`). Compile it
    with a checkpointer, and a thread remembers its conversation.

    The arguments are those of `build_art`.
    """
    graph = StateGraph(ChatState, context_schema=Settings, input_schema=ChatInput)
    graph.add_node("receive", nodes.receive(chat=True))
    graph.add_node("standalone", nodes.standalone(chat))
    graph.add_node("answer", nodes.answer(chat))
    parts: dict[str, Any] = {"retriever": retriever, "tools": tools, "sampler": sampler}
    add_doubt(graph, chat=chat, asker=asker, truster=truster, **parts, then="reply")
    graph.add_node("reply", nodes.reply())
    graph.add_edge(START, "receive")
    first = "answer"
    if retriever is not None:
        first = "retrieve"
        graph.add_node("retrieve", nodes.retrieve(retriever))
        graph.add_edge("retrieve", "answer")
    graph.add_conditional_edges("receive", after_receive, {"a follow-up": "standalone", "a first question": first})
    graph.add_edge("standalone", first)
    graph.add_edge("answer", "ask")
    graph.add_edge("reply", END)
    return graph
