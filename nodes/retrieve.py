"""retrieve: find passages for the question."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag.nodes.node import Run, node
from artrag.state import QAState
from artrag.steps import Steps, invoke

Retriever = Runnable[str, list[Document] | None]
"""Any LangChain retriever. None instead of a list means that there is nothing to search: the model reasons alone."""


def retrieve(retriever: Runnable[Any, Any], *, for_reranking: bool = False) -> Runnable[Any, Any]:
    """A node that retrieves `Settings.k` passages, or `Settings.fetch_k` where a reranker follows.

    Reads `question`; writes `passages` (None where the retriever has nothing to search).
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        found = yield invoke(retriever, state["question"])
        if found is None:
            run.tell("no index: reasoning without passages")
            return {"passages": None}
        passages = found[: run.settings.fetch_k if for_reranking else run.settings.k]
        run.tell(f"{len(passages)} passages", passages=[passage.metadata.get("id") for passage in passages])
        return {"passages": passages}

    return node("retrieve", body)
