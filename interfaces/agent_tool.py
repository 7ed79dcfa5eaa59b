"""A question-answering graph as a tool of an agent: the agent reads text, the app keeps confidence and sources."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import Field

from artrag.answer import Answer
from artrag.errors import DeadlineError, ModelCallError, QuestionError, RetrievalError
from artrag.interfaces.wiring import wired_art
from artrag.settings import Settings

Question = Annotated[str, Field(description="A whole question, understandable without the conversation.")]

_OF_THE_CALL = (QuestionError, ModelCallError, RetrievalError, DeadlineError)


def answer_tool(
    graph: Runnable[Any, Any] | None = None,
    *,
    settings: Settings | None = None,
    name: str = "ask_documents",
    description: str = "Answers a question from the documents, with the passages it stands on and how sure it is.",
) -> BaseTool:
    """A tool that answers a question; its artifact is `artrag.Answer` as plain data, also in checkpoints.

    A blank question, a model or retriever that fails, and a deadline come back to the agent as an error it can act on;
    what only the developer can mend (a wrong setting, a missing index) is raised.

    Args:
        graph: a compiled `art`, `contextual_rag` or `routed`; none: `art` on what the settings name.
        settings: of every call; none: those of the environment. The agent's own context is never read as settings.
        name: as the agent calls it.
        description: by which the agent decides when to.
    """
    answering = graph or wired_art().compile(name="art")

    def ask(question: Question) -> tuple[str, dict[str, Any]]:
        try:
            return _shown(answering.invoke({"question": question}, context=settings or Settings()))
        except _OF_THE_CALL as error:
            raise ToolException(str(error)) from error

    async def aask(question: Question) -> tuple[str, dict[str, Any]]:
        try:
            return _shown(await answering.ainvoke({"question": question}, context=settings or Settings()))
        except _OF_THE_CALL as error:
            raise ToolException(str(error)) from error

    return StructuredTool.from_function(
        ask,
        aask,
        name=name,
        description=description,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def _shown(state: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    answer = Answer.of(state)
    lines = [answer.answer, *(f"[{source['n']}] {source['document']}" for source in answer.sources)]
    if answer.confidence is not None:
        lines.append(f"Confidence: {answer.confidence:.2f}")
    return "\n".join(lines), asdict(answer)
