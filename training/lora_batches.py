"""Rows and pairs as tokens, in steps and batches, and the two losses over them."""

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from artrag.models.causal_model import fitted, padded
from artrag.models.local_chat import place
from artrag.models.writing import inert
from artrag.training.causal_data import Pair, Row

NEIGHBOURS = 8
"""Steps whose rows are sorted by length together: little padding, and still a random order."""
TOGETHER = {"cpu": 1024, "cuda": 16384}
"""Tokens read side by side. It bounds the memory (3 GB with the embedded model), and a CPU is no faster with more."""

Encoded = tuple[tuple[int, ...], ...]
"""A row: (prompt, answer) tokens. A pair: (right, wrong) tokens."""


def encode_rows(tokenizer: Any, rows: Sequence[Row], window: int, counts: dict[str, int]) -> list[Encoded]:
    """Rows as tokens of at most `window`; `counts` tells how many were shortened and dropped. No answer is cut."""
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


def encode_pairs(tokenizer: Any, pairs: Sequence[Pair], window: int, counts: dict[str, int]) -> list[Encoded]:
    """Pairs as tokens; arguments as for `encode_rows`. A pair of which one side cannot fit is dropped."""
    made: list[Encoded] = []
    for pair in pairs:
        right, wrong = fitted(tokenizer, pair["right"], window), fitted(tokenizer, pair["wrong"], window)
        counts["dropped"] += right is None or wrong is None
        if right is not None and wrong is not None:
            counts["shortened"] += right[1] or wrong[1]
            made.append((tuple(right[0]), tuple(wrong[0])))
    return made


def completion_loss(model: Any, rows: Sequence[Encoded], pad: int, device: str) -> Any:
    """The mean over rows of the mean over each row's answer tokens; the head sees no other column."""
    import torch

    batch = padded([prompt + answer for prompt, answer in rows], pad, device)
    lengths = torch.tensor([len(answer) for _, answer in rows], device=device)
    keep = int(lengths.max())
    logits = model(**batch, logits_to_keep=keep + 1, use_cache=False).logits[:, :-1].float()
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["input_ids"][:, -keep:], reduction="none")
    ours = torch.arange(keep, 0, -1, device=device)[None] <= lengths[:, None]
    return ((each * ours).sum(1) / lengths).mean()


def ranking_loss(model: Any, pairs: Sequence[Encoded], pad: int, device: str) -> Any:
    """-log sigmoid(r(right) - r(wrong)), the mean over pairs (ART, equation in Section 3.4)."""
    import torch

    batch = padded([right for right, _ in pairs] + [wrong for _, wrong in pairs], pad, device)
    rewards = model(**batch, use_cache=False).logits[:, 0].float()
    return -torch.nn.functional.logsigmoid(rewards[: len(pairs)] - rewards[len(pairs) :]).mean()


def steps_of(sizes: Sequence[int], *, epochs: int, batch: int, seed: int) -> Iterator[list[int]]:
    """The row numbers of each step, over all epochs; the same for the same seed."""
    for epoch in range(epochs):
        draw = random.Random(f"{seed} {epoch}")  # noqa: S311
        order = draw.sample(range(len(sizes)), len(sizes))
        near = batch * NEIGHBOURS
        order = [i for at in range(0, len(order), near) for i in sorted(order[at : at + near], key=sizes.__getitem__)]
        steps = [order[at : at + batch] for at in range(0, len(order), batch)]
        draw.shuffle(steps)
        yield from steps


def batches(rows: Sequence[Encoded], device: str) -> Iterator[list[Encoded]]:
    """The rows in batches that hold no more tokens than the memory bears, padding counted; a long row stands alone."""
    batch: list[Encoded] = []
    for row in sorted(rows, key=lambda row: sum(map(len, row))):  # so the latest row is the longest
        if batch and (len(batch) + 1) * sum(map(len, row)) > TOGETHER[device]:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def fast(device: str) -> AbstractContextManager[Any]:
    """Bfloat16 where the hardware is fast in it; the weights and the loss stay in float32."""
    import torch

    dtype = place()[1]
    return torch.autocast(device, dtype) if dtype is torch.bfloat16 else nullcontext()
