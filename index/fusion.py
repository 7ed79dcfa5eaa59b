"""Rank fusion: one ranking out of several."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artrag.errors import IndexDamagedError

TUNED = "fusion.json"
"""In the index's directory: what `artrag tune` chose for it."""
Hits = list[tuple[int, float]]
"""(row, score), best first."""


class Fusion(BaseModel):
    """Reciprocal rank fusion (Cormack et al., 2009): the score of a row is the sum of weight / (constant + rank).

    The default was chosen on questions about code, Wikipedia and abstracts, leaving out a repository at a time
    (docs/experiments.md). A constant this far below the usual 60 trusts the top of a ranking: a weak arm costs less.

    Attributes:
        weights: what each arm counts; 1 where none is given, 0 leaves it out.
        rank_constant: added to each rank, which counts from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, float] = Field(default_factory=lambda: {"dense": 0.7, "late": 2.0})
    rank_constant: float = Field(2.0, ge=0)

    def fuse(self, rankings: Mapping[str, Sequence[tuple[int, float]]]) -> Hits:
        """One ranking out of those of the arms: (row, score), best first, ties by row.

        Args:
            rankings: for each arm its (row, score), best first.
        """
        scores: dict[int, float] = {}
        for arm, hits in rankings.items():
            weight = self.weights.get(arm, 1.0)
            for rank, (row, _) in enumerate(hits, start=1):
                scores[row] = scores.get(row, 0.0) + weight / (self.rank_constant + rank)
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def read_fusion(path: Path, default: Fusion | None = None) -> Fusion:
    """The fusion tuned for the index at `path`, else `default`, else the shipped one.

    Raises:
        IndexDamagedError: the file is no such thing.
    """
    file = path / TUNED
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        return Fusion.model_validate(data["fusion"])
    except FileNotFoundError:
        return default or Fusion()
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise IndexDamagedError(
            f"{str(file)!r} is no fusion ({type(error).__name__}): run 'artrag tune' again, or delete it"
        ) from None


def write_fusion(path: Path, fusion: Fusion, about: Mapping[str, Any]) -> None:
    """Keep a fusion with the index at `path`, in one step; `about` says how it was chosen."""
    beside = path / f"{TUNED}.new"
    beside.write_text(json.dumps({"fusion": fusion.model_dump(), "about": about}, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path / TUNED)
