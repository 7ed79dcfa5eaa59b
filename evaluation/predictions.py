"""Recorded answers of any model, for training and for replay: one question a row with its candidates.

    {"id", "question", "gold"?, "passages"?, "candidates": [{"stage", "text", "predicted"?, "correct"?,
     "subquestions"?, "source"?}, ...]}

Further fields of a row are kept as its metadata, those of a candidate are passed over. The same question may have
several rows: several recordings of it.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from langchain_core.documents import Document

from artrag.errors import PredictionsError, TrainingDataError
from artrag.evaluation.rows import read_rows, write_rows
from artrag.protocols import Subquestion

Stage = Literal["initial", "refined", "sample"]
Gold = str | float | bool

NAMED = 5
LARGEST = 1e300
_FIELDS = ("id", "question", "gold", "passages", "candidates")


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One answer that a model gave.

    Attributes:
        stage: "initial" for the first draft, "refined" for its rewriting, "sample" for a further draft.
        text: the answer as it was given; it may be empty.
        predicted: the final answer read from the text.
        correct: is it right? None where nobody has labelled it.
        subquestions: what was asked about the question; one recorded without a verdict counts as not answered.
        source: the model (and prompt) that wrote it.
    """

    stage: Stage
    text: str
    predicted: str | float | None = None
    correct: bool | None = None
    subquestions: tuple[Subquestion, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question with the answers recorded for it; `metadata` holds the row's further fields."""

    id: str
    question: str
    candidates: tuple[RecordedAnswer, ...]
    gold: Gold | None = None
    passages: tuple[Document, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_predictions(*paths: Path) -> list[Prediction]:
    """The rows of `.jsonl` and `.jsonl.gz` files, in order.

    Raises:
        PredictionsError: a file cannot be read or is empty, a line is malformed (named by file and number), or rows
            contradict each other (`check`).
    """
    rows = []
    for path in paths:
        for number, row in read_rows(path):
            try:
                rows.append(from_row(row))
            except PredictionsError as error:
                raise PredictionsError(f"{path}:{number}: {error}") from None
    problems = check(rows)
    if problems:
        more = f" (and {len(problems) - NAMED} more)" if len(problems) > NAMED else ""
        named = ", ".join(str(path) for path in paths)
        raise PredictionsError(f"{named}: {'; '.join(problems[:NAMED])}{more}: mend or take out these rows")
    return rows


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Write the rows to a `.jsonl` or `.jsonl.gz` file; a reader sees the old file or the whole new one."""
    write_rows(path, (to_row(row) for row in rows))


def check(rows: Iterable[Prediction]) -> list[str]:
    """Where rows contradict each other, in words.

    An id that names two different questions, a question with two gold answers, and one answer text of a question that
    is labelled both right and wrong.
    """
    questions: dict[str, str] = {}
    golds: dict[str, Gold] = {}
    labels: dict[tuple[str, str], bool] = {}
    problems: dict[str, None] = {}  # a set that keeps its order
    for row in rows:
        known = questions.setdefault(row.id, row.question)
        if known != row.question and normal_question(known) != normal_question(row.question):
            problems[f"id {row.id!r} names two questions, {known[:60]!r} and {row.question[:60]!r}"] = None
        if row.gold is not None and not _agree(golds.setdefault(row.id, row.gold), row.gold):
            problems[f"id {row.id!r} has two gold answers, {golds[row.id]!r} and {row.gold!r}"] = None
        for answer in row.candidates:
            if answer.correct is None:
                continue
            if labels.setdefault((row.id, answer.text), answer.correct) is not answer.correct:
                problems[f"id {row.id!r}: the answer {answer.text[:60]!r} is labelled both right and wrong"] = None
    return list(problems)


def check_split(train: Sequence[Prediction], dev: Sequence[Prediction]) -> None:
    """Refuse questions that are in both parts, by id or by their words.

    Raises:
        TrainingDataError: it names the first of them.
    """
    known = {normal_question(row.question): row.id for row in train}
    ids = {row.id for row in train}
    shared: dict[str, str] = {}
    for row in dev:
        same = known.get(normal_question(row.question))
        if row.id in ids:
            shared[row.id] = repr(row.id)
        elif same is not None:
            shared[row.id] = f"{row.id!r} (the words of {same!r})"
    if shared:
        more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise TrainingDataError(
            f"{len(shared)} questions are in both train and dev: {', '.join(list(shared.values())[:NAMED])}{more}: "
            "split by question"
        )


def normal_question(question: str) -> str:
    """A question without differences of case, spacing, quotation marks and closing punctuation."""
    text = unicodedata.normalize("NFKC", question).casefold().translate(_QUOTES)
    return " ".join(text.split()).rstrip(" .?!")


def question_id(question: str) -> str:
    """An id for a question that has none: the same words have the same one."""
    return f"q-{hashlib.sha256(normal_question(question).encode('utf-8', 'replace')).hexdigest()[:12]}"


_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})


def from_row(row: dict[str, Any]) -> Prediction:
    """A JSON object as a row.

    Raises:
        PredictionsError: a field is missing or has the wrong form; the message names it.
    """
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise PredictionsError(f"'question' is {question!r}: it must be a text that is not blank")
    candidates = row.get("candidates")
    if not isinstance(candidates, list):
        raise PredictionsError(
            f"'candidates' is {_short(candidates)}: it must be a list of answers ('artrag convert' reads other layouts)"
        )
    return Prediction(
        id=_id(row.get("id")),
        question=question,
        candidates=tuple(_answer(candidate, n) for n, candidate in enumerate(candidates)),
        gold=_gold(row.get("gold")),
        passages=read_passages(row.get("passages")),
        metadata={name: value for name, value in row.items() if name not in _FIELDS},
    )


def to_row(row: Prediction) -> dict[str, Any]:
    """A row as a JSON object; what is unknown or empty is left out."""
    made: dict[str, Any] = {"id": row.id, "question": row.question}
    if row.gold is not None:
        made["gold"] = row.gold
    if row.passages is not None:
        made["passages"] = [_plain_passage(passage) for passage in row.passages]
    made["candidates"] = [_plain_answer(answer) for answer in row.candidates]
    return made | {name: value for name, value in row.metadata.items() if name not in _FIELDS}


def read_passages(value: Any) -> tuple[Document, ...] | None:
    """Passages from texts or `{"text", "title"?, "id"?, "context"?}`; further fields become metadata.

    Raises:
        PredictionsError: one has another form.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise PredictionsError(f"'passages' is {_short(value)}: it must be a list of texts or of objects with 'text'")
    return tuple(_passage(passage, n) for n, passage in enumerate(value))


def read_subquestions(value: Any) -> tuple[Subquestion, ...]:
    """Subquestions from texts or `{"text", "answered"}`; blank ones are left out.

    Raises:
        PredictionsError: one has another form.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise PredictionsError(f"'subquestions' is {_short(value)}: it must be a list")
    made = []
    for entry in value:
        text, answered = (entry, False) if isinstance(entry, str) else (None, None)
        if isinstance(entry, dict):
            text, answered = entry.get("text"), entry.get("answered", False)
        if not isinstance(text, str) or not isinstance(answered, bool):
            raise PredictionsError(
                f"the subquestion {_short(entry)} is neither a text nor {{'text': ..., 'answered': true or false}}"
            )
        if text.strip():
            made.append(Subquestion(text, answered))
    return tuple(made)


def _id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise PredictionsError(f"'id' is {value!r}: it must be a text or a whole number that names the question")
    return value


def _gold(value: Any) -> Gold | None:
    if value is None or isinstance(value, str | bool) or _is_number(value):
        return cast(Gold | None, value)
    raise PredictionsError(f"'gold' is {_short(value)}: it must be a text, a number, true or false")


def _answer(value: Any, n: int) -> RecordedAnswer:
    if not isinstance(value, dict):
        raise PredictionsError(f"candidate {n} is {_short(value)}: it must be an object with 'stage' and 'text'")
    stage, text, predicted, correct = (value.get(name) for name in ("stage", "text", "predicted", "correct"))
    if stage not in get_args(Stage):
        raise PredictionsError(f"candidate {n} has the stage {_short(stage)}: known are {', '.join(get_args(Stage))}")
    if not isinstance(text, str):
        raise PredictionsError(f"candidate {n} has the text {_short(text)}: it must be a text ('' for no answer)")
    if isinstance(predicted, bool):
        predicted = "yes" if predicted else "no"
    elif isinstance(predicted, int | float) and not _is_number(predicted):
        predicted = str(predicted)  # a model may say any number; nothing equals this one
    if predicted is not None and not isinstance(predicted, str | int | float):
        raise PredictionsError(f"candidate {n} has 'predicted' {_short(predicted)}: it must be a text or a number")
    if correct is not None and not isinstance(correct, bool):
        raise PredictionsError(f"candidate {n} has 'correct' {_short(correct)}: it must be true or false")
    source = value.get("source")
    return RecordedAnswer(
        cast(Stage, stage),
        text,
        predicted,
        correct,
        read_subquestions(value.get("subquestions")),
        str(source) if source else "",
    )


def _passage(value: Any, n: int) -> Document:
    if isinstance(value, str):
        return Document(value)
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise PredictionsError(f"passage {n} is {_short(value)}: it must be a text or an object with 'text'")
    about = {name: given for name, given in value.items() if name != "text"}
    return Document(value["text"], id=str(about["id"]) if about.get("id") is not None else None, metadata=about)


def _plain_passage(passage: Document) -> str | dict[str, Any]:
    about = ({"id": passage.id} if passage.id else {}) | passage.metadata
    return {"text": passage.page_content, **about} if about else passage.page_content


def _plain_answer(answer: RecordedAnswer) -> dict[str, Any]:
    made: dict[str, Any] = {"stage": answer.stage, "text": answer.text}
    if answer.predicted is not None:
        made["predicted"] = answer.predicted
    if answer.correct is not None:
        made["correct"] = answer.correct
    if answer.subquestions:
        made["subquestions"] = [{"text": asked.text, "answered": asked.answered} for asked in answer.subquestions]
    if answer.source:
        made["source"] = answer.source
    return made


def _is_number(value: Any) -> bool:
    """A number that can be compared: JSON's 1e999 reads as infinity, and an integer may have any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _agree(one: Gold, other: Gold) -> bool:
    return one == other or str(one).strip().casefold() == str(other).strip().casefold()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
