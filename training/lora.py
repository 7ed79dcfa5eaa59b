"""LoRA fine-tuning of a small causal model: on completions, and on pairs of a better and a worse text.

One loop serves both losses, on CPU and GPU. Each row counts the same, whatever its length: averaged over tokens, as
trl's SFTTrainer does it, the one token that decides would drown in the words before it. No answer is ever cut: prompts
are shortened to fit, and rows that cannot fit are dropped and counted.
"""

import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from artrag.errors import MissingExtraError, TrainingDataError
from artrag.models.causal_model import ADAPTER, Head, base_weights, fitted, open_base, padded, quiet
from artrag.models.local_chat import inert, place
from artrag.models.parts import sha256
from artrag.models.references import weights_folder
from artrag.models.wheels import Progress
from artrag.training.causal_data import Pair, Row

CHECKPOINT = "checkpoint.pt"
LOSSES = "losses.jsonl"
NEIGHBOURS = 8
"""Steps whose rows are sorted by length together: little padding, and still a random order."""
TOGETHER = {"cpu": 1024, "cuda": 16384}
"""Tokens read side by side. It bounds the memory (2 GB on a CPU), and a CPU is no faster with more."""
SAVE_EVERY = 60.0
"""Seconds between checkpoints."""

Encoded = tuple[tuple[int, ...], ...]
"""A row: (prompt, answer) tokens. A pair: (right, wrong) tokens."""
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


def fine_tune(
    rows: Sequence[Row],
    dev: Sequence[Row],
    out: Path,
    *,
    base: str,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Supervised fine-tuning; the loss falls on the completions only. The best adapter on dev is left in `out`.

    A killed run goes on from its last checkpoint when it is called again. `losses.jsonl` holds the loss of every step
    and evaluation.

    Args:
        rows: {"prompt": [messages], "completion": [message]}; a prompt that ends with the assistant's words goes on.
        dev: as `rows`; chooses the checkpoint.
        out: gets `adapter_model.safetensors` and `adapter_config.json`.
        base: reference of the base model.
        plan: how to train.
        progress: told how far it is.

    Raises:
        TrainingDataError: no row fits, the checkpoint belongs to another run, or the loss is not finite.
        MissingExtraError: peft, torch or transformers is not installed.
    """
    return _tuned("words", rows, dev, out, base, plan or Plan(), progress)


def fine_rank(
    pairs: Sequence[Pair],
    dev: Sequence[Pair],
    out: Path,
    *,
    base: str,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a scalar head and LoRA weights with the loss -log sigmoid(r(right) - r(wrong)); else as `fine_tune`."""
    return _tuned("scalar", pairs, dev, out, base, plan or Plan(), progress)


def _tuned(
    head: Head,
    rows: Sequence[Any],
    dev: Sequence[Any],
    out: Path,
    base: str,
    plan: Plan,
    progress: Progress | None,
) -> Trained:
    try:
        import torch
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise MissingExtraError(f"training needs {error.name!r}: pip install 'artrag[train]'") from None
    out.mkdir(parents=True, exist_ok=True)
    folder = weights_folder(base, progress=progress)
    device, _ = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)  # before the model is opened: a scalar head is drawn there
        model, tokenizer = open_base(folder, head)
        window = min(plan.window, int(model.config.max_position_embeddings))
        encode = _encoded_row if head == "words" else _encoded_pair
        counts = {"in": len(rows), "shortened": 0, "dropped": 0}
        train, held = encode(tokenizer, rows, window, counts), encode(tokenizer, dev, window, dict(counts))
        if not train or not held:
            raise TrainingDataError(
                f"{len(train)} rows to train on and {len(held)} to choose by fit {window} tokens: give shorter or more"
            )
        task = TaskType.CAUSAL_LM if head == "words" else TaskType.SEQ_CLS
        config = LoraConfig(
            r=plan.rank, lora_alpha=2 * plan.rank, lora_dropout=0.05, target_modules="all-linear", task_type=task
        )
        with quiet():
            model = get_peft_model(model, config).to(device)
        loss = _completion_loss if head == "words" else _ranking_loss
        run = Run(model, lambda m, batch: loss(m, batch, tokenizer.pad_token_id, device), plan, out, device)
        what = "fine-tuning" if head == "words" else "learning to rank"
        mark = hashlib.sha256(
            json.dumps([sha256(base_weights(folder)), asdict(plan), train, held]).encode()
        ).hexdigest()
        trained = run.go(train, held, counts, mark, progress or (lambda _what, _share: None), what)
    save_adapter(model, out, base)
    return trained


def _encoded_row(tokenizer: Any, rows: Sequence[Row], window: int, counts: dict[str, int]) -> list[Encoded]:
    made: list[Encoded] = []
    for row in rows:
        turns, begun = row["prompt"], ""
        if turns[-1]["role"] == "assistant":
            turns, begun = turns[:-1], turns[-1]["content"]
        words, answer = (
            tokenizer(inert(tokenizer, text), add_special_tokens=False)["input_ids"]
            for text in (begun, row["completion"][0]["content"])
        )
        answer = [*answer, tokenizer.eos_token_id]
        found = fitted(tokenizer, turns, window - len(words) - len(answer))
        counts["dropped" if found is None else "shortened"] += found is None or found[1]
        if found is not None:
            made.append((tuple(found[0] + words), tuple(answer)))
    return made


