"""LoRA fine-tuning of a small causal model: on completions, and on pairs of a better and a worse text.

No answer is ever cut: prompts are shortened to fit, and rows that cannot fit are dropped and counted.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from artrag.errors import MissingExtraError, TrainingDataError
from artrag.models.causal_model import Head, open_base
from artrag.models.local_chat import place
from artrag.models.parts import Part, PartKind, check_base, read_part, sha256
from artrag.models.references import weights_folder
from artrag.models.weights import ADAPTER, base_weights, quiet
from artrag.models.wheels import Progress
from artrag.training.causal_data import Pair, Row
from artrag.training.loop import Plan, Run, Trained
from artrag.training.lora_batches import (
    completion_loss,
    encode_pairs,
    encode_rows,
    ranking_loss,
)


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
    check_extra()
    import torch

    out.mkdir(parents=True, exist_ok=True)
    folder = weights_folder(base, progress=progress)
    device, _ = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)  # before the model is opened: a scalar head is drawn there
        model, tokenizer = open_base(folder, head)
        window = min(plan.window, int(model.config.max_position_embeddings))
        encode = encode_rows if head == "words" else encode_pairs
        counts = {"in": len(rows), "shortened": 0, "dropped": 0}
        train, held = encode(tokenizer, rows, window, counts), encode(tokenizer, dev, window, dict(counts))
        if not train or not held:
            raise TrainingDataError(
                f"{len(train)} rows to train on and {len(held)} to choose by fit {window} tokens: give shorter or more"
            )
        model = add_lora(model, plan.rank, "CAUSAL_LM" if head == "words" else "SEQ_CLS").to(device)
        loss = completion_loss if head == "words" else ranking_loss
        run = Run(model, lambda m, batch: loss(m, batch, tokenizer.pad_token_id, device), plan, out, device)
        what = "fine-tuning" if head == "words" else "learning to rank"
        mark = hashlib.sha256(
            json.dumps([sha256(base_weights(folder)), asdict(plan), train, held]).encode()
        ).hexdigest()
        trained = run.go(train, held, counts, mark, progress or (lambda _what, _share: None), what)
    save_adapter(model, out, base)
    return trained


def check_extra() -> None:
    """Before a training begins.

    Raises:
        MissingExtraError: a library of the extra `train` is not installed.
    """
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"training needs {error.name!r}: pip install 'artrag[train]'") from None


def add_lora(model: Any, rank: int, task: str | None = None) -> Any:
    """LoRA matrices on every linear layer; `task` is peft's name of what the head does, None for an encoder."""
    from peft import LoraConfig, get_peft_model

    # No dropout of LoRA's own: it costs a CPU as much as the matrices, keeps one more copy of every layer's input, and
    # dev stops the training in time.
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type=task)
    with quiet():
        return get_peft_model(model, config)


def begun_from(start: Path, folder: Path, *kinds: PartKind) -> Part:
    """The part whose training goes on.

    Raises:
        PartError: it is of another kind, or of another base model than the one in `folder`.
    """
    part = read_part(start, *kinds)
    check_base(part, base_weights(folder))
    return part


def take_adapter(model: Any, start: Path) -> None:
    """Put a part's LoRA weights into a model that `add_lora` has made ready for the same rank."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, {name: one.float() for name, one in load_file(start / ADAPTER).items()})


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
