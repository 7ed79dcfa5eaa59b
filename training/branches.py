"""Several answers after one prompt, read in one pass: passages are read once for all questions about them.

A row is a trunk and its branches. Each branch goes on from the trunk as if it stood alone: its tokens see the trunk and
their own branch, and their positions count from the trunk's end. The loss is that of the rows one by one, up to
rounding; of eight questions about 500 tokens of passages, four fifths of the tokens need not be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from artrag.training.lora_batches import Encoded

Tokens = tuple[int, ...]
MULTIPLE = 64
"""Trunk and row are padded to multiples of this: rows of many lengths were read faster so (`docs/experiments.md`)."""
TRUNK, NOBODY = -1, -2


def trunk_of(rows: Sequence[tuple[Tokens, Tokens]]) -> Encoded:
    """(prompt, answer) rows as one: the trunk, then what each prompt has beyond it, and its answer, in turn.

    The trunk is what all prompts begin with, without its last token: a branch needs one that leads to its answer.
    """
    prompts = [prompt for prompt, _ in rows]
    shortest = min(map(len, prompts))
    alike = next((at for at in range(shortest) if len({prompt[at] for prompt in prompts}) > 1), shortest)
    alike = min(alike, shortest - 1)
    parts = [part for prompt, answer in rows for part in (prompt[alike:], answer)]
    return (prompts[0][:alike], *parts)


@dataclass(frozen=True, slots=True)
class Laid:
    """A row as one sequence of n tokens, padded after the trunk and at the end.

    Attributes:
        ids: the tokens, (n,).
        positions: of each, (n,).
        sees: which tokens each one sees, (n, n).
        before: the places whose next token is learned, (m,).
        targets: these next tokens, (m,).
        branch: to which branch each of them belongs, (m,).
        trunk: tokens of the trunk.
        start: where the branches begin; between are tokens that nobody sees.
    """

    ids: Any
    positions: Any
    sees: Any
    before: Any
    targets: Any
    branch: Any
    trunk: int
    start: int


def laid(row: Encoded, device: str) -> Laid:
    """Trunk and branches side by side."""
    import torch

    trunk, *parts = row
    ids, positions, owner = list(trunk), list(range(len(trunk))), [TRUNK] * len(trunk)

    def pad() -> None:
        for values, filler in ((ids, 0), (positions, 0), (owner, NOBODY)):
            values += [filler] * (-len(values) % MULTIPLE)

    pad()
    begins = len(ids)
    before: list[int] = []
    targets: list[int] = []
    branch: list[int] = []
    for n, (asked, answer) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        start = len(ids) + len(asked)
        before += range(start - 1, start - 1 + len(answer))
        targets += answer
        branch += [n] * len(answer)
        ids += [*asked, *answer]
        positions += range(len(trunk), len(trunk) + len(asked) + len(answer))
        owner += [n] * (len(asked) + len(answer))
    pad()
    own = torch.tensor(owner, device=device)
    place = torch.arange(len(ids), device=device)
    sees = (place[:, None] >= place) & ((own[:, None] == own) | (own == TRUNK))
    return Laid(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions, device=device),
        sees=sees,
        before=torch.tensor(before, device=device),
        targets=torch.tensor(targets, device=device),
        branch=torch.tensor(branch, device=device),
        trunk=len(trunk),
        start=begins,
    )


def branches_loss(model: Any, rows: Sequence[Encoded], device: str) -> Any:
    """The sum over all answers of the mean over their tokens, divided by the number of rows."""
    import torch

    with torch.autocast(device, enabled=False):  # the weights have the type that is multiplied
        return sum(row_loss(model, row, device) for row in rows) / len(rows)


def row_loss(model: Any, row: Encoded, device: str) -> Any:
    """The sum over the answers of a row of the mean over their tokens."""
    import torch

    from artrag.training.attention import seen

    one = laid(row, device)
    logits = model(
        input_ids=one.ids[None],
        position_ids=one.positions[None],
        **seen(model, one.sees, one.trunk, one.start),
        logits_to_keep=one.before,
        use_cache=False,
    ).logits[0]
    each = torch.nn.functional.cross_entropy(logits.float(), one.targets, reduction="none")
    return (each / torch.bincount(one.branch)[one.branch]).sum()
