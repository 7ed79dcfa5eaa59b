"""A retrieved chunk."""

from dataclasses import dataclass, field
from typing import Any

from langchain_core.documents import Document


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with its context, its place in its document, and what each arm thought of it.

    Attributes:
        id: `<document id>#<n>`.
        document: id of the document, for a file its path below the ingested folder.
        text: the chunk as it stands in the document.
        context: what situates it there; indexed with it, and kept apart from it.
        score: the fused score; comparable within one search only.
        start: offset of the text in the document's text, in characters; `end` likewise.
        arms: for each arm that found it its rank (from 1) and score.
        metadata: title, section, page, and what the document brought along.
    """

    id: str
    document: str
    text: str
    context: str = ""
    score: float = 0.0
    start: int = 0
    end: int = 0
    arms: dict[str, dict[str, float]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_document(self) -> Document:
        """LangChain's form; everything but the text goes into the metadata."""
        about = self.metadata | {
            "id": self.id,
            "document": self.document,
            "context": self.context,
            "score": self.score,
            "start": self.start,
            "end": self.end,
            "arms": self.arms,
        }
        return Document(self.text, id=self.id, metadata=about)
