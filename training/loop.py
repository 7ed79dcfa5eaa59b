"""The loop that trains every part: steps, evaluations, checkpoints, and the best weights on dev at the end.

Each row counts the same, whatever its length: averaged over tokens, as trl's SFTTrainer does it, the one token that
decides would drown in the words before it.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from artrag.errors import TrainingDataError
from artrag.models.wheels import Progress
from artrag.training.lora_batches import Encoded, batches, fast, steps_of
from artrag.training.shards import Shards

CHECKPOINT = "checkpoint.pt"
LOSSES = "losses.jsonl"
NO_MEMORY = "can't allocate memory"
"""So a full memory is told on a CPU, in an error without a class of its own."""
SAVE_EVERY = 60.0
"""Seconds between checkpoints."""

Loss = Callable[[Any, Sequence[Encoded]], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train.

    Attributes:
        epochs: passes over the rows, if dev does not stop it before.
        rate: the highest learning rate; a linear warm-up leads to it, a cosine from it.
        batch: rows a step; their gradients are accumulated over as many passes as the memory asks for.
        warmup: share of the steps.
        rank: of the LoRA matrices, on every linear layer.
        window: tokens of prompt and answer together.
        evaluations: on dev, an epoch.
        patience: evaluations in a row without a better dev loss before it stops.
        seed: of the weights, the order and the dropout.
    """

    epochs: int = 2
    rate: float = 5e-4
    batch: int = 16
    warmup: float = 0.06
    rank: int = 8
    window: int = 768
    evaluations: int = 4
    patience: int = 3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run did. `rows` counts what went in, was shortened and was dropped; `seconds` includes resumed parts.

    `peak_memory_mb` is the process's highest so far (a GPU's own, where there is one), None where the system does not
    tell.
    """

    stopped: Literal["epochs", "early"]
    steps: int
    best_step: int
    train_loss: float
    dev_loss: float
    rows: dict[str, int]
    tokens: int
    seconds: float
    peak_memory_mb: float | None

    def told(self, seconds: float) -> dict[str, Any]:
        """For a report, with the seconds that the whole training took."""
        return {
            "losses": {"train": self.train_loss, "dev": self.dev_loss},
            "steps": self.steps,
            "stopped": self.stopped,
            "tokens": self.tokens,
            "seconds": round(seconds, 1),
            "peak_memory_mb": self.peak_memory_mb,
        }


@dataclass(slots=True)
class _State:
    """Where a run is; all of it goes into a checkpoint."""

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    worse: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    best_weights: dict[str, Any] = field(default_factory=dict)


class Run:
    """The loop of one training.

    Args:
        model: its weights that need gradients are trained; a checkpoint holds them alone.
        loss: (model, rows) -> the mean loss of these rows; a row is a tuple of token rows.
        plan: how to train.
        out: gets the checkpoint and the loss curves.
        device: "cpu" or "cuda".
        rate: (step, steps, plan) -> the learning rate; a warm-up and a cosine unless given.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        plan: Plan,
        out: Path,
        device: str,
        rate: Callable[[int, int, Plan], float] | None = None,
    ) -> None:
        import torch

        self.model, self.loss, self.plan, self.out, self.device = model, loss, plan, out, device
        self.rate = rate or _rate
        self.shards = Shards.of_launch(device)
        self.weights = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=plan.rate, weight_decay=0.0)

    def go(
        self, train: list[Encoded], dev: list[Encoded], counts: dict[str, int], mark: str, tell: Progress, what: str
    ) -> Trained:
        """Train, and leave the best weights on dev in the model.

        Args:
            train: encoded rows.
            dev: of other questions; chooses the weights.
            counts: handed back as `rows`.
            mark: tells this run from others; a checkpoint with another one is refused.
            tell: told (what, share done).
            what: for `tell`.
        """
        plan, sizes = self.plan, [sum(map(len, row)) for row in train]
        steps = list(steps_of(sizes, epochs=plan.epochs, batch=plan.batch, seed=plan.seed))
        every = max(1, len(steps) // (self.plan.epochs * self.plan.evaluations))
        state = self._resumed(mark)
        if self.shards.first:
            _keep_lines(self.out / LOSSES, state.step)
        saved, begun = time.monotonic(), time.monotonic() - state.seconds
        with (self.out / LOSSES if self.shards.first else Path(os.devnull)).open("a", encoding="utf-8") as log:
            while state.step < len(steps) and state.worse < self.plan.patience:
                rows = [train[i] for i in steps[state.step]]
                rate = self.rate(state.step, len(steps), self.plan)
                state.loss = self._step(rows, rate)
                state.step += 1
                state.tokens += sum(len(part) for row in rows for part in row)
                state.seconds = time.monotonic() - begun
                _line(log, step=state.step, loss=state.loss, rate=rate, tokens=state.tokens, seconds=state.seconds)
                evaluated = state.step % every == 0 or state.step == len(steps)
                if evaluated:
                    _line(log, step=state.step, dev_loss=self._evaluate(dev, state), best=state.best)
                if evaluated or time.monotonic() - saved > SAVE_EVERY:
                    state.seconds = time.monotonic() - begun
                    self._save(mark, state)
                    saved = time.monotonic()
                tell(what, state.step / len(steps))
        self._take(state.best_weights)
        self.shards.end_others()
        return Trained(
            stopped="epochs" if state.step == len(steps) else "early",
            steps=state.step,
            best_step=state.best_step,
            train_loss=state.loss,
            dev_loss=state.best,
            rows=counts,
            tokens=state.tokens,
            seconds=round(state.seconds, 1),
            peak_memory_mb=peak_memory_mb(),
        )

    def _step(self, rows: list[Encoded], rate: float) -> float:
        """One update; the mean loss of the rows."""
        import torch

        self.model.train()
        told = torch.zeros((), device=self.device)
        try:
            for batch in batches(self.shards.mine(rows), self.device):
                with fast(self.device):
                    loss = self.loss(self.model, batch) * (len(batch) / len(rows))
                loss.backward()
                told += loss.detach()
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or NO_MEMORY in str(error)):
                raise
            raise TrainingDataError(
                f"the memory is full ({str(error).splitlines()[0][:120]}): lower the plan's window "
                f"({self.plan.window} here), or take a smaller base model"
            ) from None
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        self.shards.add_up([told, *(weight.grad for weight in self.weights.values())])
        total, slope = float(told), float(torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0))
        if not math.isfinite(total + slope):
            raise TrainingDataError(
                f"the loss became {total!r} with gradients of {slope!r} in {str(self.out)!r}: lower the rate "
                f"({rate:g} here), in another folder"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _evaluate(self, dev: list[Encoded], state: _State) -> float:
        """The mean loss on dev; the weights are kept where it is the lowest so far."""
        import torch

        self.model.eval()
        total = torch.zeros((), device=self.device)
        with torch.no_grad(), fast(self.device):
            for batch in batches(self.shards.mine(dev), self.device):
                total += self.loss(self.model, batch) * len(batch)
        self.shards.add_up([total])
        loss = float(total) / len(dev)
        if loss < state.best:
            state.best, state.best_step, state.worse = loss, state.step, 0
            state.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()}
        else:
            state.worse += 1
        return loss

    def _save(self, mark: str, state: _State) -> None:
        """Write the checkpoint; a kill at any time leaves the old one or the new one."""
        import torch

        if not self.shards.first:
            return
        whole = {
            "mark": mark,
            "state": {name: getattr(state, name) for name in _State.__slots__},
            "weights": {name: tensor.detach().cpu() for name, tensor in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),  # a base model may have dropout of its own
            "random_cuda": torch.cuda.get_rng_state() if self.device == "cuda" else None,
        }
        temporary = self.out / f".{CHECKPOINT}"
        torch.save(whole, temporary)
        os.replace(temporary, self.out / CHECKPOINT)

    def _resumed(self, mark: str) -> _State:
        import torch

        path = self.out / CHECKPOINT
        known = self.shards.first and path.exists()
        whole = self.shards.of_first(torch.load(path, map_location="cpu", weights_only=True) if known else None)
        if whole is None:
            return _State()
        if whole["mark"] != mark:
            raise TrainingDataError(
                f"{str(path)!r} belongs to a run with other rows or settings: delete it, or name another folder"
            )
        self._take(whole["weights"])
        self.optimizer.load_state_dict(whole["optimizer"])
        torch.set_rng_state(whole["random"])
        if self.device == "cuda":
            torch.cuda.set_rng_state(whole["random_cuda"])
        return _State(**whole["state"])

    def _take(self, weights: Mapping[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, tensor in weights.items():
                self.weights[name].copy_(tensor)


def _rate(step: int, steps: int, plan: Plan) -> float:
    warm = max(1, round(plan.warmup * steps))
    if step < warm:
        return plan.rate * (step + 1) / warm
    return plan.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def straight(step: int, steps: int, plan: Plan) -> float:
    """A learning rate for `Run`: a linear warm-up, then linearly down to nothing."""
    warm = max(1, round(plan.warmup * steps))
    return plan.rate * min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _line(log: IO[str], **values: float) -> None:
    log.write(json.dumps({name: round(value, 6) for name, value in values.items()}) + "\n")
    log.flush()


def _keep_lines(path: Path, step: int) -> None:
    """Take out what a killed run wrote after its last checkpoint."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):  # the kill came in the middle of a line
            break
    path.write_text("".join(kept), "utf-8")


def peak_memory_mb() -> float | None:
    """The highest memory of this process so far, in MB; a GPU's own where there is one, None where nothing tells."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / 1e6 if sys.platform == "darwin" else used / 1e3, 1)  # bytes there, kilobytes elsewhere
