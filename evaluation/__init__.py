"""Pure metrics and intervals: numbers in, numbers out."""

from artrag.evaluation.intervals import Interval, bootstrap, paired
from artrag.evaluation.metrics import Score, evidence_recall, exact_match, holds_answer, token_f1

__all__ = ["Interval", "Score", "bootstrap", "evidence_recall", "exact_match", "holds_answer", "paired", "token_f1"]
