"""Recorded predictions -> the couples that an encoder learns from, and the answers that it is measured on."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

from artrag.errors import TrainingDataError
from artrag.evaluation.predictions import Prediction, RecordedAnswer, normal_question
from artrag.models.causal import Item
from artrag.models.encoder_model import calculates
from artrag.models.parts import Kind

DRAFTS = 8
"""Answers of a question that an Asker learns from at most."""
PAIRS = 6
"""Pairs of a question that a Truster learns from at most."""
REPEATED = 3
"""How often an answer of the rarer class may come, before some of the other class are left out."""

Couple = tuple[Item, Item]
"""A right answer and a wrong one."""
Answer = tuple[Prediction, RecordedAnswer]


def asker_couples(predictions: Sequence[Prediction], *, most: int = DRAFTS, seed: int = 0) -> list[Couple]:
    """As many right answers as wrong ones, of any questions, at most `most` different ones a question.

    Answers of the rarer class are repeated, up to three times.

    Raises:
        TrainingDataError: no labelled answers, or of one class only.
    """
    chosen = [one for group in _groups(predictions, seed) for one in group[:most]]
    sides = [[item(one) for one in chosen if one[1].correct is side] for side in (True, False)]
    if not all(sides):
        lacking = "wrong" if sides[0] else "right"
        raise TrainingDataError(
            f"no {lacking} answer among {len(chosen)} labelled ones: give predictions with both "
            "('correct': true and false)"
        )
    draw = random.Random(f"{seed} couples")  # noqa: S311
    for side in sides:
        draw.shuffle(side)
    fewer, more = sorted(map(len, sides))
    rights, wrongs = (itertools.cycle(side) for side in sides)
    return list(itertools.islice(zip(rights, wrongs, strict=False), min(more, REPEATED * fewer)))


def truster_couples(predictions: Sequence[Prediction], *, most: int = PAIRS, seed: int = 0) -> list[Couple]:
    """Right and wrong answers to the same question, at most `most` couples a question.

    Answers by the same model are preferred: between two models, it would be told by its style who is the better one.

    Raises:
        TrainingDataError: no question has both.
    """
    draw = random.Random(f"{seed} couples")  # noqa: S311
    couples: list[Couple] = []
    for group in _groups(predictions, seed):
        rights, wrongs = ([one for one in group if one[1].correct is side] for side in (True, False))
        matched = list(itertools.product(rights, wrongs))
        draw.shuffle(matched)
        matched.sort(key=lambda pair: pair[0][1].source != pair[1][1].source)
        couples += [(item(right), item(wrong)) for right, wrong in matched[:most]]
    if not couples:
        raise TrainingDataError(
            "no question has both a right and a wrong answer: collect several answers a question ('artrag collect -k')"
        )
    return couples


def item(answer: Answer) -> Item:
    """What the encoder reads."""
    row, given = answer
    return row.question, given.text, row.passages


def _groups(predictions: Sequence[Prediction], seed: int) -> list[list[Answer]]:
    """The different labelled answers of each question, in a drawn order; blank ones teach nothing."""
    groups: dict[str, dict[str, Answer]] = {}
    for row in predictions:
        group = groups.setdefault(normal_question(row.question), {})
        group |= {" ".join(answer.text.split()): (row, answer) for answer in row.candidates if _usable(answer)}
    draw = random.Random(seed)  # noqa: S311
    return [draw.sample(list(group.values()), len(group)) for group in groups.values()]


def drawn(couples: list[Couple], limit: int | None, seed: int) -> list[Couple]:
    """At most `limit` couples, in their order."""
    if limit is None or len(couples) <= limit:
        return couples
    places = random.Random(f"{seed} rows").sample(range(len(couples)), limit)  # noqa: S311
    return [couples[place] for place in sorted(places)]


def measured(kind: Kind, dev: Sequence[Prediction], most: int, seed: int) -> list[Prediction]:
    """Rows of dev, drawn from all its questions in turn, until they hold `most` different answers.

    Where rows of dev can be replayed, the others are left out.

    Raises:
        TrainingDataError: all of these answers are right, or all wrong.
    """
    groups: dict[str, list[Prediction]] = {}
    for row in [row for row in dev if _replayable(row)] or dev:
        groups.setdefault(normal_question(row.question), []).append(row)
    draw = random.Random(f"{seed} measured")  # noqa: S311
    orders = [draw.sample(group, len(group)) for group in draw.sample(list(groups.values()), len(groups))]
    chosen: list[Prediction] = []
    found: dict[tuple[str, str], bool | None] = {}
    for row in (row for turn in itertools.zip_longest(*orders) for row in turn if row is not None):
        if len(found) < most:
            chosen.append(row)
            found |= {(row.question, answer.text): answer.correct for _, answer in faced(kind, [row])}
    if len(set(found.values())) < 2:
        raise TrainingDataError(
            f"the {len(found)} answers of dev that the {kind} is measured on are all right or all wrong: give both, or "
            "raise the limit"
        )
    return chosen


def _replayable(row: Prediction) -> bool:
    return len(row.candidates) > 1 and any(answer.stage == "initial" for answer in row.candidates)


def faced(kind: Kind, rows: Sequence[Prediction]) -> list[Answer]:
    """The labelled answers that a part will see: an Asker the drafts where there are any, a Truster all."""
    answers = [(row, answer) for row in rows for answer in row.candidates if _usable(answer)]
    drafts = [(row, answer) for row, answer in answers if answer.stage == "initial"]
    return drafts or answers if kind == "asker" else answers


def _usable(answer: RecordedAnswer) -> bool:
    return answer.correct is not None and bool(answer.text.strip())


def answers_seen(learn: Sequence[Couple]) -> dict[str, Any]:
    """The answers learned from: without passages, with them, and the former's share that calculates something."""
    seen = {(question, answer, passages is None) for couple in learn for question, answer, passages in couple}
    worked = [answer for _, answer, alone in seen if alone]
    share = sum(map(calculates, worked)) / len(worked) if worked else 0.0
    return {"worked": len(worked), "grounded": len(seen) - len(worked), "calculates": round(share, 3)}
