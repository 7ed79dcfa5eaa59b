"""rerank: keep the best of what was retrieved."""

from typing import Any

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable

from artrag.nodes.calling import unless_signal
from artrag.nodes.node import Run, node
from artrag.state import QAState
from artrag.steps import Call, Steps
from artrag.telling import told


def rerank(reranker: BaseDocumentCompressor | None = None) -> Runnable[Any, Any]:
    """A node that reorders the passages by any LangChain reranker and keeps `Settings.k`; without one it only cuts.

    A reranker that fails leaves the retriever's order, and `decision` says so.

    Reads `question`, `passages`; writes `passages` and, where the reranker failed, `decision`.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        passages = state.get("passages")
        failure = ""
        if passages and reranker is not None:
            call = Call(reranker.compress_documents, reranker.acompress_documents, (passages, state["question"]))
            try:
                ordered = list((yield call))
                if not all(isinstance(one, Document) for one in ordered):
                    raise TypeError(f"the reranker gave {ordered!r:.200} instead of documents")
                passages = ordered
            except Exception as error:  # degrade in the open: the retriever's order is an order, too
                unless_signal(error)
                failure = f"rerank failed: {told(error)}; the retriever's order stands"
        kept = None if passages is None else passages[: run.settings.k]
        run.tell(failure or f"{len(kept or [])} passages kept")
        return {"passages": kept} | ({"decision": failure} if failure else {})

    return node("rerank", body)
