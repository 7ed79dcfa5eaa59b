"""Fit the head of an Asker or a Truster on labelled answers.

The loss is binary cross-entropy on right and wrong plus, for the Truster, -log sigmoid(r(right) - r(wrong)) on pairs of
answers to the same question (ART, Section 3.4).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artrag.errors import MissingExtraError, TrainingDataError
from artrag.models.heads import CLIP, Head

HIDDEN = 96
DROPOUT = 0.5
RATE = 3e-3
DECAY = 1e-2
BATCH = 512
PAIRS = 8
"""Pairs drawn a question, source and pass, so that questions with many answers do not outweigh the others."""
ROWS = 48
"""Answers drawn a question and pass at most."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted head and the curves of its training: one (loss, measure on dev) a pass, and the pass that was kept."""

    head: Head
    curve: list[tuple[float, float]]
    kept: int


def fit_head(
    names: Sequence[str],
    rows: Floats,
    right: NDArray[np.bool_],
    questions: Sequence[str],
    *,
    sources: Sequence[str] | None = None,
    duels: Sequence[tuple[int, int]] = (),
    measure: Callable[[Head], float],
    pairwise: bool,
    passes: int = 20,
    patience: int = 5,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Fitted:
    """Fit a head.

    Args:
        names: the d signals.
        rows: [n, d] signals of the answers.
        right: [n] labels.
        questions: [n] ids of the questions; pairs never cross them.
        sources: [n] who wrote the answers; pairs never cross them either, so that nobody's style counts as right.
        duels: places (right, wrong) of a draft and what refining made of it: the very choice a Truster has to make;
            drawn besides the random pairs.
        measure: the figure on dev, higher is better; the best pass is kept, and training stops `patience` passes later.
        pairwise: add the ranking loss.
        passes: passes at most.
        patience: passes without a better figure before it stops.
        seed: of initial weights, dropout and draws.
        progress: told (what, share done).

    Raises:
        TrainingDataError: only one class, or no question with both.
        MissingExtraError: torch is not installed.
    """
    if right.all() or not right.any():
        which = "right" if right.all() else "wrong"
        raise TrainingDataError(
            f"all {len(right)} labelled answers are {which}: to learn the difference, record right and wrong ones"
        )
    groups = _grouped(questions, right)
    both = [group for group in _grouped(_joined(questions, sources), right) if group[0] and group[1]]
    met = _duels_by_question(duels, questions)
    if pairwise and not both and not met:
        raise TrainingDataError(
            "no question has both a right and a wrong answer by the same model: sample more answers a question "
            "(artrag collect -k 8)"
        )
    try:
        import torch
        from torch.nn import functional as F
    except ImportError:
        raise MissingExtraError("training needs torch: pip install 'artrag[train]'") from None

    random = np.random.default_rng(seed)
    mean, deviation = rows.mean(0), rows.std(0) + 1e-6
    low, high = np.percentile(rows, [0.5, 99.5], axis=0).astype(np.float32)
    inputs = torch.from_numpy(np.clip((rows - mean) / deviation, -CLIP, CLIP).astype(np.float32))
    labels = torch.from_numpy(right.astype(np.float32))

    def snapshot() -> Head:
        first: Any = net[0]
        last: Any = net[3]
        return Head(
            names=tuple(names),
            mean=mean.astype(np.float32),
            deviation=deviation.astype(np.float32),
            low=low,
            high=high,
            hidden=first.weight.detach().numpy().T.copy(),
            hidden_bias=first.bias.detach().numpy().copy(),
            output=last.weight.detach().numpy()[0].copy(),
            output_bias=float(last.bias.detach()[0]),
        )

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(rows.shape[1], HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Dropout(DROPOUT),
            torch.nn.Linear(HIDDEN, 1),
        )
        optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
        best, kept, curve = snapshot(), 0, []
        highest = -np.inf
        for turn in range(passes):
            picked = _draw_rows(groups, random)
            pairs = _draw_pairs(both, met, random) if pairwise else None
            batches = max(1, len(picked) // BATCH)
            losses = []
            for n, batch in enumerate(np.array_split(picked, batches)):
                for group in optimizer.param_groups:
                    group["lr"] = RATE * (1 - (turn + n / batches) / passes)
                loss = F.binary_cross_entropy_with_logits(net(inputs[batch])[:, 0], labels[batch])
                if pairs is not None:
                    pair = pairs[n * len(pairs) // batches : (n + 1) * len(pairs) // batches]
                    if len(pair):  # fewer pairs than batches: the mean of none is no number
                        loss = loss + F.softplus(net(inputs[pair[:, 1]]) - net(inputs[pair[:, 0]])).mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
            net.eval()
            now = snapshot()
            figure = measure(now)
            net.train()
            curve.append((float(np.mean(losses)), figure))
            if figure > highest:
                highest, best, kept = figure, now, turn
            if progress:
                progress(f"pass {turn + 1}: loss {curve[-1][0]:.3f}, dev {figure:.3f}", (turn + 1) / passes)
            if turn - kept >= patience:
                break
    return Fitted(best, curve, kept)


Group = tuple[list[int], list[int]]


def _joined(questions: Sequence[str], sources: Sequence[str] | None) -> list[tuple[str, str]]:
    return list(zip(questions, sources or [""] * len(questions), strict=True))


def _grouped(keys: Sequence[Hashable], right: NDArray[np.bool_]) -> list[Group]:
    """For each key the places of its right and of its wrong answers."""
    groups: dict[Hashable, Group] = {}
    for place, (key, good) in enumerate(zip(keys, right, strict=True)):
        groups.setdefault(key, ([], []))[0 if good else 1].append(place)
    return list(groups.values())


def _duels_by_question(duels: Sequence[tuple[int, int]], questions: Sequence[str]) -> list[NDArray[np.int64]]:
    met: dict[str, list[tuple[int, int]]] = {}
    for good, bad in duels:
        met.setdefault(questions[good], []).append((good, bad))
    return [np.array(pairs) for pairs in met.values()]


def _draw_rows(groups: Sequence[Group], random: np.random.Generator) -> NDArray[np.int64]:
    """At most `ROWS` answers a question, at random."""
    picked: list[int] = []
    for good, bad in groups:
        whole = good + bad
        picked.extend(whole if len(whole) <= ROWS else random.choice(whole, ROWS, replace=False))
    return random.permutation(np.array(picked))


def _draw_pairs(
    both: Sequence[Group], met: Sequence[NDArray[np.int64]], random: np.random.Generator
) -> NDArray[np.int64]:
    """[m, 2]: (right, wrong), `PAIRS` a group with replacement (fewer where there are fewer), and duels besides."""
    drawn = []
    for good, bad in both:
        count = min(PAIRS, len(good) * len(bad))
        drawn.append(np.stack([random.choice(good, count), random.choice(bad, count)], axis=1))
    for pairs in met:
        drawn.append(pairs[random.choice(len(pairs), min(2 * PAIRS, len(pairs)), replace=False)])
    return random.permutation(np.concatenate(drawn))
