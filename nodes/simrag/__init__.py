"""The nodes of `simrag`, a verb a file, as in `artrag.nodes`: apart from them, because they load what trains."""

from artrag.nodes.simrag.conclude import conclude
from artrag.nodes.simrag.finetune import finetune
from artrag.nodes.simrag.keep import keep
from artrag.nodes.simrag.plan import plan
from artrag.nodes.simrag.propose import propose
from artrag.nodes.simrag.score import score

__all__ = ["conclude", "finetune", "keep", "plan", "propose", "score"]
