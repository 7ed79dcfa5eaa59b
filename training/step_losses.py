"""The losses of the step reader: on solutions with their spoilt forms, and on recorded answers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from artrag.models.step_graph import Node, Quantity, graph
from artrag.models.step_reader import question_batch
from artrag.training.lora_batches import Encoded
from artrag.training.solutions import Problem, Solution, rewritten, spoilt

RIGHT, WRONG, TRIES = 3, 8, 16
"""Forms of a solution that a step learns from, mistakes at most, and draws until there are as many."""
SIDE = 8
"""Recorded answers of each side, right and wrong, that a step learns from."""
STEPS = 0.5
"""Weight of the loss over single steps."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the reader takes it: its tokens, the token of each number, and the numbers."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    numbers: list[Quantity]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with what the encoder made of it, and the graphs of its right and wrong recorded answers."""

    asked: Asked
    states: Any
    texts: list[str]
    graphs: list[list[Node]]
    right: list[bool]


def asked_as(tokenizer: Any, questions: Sequence[str]) -> list[Asked]:
    """Questions as the reader takes them."""
    made = []
    for question in questions:
        batch, places, numbers = question_batch(tokenizer, [question])
        tokens = tuple(batch["input_ids"][0].tolist())
        made.append(Asked(tokens, tuple(places[0].tolist()), numbers[0]))
    return made


def solutions_loss(problems: Sequence[Problem], asked: Sequence[Asked], pad: int, device: str) -> Any:
    """The loss of encoder and network on forms of solutions: of each answer, of pairs, and of each step."""
    import torch
    from torch.nn import functional as F

    from artrag.models.step_network import Questions, stack_graphs

    def loss(model: Any, rows: Sequence[Encoded]) -> Any:
        tokens, mask, places = stacked([asked[row[1][0]] for row in rows], pad)
        graphs, labels, sound = [], [], []
        for row, (_, (which,)) in enumerate(rows):
            # Another draw at every visit, the same after a kill: torch's generator is in the checkpoint.
            draw = random.Random(f"{which} {int(torch.randint(2**31, ())) if model.training else 0}")  # noqa: S311
            for solution, right in forms(problems[which], draw):
                steps = [(step.expression, step.stated) for step in solution.steps]
                graphs.append((row, graph(asked[which].numbers, steps, solution.final)))
                labels.append(float(right))
                sound.append(len(steps) if right else solution.sound)
        states = model["encoder"](input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state
        with torch.autocast(device, enabled=False):
            batch = stack_graphs(graphs, places.shape[1])
            whole, nodes = model["network"](Questions(states.float().cpu(), mask, places), batch)
            steps_at = batch.steps >= 0
            true = (batch.steps < torch.tensor(sound)[:, None]).float()[steps_at]
            each = F.binary_cross_entropy_with_logits(nodes[steps_at], true)
            return ranked(whole, labels, batch.question) + STEPS * each

    return loss


def forms(problem: Problem, draw: random.Random) -> list[tuple[Solution, bool]]:
    """Right forms of a solution, and as many spoilt ones as the draws give."""
    rights = [problem.solution, *(rewritten(problem.solution, draw) for _ in range(RIGHT - 1))]
    wrongs: list[Solution] = []
    for _ in range(TRIES):
        made = spoilt(problem, draw.choice(rights), draw)
        if made is not None and len(wrongs) < WRONG:
            wrongs.append(made)
    return [(solution, True) for solution in rights] + [(solution, False) for solution in wrongs]


def ranked(scores: Any, labels: Sequence[float], questions: Any) -> Any:
    """Cross-entropy, both classes of the same weight, and the ranking loss over all pairs of a question."""
    import torch
    from torch.nn import functional as F

    true = torch.tensor(labels)
    rights = max(1.0, float(true.sum()))
    weight = torch.tensor(max(1.0, len(labels) - rights) / rights)
    found = F.binary_cross_entropy_with_logits(scores, true, pos_weight=weight)
    pairs = (questions[:, None] == questions[None]) & (true[:, None] > true[None])
    if bool(pairs.any()):
        found = found + F.softplus(scores[None] - scores[:, None])[pairs].mean()
    return found


def stacked(asked: Sequence[Asked], pad: int) -> tuple[Any, Any, Any]:
    """Tokens and mask [q, l] and the places of the numbers [q, m]."""
    import torch

    width, most = max(len(one.tokens) for one in asked), max(len(one.places) for one in asked)
    tokens = torch.tensor([[*one.tokens, *[pad] * (width - len(one.tokens))] for one in asked])
    mask = torch.tensor([[1] * len(one.tokens) + [0] * (width - len(one.tokens)) for one in asked])
    places = torch.tensor([[*one.places, *[0] * (most - len(one.places))] for one in asked])
    return tokens, mask, places


def answers_loss(answered: Sequence[Answered]) -> Callable[[Any, Sequence[Encoded]], Any]:
    """The loss of the network on recorded answers: of each answer, and of pairs."""
    import torch

    from artrag.models.step_network import Questions, stack_graphs

    def loss(network: Any, rows: Sequence[Encoded]) -> Any:
        chosen = [answered[row[1][0]] for row in rows]
        _, mask, places = stacked([one.asked for one in chosen], 0)
        states = torch.zeros(*mask.shape, chosen[0].states.shape[1])
        graphs, labels = [], []
        for row, one in enumerate(chosen):
            states[row, : len(one.states)] = one.states
            draw = random.Random(f"{row} {int(torch.randint(2**31, ())) if network.training else 0}")  # noqa: S311
            for side in (True, False):
                of_side = [nodes for nodes, right in zip(one.graphs, one.right, strict=True) if right is side]
                graphs += [(row, nodes) for nodes in draw.sample(of_side, min(SIDE, len(of_side)))]
                labels += [float(side)] * min(SIDE, len(of_side))
        with torch.autocast("cpu", enabled=False):
            whole, _ = network(Questions(states, mask, places), batch := stack_graphs(graphs, places.shape[1]))
            return ranked(whole, labels, batch.question)

    return loss