def _encoded_pair(tokenizer: Any, pairs: Sequence[Pair], window: int, counts: dict[str, int]) -> list[Encoded]:
    made: list[Encoded] = []
    for pair in pairs:
        right, wrong = fitted(tokenizer, pair["right"], window), fitted(tokenizer, pair["wrong"], window)
        counts["dropped"] += right is None or wrong is None
        if right is not None and wrong is not None:
            counts["shortened"] += right[1] or wrong[1]
            made.append((tuple(right[0]), tuple(wrong[0])))
    return made


def _completion_loss(model: Any, rows: Sequence[Encoded], pad: int, device: str) -> Any:
    """The mean over rows of the mean over each row's answer tokens; the head sees no other column."""
    import torch

    batch = padded([prompt + answer for prompt, answer in rows], pad, device)
    lengths = torch.tensor([len(answer) for _, answer in rows], device=device)
    keep = int(lengths.max())
    logits = model(**batch, logits_to_keep=keep + 1, use_cache=False).logits[:, :-1].float()
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["input_ids"][:, -keep:], reduction="none")
    ours = torch.arange(keep, 0, -1, device=device)[None] <= lengths[:, None]
    return ((each * ours).sum(1) / lengths).mean()


def _ranking_loss(model: Any, pairs: Sequence[Encoded], pad: int, device: str) -> Any:
    """-log sigmoid(r(right) - r(wrong)), the mean over pairs (ART, equation in Section 3.4)."""
    import torch

    batch = padded([right for right, _ in pairs] + [wrong for _, wrong in pairs], pad, device)
    rewards = model(**batch, use_cache=False).logits[:, 0].float()
    return -torch.nn.functional.logsigmoid(rewards[: len(pairs)] - rewards[len(pairs) :]).mean()


def save_adapter(model: Any, out: Path, base: str) -> None:
    """The adapter in half precision (a few MB) with its configuration; no path of this machine goes into it."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, out / ADAPTER)
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(out)


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
        steps = list(_steps([sum(map(len, row)) for row in train], self.plan))
        every = max(1, len(steps) // (self.plan.epochs * self.plan.evaluations))
        state = self._resumed(mark)
        _keep_lines(self.out / LOSSES, state.step)
        saved, begun = time.monotonic(), time.monotonic() - state.seconds
        with (self.out / LOSSES).open("a", encoding="utf-8") as log:
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
        total = 0.0
        for batch in _batches(rows, self.device):
            with _fast(self.device):
                loss = self.loss(self.model, batch) * (len(batch) / len(rows))
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise TrainingDataError(f"the loss became {total!r} in {str(self.out)!r}: lower the rate ({rate:g} here)")
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _evaluate(self, dev: list[Encoded], state: _State) -> float:
        """The mean loss on dev; the weights are kept where it is the lowest so far."""
        import torch

        self.model.eval()
        total = 0.0
        with torch.inference_mode(), _fast(self.device):
            for batch in _batches(dev, self.device):
                total += float(self.loss(self.model, batch)) * len(batch)
        loss = total / len(dev)
        if loss < state.best:
            state.best, state.best_step, state.worse = loss, state.step, 0
            state.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()}
        else:
            state.worse += 1
        return loss

    def _save(self, mark: str, state: _State) -> None:
        """Write the checkpoint; a kill at any time leaves the old one or the new one."""
        import torch

        whole = {
            "mark": mark,
            "state": {name: getattr(state, name) for name in _State.__slots__},
            "weights": {name: tensor.detach().cpu() for name, tensor in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device == "cuda" else None,
        }
        temporary = self.out / f".{CHECKPOINT}"
        torch.save(whole, temporary)
        os.replace(temporary, self.out / CHECKPOINT)

    def _resumed(self, mark: str) -> _State:
        import torch

        path = self.out / CHECKPOINT
        if not path.exists():
            return _State()
        whole = torch.load(path, map_location="cpu", weights_only=True)
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


def _steps(sizes: Sequence[int], plan: Plan) -> Iterator[list[int]]:
    """The row numbers of each step, over all epochs; the same for the same seed."""
    for epoch in range(plan.epochs):
        draw = random.Random(f"{plan.seed} {epoch}")  # noqa: S311
        order = draw.sample(range(len(sizes)), len(sizes))
        near = plan.batch * NEIGHBOURS
        order = [i for at in range(0, len(order), near) for i in sorted(order[at : at + near], key=sizes.__getitem__)]
        steps = [order[at : at + plan.batch] for at in range(0, len(order), plan.batch)]
        draw.shuffle(steps)
        yield from steps


def _batches(rows: Sequence[Encoded], device: str) -> Iterator[list[Encoded]]:
    """The rows in batches that hold no more tokens than the memory bears, padding counted; a long row stands alone."""
    batch: list[Encoded] = []
    for row in sorted(rows, key=lambda row: sum(map(len, row))):  # so the latest row is the longest
        if batch and (len(batch) + 1) * sum(map(len, row)) > TOGETHER[device]:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _rate(step: int, steps: int, plan: Plan) -> float:
    warm = max(1, round(plan.warmup * steps))
    if step < warm:
        return plan.rate * (step + 1) / warm
    return plan.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _fast(device: str) -> AbstractContextManager[Any]:
    """Bfloat16 where the hardware is fast in it; the weights and the loss stay in float32."""
    import torch

    dtype = place()[1]
    return torch.autocast(device, dtype) if dtype is torch.bfloat16 else nullcontext()


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
