"""The report of benchmarks/live_art.py: every policy on the same test answers, what each costs, and the ablations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policy_table import Outcome, Table, at_random, outcome
from word_problems import fault

from artrag.evaluation.calibration import auc
from artrag.evaluation.policies import ScoredRow, policies
from artrag.evaluation.predictions import Prediction, normal_question
from artrag.evaluation.replay import choose_settings, replay_scored
from artrag.evaluation.scoring import Scored, score_rows
from artrag.evaluation.thresholds import choose_threshold
from artrag.protocols import Asker, Truster
from artrag.training.choosing import TOLERANCE

DRAFT, REFINED, BARE, SAMPLES = 0, 1, 2, 3
"""Places of a row's answers: the draft, it refined with and without subquestions, and from there on the samples."""
BARELY = "without subquestions"
LOWEST = 0.1
"""A solver that is right less often has nothing to refine."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """Self-refine's own doubts: the probability of each draft that it must be refined, and the tokens read for it."""

    dev: list[float]
    test: list[float]
    tokens: list[int]


def cut(rows: Sequence[Prediction], places: Sequence[int]) -> list[Prediction]:
    """The rows with the answers at these places alone."""
    return [replace(row, candidates=tuple(row.candidates[place] for place in places)) for row in rows]


def right(rows: Sequence[Prediction], place: int) -> NDArray[np.float64]:
    """Is the answer at this place right (n,)?"""
    return np.array([bool(row.candidates[place].correct) for row in rows], dtype=np.float64)


def spent(rows: Sequence[Prediction], *places: int) -> NDArray[np.float64]:
    """Tokens read and written for the answers at these places (n,)."""
    return np.array([sum(sum(row.metadata["tokens"][place]) for place in places) for row in rows], dtype=np.float64)


