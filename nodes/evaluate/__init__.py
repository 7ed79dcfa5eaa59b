"""The nodes of `evaluate`, a verb a file, as in `artrag.nodes`."""

from artrag.nodes.evaluate.judge import judge
from artrag.nodes.evaluate.plan import plan
from artrag.nodes.evaluate.report import report
from artrag.nodes.evaluate.score import score

__all__ = ["judge", "plan", "report", "score"]
