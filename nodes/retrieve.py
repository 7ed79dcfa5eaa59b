"""retrieve: find passages for the question."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag.errors import ArtragError, RetrievalError
from artrag.nodes.calling import again, unless_signal
from artrag.nodes.node import Run, node
from artrag.state import QAState
from artrag.steps import Steps, invoke
from artrag.telling import told

Retriever = Runnable[str, list[Document] | None]
"""Any LangChain retriever. None instead of a list means that there is nothing to search: the model reasons alone."""


def retrieve(retriever: Runnable[Any, Any], *, for_reranking: bool = False) -> Runnable[Any, Any]:
    """A node that retrieves `Settings.k` passages, or `Settings.fetch_k` where a reranker follows.

    Reads `question`; writes `passages` (None where the retriever has nothing to search).

    Raises:
        RetrievalError: the retriever failed, `Settings.retries` times over, or gave what are no passages.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        found = yield from _found(retriever, state["question"], run)
        if found is None:
            run.tell("no index: reasoning without passages")
            return {"passages": None}
        passages = found[: run.settings.fetch_k if for_reranking else run.settings.k]
        run.tell(f"{len(passages)} passages", passages=[passage.metadata.get("id") for passage in passages])
        return {"passages": passages}

    return node("retrieve", body)


def _found(retriever: Runnable[Any, Any], question: str, run: Run) -> Steps[list[Document] | None]:
    fault = ""
    for attempt in range(run.settings.retries + 1):
        if attempt:
            yield again(fault, attempt, run)
        try:
            return passages_of((yield invoke(retriever, question)))
        except ArtragError:
            raise
        except Exception as error:  # every store has classes of its own
            unless_signal(error)
            fault = told(error, 200)
    tries = f", {run.settings.retries + 1} times over" if run.settings.retries else ""
    raise RetrievalError(f"the retriever failed{tries} ({fault}): check that what it searches is there") from None


def passages_of(found: Any) -> list[Document] | None:
    """What a retriever gave, where it is passages, or None.

    Raises:
        RetrievalError: it is something else.
    """
    if found is None or (isinstance(found, list) and all(isinstance(one, Document) for one in found)):
        return found
    raise RetrievalError(f"the retriever gave {found!r:.200} instead of a list of documents: mend it")
