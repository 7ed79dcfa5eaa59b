"""Policies that choose among recorded answers: what the graph does, and what it is to be compared with."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

from artrag.choice import pick
from artrag.evaluation.predictions import Prediction, RecordedAnswer

Name = Literal["initial", "refine-all", "ask-only", "trust-only", "ask+trust", "majority", "weighted-vote", "oracle"]


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A recorded question with what Asker and Truster think of its answers.

    Attributes:
        row: the prediction.
        answers: its answers in the order in which the graph sees them, the draft first.
        question: what tells its question from others; several rows may share it.
        doubt: the Asker's probability that the draft is wrong.
        scores: the Truster's score of each answer.
        confidences: the Truster's probability that each answer is right.
        part: the file it comes from.
    """

    row: Prediction
    answers: tuple[RecordedAnswer, ...]
    question: Hashable
    doubt: float
    scores: tuple[float, ...]
    confidences: tuple[float, ...]
    part: str = ""

    @property
    def correct(self) -> tuple[bool, ...]:
        """The label of each answer."""
        return tuple(answer.correct is True for answer in self.answers)

    @property
    def latest(self) -> int:
        """The last refined answer; the draft where none was recorded."""
        return max((n for n, answer in enumerate(self.answers) if answer.stage == "refined"), default=0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer a policy takes, by its place, and whether the draft was refined for it."""

    index: int
    refined: bool


Policy = Callable[[ScoredRow], Choice]


def policies(refine_above: float, trust_margin: float) -> dict[Name, Policy]:
    """Every deterministic policy.

    - initial: the draft.
    - refine-all: the latest refined answer, always (the paper's "most recent").
    - ask-only: the latest refined answer where the Asker's doubt reaches `refine_above`, else the draft.
    - trust-only: always refine; the Truster picks among all answers, by `trust_margin`.
    - ask+trust: the graph `art`: where the doubt reaches `refine_above` as trust-only, else the draft.
    - majority: the final answer that most of the recorded answers give; the earliest of equals.
    - weighted-vote: each answer votes with the Truster's confidence; of equals and within the winners the best scored.
    - oracle: a right answer where there is one.
    """

    def doubted(row: ScoredRow) -> bool:
        return row.doubt >= refine_above

    def trusted(row: ScoredRow) -> Choice:
        return Choice(pick(row.scores, trust_margin), True)

    return {
        "initial": lambda _: Choice(0, False),
        "refine-all": lambda row: Choice(row.latest, True),
        "ask-only": lambda row: Choice(row.latest, True) if doubted(row) else Choice(0, False),
        "trust-only": trusted,
        "ask+trust": lambda row: trusted(row) if doubted(row) else Choice(0, False),
        "majority": lambda row: Choice(_majority(row), True),
        "weighted-vote": lambda row: Choice(_weighted(row), True),
        "oracle": lambda row: Choice(row.correct.index(True) if any(row.correct) else 0, True),
    }


def _majority(row: ScoredRow) -> int:
    ballots = _ballots(row)
    return min(ballots.values(), key=lambda places: (-len(places), places[0]))[0] if ballots else 0


def _weighted(row: ScoredRow) -> int:
    ballots = _ballots(row)
    if not ballots:
        return max(range(len(row.scores)), key=lambda n: (row.scores[n], -n))

    def best(places: list[int]) -> int:
        return max(places, key=lambda n: (row.scores[n], -n))

    winner = max(
        ballots.values(),
        key=lambda places: (sum(row.confidences[n] for n in places), row.scores[best(places)], -places[0]),
    )
    return best(winner)


def _ballots(row: ScoredRow) -> dict[Hashable, list[int]]:
    """Final answer -> places of the answers that give it; an answer without one does not vote."""
    ballots: dict[Hashable, list[int]] = {}
    for place, answer in enumerate(row.answers):
        if answer.predicted is not None and str(answer.predicted).strip():
            ballots.setdefault(_value(answer.predicted), []).append(place)
    return ballots


def _value(predicted: str | float) -> Hashable:
    """60, 60.0 and "60" are one final answer; words count without case and outer blanks."""
    try:
        number = float(str(predicted).replace(",", ""))
    except ValueError:
        return str(predicted).strip().casefold()
    return number if number == number else str(predicted)