class Report:
    """All policies on the test answers; every threshold is chosen on the dev questions, which are training questions.

    Args:
        rows: test rows as `live_art.answered` writes them.
        dev: rows of training questions that the parts did not learn from.
        doubts: of the model about its own drafts.
    """

    def __init__(self, rows: Sequence[Prediction], dev: Sequence[Prediction], doubts: Doubts) -> None:
        self.rows, self.dev = rows, dev
        self.table = Table([normal_question(row.question) for row in rows])
        self.replays: dict[str, dict[str, Any]] = {}
        self._samples = list(range(SAMPLES, len(rows[0].candidates)))
        never, always = np.zeros(len(rows)), np.ones(len(rows))
        self._add("initial", (right(rows, DRAFT), never))
        self._add("always refine", (right(rows, REFINED), always), REFINED)
        self._add(f"always refine, {BARELY}", (right(rows, BARE), always), BARE)
        self._self_refine(doubts)

    def _add(self, name: str, made: Outcome, *refining: int, calls: Any = 0, tokens: Any = 0) -> None:
        """A policy that makes the answers at the places `refining` where it refines, and what it spends besides."""
        refined = made[1]
        calls = 1 + calls + refined * len(refining)
        self.table.add(
            name, made, calls=calls, tokens=spent(self.rows, DRAFT) + tokens + refined * self._cost(refining)
        )

    def _cost(self, places: Sequence[int]) -> NDArray[np.float64]:
        return spent(self.rows, *places)

    def _self_refine(self, doubts: Doubts) -> None:
        """The model doubts its own drafts, and the refined answer is taken; as the paper has it, without a Truster."""
        given = np.array(doubts.test)
        judged = np.array(doubts.tokens, dtype=np.float64) + 1  # the verdict is a token, too
        self.doubts: dict[str, Any] = {"auc": round(auc(given, right(self.rows, DRAFT) == 0), 4), "thresholds": {}}
        for where, place in (("", REFINED), (f", {BARELY}", BARE)):
            chosen = choose_threshold(
                doubts.dev, right(self.dev, DRAFT), right(self.dev, place), tolerance=TOLERANCE
            ).value
            self.doubts["thresholds"][f"self-refine{where}"] = chosen
            for word, above in (("its own word", 0.5), ("threshold chosen", chosen)):
                doubted = (given >= above).astype(np.float64)
                taken = np.where(doubted, right(self.rows, place), right(self.rows, DRAFT))
                self._add(f"self-refine, {word}{where}", (taken, doubted), place, calls=1, tokens=judged)

    def add_parts(self, asker: Asker, truster: Truster, more: str = "") -> None:
        """ART with these parts; `more` tells it from ART with others."""
        pair, several = [DRAFT, REFINED], [DRAFT, REFINED, *self._samples]
        arms = {"ART": pair, f"ART, {BARELY}": [DRAFT, BARE], "ART with samples": several}
        made: dict[str, list[ScoredRow]] = {}
        for name, places in arms.items():
            settings = choose_settings(
                self._scored(self.dev, places, asker, truster), at_least=0.5, tolerance=TOLERANCE
            )
            used = {key: settings[key] for key in ("refine_above", "trust_margin")}
            scored = self._scored(self.rows, places, asker, truster)
            made[name], chosen = scored.rows, policies(used["refine_above"], used["trust_margin"])
            self._add(f"{name}{more}", outcome(scored.rows, chosen["ask+trust"]), *places[1:])
            self.replays[f"{name}{more}"] = replay_scored(scored, **used).as_dict()
        if more:
            return
        chosen = policies(0.0, self.replays["ART"]["thresholds"]["trust_margin"])
        self._add("always refine, Truster chooses", outcome(made["ART"], chosen["trust-only"]), REFINED)
        rate = float(self.replays["ART"]["refine_rate"]["value"])
        drafts, refined = (outcome(made["ART"], policies(0, 0)[name]) for name in ("initial", "refine-all"))
        self._add("random at ART's rate", at_random(rate, drafts, refined), REFINED)
        votes = {"majority vote": "majority", "Truster-weighted vote": "weighted-vote"}
        for name, policy in votes.items():
            found = outcome(made["ART with samples"], policies(0, 0)[policy])  # type: ignore[index]
            self._add(f"{name} of {len(several)}", found, *several[1:])
        if self._samples:
            alone = self._scored(self.rows, [DRAFT, *self._samples], asker, truster).rows
            found = outcome(alone, policies(0, 0)["majority"])
            self._add(f"majority vote of {1 + len(self._samples)}, none refined", found, *self._samples)

    def _scored(self, rows: Sequence[Prediction], places: Sequence[int], asker: Asker, truster: Truster) -> Scored:
        return score_rows(cut(rows, places), asker, truster)

    def as_dict(self) -> dict[str, Any]:
        """The policies with their costs, the paired differences, and what the solver's drafts and refinements are."""
        every = np.array([[bool(answer.correct) for answer in row.candidates] for row in self.rows])
        always = np.ones(len(self.rows))
        self.table.add("oracle of draft and refinement", (every[:, [DRAFT, REFINED]].any(1).astype(float), always))
        self.table.add("oracle of all", (every.any(1).astype(float), always))
        found = self.table.report("initial", "always refine")
        pairs = [(f"always refine, {BARELY}", "always refine")]
        if "ART" in self.replays:
            pairs += [(f"ART, {BARELY}", "ART"), ("always refine", "always refine, Truster chooses")]
            pairs += [(name, "ART") for name in found if name.startswith("self-refine") and BARELY not in name]
            pairs += [(f"self-refine, threshold chosen, {BARELY}", f"ART, {BARELY}")]
        return {
            "questions": {"test": len(self.rows), "dev": len(self.dev)},
            "solver under 10%": bool(every[:, DRAFT].mean() < LOWEST),
            "drafts": Counter(fault(row.candidates[DRAFT].text, _number(row), right) for row, right in self._drafts()),
            "refining": {name: _moves(every, place) for name, place in (("with", REFINED), ("without", BARE))},
            "self-refine": self.doubts,
            "policies": found,
            "differences": {f"{second} minus {first}": self.table.difference(first, second) for first, second in pairs},
            "replay": self.replays,
        }

    def _drafts(self) -> list[tuple[Prediction, bool]]:
        return [(row, bool(row.candidates[DRAFT].correct)) for row in self.rows]


def _number(row: Prediction) -> float:
    return float(row.gold or 0)


def _moves(every: NDArray[np.bool_], place: int) -> dict[str, int]:
    """How many drafts became right or wrong."""
    words = {True: "right", False: "wrong"}
    moves = Counter((bool(before), bool(after)) for before, after in every[:, [DRAFT, place]])
    return {f"{words[a]} to {words[b]}": moves[a, b] for a in (True, False) for b in (True, False)}
