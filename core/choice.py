"""The choice among several answers, the same in the graph and in its replay."""

from collections.abc import Sequence


def pick(scores: Sequence[float], margin: float) -> int:
    """The place of the answer to trust: a later one must beat the best so far by more than the margin."""
    best = 0
    for later in range(1, len(scores)):
        if scores[later] > scores[best] + margin:
            best = later
    return best
