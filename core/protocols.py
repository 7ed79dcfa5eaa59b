"""What the nodes ask of the live objects that come in by the graph factories.

Chat models, retrievers, rerankers and embedders are LangChain's own interfaces; these two are ours. Either may have
`limits(passages) -> Mapping[str, float]`, the thresholds chosen with its weights ("refine_above" of an Asker,
"trust_margin" and "abstain_below" of a Truster), and a Truster `out_of_depth(question, answer, passages) -> str`, why
it cannot judge an answer; with an `a` in front they are awaited.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from langchain_core.documents import Document


@dataclass(frozen=True, slots=True)
class Subquestion:
    """A question whose answer the draft should hold, and whether it does."""

    text: str
    answered: bool


@dataclass(frozen=True, slots=True)
class Doubt:
    """What an Asker thinks of a draft.

    `refine_probability` is its probability, 0 to 1, that the draft is wrong and worth refining; `reason` says why.
    """

    subquestions: list[Subquestion]
    refine_probability: float
    reason: str


@runtime_checkable
class Asker(Protocol):
    """Doubts drafts (ART, Section 3.2). An `aask` of the same signature is awaited where there is one."""

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """Ask what the draft must answer, and whether it should be refined."""
        ...


@runtime_checkable
class Truster(Protocol):
    """Ranks answers to one question (ART, Section 3.4). `ascore`, `aconfidence` are awaited where they exist."""

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """One score for each answer; higher is better; comparable within the question only."""
        ...

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """The probability, 0 to 1, that the answer is right."""
        ...
