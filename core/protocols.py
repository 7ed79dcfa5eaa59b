"""What the nodes ask of the live objects that come in by the graph factories.

Chat models, retrievers, rerankers and embedders are LangChain's own interfaces; these are ours. An embedder that is a
`TokenEmbedder`, too, serves late interaction. Asker and Truster may have
`limits(passages) -> Mapping[str, float]`, the thresholds chosen with its weights ("refine_above" of an Asker,
"trust_margin" and "abstain_below" of a Truster), and a Truster `out_of_depth(question, answer, passages) -> str`, why
it cannot judge an answer; with an `a` in front they are awaited.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
class TokenEmbedder(Protocol):
    """An embedder that also tells the vectors of a text's tokens, which late interaction compares."""

    def encode_tokens(self, texts: list[str]) -> "tuple[NDArray[np.float32], list[NDArray[np.float32]]]":
        """Unit vectors (texts, dimension), and for each text those of its content tokens (tokens, dimension)."""
        ...


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


Adds = Literal["prompt", "retrieval", "doubt", "tuning", "routing"]
"""What a rung of the ladder has that the one below has not."""


@dataclass(frozen=True, slots=True)
class System:
    """A way to answer questions, to be measured beside others.

    Attributes:
        name: its own.
        answers: a runnable, such as a compiled graph, from `{"question": ...}` to a state that has `answer`; what it
            has of `passages` and `confidence`, `abstained` and `decision` is measured, too.
        over: name of the rung below, that it is compared with; empty for the first.
        adds: what it has and that one has not.
        about: tells it from others of this name: models, prompts, settings, index. Answers are known again by it.
        context: settings of the graph.
    """

    name: str
    answers: Runnable[Any, Any]
    over: str = ""
    adds: Adds | None = None
    about: str = ""
    context: Any = None
