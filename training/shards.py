"""One training on several processes, as `accelerate launch` or `torchrun` start them, on one machine or on many.

Every process holds the whole model and reads its share of each step's rows; gradients are added up. The first process
alone writes files; the others end when the training does.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shards:
    """The place of this process among all; alone where nobody launched several."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_launch(cls, device: str) -> "Shards":
        """What the environment says (`RANK`, `WORLD_SIZE`); joins the others the first time."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        import torch

        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
            if device == "cuda":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return cls(int(os.environ["RANK"]), world)

    @property
    def first(self) -> bool:
        """Is this the process that writes?"""
        return self.rank == 0

    def mine(self, rows: Sequence[T]) -> list[T]:
        """This process's share of the rows."""
        return list(rows[self.rank :: self.world])

    def add_up(self, tensors: Iterable[Any]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.world > 1:
            import torch

            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def of_first(self, value: T) -> T:
        """What the first process has, for all."""
        if self.world == 1:
            return value
        import torch

        box = [value]
        torch.distributed.broadcast_object_list(box)
        return box[0]

    def end_others(self) -> None:
        """End every process but the first: what follows, one does alone."""
        if self.world > 1:
            import torch

            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
            if not self.first:
                sys.exit(0)
