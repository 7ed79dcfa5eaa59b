"""The index as a LangChain retriever and as a graph's retriever."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from artrag.index.passage import Passage


@runtime_checkable
class Searchable(Protocol):
    """What the retriever asks of an index: `Index` and `QdrantIndex` have it."""

    def search(
        self,
        question: str,
        k: int = 10,
        *,
        arms: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Passage]:
        """The best `k` passages for a question, best first."""
        ...


class IndexRetriever(BaseRetriever):
    """Searches an index; id, document, context, score, offsets and each arm's view are metadata."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Searchable
    k: int = 20
    arms: tuple[str, ...] | None = None
    where: dict[str, Any] | None = None
    """A filter on metadata (`artrag.index.filters`)."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        found = self.index.search(query, kwargs.get("k", self.k), arms=self.arms, where=self.where)
        return [passage.to_document() for passage in found]
