"""A Truster of answers from passages that reads: the evidence, and whether what bears it out answers the question."""

from collections.abc import Mapping, Sequence

from langchain_core.documents import Document

from artrag.errors import MissingExtraError, ModelUnavailableError
from artrag.evidence import coverage, examine, is_verdict, supports
from artrag.models.trusters import EvidenceTruster, logistic
from artrag.models.verifier import Verifier, open_verifier
from artrag.text import sentences


class VerifiedTruster(EvidenceTruster):
    """`EvidenceTruster`, and for answers from passages a verifier; without its model the evidence alone decides.

    The verifier reads the sentence that the answer was taken from, not its passage: that may well answer the question
    in another sentence, or seem to. A bare "yes" is taken from none: it counts what its question is on topic.

    Args:
        verifier: a live one; None: the shipped one, opened when it is first needed.
    """

    # Logistic weights: (constant, support, on topic, the verifier's logit). Fitted to what the embedded model answered
    # to 320 questions, with and without an answer, about four articles that the verifier did not learn from, and to the
    # thirty development questions of examples/, which count six times.
    read = (-2.8, 1.55, 1.5, 0.5)

    # Of a bare "yes", "no" or "maybe": (constant, on topic). Fitted to 200 train questions of PubMedQA about its
    # abstracts and about others, that do not answer them; the constant keeps nine in ten of the first above the floor.
    bare = (-3.5, 5.5)

    floor = 0.25
    """Confidence below which it is better to abstain, chosen on the same answers."""

    def __init__(self, verifier: Verifier | None = None) -> None:
        self._verifier = verifier
        self.unread = ""
        """Why the verifier cannot be asked; empty where it can."""

    @property
    def about(self) -> str:
        """Tells it from others."""
        by = f" by {self._verifier.about}" if self._verifier else ""
        return f"verified {self.read} {self.bare}{by}"

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The threshold chosen for what it reads; none where the evidence alone decides."""
        return {"abstain_below": self.floor} if passages and not self.unread else {}

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`."""
        evidence = super().confidence(question, answer, passages)
        seen = examine(question, answer, passages)
        if not passages or self.unread or seen.refuses or seen.empty or seen.wrong:
            return evidence
        if is_verdict(answer):
            return logistic(self.bare, (1.0, seen.on_topic))
        try:
            verifier = self._verifier or open_verifier()
        except (MissingExtraError, ModelUnavailableError) as error:
            self.unread = f"without its verifier: {error}"
            return evidence
        answers = [verifier.logit(question, one) for one in bearing(question, answer, passages)]
        return logistic(self.read, (1.0, seen.support, seen.on_topic, max(answers, default=0.0)))


def bearing(question: str, answer: str, passages: Sequence[Document]) -> list[Document]:
    """What bears an answer out: of the best passage for each of its sentences the one that covers it best.

    Of equal ones it is the one that speaks most of the question. Each keeps its passage's metadata.
    """
    found = []
    for one in supports(answer, passages):
        if one.passage is None:
            continue
        passage = passages[one.passage]

        def fit(text: str, said: str = one.sentence) -> tuple[float, float]:
            return coverage(said, text), coverage(question, text)

        text = max(sentences(passage.page_content), key=fit, default=passage.page_content)
        found.append(passage.model_copy(update={"page_content": text}))
    return found
