"""A Truster of answers from passages that reads: the evidence, and whether its passage answers the question at all."""

from collections.abc import Mapping, Sequence

from langchain_core.documents import Document

from artrag.errors import MissingExtraError, ModelUnavailableError
from artrag.evidence import examine
from artrag.models.trusters import EvidenceTruster, logistic
from artrag.models.verifier import Verifier, open_verifier


class VerifiedTruster(EvidenceTruster):
    """`EvidenceTruster`, and for answers from passages a verifier; without its model the evidence alone decides.

    Args:
        verifier: a live one; None: the shipped one, opened when it is first needed.
    """

    # Logistic weights: (constant, support, on topic, the verifier's logit). Fitted to what the embedded model answered
    # to 320 questions, with and without an answer, about four articles that the verifier did not learn from, and to the
    # thirty development questions of examples/, which count six times.
    read = (-2.4, 1.25, 1.0, 0.35)

    floor = 0.3
    """Confidence below which it is better to abstain, chosen on the same answers."""

    def __init__(self, verifier: Verifier | None = None) -> None:
        self._verifier = verifier
        self.unread = ""
        """Why the verifier cannot be asked; empty where it can."""

    @property
    def about(self) -> str:
        """Tells it from others."""
        return f"verified by {self._verifier.about}" if self._verifier else "verified"

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The threshold chosen for what it reads; none where the evidence alone decides."""
        return {"abstain_below": self.floor} if passages and not self.unread else {}

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`."""
        evidence = super().confidence(question, answer, passages)
        seen = examine(question, answer, passages)
        if not passages or seen.refuses or seen.empty or seen.wrong or self.unread:
            return evidence
        try:
            verifier = self._verifier or open_verifier()
        except (MissingExtraError, ModelUnavailableError) as error:
            self.unread = f"without its verifier: {error}"
            return evidence
        answers = max(verifier.logit(question, passages[n]) for n in seen.used) if seen.used else 0.0
        return logistic(self.read, (1.0, seen.support, seen.on_topic, answers))
