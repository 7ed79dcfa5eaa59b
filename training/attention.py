"""Attention over a trunk and its branches, in blocks of rows, with a gradient that a CPU computes fast.

Each block of rows sees the keys up to its own end and no more, and the weights are kept for the gradient: the fused
kernel of PyTorch reads the whole square and computes the weights twice, which took half of a training step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from artrag.models.decoding import plain_attention

NAME = "artrag_branches"
ROWS = 256
"""Rows of a block: few enough that its weights stay in the cache."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows `start` to `end`: all see the keys before `fully`, and of those from there to `end` where `mask` is 0.

    `mask` is (end - start, end - fully), 0 or the lowest number of its type.
    """

    start: int
    end: int
    fully: int
    mask: Any


def blocks_of(sees: Any, trunk: int, begins: int, dtype: torch.dtype) -> list[Block]:
    """The blocks of a row of n tokens: `trunk` tokens that all see, and from `begins` on the branches.

    `sees` is (n, n): which tokens each one sees.
    """
    made = []
    for first, last in ((0, begins), (begins, len(sees))):
        for start in range(first, last, ROWS):
            end, fully = min(last, start + ROWS), min(start, trunk)
            seen = sees[start:end, fully:end]
            mask = torch.zeros(seen.shape, dtype=dtype, device=sees.device)
            made.append(Block(start, end, fully, mask.masked_fill_(~seen, torch.finfo(dtype).min)))
    return made


def seen(model: Any, sees: Any, trunk: int, begins: int) -> dict[str, Any]:
    """What a model is told of who sees whom: the blocks where it attends in blocks, else the mask of the whole row."""
    if model.config._attn_implementation == NAME:
        return {"blocks": blocks_of(sees, trunk, begins, model.dtype)}
    mask = torch.zeros(sees.shape, dtype=model.dtype, device=sees.device)
    return {"attention_mask": mask.masked_fill_(~sees, torch.finfo(model.dtype).min)[None, None]}


def attend(
    _module: Any, query: Any, key: Any, value: Any, _mask: Any, *, scaling: float, blocks: Sequence[Block], **_: Any
) -> tuple[Any, None]:
    """The form that transformers asks of an attention; query is (1, heads, n, d), key and value (1, groups, n, d)."""
    made = _Attention.apply(query[0], key[0], value[0], blocks, scaling)  # type: ignore[no-untyped-call]
    return made[None], None


def with_blocks(model: Any) -> None:
    """Have a model attend so, if its layers are plain attention: nothing else is added to its scores."""
    from transformers import AttentionInterface

    if not plain_attention(model.config):
        return
    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)


class _Attention(torch.autograd.Function):
    """softmax(scale·QKᵀ + mask)·V; heads / groups of the queries share a key. Returns (n, heads, d)."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, blocks: Sequence[Block], scale: float) -> Any:
        heads, n, d = query.shape
        groups = len(key)
        made, kept = query.new_empty(n, heads, d), []
        query, across = query * scale, key.transpose(1, 2)
        for one in blocks:
            rows = one.end - one.start
            asked = query[:, one.start : one.end].reshape(groups, -1, d)
            scores = torch.bmm(asked, across[..., : one.end])
            scores.view(groups, -1, rows, one.end)[..., one.fully :] += one.mask
            weights = torch.softmax(scores, -1)
            made[one.start : one.end] = torch.bmm(weights, value[:, : one.end]).view(heads, rows, d).transpose(0, 1)
            kept.append(weights)
        ctx.save_for_backward(query, key, value, made, *kept)
        ctx.blocks, ctx.scale = blocks, scale
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, value, made, *kept = ctx.saved_tensors
        (heads, _, d), groups = query.shape, len(key)
        grad = grad.transpose(0, 1).contiguous()
        inner = (grad.float() * made.transpose(0, 1).float()).sum(-1, keepdim=True).to(grad.dtype)
        across = value.transpose(1, 2)
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros_like(one, dtype=torch.float32) for one in (key, value))
        for one, weights in zip(ctx.blocks, kept, strict=True):
            asked, told, sums = (
                whole[:, one.start : one.end].reshape(groups, -1, whole.shape[-1]) for whole in (query, grad, inner)
            )
            of_value[:, : one.end] += torch.bmm(weights.transpose(1, 2), told)
            of_scores = torch.bmm(told, across[..., : one.end]).sub_(sums).mul_(weights)
            of_query[:, one.start : one.end] = torch.bmm(of_scores, key[:, : one.end]).view(heads, -1, d)
            of_key[:, : one.end] += torch.bmm(of_scores.transpose(1, 2), asked)
        return of_query * ctx.scale, of_key.to(key.dtype), of_value.to(value.dtype), None, None
