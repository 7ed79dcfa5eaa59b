"""The head of a trained Asker or Truster: a small network over signals, read and run with NumPy alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artrag.errors import PartError

Array = NDArray[np.float32]
CLIP = 4.0
"""Standard deviations beyond which a signal counts no further: no single one can carry the score away."""


@dataclass(frozen=True, slots=True)
class Head:
    """A score for each row of signals: standardise, clip, one hidden layer of rectified units, sum.

    Attributes:
        names: what the d columns of the input are.
        mean, deviation: [d], of the training rows.
        low, high: [d], the 0.5th and 99.5th percentile of the training rows.
        hidden: [d, h]; hidden_bias: [h]; output: [h]; output_bias: scalar.
    """

    names: tuple[str, ...]
    mean: Array
    deviation: Array
    low: Array
    high: Array
    hidden: Array
    hidden_bias: Array
    output: Array
    output_bias: float

    def raw(self, rows: Array) -> Array:
        """The scores [n] of rows [n, d]; unbounded, higher is better."""
        standard = np.clip((rows - self.mean) / self.deviation, -CLIP, CLIP)
        units = np.maximum(standard @ self.hidden + self.hidden_bias, 0)
        scores: Array = units @ self.output + np.float32(self.output_bias)
        return scores

    def strangeness(self, rows: Array) -> Array:
        """The share [n], 0 to 1, of signals that lie outside what nearly all training rows had."""
        share: Array = ((rows < self.low) | (rows > self.high)).mean(axis=1, dtype=np.float32)
        return share

    def row(self, named: Sequence[Mapping[str, float]]) -> Array:
        """Named signals as rows [n, d]."""
        return np.array([[signals[name] for name in self.names] for signals in named], dtype=np.float32).reshape(
            len(named), len(self.names)
        )

    def save(self, path: Path) -> None:
        """Write the weights as JSON, five digits each: enough for the same choices, small enough to read.

        The bounds are written in full: a rounded one would leave out the very rows that lie on it.
        """
        data: dict[str, Any] = {"names": list(self.names), "output_bias": round(float(self.output_bias), 6)}
        for name in ("mean", "deviation", "low", "high", "hidden", "hidden_bias", "output"):
            values, digits = getattr(self, name), 9 if name in ("low", "high") else 5
            lines = [[float(f"{value:.{digits}g}") for value in line] for line in np.atleast_2d(values).tolist()]
            data[name] = lines if values.ndim == 2 else lines[0]
        path.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, names: Sequence[str]) -> "Head":
        """Read the weights.

        Raises:
            PartError: they are damaged, or were trained on other signals than `names`.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            arrays = {
                name: np.array(data[name], dtype=np.float32)
                for name in ("mean", "deviation", "low", "high", "hidden", "hidden_bias", "output")
            }
            head = cls(names=tuple(data["names"]), output_bias=float(data["output_bias"]), **arrays)
            d, h = head.hidden.shape
            whole = {(d,)} == {a.shape for a in (head.mean, head.deviation, head.low, head.high)} and len(
                head.names
            ) == d
            if not (whole and head.hidden_bias.shape == head.output.shape == (h,)):
                raise ValueError("its shapes do not fit together")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PartError(f"the weights {str(path)!r} cannot be read ({error}): train this part again") from None
        if head.names != tuple(names):
            other = sorted(set(head.names) ^ set(names))[:3]
            raise PartError(
                f"the weights {str(path)!r} were trained on other signals (such as {other}): they belong to another "
                "version of artrag; train this part again"
            )
        return head
