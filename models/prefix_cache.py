"""Many prompts of which some share a beginning: each beginning is read once, all answers are decoded side by side."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from artrag.models.decoding import Beginning, Decoding, Row, begin, read


def grouped(prompts: Sequence[Sequence[int]]) -> list[tuple[list[int], int]]:
    """Neighbours that share a beginning worth keeping: (numbers of the prompts, tokens they all begin with).

    Each prompt keeps at least one token of its own. A prompt joins its predecessors where that does not shorten what
    they share by more than it saves.
    """
    groups: list[tuple[list[int], int]] = []
    for number, prompt in enumerate(prompts):
        if groups:
            members, shared = groups[-1]
            both = _common(prompts[members[0]], prompt)
            n = len(members)
            if min(shared, both) * n > shared * (n - 1) and 4 * both > shared:
                groups[-1] = ([*members, number], min(shared, both))
                continue
        groups.append(([number], len(prompt) - 1))
    return groups


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    most = min(len(one), len(other)) - 1
    return next((at for at in range(most) if one[at] != other[at]), most)


def decode(
    model: Any, prompts: Sequence[list[int]], ended: Callable[[list[int]], bool], *, most: int, rows: int
) -> Iterator[tuple[int, list[int], int]]:
    """Answer prompts greedily: (number of the prompt, tokens of its answer, tokens read for it) as each one ends.

    Args:
        model: a causal language model for which `plain_attention` holds, used by nobody else meanwhile.
        prompts: token ids, none of them empty; those that share a beginning stand together.
        ended: of an answer's tokens so far: is it at its end?
        most: tokens an answer may have.
        rows: answers decoded at once; where one ends, the next prompt takes its place.
    """
    import torch

    groups = grouped(prompts)
    due = deque((number, shared, n) for n, (members, shared) in enumerate(groups) for number in members)
    longest = max(len(prompts[number]) - shared for number, shared, _ in due) + most
    decoding = Decoding(model, rows)
    held: tuple[int, Beginning] | None = None  # the group whose beginning was read last

    while due or decoding.rows:
        while due:
            number, shared, group = due[0]
            known = held is not None and held[0] == group
            if not decoding.room(longest, 0 if known else shared):
                break
            due.popleft()
            with torch.inference_mode():
                if held is None or held[0] != group:
                    held = None  # free the one before, unless rows still use it
                    held = (group, begin(model, prompts[number][:shared]))
                rest = prompts[number][shared:]
                first, cache = read(model, held[1], rest)
                # The first of a group pays for what all begin with.
                row = Row(number, held[1], len(rest) + (0 if known else shared), [first])
                decoding.enter(row, cache, longest)
            yield from _left(decoding, ended, most)
        if not due:
            held = None
        decoding.step()
        yield from _left(decoding, ended, most)


def _left(decoding: Decoding, ended: Callable[[list[int]], bool], most: int) -> Iterator[tuple[int, list[int], int]]:
    """Take out the rows that are at their end."""
    for row in [row for row in decoding.rows if len(row.made) >= most or ended(row.made)]:
        decoding.leave(row)
        yield row.owner, row.made, row.read
