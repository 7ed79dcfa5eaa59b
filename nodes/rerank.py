"""rerank: keep the best of what was retrieved."""

from typing import Any

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.runnables import Runnable

from artrag.nodes.node import Run, node
from artrag.state import QAState
from artrag.steps import Call, Steps


def rerank(reranker: BaseDocumentCompressor | None = None) -> Runnable[Any, Any]:
    """A node that reorders the passages by any LangChain reranker and keeps `Settings.k`; without one it only cuts.

    Reads `question`, `passages`; writes `passages`.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        passages = state.get("passages")
        if passages and reranker is not None:
            call = Call(reranker.compress_documents, reranker.acompress_documents, (passages, state["question"]))
            passages = list((yield call))
        kept = None if passages is None else passages[: run.settings.k]
        run.tell(f"{len(kept or [])} passages kept")
        return {"passages": kept}

    return node("rerank", body)
