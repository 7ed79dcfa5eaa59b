"""The trained Asker and Truster: a head over the signals of a worked answer, with calibrated probabilities.

They were trained on worked answers, without passages. An answer from passages goes to the evidence-based parts, and one
that looks like nothing they were trained on is said to be out of their depth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from langchain_core.documents import Document

from artrag.errors import PartError
from artrag.evidence import Evidence, examine
from artrag.models.askers import EvidenceAsker, open_points, weigh
from artrag.models.heads import Head
from artrag.models.parts import Kind, Part, probability, raw_score, read_part
from artrag.models.signals import NAMES, VERSION, signals
from artrag.models.trusters import EvidenceTruster
from artrag.protocols import Doubt

WEIGHTS = "head.json"
STRANGE = 0.12
"""Share of signals outside their range in training from which an answer counts as strange."""
NOTHING = "out of its depth: there is no calculation to check"
EMPTY = -20.0
"""Score of an answer without a word: below every other."""


def open_head(folder: Path, kind: Kind) -> tuple[Head, Part]:
    """The head in the folder of a trained part, and its manifest.

    Raises:
        PartError: it is missing, damaged, or belongs to another version.
    """
    part = read_part(folder, kind)
    if part.options.get("signals") != VERSION:
        raise PartError(
            f"the {kind} in {str(folder)!r} was trained on version {part.options.get('signals')!r} of the signals, "
            f"this artrag has {VERSION}: train it again"
        )
    return Head.load(folder / WEIGHTS, NAMES), part


class TrainedTruster:
    """Ranks worked answers by a head trained on right and wrong answers to the same question (ART, Section 3.4).

    It reads the question and the answer alone, so a score does not depend on who wrote the answer or when.
    """

    pointwise = True

    def __init__(self, head: Head, part: Part) -> None:
        self.part = part
        self._head = head
        self._grounded = EvidenceTruster()

    @classmethod
    def load(cls, folder: str | Path) -> "TrainedTruster":
        """Open a trained Truster; raises PartError."""
        return cls(*open_head(Path(folder), "truster"))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The thresholds chosen with these weights, where they are used."""
        return self.part.thresholds if passages is None else {}

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`; one that calculates nothing gets the score that means its evidence."""
        if passages is not None:
            return self._grounded.score(question, answers, passages)
        named = [signals(question, answer) for answer in answers]
        raw = map(float, self._head.raw(self._head.row(named)))
        return [self._one(question, *one) for one in zip(answers, named, raw, strict=True)]

    def _one(self, question: str, answer: str, named: Mapping[str, float], raw: float) -> float:
        if not answer.strip():
            return EMPTY
        if _calculates(named):
            return raw
        return raw_score(self.part.calibration, self._grounded.confidence(question, answer, None))

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`; out of its depth no higher than the evidence allows."""
        evidence = self._grounded.confidence(question, answer, passages)
        named = signals(question, answer) if passages is None else {}
        if not _calculates(named):
            return evidence
        found = probability(self.part.calibration, float(self._head.raw(self._head.row([named]))[0]))
        return min(found, evidence) if _depth(self._head, named) else found

    def out_of_depth(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> str:
        """Why this answer is none that the weights can judge; empty where it is."""
        return "" if passages is not None else _depth(self._head, signals(question, answer))


class TrainedAsker:
    """Doubts a worked answer with the calibrated probability of a head; asks about what the working leaves open."""

    def __init__(self, head: Head, part: Part) -> None:
        self.part = part
        self._head = head
        self._grounded = EvidenceAsker()

    @classmethod
    def load(cls, folder: str | Path) -> "TrainedAsker":
        """Open a trained Asker; raises PartError."""
        return cls(*open_head(Path(folder), "asker"))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The thresholds chosen with these weights, where they are used."""
        return self.part.thresholds if passages is None else {}

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`."""
        named = signals(question, draft) if passages is None else {}
        if not _calculates(named):
            found = self._grounded.ask(question, draft, passages)
            return found if passages is not None else replace(found, reason=f"{found.reason}; the Asker is {NOTHING}")
        seen = examine(question, draft, None)
        doubt = 1 - probability(self.part.calibration, float(self._head.raw(self._head.row([named]))[0]))
        strange = _depth(self._head, named)
        if strange:
            evidence, reason = weigh(seen)
            return Doubt(open_points(question, draft), max(doubt, evidence), f"{reason}; the Asker is {strange}")
        return Doubt(open_points(question, draft), doubt, _reason(doubt, seen))


def _calculates(named: Mapping[str, float]) -> bool:
    """Is there a step or a final number to look at?"""
    return bool(named) and not (named["no_steps"] and named["no_final"])


def _depth(head: Head, named: Mapping[str, float]) -> str:
    if not _calculates(named):
        return NOTHING
    share = float(head.strangeness(head.row([named]))[0])
    return f"out of its depth: {share:.0%} of what it looks at is unlike its training" if share > STRANGE else ""


def _reason(doubt: float, seen: Evidence) -> str:
    _, checked = weigh(seen)
    if seen.wrong or seen.refuses:
        return checked
    verdict = "wrong" if doubt >= 0.5 else "right"
    return f"the working looks like that of {verdict} answers (wrong with probability {doubt:.2f})"
