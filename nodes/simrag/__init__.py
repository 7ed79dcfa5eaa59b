"""The nodes of `simrag`, a verb a file, as in `artrag.nodes`: apart from them, because they load what trains.

`Plan` says how `finetune` trains, `HOW` is the plan it has unless told another.
"""

from artrag.nodes.simrag.conclude import conclude
from artrag.nodes.simrag.finetune import HOW, finetune
from artrag.nodes.simrag.keep import keep
from artrag.nodes.simrag.plan import plan
from artrag.nodes.simrag.propose import propose
from artrag.nodes.simrag.score import score
from artrag.training.loop import Plan

__all__ = ["HOW", "Plan", "conclude", "finetune", "keep", "plan", "propose", "score"]
