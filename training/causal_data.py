"""Recorded predictions -> what a causal Asker and Truster learn from (ART, Sections 3.2 and 3.4).

The Asker sees question + draft and learns the subquestions, each marked answered or open, and "Refine: Yes" where the
draft is wrong, "No" where it is right. The Truster learns from pairs of a right and a wrong answer to one question.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from artrag.errors import TrainingDataError
from artrag.evaluation.predictions import Prediction, RecordedAnswer, normal_question
from artrag.evidence import coverage
from artrag.models.askers import MOST_SUBQUESTIONS
from artrag.models.causal import DECISION, NO, YES, Item, asker_prompt, truster_prompt, written
from artrag.models.causal_model import Message
from artrag.protocols import Subquestion

COVERED = 0.6
"""Share of a subquestion's terms that a draft must hold to count as answering it."""


class Row(TypedDict):
    """One example: the chat so far and what is to be said. A chat that ends with the assistant's words is continued."""

    prompt: list[Message]
    completion: list[Message]


class Pair(TypedDict):
    """Two chats of the same question; the first is to score higher."""

    right: list[Message]
    wrong: list[Message]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled answer with all that is known of its question."""

    question: str
    key: str
    answer: RecordedAnswer
    item: Item
    asked: tuple[Subquestion, ...]

    @property
    def correct(self) -> bool:
        """Is the answer right?"""
        return bool(self.answer.correct)


def labelled(predictions: Sequence[Prediction], *, most: int, seed: int) -> list[list[Labelled]]:
    """The labelled answers of each question: no text twice, at most `most`, right and wrong ones in equal parts.

    Where one kind is rare, the other takes no more than half of `most`. Questions come in their order, a question's
    answers in a drawn one.
    """
    groups: dict[str, list[Labelled]] = {}
    for row in predictions:
        key = normal_question(row.question)
        given = next((c.subquestions for c in row.candidates if c.stage == "refined" and c.subquestions), ())
        for answer in row.candidates:
            if answer.correct is not None:
                asked = marked(given or answer.subquestions, answer.text)
                item = (row.question, answer.text, row.passages)
                groups.setdefault(key, []).append(Labelled(row.question, key, answer, item, asked))
    draw = random.Random(seed)  # noqa: S311
    chosen = []
    for group in groups.values():
        distinct = list({" ".join(one.answer.text.split()): one for one in group}.values())
        draw.shuffle(distinct)
        sides = [[one for one in distinct if one.correct is side][: max(1, most // 2)] for side in (True, False)]
        mixed = [one for pair in itertools.zip_longest(*sides) for one in pair if one is not None][:most]
        draw.shuffle(mixed)
        chosen.append(mixed)
    return chosen


def marked(asked: Sequence[Subquestion], draft: str) -> tuple[Subquestion, ...]:
    """The subquestions with their verdicts; where none was recorded, the draft answers those whose terms it holds.

    A list of which nothing is answered is one without verdicts: that is how bare texts are read.
    """
    if any(one.answered for one in asked):
        return tuple(asked)
    return tuple(replace(one, answered=coverage(one.text, draft) >= COVERED) for one in asked)


def asker_rows(predictions: Sequence[Prediction], *, most: int = 4, in_full: int = 1, seed: int = 0) -> list[Row]:
    """What the Asker learns: as many "Refine: Yes" as "Refine: No", at most `most` drafts a question.

    `in_full` drafts of a question teach the subquestions and the decision; the further ones show the same subquestions
    as already written and teach the decision alone, so that it does not drown in words that repeat.

    Raises:
        TrainingDataError: no labelled answers, or of one class only.
    """
    groups = labelled(predictions, most=most, seed=seed)
    kept = _balanced(groups, random.Random(f"{seed} balance"))  # noqa: S311
    rows: list[Row] = []
    for group in groups:
        for place, one in enumerate(one for one in group if id(one) in kept):
            prompt = asker_prompt(*one.item)
            words, decision = written(one.asked[:MOST_SUBQUESTIONS]) + DECISION, NO if one.correct else YES
            if place < in_full:
                rows.append(Row(prompt=prompt, completion=[{"role": "assistant", "content": words + decision}]))
            else:
                begun = [*prompt, {"role": "assistant", "content": words}]
                rows.append(Row(prompt=begun, completion=[{"role": "assistant", "content": decision}]))
    return rows


def _balanced(groups: Sequence[Sequence[Labelled]], draw: random.Random) -> set[int]:
    """As many right answers as wrong ones; questions with both keep theirs longest."""
    sides: dict[bool, list[tuple[bool, float, int]]] = {True: [], False: []}
    for group in groups:
        one_sided = len({one.correct for one in group}) == 1
        for one in group:
            sides[one.correct].append((one_sided, draw.random(), id(one)))
    size = min(len(side) for side in sides.values())
    if not size:
        lacking = "right" if not sides[True] else "wrong"
        raise TrainingDataError(
            f"no {lacking} answer among {sum(map(len, sides.values()))} labelled ones: "
            "give predictions with both ('correct': true and false)"
        )
    return {name for side in sides.values() for _, _, name in sorted(side)[:size]}


def truster_pairs(predictions: Sequence[Prediction], *, most: int = 6, seed: int = 0) -> list[Pair]:
    """Pairs of a right and a wrong answer to the same question, at most `most` a question; no text against itself.

    Raises:
        TrainingDataError: no question has both.
    """
    draw = random.Random(seed)  # noqa: S311
    pairs: list[Pair] = []
    for group in labelled(predictions, most=4 * most, seed=seed):
        rights, wrongs = ([one for one in group if one.correct is side] for side in (True, False))
        matched = list(itertools.product(rights, wrongs))
        draw.shuffle(matched)
        pairs += [
            Pair(right=truster_prompt(*right.item), wrong=truster_prompt(*wrong.item))
            for right, wrong in matched[:most]
        ]
    if not pairs:
        raise TrainingDataError(
            "no question has both a right and a wrong answer: collect several answers a question ('artrag collect -k')"
        )
    return pairs
