"""Train a retriever: LoRA weights that teach an encoder which passage answers a question.

Couples of a question and its passage are read in batches; each question must find its own passage among the batch's,
by the cosine of the mean vectors (the dense arm) and by MaxSim over content tokens (late interaction), both with the
in-batch cross-entropy of contrastive learning (InfoNCE; van den Oord et al., arXiv 1807.03748). A batch is made of two
groups, of one book, package or site each, so that the wrong passages are near the right one.
"""

import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

import numpy as np

from artrag.errors import TrainingDataError
from artrag.evaluation.intervals import clustered
from artrag.evaluation.rows import read_rows
from artrag.models.encoder_model import open_encoder
from artrag.models.local_chat import place
from artrag.models.local_embeddings import content_tokens
from artrag.models.parts import Part, sha256, write_part
from artrag.models.references import ModelReference, base_reference, weights_folder
from artrag.models.weights import ADAPTER, CONFIG, base_weights
from artrag.models.wheels import Progress
from artrag.models.writing import inert
from artrag.settings import EMBEDDED_ENCODER
from artrag.training.loop import CHECKPOINT, Loss, Plan, Run, straight
from artrag.training.lora import add_lora, begun_from, check_extra, save_adapter, take_adapter
from artrag.training.lora_batches import Encoded

HOW = Plan(epochs=1, rate=4e-4, batch=1, warmup=0.04, rank=32, window=192, evaluations=5, patience=5)
"""A batch is a row of it already, of `COUPLES` couples."""
COUPLES = 32
GROUP = 16
QUESTION = 48
"""Tokens of a question that are read in training."""
DENSE_SCALE, LATE_SCALE = 20.0, 33.0
"""Cosines are multiplied by it: inverse temperatures of the two losses."""
MOST_DEV = 512
"""Couples of dev at most."""


@dataclass(frozen=True, slots=True)
class Couple:
    """A question and the passage that answers it.

    Attributes:
        question: the question.
        passage: as the index would embed it, context first.
        group: what it was taken from (a package, a book, a site): its other passages are the hard wrong ones.
        source: its part of the group (a file, a page): couples of the same stay together.
    """

    question: str
    passage: str
    group: str
    source: str


def read_couples(*paths: Path) -> list[Couple]:
    """Couples from JSON Lines with `question`, `passage`, `group` and `source`; the last two may be missing.

    Raises:
        TrainingDataError: a line has no question or no passage.
    """
    found = []
    for path in paths:
        for number, row in read_rows(path):
            question, passage = row.get("question"), row.get("passage")
            if not (isinstance(question, str) and question.strip() and isinstance(passage, str) and passage.strip()):
                raise TrainingDataError(
                    f"line {number} of {str(path)!r} has no question and passage: give each line both, as text"
                )
            group = str(row.get("group", ""))
            found.append(Couple(question, passage, group, str(row.get("source", group))))
    return found


def hold_out(couples: Sequence[Couple]) -> tuple[list[Couple], list[Couple]]:
    """(train, dev): about every eighth group is dev; of couples without a group, or of but one, every eighth source."""
    if len({couple.group for couple in couples}) == 1:
        couples = [replace(couple, group="") for couple in couples]
    held = [sha256_of((couple.group or couple.source).encode()).digest()[0] % 8 == 0 for couple in couples]
    return (
        [couple for couple, out in zip(couples, held, strict=True) if not out],
        [couple for couple, out in zip(couples, held, strict=True) if out],
    )


def check_groups(train: Sequence[Couple], dev: Sequence[Couple]) -> None:
    """Refuse too few couples, and a group on both sides.

    Raises:
        TrainingDataError: it is so.
    """
    shared = {couple.group for couple in train} & {couple.group for couple in dev} - {""}
    if shared:
        raise TrainingDataError(
            f"the group {min(shared)!r} is in train and in dev: split by group, or dev says nothing of other texts"
        )
    if min(len(train), len(dev)) < 2:
        raise TrainingDataError(f"{len(train)} couples to learn from and {len(dev)} of dev: give at least 2 of each")


