"""What a verifier learns from: questions that a passage answers, and such that it does not."""

import random
from collections.abc import Sequence

from artrag.errors import TrainingDataError
from artrag.index.bm25 import BM25
from artrag.index.tokens import tokenize
from artrag.training.answerer_data import Example

SHARE_ELSEWHERE = 0.2
"""Share of the answered questions that are asked about another passage, too."""
NEAR = 8
"""The other one is the first without the answer among so many that BM25 finds nearest to the question."""


def verdicts(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Questions about one passage as the task "verify": "Yes" where they have an answer, "No" where they have none.

    A fifth of those with an answer come again, "No", about a passage near them that does not hold it.

    Args:
        examples: those of the task "answer" about one passage count.
        seed: of the draw.
    """
    alone = _alone(examples)
    known = list(dict.fromkeys(one.passages[0] for one in alone))
    found = BM25.build(tokenize(f"{context} {text}") for text, context in known)
    draw = random.Random(seed)  # noqa: S311
    made = []
    for one in alone:
        answer = one.answers[0]
        made.append(_verdict(one, one.passages[0], "Yes" if answer else "No"))
        if answer and draw.random() < SHARE_ELSEWHERE:
            near = (known[row] for row, _ in found.top(tokenize(one.question), NEAR))
            other = next((it for it in near if answer.lower() not in it[0].lower()), None)
            if other is not None and other != one.passages[0]:
                made.append(_verdict(one, other, "No"))
    return made


def check_sorts(examples: Sequence[Example]) -> None:
    """Refuse to learn from questions that all have an answer, or none.

    Raises:
        TrainingDataError: it says how many there are.
    """
    answered = [bool(one.answers[0]) for one in _alone(examples)]
    if len(set(answered)) < 2:
        raise TrainingDataError(
            f"{len(answered)} questions about one passage, and {'all' if any(answered) else 'none'} of them with an "
            "answer: a verifier learns from both sorts (an empty 'answer' means that the passage has none)"
        )


def _alone(examples: Sequence[Example]) -> list[Example]:
    return [one for one in examples if one.task == "answer" and len(one.passages) == 1]


def _verdict(one: Example, passage: tuple[str, str], said: str) -> Example:
    return Example("verify", one.question, (said,), (passage,), source=one.source)
