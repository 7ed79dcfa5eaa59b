"""Held-out questions: a model's own, how they are asked, and which of them it has not learned from."""

from collections.abc import Sequence

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from artrag import prompts
from artrag.evaluation.predictions import normal_question
from artrag.evaluation.questions import Question
from artrag.passages import numbered
from artrag.training.keeping import Pair


def of_pairs(pairs: Sequence[Pair]) -> list[Question]:
    """A model's own questions as held-out ones: for want of people's."""
    numbers = range(1, len(pairs) + 1)
    return [
        Question(f"own-{n}", one.question, (one.answer,), one.options, one.passage)
        for n, one in zip(numbers, pairs, strict=True)
    ]


def messages(one: Question, passages: Sequence[Document] | None) -> list[BaseMessage]:
    """The prompt of a question: from passages, or from what the model knows."""
    if passages is None:
        return prompts.load("direct").format_messages(question=one.words)
    return prompts.load("answer").format_messages(passages=numbered(passages), question=one.words)


def without(held: Sequence[Question], questions: set[str]) -> list[Question]:
    """Those whose question is none of these, as `normal_question` writes them."""
    return [one for one in held if normal_question(one.question) not in questions]