def train_retriever(
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
        base: reference of the encoder; where it has a trained retriever, that one's weights are trained on.
        plan: how to train; a `batch` is so many times 32 couples.
        limit: use at most so many couples of train.
        progress: told how far it is.

    Returns:
        `dense` and `late`, the share of dev's questions that find their passage first in a batch of 32, with intervals
        and beside those of the model before (`base_dense`, `base_late`); losses, rows, steps, seconds and memory.

    Raises:
        TrainingDataError: too few couples, or a group in both parts.
        PartError: the retriever named with the base is none, or not of this base model.
        MissingExtraError: the extra `train` is not installed.
    """
    check_groups(train, dev)
    check_extra()
    import torch

    begun = time.monotonic()
    tell = progress or (lambda _what, _share: None)
    out.mkdir(parents=True, exist_ok=True)
    start, base = ModelReference.parse(base).part, base_reference(base)
    folder = weights_folder(base, progress=progress)
    rank = int(begun_from(start, folder, "retriever").options["rank"]) if start else plan.rank
    device, _ = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        encoder, tokenizer = open_encoder(folder)
        window = min(plan.window, int(encoder.config.max_position_embeddings))
        learn, check = grouped(train, plan.seed)[: limit and max(1, limit // COUPLES)], grouped(dev, plan.seed)
        check = check[: MOST_DEV // COUPLES]
        learned, held = ([_encoded(tokenizer, window, batch) for batch in _told(side, tell)] for side in (learn, check))
        model = add_lora(encoder, rank)
        if start:
            take_adapter(model, start)
        model = model.to(device)
        content = torch.from_numpy(content_tokens(tokenizer)).to(device)
        before = _firsts(model, check, held, content, tokenizer.pad_token_id, device)
        begun_at = sha256(start / ADAPTER) if start else ""
        about = [sha256(base_weights(folder)), begun_at, asdict(plan), learned, held]
        mark = sha256_of(json.dumps(about).encode()).hexdigest()
        run = Run(model, _loss(content, tokenizer.pad_token_id, device), plan, out, device, straight)
        trained = run.go(learned, held, {"in": len(train)}, mark, tell, "training the retriever")
        after = _firsts(model, check, held, content, tokenizer.pad_token_id, device)
    save_adapter(model, out, base)
    figures = after | {f"base_{name}": value for name, value in before.items()}
    groups = sorted({couple.group for couple in train if couple.group})
    part = Part(
        kind="retriever",
        variant="encoder",
        base=base,
        base_sha256=sha256(base_weights(folder)),
        files=dict.fromkeys((ADAPTER, CONFIG), ""),
        figures=figures,
        data=[{"source": group, "couples": sum(one.group == group for one in train)} for group in groups],
        options=asdict(plan) | {"rank": rank},
    )
    write_part(out, part)
    (out / CHECKPOINT).unlink()
    return {
        "kind": "retriever",
        **figures,
        "rows": {"train": len(train), "dev": sum(map(len, check))},
        **trained.told(time.monotonic() - begun),
    }


def grouped(couples: Iterable[Couple], seed: int) -> list[list[Couple]]:
    """Batches of two groups' couples, those of a source side by side; the same for the same seed.

    A last batch of fewer than 2 couples is left out: there would be nothing to choose from.
    """
    draw = random.Random(seed)  # noqa: S311
    by_group: dict[str, dict[str, list[Couple]]] = {}
    for couple in couples:
        by_group.setdefault(couple.group, {}).setdefault(couple.source, []).append(couple)
    blocks = []
    for sources in by_group.values():
        order = list(sources.values())
        draw.shuffle(order)
        row = [couple for source in order for couple in draw.sample(source, len(source))]
        blocks += [row[at : at + GROUP] for at in range(0, len(row), GROUP)]
    draw.shuffle(blocks)
    row = [couple for block in blocks for couple in block]
    batches = [row[at : at + COUPLES] for at in range(0, len(row), COUPLES)]
    return [batch for batch in batches if len(batch) > 1]


def _told(batches: Sequence[Sequence[Couple]], tell: Progress) -> Iterable[Sequence[Couple]]:
    for done, batch in enumerate(batches):
        tell("reading couples", done / len(batches))
        yield batch


def _encoded(tokenizer: Any, window: int, batch: Sequence[Couple]) -> Encoded:
    """A batch as one row: the tokens of its questions, then those of its passages."""
    texts = [(couple.question, min(QUESTION, window)) for couple in batch]
    texts += [(couple.passage, window) for couple in batch]
    return tuple(
        tuple(tokenizer(inert(tokenizer, text), truncation=True, max_length=most)["input_ids"]) for text, most in texts
    )


def similarities(model: Any, row: Encoded, content: Any, pad: int, device: str) -> tuple[Any, Any]:
    """Of each question with each passage of a batch: the cosine of the means and MaxSim, both (couples, couples)."""
    import torch

    half = len(row) // 2
    (asked, asked_tokens, asked_mask), (mean, tokens, mask) = (
        _states(model, side, content, pad, device) for side in (row[:half], row[half:])
    )
    near = torch.einsum("iqd,jpd->ijqp", asked_tokens, tokens).masked_fill(~mask[None, :, None], -1.0).amax(-1)
    late = (near * asked_mask[:, None]).sum(-1) / asked_mask.sum(1)[:, None]
    return asked @ mean.T, late


def _states(model: Any, rows: Sequence[Sequence[int]], content: Any, pad: int, device: str) -> tuple[Any, Any, Any]:
    """Unit means (rows, d), unit token vectors (rows, tokens, d), and which of these tokens carry meaning."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows], device=device)
    states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    kept = mask & content[ids]
    kept = torch.where(kept.any(1, keepdim=True), kept, mask)
    return torch.nn.functional.normalize(mean, dim=1), torch.nn.functional.normalize(states, dim=2), kept


def _twins(row: Encoded, device: str) -> Any:
    """(couples, couples): other questions of the very same passage, which are no wrong answers."""
    import torch

    passages = row[len(row) // 2 :]
    same = [[i != j and one == other for j, other in enumerate(passages)] for i, one in enumerate(passages)]
    return torch.tensor(same, device=device)


def _loss(content: Any, pad: int, device: str) -> Loss:
    import torch
    from torch.nn.functional import cross_entropy

    def loss(model: Any, rows: Sequence[Encoded]) -> Any:
        total: Any = 0.0
        for row in rows:
            dense, late = similarities(model, row, content, pad, device)
            own, twins = torch.arange(len(dense), device=device), _twins(row, device)
            for found, scale in ((dense, DENSE_SCALE), (late, LATE_SCALE)):
                total = total + cross_entropy((found * scale).masked_fill(twins, -1e4), own)
        return total / len(rows)

    return loss


def _firsts(
    model: Any, batches: Sequence[Sequence[Couple]], rows: Sequence[Encoded], content: Any, pad: int, device: str
) -> dict[str, Any]:
    """The share of questions whose own passage comes first among the batch's, by both arms; groups are resampled."""
    import torch

    model.eval()
    hits: dict[str, list[float]] = {"dense": [], "late": []}
    with torch.inference_mode():
        for row in rows:
            twins = _twins(row, device)
            for name, found in zip(hits, similarities(model, row, content, pad, device), strict=True):
                best = found.masked_fill(twins, -1.0).argmax(1).cpu().numpy()
                hits[name] += (best == np.arange(len(best))).astype(float).tolist()
    groups = [couple.group or couple.source for batch in batches for couple in batch]
    return {name: asdict(clustered(values, groups)) for name, values in hits.items()}
