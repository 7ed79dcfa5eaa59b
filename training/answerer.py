"""Stage 1 of SimRAG: teach a local chat model to answer from passages, to find candidate answers, and to ask.

LoRA weights, the loss on answers only, each answer counting the same. Questions about the same passages are read
together (`artrag.training.branches`).
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

from artrag.errors import TrainingDataError
from artrag.evaluation.predictions import normal_question
from artrag.models.causal_model import open_base
from artrag.models.local_chat import place
from artrag.models.parts import Part, PartKind, sha256, write_part
from artrag.models.references import ModelReference, base_reference, weights_folder
from artrag.models.weights import ADAPTER, CONFIG, base_weights
from artrag.models.wheels import Progress
from artrag.settings import EMBEDDED_BASE
from artrag.training.answerer_data import Example, rows_of
from artrag.training.branches import branches_loss
from artrag.training.loop import CHECKPOINT, Plan, Run
from artrag.training.lora import add_lora, begun_from, check_extra, save_adapter, take_adapter

HOW = Plan(epochs=1, rate=5e-4, batch=4, warmup=0.05, rank=16, window=1024, evaluations=4, patience=4)
"""A row of the batch is up to 8 examples with the same passages."""
DONE = "trained.json"
ASKED = ("answer", "verify")
"""Tasks whose question must not be known from training where it measures."""


def train_answerer(
    train: Sequence[Example],
    dev: Sequence[Example],
    out: Path,
    *,
    base: str = EMBEDDED_BASE,
    kind: PartKind = "answerer",
    plan: Plan = HOW,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave the part in `out`; a killed run goes on when it is called again, a finished one is not repeated.

    Args:
        train: examples of any of the four tasks.
        dev: other ones, about other passages; they choose the checkpoint.
        out: folder of the part.
        base: reference of the chat model; where it has a trained part, that one's weights are trained on.
        kind: what becomes of it, "answerer" or "verifier".
        plan: how to train.
        progress: told how far it is.

    Returns:
        `rows`: examples `in`, `shortened` and `dropped`, and rows `read`; losses, steps, tokens, seconds, memory.

    Raises:
        TrainingDataError: nothing fits, or a question of dev is in train.
        PartError: the answerer named with the base is none, or not of this base model.
        MissingExtraError: the extra `train` is not installed.
    """
    check_apart(train, dev)
    check_extra()
    import torch

    from artrag.training.attention import with_blocks
    from artrag.training.merged import train_merged

    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    start, base = ModelReference.parse(base).part, base_reference(base)
    folder = weights_folder(base, progress=progress)
    device, dtype = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        model, tokenizer = open_base(folder, "words")
        with_blocks(model)
        window = min(plan.window, int(model.config.max_position_embeddings))
        counts, aside = ({"in": 0, "shortened": 0, "dropped": 0} for _ in range(2))
        learn = rows_of(tokenizer, train, window, counts)
        check = rows_of(tokenizer, dev, window, aside)
        if not learn or not check:
            raise TrainingDataError(
                f"{len(learn)} rows to learn from and {len(check)} of dev fit {window} tokens: give shorter or more"
            )
        rank = int(begun_from(start, folder, "answerer", "verifier").options["rank"]) if start else plan.rank
        model = add_lora(model, rank, "CAUSAL_LM")
        if start:
            take_adapter(model, start)
        train_merged(model.to(device), dtype)
        each = sum(len(row) // 2 for row in [*learn, *check]) / (len(learn) + len(check))
        begun_at = sha256(start / ADAPTER) if start else ""
        about = [sha256(base_weights(folder)), begun_at, asdict(plan), learn, check]
        mark = sha256_of(json.dumps(about).encode()).hexdigest()
        if told := _done(out, mark):
            return told
        run = Run(model, lambda m, rows: branches_loss(m, rows, device) / each, plan, out, device)
        tell = progress or (lambda _what, _share: None)
        trained = run.go(learn, check, counts | {"read": len(learn)}, mark, tell, "fine-tuning")
    save_adapter(model, out, base)
    sources = Counter(one.source or one.task for one in train)
    part = Part(
        kind=kind,
        variant="causal",
        base=base,
        base_sha256=sha256(base_weights(folder)),
        files=dict.fromkeys((ADAPTER, CONFIG), ""),
        figures={"dev_loss": {"value": trained.dev_loss}},
        data=[{"source": source, "examples": count} for source, count in sorted(sources.items())],
        options=asdict(plan) | {"rank": rank},
    )
    write_part(out, part)
    told = {
        "kind": kind,
        "rows": trained.rows | {"dev": len(dev)},
        **trained.told(time.monotonic() - begun),
    }
    (out / DONE).write_text(json.dumps({"mark": mark, "told": told}), "utf-8")
    (out / CHECKPOINT).unlink()
    return told


def _done(out: Path, mark: str) -> dict[str, Any] | None:
    """What a finished run told, where it was this very one."""
    try:
        known = json.loads((out / DONE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    told: dict[str, Any] = known["told"]
    return told if known["mark"] == mark and (out / ADAPTER).exists() else None


def hold_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(train, dev): about every seventh example is dev, those with the same passages together; no question is both."""
    out = [sha256_of(repr(one.passages or one.question).encode()).digest()[0] % 7 == 0 for one in examples]
    learn = [one for one, held in zip(examples, out, strict=True) if not held]
    return learn, unasked([one for one, held in zip(examples, out, strict=True) if held], learn)


def unasked(examples: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    """The examples without those whose question the others ask, too."""
    known = {normal_question(one.question) for one in others if one.task in ASKED}
    return [one for one in examples if one.task not in ASKED or normal_question(one.question) not in known]


def check_apart(train: Sequence[Example], test: Sequence[Example]) -> None:
    """Refuse questions of the test that were learned from.

    Raises:
        TrainingDataError: there are some; it says how many, and one of them.
    """
    known = {normal_question(one.question) for one in train if one.task in ASKED}
    both = [one.question for one in test if one.task in ASKED and normal_question(one.question) in known]
    if both:
        raise TrainingDataError(
            f"{len(both)} questions are in the training data and in what it is measured by, such as {both[0]!r}: "
            "split by question"
        )
