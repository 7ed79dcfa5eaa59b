"""The network of the step reader; imported only where torch is at hand.

A question goes through an encoder once. Each calculation of an answer becomes a vector made of those of its operands:
the encoder's state at a number of the question, the vector of an earlier result, or a constant's. Two layers of
attention then let every node look at the others and at the question; two linear heads score nodes and the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from artrag.models.step_graph import CONSTANTS, FORMS, OPERATIONS, SIZES, UNKNOWN, UNUSED, Node

SIZE = 256
LAYERS = 2
HEADS = 4


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions as the encoder left them: `states` [q, l, h], `mask` [q, l], and the token of each number [q, m]."""

    states: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True, slots=True)
class Graphs:
    """n graphs of up to t nodes over questions with up to m numbers.

    Attributes:
        question: [n], row of its question.
        kinds, steps: [n, t]; steps are -1 where a node is no calculation.
        padding: [n, t], True where there is no node.
        shares: [n, t, 2, m], of each number of the question in an operand; they add up to 1 or 0.
        results, constants, forms: [n, t, 2]; -1 for none.
        sizes: [n, t, `SIZES`].
        final: [n], place of the final number.
        calculations: the largest number of calculations in a graph.
    """

    question: torch.Tensor
    kinds: torch.Tensor
    steps: torch.Tensor
    padding: torch.Tensor
    shares: torch.Tensor
    results: torch.Tensor
    constants: torch.Tensor
    forms: torch.Tensor
    sizes: torch.Tensor
    final: torch.Tensor
    calculations: int


def stack_graphs(graphs: Sequence[tuple[int, Sequence[Node]]], numbers: int) -> Graphs:
    """Graphs, each with the row of its question, as one batch; `numbers` is the widest question's count."""
    n, t = len(graphs), max(len(nodes) for _, nodes in graphs)
    kinds = torch.full((n, t), UNUSED)
    steps = torch.full((n, t), -1)
    shares = torch.zeros(n, t, 2, max(1, numbers))
    sources = torch.full((n, t, 2, 3), -1)
    sources[..., 2] = UNKNOWN
    sizes = torch.zeros(n, t, SIZES)
    lengths = torch.tensor([len(nodes) for _, nodes in graphs])
    for row, (_, nodes) in enumerate(graphs):
        length = len(nodes)
        kinds[row, :length] = torch.tensor([node.operation for node in nodes])
        steps[row, :length] = torch.tensor([node.step for node in nodes])
        sizes[row, :length] = torch.tensor([node.sizes for node in nodes])
        pairs = [(node.left, node.right) for node in nodes]
        sources[row, :length] = torch.tensor([[(o.result, o.constant, o.form) for o in pair] for pair in pairs])
        for place, pair in enumerate(pairs):
            for side, operand in enumerate(pair):
                for number in operand.quantities:
                    shares[row, place, side, number] = 1 / len(operand.quantities)
    return Graphs(
        question=torch.tensor([question for question, _ in graphs]),
        kinds=kinds,
        steps=steps,
        padding=torch.arange(t) >= lengths[:, None],
        shares=shares,
        results=sources[..., 0],
        constants=sources[..., 1],
        forms=sources[..., 2],
        sizes=sizes,
        final=lengths - 1,
        calculations=max(1, int((steps >= 0).sum(1).max())),
    )


class _Layer(nn.Module):
    """Attention among the nodes, attention to the question, and a small feed-forward network, each with a residual."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.nodes = nn.MultiheadAttention(size, HEADS, dropout=dropout, batch_first=True)
        self.question = nn.MultiheadAttention(size, HEADS, dropout=dropout, batch_first=True)
        self.forward_ = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any, padding: Any, states: Any, hidden: Any) -> Any:
        """Nodes [n, t, size] given where there is none [n, t], the question [n, l, size] and its padding [n, l]."""
        y = self.norms[0](x)
        x = x + self.dropout(self.nodes(y, y, y, key_padding_mask=padding, need_weights=False)[0])
        y = self.norms[1](x)
        x = x + self.dropout(self.question(y, states, states, key_padding_mask=hidden, need_weights=False)[0])
        return x + self.dropout(self.forward_(self.norms[2](x)))


class StepNetwork(nn.Module):
    """Scores of graphs; what of it is learned besides the encoder."""

    def __init__(self, hidden: int, size: int = SIZE, layers: int = LAYERS, dropout: float = 0.1) -> None:
        super().__init__()
        self.states = nn.Linear(hidden, size)
        self.numbers = nn.Linear(hidden, size)
        self.kinds = nn.Embedding(OPERATIONS, size)
        self.forms = nn.Embedding(FORMS, size)
        self.constants = nn.Embedding(len(CONSTANTS), size)
        self.node = nn.Sequential(
            nn.Linear(4 * size + SIZES, 2 * size), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * size, size)
        )
        self.norm = nn.LayerNorm(size)
        self.layers = nn.ModuleList(_Layer(size, dropout) for _ in range(layers))
        self.out = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Linear(size, 1)
        self.step = nn.Linear(size, 1)

    def forward(self, questions: Questions, graphs: Graphs) -> tuple[Any, Any]:
        """The raw score [n] of each answer, and of each of its nodes [n, t]; higher is more likely right."""
        places = questions.places[:, :, None].expand(-1, -1, questions.states.shape[2])
        numbers = self.numbers(questions.states.gather(1, places))[graphs.question]
        operands = torch.einsum("ntsm,nmd->ntsd", graphs.shares, numbers) + self.forms(graphs.forms)
        known = (graphs.constants >= 0)[..., None]
        operands = operands + self.constants(graphs.constants.clamp(min=0)) * known
        x = self._nodes(operands, graphs)
        states = self.states(questions.states)[graphs.question]
        hidden = ~questions.mask.bool()[graphs.question]
        for layer in self.layers:
            x = layer(x, graphs.padding, states, hidden)
        x = self.out(x)
        rows = torch.arange(len(x), device=x.device)
        there = (~graphs.padding)[..., None].to(x.dtype)
        mean = (x * there).sum(1) / there.sum(1)
        return self.answer(self.dropout(x[rows, graphs.final] + mean))[:, 0], self.step(x)[..., 0]

    def _nodes(self, operands: Any, graphs: Graphs) -> Any:
        """The vector [n, t, size] of each node, that of an operand's result added to the operand."""
        kinds = self.kinds(graphs.kinds)
        made: list[Any] = []

        def joined(at: slice, memory: Any) -> Any:
            here = operands[:, at]
            if memory is not None:
                which = graphs.results[:, at]
                index = which.clamp(0, memory.shape[1] - 1).flatten(1)[..., None].expand(-1, -1, memory.shape[2])
                found = memory.gather(1, index).view(*which.shape, memory.shape[2])
                here = here + found * (which >= 0)[..., None]
            left, right = here[:, :, 0], here[:, :, 1]
            return self.norm(self.node(torch.cat([left, right, left * right, kinds[:, at], graphs.sizes[:, at]], -1)))

        for place in range(min(graphs.calculations, operands.shape[1])):
            made.append(joined(slice(place, place + 1), torch.cat(made, 1) if made else None))
        calculated = torch.cat(made, 1)
        rest = slice(len(made), operands.shape[1])
        return torch.cat([calculated, joined(rest, calculated)], 1) if rest.start < rest.stop else calculated
