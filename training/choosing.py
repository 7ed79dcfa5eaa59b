"""What every kind of training ends with: thresholds for the part, its figures on dev, and what the run was."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.documents import Document
from numpy.typing import ArrayLike, NDArray

from artrag.evaluation.calibration import auc, pair_wins
from artrag.evaluation.intervals import Interval, clustered_ratios, clustered_statistic
from artrag.evaluation.policies import ScoredRow
from artrag.evaluation.predictions import Prediction
from artrag.evaluation.replay import choose_settings, plain
from artrag.evaluation.scoring import Scored
from artrag.evaluation.thresholds import choose_threshold
from artrag.models.parts import Kind, Part
from artrag.protocols import Doubt
from artrag.training.loop import Trained, peak_memory_mb

Key = tuple[str, str]
"""A question's text and an answer's."""

THRESHOLDS: dict[Kind, tuple[str, ...]] = {"asker": ("refine_above",), "truster": ("trust_margin", "abstain_below")}
TOLERANCE = 0.003
"""Of two thresholds whose accuracy differs by no more, the one that refines less is taken."""
MARGIN_TOLERANCE = 0.005
"""Of two margins, the one that replaces fewer drafts: a margin far below zero does harm where refining does."""


@dataclass(frozen=True, slots=True)
class Choosing:
    """What the thresholds are chosen for.

    Attributes:
        refine_budget: the most that may be refined, as a share of drafts; None for no limit.
        answered_right: the accuracy wanted of the answers that are not abstained from.
    """

    refine_budget: float | None = None
    answered_right: float = 0.66


class Known:
    """An Asker and Truster at once that says what has been scored before: for choosing thresholds."""

    pointwise = True

    def __init__(
        self, doubt: Mapping[Key, float], scores: Mapping[Key, float], confidence: Mapping[Key, float]
    ) -> None:
        self._doubt, self._scores, self._confidence = doubt, scores, confidence

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """The known doubt; 0.5 where there is none."""
        return Doubt([], self._doubt.get((question, draft), 0.5), "")

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """The known scores; all equal where there are none."""
        return [self._scores.get((question, answer), 0.0) for answer in answers]

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """The known confidence; 0.5 where there is none."""
        return self._confidence.get((question, answer), 0.5)


def choose(kinds: Sequence[Kind], rows: Sequence[ScoredRow], choosing: Choosing) -> dict[str, float]:
    """The thresholds of the parts that were trained, on rows scored by them; empty without rows.

    For an Asker alone the refined answer is taken as it comes: its label stands for the Truster's choice.
    """
    if not rows:
        return {}
    if "truster" not in kinds:
        threshold = choose_threshold(
            [row.doubt for row in rows],
            [row.correct[0] for row in rows],
            [row.correct[row.latest] for row in rows],
            budget=choosing.refine_budget,
            tolerance=TOLERANCE,
        )
        return {"refine_above": threshold.value}
    found = choose_settings(
        Scored(list(rows), {}),
        at_least=choosing.answered_right,
        budget=choosing.refine_budget,
        tolerance=TOLERANCE,
        margin_tolerance=MARGIN_TOLERANCE,
    )
    return {name: found[name] for kind in kinds for name in THRESHOLDS[kind]}


def ranking_figures(
    scores: ArrayLike, labels: ArrayLike, answers: Sequence[tuple[str, str, str]]
) -> dict[str, dict[str, float | None]]:
    """`auc` over all answers and `within_question_auc` over pairs of different answers to a question by one source.

    Args:
        scores: [n], higher where the label is true.
        labels: [n].
        answers: [n] (question, source, text).
    """
    values, true = np.asarray(scores), np.asarray(labels)

    def over_all(at: NDArray[Any]) -> float:
        return auc(values[at], true[at])

    different = {answer: place for place, answer in enumerate(answers)}
    places, groups = list(different.values()), [(question, source) for question, source, _ in different]
    wins, pairs = pair_wins(values[places], true[places], groups)
    asked = [question for question, _ in dict.fromkeys(groups)]
    return {
        "auc": _rounded(clustered_statistic(over_all, [question for question, _, _ in answers])),
        "within_question_auc": _rounded(clustered_ratios(wins[None], pairs[None], asked)[0]),
    }


def sources(train: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Who wrote how many of the answers that were learned from."""
    counts = Counter(answer.source for row in train for answer in row.candidates)
    return [{"source": source, "answers": count} for source, count in sorted(counts.items())]


def summary(part: Part, trained: Trained, measured: int, begun: float) -> dict[str, Any]:
    """What a fine-tuning tells: the part's figures and thresholds, and how the run went."""
    return {
        "kind": part.kind,
        "variant": part.variant,
        **part.figures,
        "thresholds": part.thresholds,
        "calibration": part.calibration,
        "losses": {"train": trained.train_loss, "dev": trained.dev_loss},
        "rows": trained.rows | {"measured": measured},
        "steps": trained.steps,
        "best_step": trained.best_step,
        "stopped": trained.stopped,
        "tokens": trained.tokens,
        "seconds": {"training": trained.seconds, "all": round(time.monotonic() - begun, 1)},
        "peak_memory_mb": peak_memory_mb(),
    }


def _rounded(interval: Interval) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in plain(interval).items()}
