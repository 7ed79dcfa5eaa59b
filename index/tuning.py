"""The fusions that `artrag tune` chooses among."""

import itertools
import math
from collections.abc import Sequence

from artrag.index.fusion import Fusion

CONSTANTS = (0.0, 2.0, 5.0, 10.0, 20.0, 60.0)


def candidates(arms: Sequence[str], *known: Fusion) -> list[Fusion]:
    """The known fusions, then every division of the weight among the arms with every rank constant.

    Weights go by tenths, by fifths for more than three arms. Only their ratio counts: the largest is written as 1.
    """
    parts = 10 if len(arms) <= 3 else 5
    made = list(known)
    for shares in itertools.product(range(parts + 1), repeat=len(arms)):
        if sum(shares) == parts:
            weights = {arm: round(share / max(shares), 4) for arm, share in zip(arms, shares, strict=True)}
            made += [known[0].model_copy(update={"weights": weights, "rank_constant": c}) for c in CONSTANTS]
    return made


def distance(fusion: Fusion, default: Fusion, arms: Sequence[str]) -> float:
    """How far a fusion is from the default: the weight that changes hands, and a tenth for each doubling of ranks."""
    moved = sum(abs(a - b) for a, b in zip(_shares(fusion, arms), _shares(default, arms), strict=True)) / 2
    return moved + 0.1 * abs(math.log2((1 + fusion.rank_constant) / (1 + default.rank_constant)))


def _shares(fusion: Fusion, arms: Sequence[str]) -> list[float]:
    weights = [fusion.weights.get(arm, 1.0) for arm in arms]
    return [weight / (sum(weights) or 1.0) for weight in weights]
