"""A retriever as a LangChain tool: the agent reads text, the app keeps the passages."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool

from artrag.passages import numbered


def search_tool(
    retriever: Runnable[Any, Any],
    *,
    k: int = 4,
    name: str = "search_documents",
    description: str = "Search the documents for passages that answer a question.",
) -> BaseTool:
    """A tool over any LangChain retriever; its artifact is the list of passages."""

    def search(question: str) -> tuple[str, list[Document]]:
        return shown(retriever.invoke(question))

    async def asearch(question: str) -> tuple[str, list[Document]]:
        return shown(await retriever.ainvoke(question))

    def shown(found: list[Document] | None) -> tuple[str, list[Document]]:
        passages = (found or [])[:k]
        return numbered(passages, best_last=False) or "Nothing was found.", passages

    return StructuredTool.from_function(
        search, asearch, name=name, description=description, response_format="content_and_artifact"
    )
