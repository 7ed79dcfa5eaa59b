"""Weights of models that are run here: a base model's file, and LoRA weights of ours that are added to it."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artrag.errors import ModelUnavailableError, PartError
from artrag.models.parts import PartKind, check_base, read_part

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def base_weights(folder: Path) -> Path:
    """The weights file of a base model.

    Raises:
        ModelUnavailableError: there is no single safetensors file.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelUnavailableError(f"no 'model.safetensors' in {str(folder)!r}: name a small model kept in one file")
    return weights


def teach(model: Any, base: Path, folder: Path, *kinds: PartKind) -> None:
    """Add a trained part's weights to the model that it was trained on.

    Raises:
        PartError: the part is damaged, of another kind, or was trained on another model.
    """
    check_base(read_part(folder, *kinds), base_weights(base))
    try:
        merge_lora(model, folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise PartError(f"the weights in {str(folder)!r} do not fit {str(base)!r} ({error}): train it again") from None


def merge_lora(encoder: Any, folder: Path) -> None:
    """Add the LoRA weights (Hu et al., arXiv 2106.09685) to the matrices that they belong to."""
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / CONFIG).read_text("utf-8"))
    tensors = load_file(folder / ADAPTER)
    weights = dict(encoder.named_parameters())
    down = {name: tensor for name, tensor in tensors.items() if ".lora_A." in name}
    if not down or len(tensors) != 2 * len(down):
        raise ValueError(f"{ADAPTER} has {len(down)} pairs of LoRA matrices among {len(tensors)} tensors")
    with torch.no_grad():
        for name, first in down.items():
            target = weights[name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")]
            change = tensors[name.replace(".lora_A.", ".lora_B.")].float() @ first.float()
            if change.shape != target.shape:
                raise ValueError(f"{name} is for a matrix {tuple(change.shape)}, not {tuple(target.shape)}")
            target += config["lora_alpha"] / config["r"] * change


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers tells of a new head as of a fault, and peft calls what transformers has deprecated."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    told = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(told)
