"""Ask, Refine, Trust as middleware of `langchain.agents.create_agent`, for the agent's final answer."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from artrag.answer import Answer
from artrag.graphs.doubt import build_doubt
from artrag.interfaces.wiring import wired_parts
from artrag.protocols import Asker, Truster
from artrag.settings import Settings
from artrag.state import Candidate

MOST_PASSAGES = 8


class ArtMiddleware(AgentMiddleware[Any, Any, Any]):
    """Doubts, refines and judges what an agent says at last; the message keeps its id.

    Its `additional_kwargs` then hold what `artrag.Answer` does: `confidence`, `abstained`, `doubt`, `decision`,
    `sources`, ... The passages that the answer is held against are what the agent's tools brought: the documents of a
    retriever's tool, the sources of `artrag.answer_tool`, else the tool's text. Messages that call tools, and answers
    with a structured response, pass as they are. Where Asker or Truster fail, the answer stays, and `doubt` or
    `decision` say so.

    Args:
        settings: thresholds and rounds, and what is not given live; none: those of the environment.
        chat: refines, and rewrites follow-up questions into standalone ones.
        asker: doubts the answer.
        truster: chooses among the answers.
        retriever: for open subquestions, where the answer stands on passages.
        retrieval_tools: LangChain tools that take a text; a refinement offers them each open subquestion.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        chat: BaseChatModel | None = None,
        asker: Asker | None = None,
        truster: Truster | None = None,
        retriever: Runnable[Any, Any] | None = None,
        retrieval_tools: Sequence[BaseTool] = (),
    ) -> None:
        super().__init__()
        given = {"asker": asker, "truster": truster, "retriever": retriever}
        parts = wired_parts(chat) | {name: part for name, part in given.items() if part is not None}
        self._settings = settings
        self._doubt: Runnable[Any, Any] = build_doubt(**parts, tools=retrieval_tools).compile(name="doubt")

    def after_model(self, state: AgentState[Any], runtime: Any) -> dict[str, Any] | None:
        """Replace the final answer by the one that is trusted."""
        settings = self._settings or Settings()
        given = _given(state, settings)
        if given is None:
            return None
        return _said(state["messages"][-1], self._doubt.invoke(given, context=settings))

    async def aafter_model(self, state: AgentState[Any], runtime: Any) -> dict[str, Any] | None:
        """As `after_model`."""
        settings = self._settings or Settings()
        given = _given(state, settings)
        if given is None:
            return None
        found = await self._doubt.ainvoke(given, context=settings)
        return _said(state["messages"][-1], found)


def _given(state: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    """What there is to doubt; None where the last message is no final answer in words to a person's question."""
    *before, last = state["messages"]
    asked = next((n for n in range(len(before) - 1, -1, -1) if before[n].type == "human"), None)
    if not isinstance(last, AIMessage) or last.tool_calls or last.invalid_tool_calls or asked is None:
        return None
    question, draft = str(before[asked].text).strip(), str(last.text).strip()
    if not question or not draft or state.get("structured_response") is not None:
        return None
    return {
        "messages": before[: asked + 1],
        "question": question,
        "follow_up": any(message.type in ("human", "ai") for message in before[:asked]),
        "draft": draft,
        "candidates": [Candidate(stage="initial", text=draft)],
        "passages": _passages(before[asked + 1 :]) or _passages(before[:asked]) or None,
        "rounds": 0,
        "due": time.time() + settings.deadline if settings.deadline else 0.0,
    }


def _passages(messages: Sequence[BaseMessage]) -> list[Document]:
    """What tools brought, latest first, each passage once."""
    found: dict[str, Document] = {}
    for message in reversed(messages):
        if isinstance(message, ToolMessage) and message.status != "error":
            for passage in _brought(message):
                found.setdefault(passage.page_content, passage)
    return list(found.values())[:MOST_PASSAGES]


def _brought(message: ToolMessage) -> list[Document]:
    artifact = message.artifact
    if isinstance(artifact, Mapping) and set(artifact) == set(Answer.__match_args__):  # of `answer_tool`
        return [
            Document(source["text"], id=source["passage"], metadata={**source, "id": source["passage"]})
            for source in artifact["sources"]
        ]
    if isinstance(artifact, list | tuple) and artifact and all(isinstance(part, Document) for part in artifact):
        return list(artifact)
    text = str(message.text).strip()
    about = {"id": message.tool_call_id, "document": message.name or "tool"}
    return [Document(text, id=message.tool_call_id, metadata=about)] if text else []


def _said(last: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """The message with the trusted answer in the place of its text."""
    answer = Answer.of(found)
    content: Any = answer.answer
    if isinstance(last.content, list):
        others = [block for block in last.content if not isinstance(block, str) and block.get("type") != "text"]
        content = [*others, {"type": "text", "text": answer.answer}]
    about = {**last.additional_kwargs, **answer.about()}
    return {"messages": [last.model_copy(update={"content": content, "additional_kwargs": about})]}
