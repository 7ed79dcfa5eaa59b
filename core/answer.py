"""What a run comes to, for those who do not read the graph's state: one small value, and its form as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from artrag.state import Citation, Source


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it stands on.

    Attributes:
        question: as it was answered; a follow-up question is a standalone one here.
        answer: its `[n]` are the numbers of the sources, or the words of the abstention.
        confidence: the probability that it is right, 0 to 1; None where nobody was asked to trust it.
        abstained: no answer was trusted enough.
        doubt: why the draft was doubted, or not.
        decision: which answer was chosen, and why.
        refined: the draft was doubted and rewritten.
        sources: the cited passages, by number.
        citations: which sentence stands on which source.
    """

    question: str
    answer: str
    confidence: float | None
    abstained: bool
    doubt: str
    decision: str
    refined: bool
    sources: list[Source]
    citations: list[Citation]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Answer":
        """The answer that a question-answering graph ended with."""
        citations = state.get("citations") or []
        return cls(
            question=state["question"],
            answer=state["answer"],
            confidence=state.get("confidence") if state.get("stop_reason") else None,
            abstained=bool(state.get("abstained")),
            doubt=state.get("refine_reason") or "",
            decision=state.get("decision") or "",
            refined=bool(state.get("rounds")),
            sources=_sources(state.get("passages") or [], citations),
            citations=citations,
        )

    def about(self) -> dict[str, Any]:
        """Everything but the answer itself, as plain data."""
        return {name: value for name, value in asdict(self).items() if name != "answer"}


def _sources(passages: Any, citations: list[Citation]) -> list[Source]:
    places = {citation["n"]: citation for citation in citations}
    return [
        Source(
            n=n,
            passage=cited["passage"],
            document=cited["document"],
            start=cited["start"],
            end=cited["end"],
            text=passages[n - 1].page_content,
        )
        for n, cited in sorted(places.items())
    ]
