"""The index as a LangChain retriever and as a graph's retriever."""

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from artrag.index.store import ARMS, Index


class IndexRetriever(BaseRetriever):
    """Searches an `Index`; id, document, context, score, offsets and each arm's view are metadata."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Index
    k: int = 20
    arms: tuple[str, ...] = ARMS

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        found = self.index.search(query, kwargs.get("k", self.k), arms=self.arms)
        return [passage.to_document() for passage in found]
