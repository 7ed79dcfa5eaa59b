"""Held-out questions, and what answers to them are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from artrag import prompts
from artrag.errors import TrainingDataError
from artrag.evaluation.labels import label
from artrag.evaluation.metrics import token_f1
from artrag.evaluation.predictions import normal_question
from artrag.evaluation.rows import read_rows
from artrag.evidence import is_refusal
from artrag.passages import numbered, own_words
from artrag.training.answerer_data import asked
from artrag.training.keeping import Pair

VERDICTS = ("yes", "no", "maybe", "true", "false")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A question with its right answers, in any of their wordings; of several options their key.

    Without an answer, the documents do not say, and a refusal is right.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()
    group: str = ""
    """What it is about: questions with the same group are no independent witnesses."""

    @property
    def words(self) -> str:
        """The question as it is asked."""
        return asked(self.question, self.options)

    def value(self, said: str) -> float:
        """What an answer is worth: 1 or 0 for an option or a verdict, the token F1 for words."""
        said = own_words(said)
        if not self.answers:
            return float(is_refusal(said))
        if self.options or self.answers[0].lower() in VERDICTS:
            return float(bool(label(said, self.answers[0], options=dict(self.options) or None).correct))
        return token_f1(said, self.answers).value


def read_questions(path: Path) -> list[HeldOut]:
    """Questions from JSON Lines: `question`, and `answer` or `answers`; `options` and `id` where there are such.

    `"answers": []` says that the documents do not answer it.

    Raises:
        TrainingDataError: a line has no question or no answer.
        PredictionsError: the file cannot be read.
    """
    made = []
    for number, row in read_rows(path):
        given = (
            row["answers"] if isinstance(row.get("answers"), list) and not row.get("options") else [row.get("answer")]
        )
        answers = tuple(str(one) for one in given if one not in (None, ""))
        asked, choices = row.get("question"), row.get("options") or {}
        if not isinstance(choices, dict):
            raise TrainingDataError(f"line {number} of {str(path)!r}: write its options as {{key: words}}")
        options = tuple((str(key), str(text)) for key, text in choices.items())
        if not isinstance(asked, str) or not asked.strip() or (given and not answers):
            raise TrainingDataError(f"line {number} of {str(path)!r} has no question and answer: give each line both")
        if options and answers[0] not in dict(options):
            raise TrainingDataError(
                f"line {number} of {str(path)!r}: the answer {answers[0]!r} is no key of its options"
            )
        made.append(HeldOut(str(row.get("id", number)), asked, answers, options, f"line {number}"))
    return made


def of_pairs(pairs: Sequence[Pair]) -> list[HeldOut]:
    """A model's own questions as held-out ones: for want of people's."""
    numbers = range(1, len(pairs) + 1)
    return [
        HeldOut(f"own-{n}", one.question, (one.answer,), one.options, one.passage)
        for n, one in zip(numbers, pairs, strict=True)
    ]


def messages(one: HeldOut, passages: Sequence[Document] | None) -> list[BaseMessage]:
    """The prompt of a question: from passages, or from what the model knows."""
    if passages is None:
        return prompts.load("direct").format_messages(question=one.words)
    return prompts.load("answer").format_messages(passages=numbered(passages), question=one.words)


def without(held: Sequence[HeldOut], questions: set[str]) -> list[HeldOut]:
    """Those whose question is none of these, as `normal_question` writes them."""
    return [one for one in held if normal_question(one.question) not in questions]
