"""Rank fusion: one ranking out of several."""

from collections.abc import Mapping, Sequence

RANK_CONSTANT = 0.0
"""Added to each rank. 0 (plain 1 / rank) trusts the top of a ranking more than the usual 60: a weak arm costs less."""


def fuse(
    rankings: Mapping[str, Sequence[int]],
    weights: Mapping[str, float] | None = None,
    rank_constant: float = RANK_CONSTANT,
) -> list[tuple[int, float]]:
    """Reciprocal rank fusion (Cormack et al., 2009): the score of a row is the sum of weight / (constant + rank).

    Args:
        rankings: for each arm its rows, best first; ranks count from 1.
        weights: for each arm, 1 where none is given.
        rank_constant: larger values flatten the rankings.

    Returns:
        (row, score), best first; ties by row.
    """
    scores: dict[int, float] = {}
    for arm, rows in rankings.items():
        weight = (weights or {}).get(arm, 1.0)
        for rank, row in enumerate(rows, start=1):
            scores[row] = scores.get(row, 0.0) + weight / (rank_constant + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
