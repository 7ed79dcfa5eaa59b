"""The choice among several answers, the same in the graph and in its replay."""

from collections.abc import Sequence


def pick(scores: Sequence[float], margin: float) -> int:
    """The place of the answer to trust: the best of the others must beat the draft, the first, by more than the margin.

    A negative margin favours the others, as where refining is known to help; among them it favours none.
    """
    if len(scores) < 2:
        return 0
    other = max(range(1, len(scores)), key=lambda place: (scores[place], -place))
    return other if scores[other] > scores[0] + margin else 0
