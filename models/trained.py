"""The trained Asker and Truster: a head over the signals of a worked answer, with calibrated probabilities.

Where they were trained with a step reader, a share of its reading is added; without torch they do without it. They were
trained on worked answers, without passages. An answer from passages goes to the evidence-based Asker and to the
Truster that reads its source; one that looks like nothing they were trained on is said to be out of their depth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from langchain_core.documents import Document

from artrag.errors import MissingExtraError, ModelUnavailableError, PartError
from artrag.evidence import Evidence, examine
from artrag.models.askers import EvidenceAsker, open_points, weigh
from artrag.models.heads import Head
from artrag.models.opening import reader_folder
from artrag.models.parts import Kind, Part, probability, raw_score, read_part
from artrag.models.signals import NAMES, VERSION, signals
from artrag.models.step_reader import open_reader
from artrag.models.verified import VerifiedTruster
from artrag.protocols import Doubt

WEIGHTS = "head.json"
STRANGE = 0.12
"""Share of signals outside their range in training from which an answer counts as strange."""
NOTHING = "out of its depth: there is no calculation to check"
EMPTY = -20.0
"""Score of an answer without a word: below every other."""


class Scores:
    """The raw scores of a part: those of its head and, where it was trained with one, a share of a step reader's.

    The reader is opened when it is first needed; `unread` says why it cannot be, empty where it can.
    """

    def __init__(self, head: Head, reader: Path | None = None, sha256: str = "", weight: float = 0.0) -> None:
        self.head, self.weight = head, weight
        self._reader, self._sha256 = reader, sha256
        self.unread = ""

    def of(self, question: str, answers: Sequence[str]) -> list[tuple[dict[str, float], float]]:
        """The signals and the score of each answer to a question; one that calculates nothing is not read.

        Raises:
            PartError: the reader is damaged, or not the one that the part was trained with.
        """
        named = [signals(question, answer) for answer in answers]
        raw = self.head.raw(self.head.row(named)).tolist()
        steps = [n for n, each in enumerate(named) if _calculates(each)]
        if self._reader is not None and steps and not self.unread:
            try:
                read = open_reader(self._reader, self._sha256).read(question, [answers[n] for n in steps])
            except (MissingExtraError, ModelUnavailableError) as error:
                self.unread = f"without its step reader: {error}"
            else:
                for n, reading in zip(steps, read.tolist(), strict=True):
                    raw[n] += self.weight * reading
        return list(zip(named, raw, strict=True))


def open_scores(folder: Path, kind: Kind) -> tuple[Scores, Part]:
    """What scores answers in the folder of a trained part, and its manifest.

    Raises:
        PartError: it is missing, damaged, or belongs to another version.
    """
    part = read_part(folder, kind)
    if part.options.get("signals") != VERSION:
        raise PartError(
            f"the {kind} in {str(folder)!r} was trained on version {part.options.get('signals')!r} of the signals, "
            f"this artrag has {VERSION}: train it again"
        )
    head, reader = Head.load(folder / WEIGHTS, NAMES), part.options.get("reader")
    if not reader:
        return Scores(head), part
    return Scores(head, reader_folder(reader["folder"], folder), reader["sha256"], reader["weight"]), part


class TrainedTruster:
    """Ranks worked answers by a head trained on right and wrong answers to the same question (ART, Section 3.4).

    It reads the question and the answer alone, so a score does not depend on who wrote the answer or when.
    """

    pointwise = True

    def __init__(self, scores: Scores, part: Part) -> None:
        self.part = part
        self.scores = scores
        self._grounded = VerifiedTruster()

    @classmethod
    def load(cls, folder: str | Path) -> "TrainedTruster":
        """Open a trained Truster; raises PartError."""
        return cls(*open_scores(Path(folder), "truster"))

    @property
    def unread(self) -> str:
        """Which of its readers cannot be asked, and why; empty where all can."""
        return self._grounded.unread or self.scores.unread

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The thresholds chosen with these weights, or for answers from passages."""
        return self.part.thresholds if passages is None else self._grounded.limits(passages)

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`; one that calculates nothing gets the score that means its evidence."""
        if passages is not None:
            return self._grounded.score(question, answers, passages)
        found = self.scores.of(question, answers)
        return [self._one(question, answer, *one) for answer, one in zip(answers, found, strict=True)]

    def _one(self, question: str, answer: str, named: Mapping[str, float], raw: float) -> float:
        if not answer.strip():
            return EMPTY
        if _calculates(named):
            return raw
        return raw_score(self.part.calibration, self._grounded.confidence(question, answer, None))

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`; out of its depth no higher than the evidence allows."""
        evidence = self._grounded.confidence(question, answer, passages)
        if passages is not None:
            return evidence
        ((named, raw),) = self.scores.of(question, [answer])
        if not _calculates(named):
            return evidence
        found = probability(self.part.calibration, raw)
        return min(found, evidence) if _depth(self.scores.head, named) else found

    def out_of_depth(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> str:
        """Why this answer is none that the weights can judge; empty where it is."""
        return "" if passages is not None else _depth(self.scores.head, signals(question, answer))


class TrainedAsker:
    """Doubts a worked answer with the calibrated probability of a head; asks about what the working leaves open."""

    def __init__(self, scores: Scores, part: Part) -> None:
        self.part = part
        self.scores = scores
        self._grounded = EvidenceAsker()

    @classmethod
    def load(cls, folder: str | Path) -> "TrainedAsker":
        """Open a trained Asker; raises PartError."""
        return cls(*open_scores(Path(folder), "asker"))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The thresholds chosen with these weights, where they are used."""
        return self.part.thresholds if passages is None else {}

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`."""
        if passages is not None:
            return self._grounded.ask(question, draft, passages)
        ((named, raw),) = self.scores.of(question, [draft])
        if not _calculates(named):
            found = self._grounded.ask(question, draft, None)
            return replace(found, reason=f"{found.reason}; the Asker is {NOTHING}")
        seen = examine(question, draft, None)
        doubt = 1 - probability(self.part.calibration, raw)
        strange = _depth(self.scores.head, named)
        if strange:
            evidence, reason = weigh(seen)
            return Doubt(open_points(question, draft), max(doubt, evidence), f"{reason}; the Asker is {strange}")
        reason = "; the Asker is ".join(filter(None, (_reason(doubt, seen), self.scores.unread)))
        return Doubt(open_points(question, draft), doubt, reason)


def _calculates(named: Mapping[str, float]) -> bool:
    """Is there a step or a final number to look at?"""
    return not (named["no_steps"] and named["no_final"])


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
