"""Questions with the answers that are right, and what an answer to one is worth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from artrag.errors import UsageError
from artrag.evaluation.labels import label
from artrag.evaluation.metrics import Score, token_f1
from artrag.evaluation.predictions import normal_question
from artrag.evaluation.rows import read_rows
from artrag.evidence import is_refusal
from artrag.final_answer import final_answer

Kind = Literal["words", "option", "verdict", "number", "refusal"]
VERDICTS = ("yes", "no", "maybe", "true", "false")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its right answers, in any of their wordings; of several options their key.

    Without an answer, the documents do not say, and a refusal is right.

    Attributes:
        id: its own.
        question: as people ask it.
        answers: right wordings, the first one the gold answer.
        options: (key, words) of a multiple-choice question.
        group: what it is about: questions with the same group are no independent witnesses.
        number: the answer is a number, however it is written.
        relevant: ids of chunks or documents that answer it.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()
    group: str = ""
    number: bool = False
    relevant: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The question as it is asked."""
        return asked(self.question, self.options)

    @property
    def kind(self) -> Kind:
        """What a right answer is."""
        if not self.answers:
            return "refusal"
        if self.options:
            return "option"
        if self.number:
            return "number"
        return "verdict" if self.answers[0].lower() in VERDICTS else "words"

    def score(self, said: str) -> Score:
        """What an answer is worth: the token F1 for words; 1 or 0 for an option, a verdict, a number, a refusal.

        Of an answer that announces its final words ("Answer: ...") those are compared.
        """
        if not said.strip():
            return Score(0.0, "nothing was said")
        if self.kind == "refusal":
            refused = is_refusal(said)
            return Score(float(refused), "rightly gives no answer" if refused else "answers what cannot be answered")
        if self.kind == "words":
            return token_f1(final_answer(said) or said, self.answers)
        gold = float(self.answers[0]) if self.number else self.answers[0]
        read = label(said, gold, options=dict(self.options) or None)
        return Score(float(bool(read.correct)), read.reason)

    def value(self, said: str) -> float:
        """`score` without its reason."""
        return self.score(said).value


def asked(question: str, options: Iterable[tuple[str, str]] = ()) -> str:
    """A question as it is asked, its options a line each."""
    return "\n".join([question, *(f"{key}. {text}" for key, text in options)])


def read_questions(path: Path) -> list[Question]:
    """Questions from JSON Lines.

    A line has `question`, and `answer` or `answers`: words, a number, or true and false. Where there are such it has
    `id`, `options` ({key: words}), and `relevant` or `evidence_ids` (ids of chunks or documents that answer it).
    `"answers": []` says that the documents do not answer the question.

    Raises:
        UsageError: a line has no question or no answer, or an id comes twice; it names the line.
        PredictionsError: the file cannot be read.
    """
    made: dict[str, Question] = {}
    for number, row in read_rows(path):
        one = _question(row, f"{path}:{number}", str(row.get("id", f"line {number}")))
        if one.id in made:
            raise UsageError(f"{path}:{number}: the id {one.id!r} comes twice: give each question an id of its own")
        made[one.id] = one
    return list(made.values())


def _question(row: Mapping[str, Any], place: str, name: str) -> Question:
    text, choices = row.get("question"), row.get("options") or {}
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{place}: question {text!r}: give each line a question, as text")
    if not isinstance(choices, dict):
        raise UsageError(f"{place}: options {str(choices)[:60]!r}: write them as {{key: words}}")
    options = tuple((str(key).strip().upper(), str(words)) for key, words in choices.items())
    if bad := [key for key, _ in options if not (len(key) == 1 and "A" <= key <= "Z")]:
        raise UsageError(f"{place}: option {bad[0]!r}: name the options by letters, A, B, C")
    given = row["answers"] if isinstance(row.get("answers"), list) else [row.get("answer")]
    if options:  # the key; further wordings would be its words
        given = [str(row.get("answer", given[0] if given else "")).strip().upper()]
    answers = tuple(_said(one) for one in given if one is not None)
    if any(not one.strip() for one in answers) or (given and not answers):
        raise UsageError(
            f"{place}: answers {given!r}: give the right answer, or [] for a question that the documents do not answer"
        )
    if options and answers[0] not in dict(options):
        raise UsageError(f"{place}: the answer {answers[0]!r} is no key of the options {list(dict(options))}")
    first = given[0] if given else None
    found = row.get("relevant", row.get("evidence_ids")) or []
    if not isinstance(found, list):
        raise UsageError(f"{place}: relevant {found!r}: write a list of ids")
    return Question(
        id=name,
        question=text,
        answers=answers,
        options=options,
        group=normal_question(text),
        number=not options and isinstance(first, int | float) and not isinstance(first, bool),
        relevant=tuple(dict.fromkeys(map(str, found))),
    )


def _said(answer: Any) -> str:
    return ("yes" if answer else "no") if isinstance(answer, bool) else str(answer)


def groups(questions: Sequence[Question]) -> list[str]:
    """What each question is about."""
    return [one.group or one.id for one in questions]
