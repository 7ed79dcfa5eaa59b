"""Train an Asker or Truster that is a small encoder with LoRA weights and a linear head, and measure it on dev.

Both learn from couples of a right and a wrong answer. Those of the Truster answer the same question; its loss is
-log sigmoid(r(right) - r(wrong)) (ART, Section 3.4) and half of the cross-entropy of right and wrong. Those of the
Asker are drawn from all questions, so that both classes weigh the same; its loss is the cross-entropy alone.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from artrag.evaluation.calibration import fit_calibration
from artrag.evaluation.predictions import Prediction, check_split, normal_question
from artrag.evaluation.scoring import score_rows
from artrag.models.encoder import EncoderAsker, EncoderTruster
from artrag.models.encoder_model import HEAD, VERSION, WINDOW, EncoderModel, encoded, open_encoder, scored, stacked
from artrag.models.local_chat import place
from artrag.models.parts import Kind, Part, sha256, write_part
from artrag.models.references import weights_folder
from artrag.models.weights import ADAPTER, CONFIG, base_weights
from artrag.models.wheels import Progress
from artrag.settings import EMBEDDED_ENCODER
from artrag.training.choosing import Choosing, Known, choose, ranking_figures, sources, summary
from artrag.training.encoder_data import (
    Couple,
    answers_seen,
    asker_couples,
    drawn,
    faced,
    item,
    measured,
    truster_couples,
)
from artrag.training.loop import CHECKPOINT, Loss, Plan, Run, Trained, straight
from artrag.training.lora import add_lora, check_extra, save_adapter
from artrag.training.lora_batches import Encoded

DEV_COUPLES = 300
"""Couples of dev that choose the checkpoint at most."""
MEASURED = 2000
"""Answers of dev that calibration, thresholds and figures rest on, give or take a question."""
CROSS_ENTROPY = 0.5


def train_encoder_asker(
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    *,
    base: str = EMBEDDED_ENCODER,
    epochs: int = 1,
    seed: int = 0,
    limit: int | None = None,
    choosing: Choosing | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the Asker and leave it in `out`; a killed run goes on when it is called again.

    Where rows of dev can be replayed, they choose the threshold; the refined answer stands for what the Truster will
    choose.

    Args:
        train: recorded answers with labels.
        dev: of other questions; they choose the checkpoint (by loss), the calibration and the threshold.
        out: folder of the part.
        base: reference of the encoder.
        epochs: passes over the couples, at most.
        seed: of couples, head and order.
        limit: use at most so many couples of train, and so many answers of dev.
        choosing: what the thresholds are chosen for.
        progress: told how far it is.

    Returns:
        `auc` and `within_question_auc` of "the draft is wrong", with intervals over questions; `thresholds`, `losses`,
        `rows`, `steps`, `stopped`, `tokens`, `seconds` and `peak_memory_mb`.

    Raises:
        TrainingDataError: one class only, or a question in both parts.
        MissingExtraError: the extra `train` is not installed.
    """
    plan = Plan(epochs=epochs, seed=seed, **_HOW)
    return _trained("asker", train, dev, out, base, plan, limit, choosing or Choosing(), progress)


