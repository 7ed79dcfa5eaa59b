"""Asker and Truster as a 22M encoder with trained LoRA weights: it decides, and writes nothing.

ART (Shridhar et al., arXiv 2311.07961), Sections 3.2 and 3.4. The subquestions of this Asker are the evidence's own. A
kind of answer that the weights were not trained on (with passages, or worked without) goes to the evidence-based parts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag.errors import PartError, UnknownModelError
from artrag.evidence import examine
from artrag.models.askers import EvidenceAsker
from artrag.models.encoder_model import VERSION, WINDOW, EncoderModel, calculates, verdicts
from artrag.models.parts import Kind, Part, check_base, probability, read_part
from artrag.models.references import weights_folder
from artrag.models.trained import EMPTY, NOTHING
from artrag.models.trusters import EvidenceTruster
from artrag.models.weights import base_weights
from artrag.protocols import Doubt

CALCULATES = 0.9
"""Share of training answers with a step or a final number from which an answer without either is out of depth."""


class EncoderAsker:
    """Doubts a draft with the calibrated probability of an encoder that it is wrong."""

    def __init__(self, model: EncoderModel, part: Part) -> None:
        self._model, self.part = model, part
        self._evidence = EvidenceAsker()

    @classmethod
    def load(cls, folder: str | Path, *, base: str = "") -> "EncoderAsker":
        """Load a trained part; its LoRA weights are merged into the base model in float32, once.

        Args:
            folder: holds `part.json`, the adapter and the head.
            base: reference of the base model, where it is no longer found under the part's own.

        Raises:
            PartError: no encoder Asker, or one of another base model, format or text.
            MissingExtraError: torch or transformers is not installed.
        """
        return cls(*_opened(Path(folder), "asker", base))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The thresholds chosen with these weights, where they are used."""
        return self.part.thresholds if _knows(self.part, passages) else {}

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`."""
        checked = self._evidence.ask(question, draft, passages)
        if not _knows(self.part, passages) or examine(question, draft, passages).empty:
            return checked
        if not _judges(self.part, draft, passages):
            return replace(checked, reason=f"{checked.reason}; the Asker is {NOTHING}")
        raw = self._model.scores([(question, draft, passages)])[0]
        doubt = 1 - probability(self.part.calibration, raw)
        reason = f"{verdicts(question, draft, passages)}; wrong with probability {doubt:.2f}"
        return Doubt(checked.subquestions, doubt, reason)


class EncoderTruster:
    """Ranks answers by an encoder trained on pairs; it reads one answer at a time, whoever wrote it."""

    pointwise = True

    def __init__(self, model: EncoderModel, part: Part) -> None:
        self._model, self.part = model, part
        self._evidence = EvidenceTruster()

    @classmethod
    def load(cls, folder: str | Path, *, base: str = "") -> "EncoderTruster":
        """Load a trained part; arguments and errors as for `EncoderAsker.load`."""
        return cls(*_opened(Path(folder), "truster", base))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The thresholds chosen with these weights, where they are used."""
        return self.part.thresholds if _knows(self.part, passages) else {}

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`; all answers are read in one go.

        An answer that the weights cannot judge gets the score that means the confidence which the evidence has in it.
        """
        if not _knows(self.part, passages):
            return self._evidence.score(question, answers, passages)
        judged = [answer for answer in answers if _judges(self.part, answer, passages)]
        found = dict(zip(judged, self._model.scores([(question, answer, passages) for answer in judged]), strict=True))
        for answer in set(answers) - set(judged):
            confidence = self._evidence.confidence(question, answer, passages)
            found[answer] = _raw(self.part.calibration, confidence) if answer.strip() else EMPTY
        return [found[answer] for answer in answers]

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`; what the weights cannot judge, the evidence does."""
        if not _judges(self.part, answer, passages):
            return self._evidence.confidence(question, answer, passages)
        return probability(self.part.calibration, self.score(question, [answer], passages)[0])

    def out_of_depth(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> str:
        """Why this answer is none that the weights can judge; empty where it is, or of a kind left to the evidence."""
        return NOTHING if _knows(self.part, passages) and not _judges(self.part, answer, passages) else ""


def _knows(part: Part, passages: Sequence[Document] | None) -> bool:
    """Were the weights trained on answers of this kind?"""
    return bool(part.options.get("worked" if passages is None else "grounded"))


def _judges(part: Part, answer: str, passages: Sequence[Document] | None) -> bool:
    """Is this an answer like those in training? Where they calculated, there must be something to recompute."""
    if not _knows(part, passages):
        return False
    if passages is not None or part.options.get("calculates", 0.0) < CALCULATES:
        return bool(answer.strip())
    return calculates(answer)


def _raw(calibration: Mapping[str, Any], confidence: float) -> float:
    """The score that a Platt calibration turns into this probability."""
    logit = math.log(confidence / (1 - confidence))
    return (logit - float(calibration.get("shift", 0.0))) / (float(calibration.get("scale", 1.0)) or 1.0)


def _opened(folder: Path, kind: Kind, base: str) -> tuple[EncoderModel, Part]:
    part = read_part(folder, kind)
    if part.variant != "encoder":
        raise PartError(f"{str(folder)!r} holds a {kind} of the variant {part.variant!r}: this reads 'encoder' ones")
    if part.options.get("text") != VERSION:
        raise PartError(
            f"the {kind} in {str(folder)!r} reads version {part.options.get('text')!r} of its text, this artrag writes "
            f"{VERSION}: train it again"
        )
    try:
        weights = weights_folder(base or part.base)
    except UnknownModelError as error:
        raise PartError(f"the base model {base or part.base!r} of this {kind} is not there ({error})") from None
    check_base(part, base_weights(weights))
    return EncoderModel.load(weights, folder, window=int(part.options.get("window", WINDOW))), part
