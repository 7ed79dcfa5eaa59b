"""Why an answer is wrong, as far as it can be told without a judge."""

from typing import Literal

from artrag.evaluation.answering import RIGHT, Answered, support, told
from artrag.evaluation.questions import Question
from artrag.evidence import is_refusal
from artrag.passages import own_words
from artrag.working import read_steps

Cause = Literal[
    "failed",
    "answers what is not told",
    "wrongly abstained",
    "wrongly refined",
    "wrongly refused",
    "wrong calculation",
    "wrong reasoning",
    "not retrieved",
    "in other words",
    "retrieved but not used",
]
CAUSES: tuple[Cause, ...] = Cause.__args__  # type: ignore[attr-defined]
BORNE_OUT = 0.5


def cause(question: Question, row: Answered) -> Cause:
    """The first of these that is true of a wrong answer.

    - failed: the system raised an error.
    - answers what is not told: there is no answer, and it gave one.
    - wrongly abstained: it would not answer, and there is an answer.
    - wrongly refined: the draft was right.
    - wrongly refused: it said that there is none, though what it read, if anything, would answer.
    - wrong calculation: an equation that it states does not hold.
    - wrong reasoning: nothing was retrieved.
    - not retrieved: no passage that it read is relevant, or, where nobody said which are, none holds the answer.
    - in other words: its words stand in the passages, and share some with a right wording.
    - retrieved but not used: the passages answer, and it says something else.
    """
    said = own_words(row.answer) if row.passages else row.answer
    if row.error:
        return "failed"
    if question.kind == "refusal":
        return "answers what is not told"
    if row.abstained:
        return "wrongly abstained"
    if row.draft and question.value(own_words(row.draft) if row.passages else row.draft) >= RIGHT:
        return "wrongly refined"
    if is_refusal(said) and not _missed(question, row):
        return "wrongly refused"
    if any(not step.correct for step in read_steps(said)):
        return "wrong calculation"
    if row.passages is None:
        return "wrong reasoning"
    if _missed(question, row):
        return "not retrieved"
    if question.kind == "words" and question.value(said) > 0 and support(said, row.read).value >= BORNE_OUT:
        return "in other words"
    return "retrieved but not used"


def _missed(question: Question, row: Answered) -> bool:
    """Does nothing that was read answer the question?"""
    if row.passages is None:
        return False
    if question.relevant:
        names = {name for one in row.passages for name in (one["id"], one["document"])}
        return not names & set(question.relevant)
    if question.kind != "words":
        return not row.passages
    return not told(row.read, question.answers).value