def train_encoder_truster(
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    *,
    base: str = EMBEDDED_ENCODER,
    epochs: int = 1,
    seed: int = 0,
    limit: int | None = None,
    choosing: Choosing | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the Truster with the pairwise loss; arguments, figures and errors as for the Asker.

    Its figures are those of "the answer is right"; its thresholds are the margin and the abstention floor.
    """
    plan = Plan(epochs=epochs, seed=seed, **_HOW)
    return _trained("truster", train, dev, out, base, plan, limit, choosing or Choosing(), progress)


_NOBODY = Known({}, {}, {})
_HOW: dict[str, Any] = {"rate": 1e-3, "batch": 16, "rank": 16, "window": WINDOW, "evaluations": 8}


def _trained(
    kind: Kind,
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    base: str,
    plan: Plan,
    limit: int | None,
    choosing: Choosing,
    progress: Progress | None,
) -> dict[str, Any]:
    check_split(train, dev)
    begun = time.monotonic()
    couples = asker_couples if kind == "asker" else truster_couples
    learn = drawn(couples(train, seed=plan.seed), limit, plan.seed)
    check = drawn(couples(dev, seed=plan.seed), min(DEV_COUPLES, limit or DEV_COUPLES), plan.seed)
    rows = measured(kind, dev, min(MEASURED, limit or MEASURED), plan.seed)
    trained = _fitted(kind, learn, check, out, base, plan, progress)
    model = EncoderModel.load(weights_folder(base), out, window=plan.window)
    part = Part(
        kind=kind,
        variant="encoder",
        base=base,
        base_sha256=sha256(base_weights(weights_folder(base))),
        files=dict.fromkeys((ADAPTER, CONFIG, HEAD), ""),
        data=sources(train),
        options=asdict(plan) | {"text": VERSION} | answers_seen(learn),
    )
    if progress:
        progress("measuring on dev", 1.0)
    seen = faced(kind, rows)
    raw = np.asarray(model.scores([item(one) for one in seen]))
    right = np.asarray([bool(answer.correct) for _, answer in seen])
    scores, labels = (-raw, ~right) if kind == "asker" else (raw, right)
    told = [(normal_question(row.question), answer.source, answer.text) for row, answer in seen]
    part = replace(
        part, calibration=fit_calibration(raw, right).as_dict(), figures=ranking_figures(scores, labels, told)
    )
    asks, trusts = (EncoderAsker(model, part), _NOBODY) if kind == "asker" else (_NOBODY, EncoderTruster(model, part))
    part = replace(part, thresholds=choose([kind], score_rows(rows, asks, trusts).rows, choosing))
    write_part(out, part)
    (out / CHECKPOINT).unlink()
    return summary(part, trained, len(seen), begun)


def _fitted(
    kind: Kind,
    learn: Sequence[Couple],
    check: Sequence[Couple],
    out: Path,
    base: str,
    plan: Plan,
    progress: Progress | None,
) -> Trained:
    """Train, and leave adapter, its configuration and the head in `out`."""
    check_extra()
    import torch
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    folder = weights_folder(base, progress=progress)
    tell = progress or (lambda _what, _share: None)
    device, _ = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        encoder, tokenizer = open_encoder(folder)
        window = min(plan.window, int(encoder.config.max_position_embeddings))
        counts = {"in": len(learn), "shortened": 0}
        train = _encoded(tokenizer, window, learn, counts, tell)
        dev = _encoded(tokenizer, window, check, dict(counts), tell)
        encoder = add_lora(encoder, plan.rank)
        head = torch.nn.Linear(encoder.config.hidden_size, 1)
        model = torch.nn.ModuleDict({"encoder": encoder, "head": head}).to(device)
        mark = hashlib.sha256(
            json.dumps([kind, sha256(base_weights(folder)), asdict(plan), train, dev]).encode()
        ).hexdigest()
        run = Run(model, _loss(kind, tokenizer, device), plan, out, device, straight)
        trained = run.go(train, dev, counts, mark, tell, f"training the {kind}")
    save_adapter(encoder, out, base)
    weights = {"weight": head.weight.detach().cpu()[0].clone(), "bias": head.bias.detach().cpu()[0].clone()}
    save_file(weights, out / HEAD)
    return trained


def _encoded(
    tokenizer: Any, window: int, couples: Sequence[Couple], counts: dict[str, int], tell: Progress
) -> list[Encoded]:
    """The couples as (right, wrong) tokens; counts those of which one was cut."""
    made: list[Encoded] = []
    for done, couple in enumerate(couples):
        (right, one), (wrong, other) = (encoded(tokenizer, window, each) for each in couple)
        counts["shortened"] += one or other
        made.append((right, wrong))
        if done % 500 == 0:
            tell("reading answers", done / len(couples))
    return made


def _loss(kind: Kind, tokenizer: Any, device: str) -> Loss:
    from torch.nn.functional import softplus

    def loss(model: Any, couples: Sequence[Encoded]) -> Any:
        rows = [right for right, _ in couples] + [wrong for _, wrong in couples]
        found = scored(
            model["encoder"], model["head"].weight[0], model["head"].bias[0], stacked(tokenizer, rows, device)
        )
        right, wrong = found[: len(couples)], found[len(couples) :]
        cross_entropy = (softplus(-right).mean() + softplus(wrong).mean()) / 2
        return cross_entropy if kind == "asker" else softplus(wrong - right).mean() + CROSS_ENTROPY * cross_entropy

    return loss
