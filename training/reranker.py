"""Train a reranker: a small encoder that reads a question and a passage together, with LoRA weights and a linear head.

Each question is shown with its passage and with others of the same group that BM25 finds near it; the loss is the
cross-entropy of the right one among them (as in Nogueira et al., arXiv 2003.06713, listwise).
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

from artrag.errors import TrainingDataError
from artrag.evaluation.intervals import clustered
from artrag.index.bm25 import BM25
from artrag.index.tokens import tokenize
from artrag.models.encoder_model import HEAD, Row, open_encoder, scored, stacked
from artrag.models.local_chat import place
from artrag.models.parts import Part, sha256, write_part
from artrag.models.references import weights_folder
from artrag.models.reranker import couple
from artrag.models.weights import ADAPTER, CONFIG, base_weights
from artrag.models.wheels import Progress
from artrag.settings import EMBEDDED_ENCODER
from artrag.training.loop import CHECKPOINT, Loss, Plan, Run, straight
from artrag.training.lora import add_lora, check_extra, save_adapter
from artrag.training.lora_batches import Encoded
from artrag.training.retriever import Couple, check_groups

HOW = Plan(epochs=1, rate=6e-4, batch=4, warmup=0.06, rank=32, window=224, evaluations=5, patience=5)
OTHERS = 7
"""Wrong passages a question."""
NEAR = 30
"""The wrong passages are drawn from so many that BM25 finds nearest."""
MOST_DEV = 256


def train_reranker(
    train: Sequence[Couple],
    dev: Sequence[Couple],
    out: Path,
    *,
    base: str = EMBEDDED_ENCODER,
    plan: Plan = HOW,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave the part in `out`; a killed run goes on when it is called again.

    Args:
        train: couples to learn from.
        dev: couples of other groups; they choose the checkpoint.
        out: folder of the part.
        base: reference of the encoder.
        plan: how to train.
        limit: use at most so many couples of train.
        progress: told how far it is.

    Returns:
        `first`, the share of dev's questions whose passage is put first of 8, with an interval, beside BM25's
        (`bm25_first`); losses, rows, steps, seconds and memory.

    Raises:
        TrainingDataError: too few couples, or a group in both parts.
        MissingExtraError: the extra `train` is not installed.
    """
    check_groups(train, dev)
    check_extra()
    import torch
    from safetensors.torch import save_file

    begun = time.monotonic()
    tell = progress or (lambda _what, _share: None)
    out.mkdir(parents=True, exist_ok=True)
    folder = weights_folder(base, progress=progress)
    device, _ = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        encoder, tokenizer = open_encoder(folder)
        window = min(plan.window, int(encoder.config.max_position_embeddings))
        learn = lists(train, plan.seed, limit, tell)
        check = lists(dev, plan.seed, MOST_DEV, tell)
        learned, held = (
            [tuple(couple(tokenizer, window, asked.question, text) for text in texts) for asked, texts in side]
            for side in (learn, check)
        )
        encoder = add_lora(encoder, plan.rank)
        head = torch.nn.Linear(encoder.config.hidden_size, 1)
        model = torch.nn.ModuleDict({"encoder": encoder, "head": head}).to(device)
        mark = sha256_of(json.dumps([sha256(base_weights(folder)), asdict(plan), learned, held]).encode()).hexdigest()
        run = Run(model, _loss(tokenizer, device), plan, out, device, straight)
        trained = run.go(learned, held, {"in": len(train)}, mark, tell, "training the reranker")
        model.eval()
        with torch.inference_mode():
            firsts = [float(_scores(model, row, tokenizer, device).argmax() == 0) for row in held]
    save_adapter(encoder, out, base)
    weights = {"weight": head.weight.detach().cpu()[0].clone(), "bias": head.bias.detach().cpu()[0].clone()}
    save_file(weights, out / HEAD)
    groups = [asked.group or asked.source for asked, _ in check]
    figures = {
        "first": asdict(clustered(firsts, groups)),
        "bm25_first": asdict(clustered([float(_bm25_first(*one)) for one in check], groups)),
    }
    names = sorted({one.group for one in train if one.group})
    part = Part(
        kind="reranker",
        variant="encoder",
        base=base,
        base_sha256=sha256(base_weights(folder)),
        files=dict.fromkeys((ADAPTER, CONFIG, HEAD), ""),
        figures=figures,
        data=[{"source": name, "couples": sum(one.group == name for one in train)} for name in names],
        options=asdict(plan),
    )
    write_part(out, part)
    (out / CHECKPOINT).unlink()
    return {
        "kind": "reranker",
        **figures,
        "rows": {"train": len(learn), "dev": len(check)},
        **trained.told(time.monotonic() - begun),
    }


def lists(
    couples: Sequence[Couple], seed: int, limit: int | None, tell: Progress
) -> list[tuple[Couple, tuple[str, ...]]]:
    """Each couple with its passage and 7 others of its group, the right one first; those without 7 are left out.

    Raises:
        TrainingDataError: none is left.
    """
    draw = random.Random(seed)  # noqa: S311
    by_group: dict[str, list[Couple]] = {}
    for one in couples:
        by_group.setdefault(one.group, []).append(one)
    wanted = {id(one) for one in draw.sample(list(couples), min(limit or len(couples), len(couples)))}
    made = []
    for done, group in enumerate(by_group.values()):
        tell("looking for wrong passages", done / len(by_group))
        texts = list(dict.fromkeys(one.passage for one in group))
        found = BM25.build(tokenize(text) for text in texts)
        for one in group:
            if id(one) in wanted:
                near = [texts[row] for row, _ in found.top(tokenize(one.question), NEAR + 1)]
                near = [text for text in near if text != one.passage][:NEAR]
                if len(near) >= OTHERS:
                    made.append((one, (one.passage, *draw.sample(near, OTHERS))))
    if not made:
        raise TrainingDataError(f"no question has {OTHERS} other passages of its group near it: give larger groups")
    return made


def _bm25_first(asked: Couple, texts: Sequence[str]) -> bool:
    best = BM25.build(tokenize(text) for text in texts).top(tokenize(asked.question), 1)
    return bool(best) and best[0][0] == 0


def _scores(model: Any, row: Sequence[Row], tokenizer: Any, device: str) -> Any:
    return scored(model["encoder"], model["head"].weight[0], model["head"].bias[0], stacked(tokenizer, row, device))


def _loss(tokenizer: Any, device: str) -> Loss:
    from torch.nn.functional import log_softmax

    def loss(model: Any, rows: Sequence[Encoded]) -> Any:
        found = _scores(model, [text for row in rows for text in row], tokenizer, device)
        return -log_softmax(found.view(len(rows), -1), dim=1)[:, 0].mean()

    return loss
