"""Trusters that need no training: checks of the evidence, and the chat model as a judge.

ART (Shridhar et al., arXiv 2311.07961), Section 3.4; the trained kind learns from pairs of answers.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.evidence import examine
from artrag.models.opening import open_trained
from artrag.passages import numbered
from artrag.protocols import Truster
from artrag.steps import Steps, awaitable, blocking, invoke, method

_GRADE = re.compile(r"\d{1,3}")


def load_truster(kind: str | Path | Truster = "trained", *, chat: Any = None) -> Truster:
    """The Truster that a name or a folder stands for; a live one is handed back.

    Args:
        kind: "trained" for the shipped one, "evidence", "prompted" (needs `chat`), or the folder of a trained part.
        chat: the chat model that judges for a prompted Truster.

    Raises:
        UnknownModelError: there is no such Truster.
        PartError: the folder holds no trained Truster, or one of another version or base model.
    """
    if not isinstance(kind, str | Path):
        return kind
    if kind == "evidence":
        return EvidenceTruster()
    if kind == "prompted" and chat is not None:
        return PromptedTruster(chat)
    opened: Truster = open_trained("truster", kind)
    return opened


def logistic(weights: Sequence[float], features: Sequence[float]) -> float:
    """The probability that a logistic regression gives these features."""
    return 1 / (1 + math.exp(-sum(w * x for w, x in zip(weights, features, strict=True))))


class EvidenceTruster:
    """Ranks answers by what can be checked about them; the score lies between 0 and 1."""

    pointwise = True

    # Logistic weights: (constant, support, on topic, numbers found, wrong equation, right equation, refusal, empty).
    # Their scale was fitted to the embedded model's answers to the thirty development questions of examples/.
    grounded = (-9.9, 4.5, 3.6, 2.7, -5.4, 0.9, -7.2, -10.8)
    reasoned = (-0.5, 0.0, 0.0, 0.0, -2.0, 0.7, -4.0, -6.0)

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`."""
        return [self.confidence(question, answer, passages) for answer in answers]

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`."""
        seen = examine(question, answer, passages)
        features = (
            1.0,
            seen.support,
            seen.on_topic,
            seen.numbers_found,
            float(bool(seen.wrong)),
            float(seen.equations > len(seen.wrong)),
            float(seen.refuses),
            float(seen.empty),
        )
        weights = self.reasoned if passages is None else self.grounded
        return logistic(weights, features)


class PromptedTruster:
    """The chat model grades each answer from 0 to 100 (`prompts/trust.md`); one that cannot be read counts as 50."""

    pointwise = True

    def __init__(self, chat: Runnable[Any, Any]) -> None:
        self._chat = chat

    def _score(
        self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None
    ) -> Steps[list[float]]:
        prompt = yield method(prompts, "load", "trust")
        replies = yield [
            invoke(self._chat, prompt.format_messages(passages=numbered(passages), question=question, answer=answer))
            for answer in answers
        ]
        return [read_grade(reply.text) for reply in replies]

    def _confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> Steps[float]:
        scores = yield from self._score(question, [answer], passages)
        return scores[0]

    score = blocking(_score)
    ascore = awaitable(_score)
    confidence = blocking(_confidence)
    aconfidence = awaitable(_confidence)


def read_grade(text: str) -> float:
    """The first whole number of a judge's reply as a share of 100; 0.5 where there is none."""
    found = _GRADE.search(text)
    return min(int(found[0]), 100) / 100 if found else 0.5
