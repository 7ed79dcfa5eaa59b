"""Common layouts of questions and recorded answers, as prediction rows.

What a row is, its fields say. Questions become rows without candidates: their subquestions, options, further right
wordings and facts are kept in the metadata, where `artrag collect` finds them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from artrag.errors import PredictionsError
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import Gold, Prediction, from_row, question_id, read_subquestions
from artrag.evaluation.rows import read_rows
from artrag.final_answer import plain_number

Layout = Literal[
    "predictions", "chain", "solution", "socratic", "strategyqa", "gsm8k", "multiarith", "svamp", "final", "question"
]
Row = Mapping[str, Any]

_CORRECT = {True: True, False: False, "right": True, "correct": True, "wrong": False, "incorrect": False}
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_SUBQUESTION = re.compile(r"^(.+?\?)\s+\*\*\s", re.MULTILINE)


def layout_of(row: Row) -> Layout:
    """The layout of a row.

    Raises:
        PredictionsError: it has none of the known ones; the message lists them.
    """
    for layout, (_, is_one, _) in _LAYOUTS.items():
        if is_one(row):
            return layout
    known = "; ".join(f"{layout} ({fields})" for layout, (fields, _, _) in _LAYOUTS.items())
    raise PredictionsError(f"a row with the fields {sorted(row)!r} has no layout that is known: {known}")


def convert(rows: Iterable[Row], *, questions: Iterable[Prediction] = ()) -> list[Prediction]:
    """Rows of any known layout as prediction rows, one for one.

    Args:
        rows: JSON objects.
        questions: where recorded answers find the question and the gold answer of their `id`, if they hold none.

    Raises:
        PredictionsError: a row has no known layout, or a recorded answer's question is not known.
    """
    known = {question.id: question for question in questions}
    made = []
    for number, row in enumerate(rows, start=1):
        try:
            made.append(_converted(row, known))
        except PredictionsError as error:
            raise PredictionsError(f"row {number}: {error}") from None
    return made


def convert_files(*paths: Path, questions: Sequence[Path] = ()) -> list[Prediction]:
    """As `convert`, from `.jsonl` and `.jsonl.gz` files; an error names file and line."""
    known = {row.id: row for row in convert_files(*questions)} if questions else {}
    made = []
    for path in paths:
        for number, row in read_rows(path):
            try:
                made.append(_converted(row, known))
            except PredictionsError as error:
                raise PredictionsError(f"{path}:{number}: {error}") from None
    return made


def paired(rows: Iterable[Prediction], *, refined_by: str, initial_by: str | None = None) -> list[Prediction]:
    """Chains of two questioners as the initial and the refined answer of one row.

    Args:
        rows: converted chains, one a row.
        refined_by: the questioner whose chains count as refined.
        initial_by: the questioner whose chains count as initial; without one, each other questioner's chains do.

    Raises:
        PredictionsError: no chain is by `refined_by`, or none by `initial_by`.
    """
    rows = list(rows)
    better = {_who(row): row.candidates[0] for row in rows if row.metadata.get("questioner") == refined_by}
    made = []
    for row in rows:
        questioner = row.metadata.get("questioner")
        refined = better.get(_who(row)) if row.candidates else None
        if refined is None or questioner in (None, refined_by) or initial_by not in (None, questioner):
            continue
        candidates = (replace(row.candidates[0], stage="initial"), replace(refined, stage="refined"))
        made.append(replace(row, candidates=candidates, metadata=row.metadata | {"refined_by": refined_by}))
    if not made:
        found = sorted({str(row.metadata.get("questioner")) for row in rows})
        raise PredictionsError(
            f"no answer by the questioner {initial_by or 'of another name'!r} is refined by {refined_by!r}: "
            f"the rows hold {', '.join(found)}"
        )
    return made


def chain_text(subquestions: Sequence[str], subanswers: Sequence[str], final: str) -> str:
    """A chain of subquestions as one answer: a line for each that was answered, then the final one."""
    lines = [f"{asked} {said}" for asked, said in zip(subquestions, subanswers, strict=False)]
    return "\n".join([*lines, f"Final answer: {final}"])


def _who(row: Prediction) -> tuple[str, str]:
    return row.id, row.candidates[0].source if row.candidates else ""


def _converted(row: Row, known: Mapping[str, Prediction]) -> Prediction:
    return _LAYOUTS[layout_of(row)][2](row, known)


def _predictions(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    return from_row(dict(row))


def _chain(row: Row, known: Mapping[str, Prediction]) -> Prediction:
    asked = [subquestion.text for subquestion in read_subquestions(row["subquestions"])]
    text = chain_text(row["subquestions"], row["subanswers"], str(row.get("final_text", "")))
    return _recorded(row, known, text, str(row.get("answerer") or ""), asked)


def _solution(row: Row, known: Mapping[str, Prediction]) -> Prediction:
    text = row["solution"] if "solution" in row else "\n".join(row["steps"])
    return _recorded(row, known, str(text), str(row.get("model") or ""), [])


def _recorded(
    row: Row, known: Mapping[str, Prediction], text: str, source: str, subquestions: Sequence[str]
) -> Prediction:
    """One recorded answer to a question that the row holds or that is known by its id."""
    question = row.get("question")
    about = known.get(str(row.get("id")))
    if about is None and not isinstance(question, str):
        raise PredictionsError(
            f"the answer to {row.get('id')!r} comes without its question: give the file of the questions, too"
        )
    given = row.get("final", row.get("gold"))
    number = plain_number(given) if isinstance(given, str) and "####" in given else None
    gold = given if number is None else _whole(number)
    gold = about.gold if gold is None and about else gold
    told = row.get("is_correct", row.get("answer_correct"))
    correct = _CORRECT.get(told) if isinstance(told, bool | str) else None
    predicted = row.get("predicted")
    if correct is None and gold is not None:
        judged = label(text, gold)
        correct, predicted = judged.correct, judged.predicted
    answer = {"stage": "initial", "text": text, "predicted": predicted, "correct": correct, "source": source}
    used = {*"question final gold solution model predicted is_correct answer_correct".split()}
    used |= {*"steps subquestions subanswers final_text answerer".split()}
    rest = {name: value for name, value in row.items() if name not in used}
    return from_row(
        rest
        | {"id": _id(row, str(question)), "question": question if about is None else about.question, "gold": gold}
        | {"candidates": [answer | {"subquestions": list(subquestions)}]}
    )


def _socratic(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    asked = [str(step["subquestion"]) for step in row["steps"]]
    return _asked(row, row["question"], row.get("final"), subquestions=asked)


def _strategyqa(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    return _asked(row, row["question"], row["answer"], subquestions=row.get("decomposition"), facts=row.get("facts"))


def _gsm8k(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    answer = str(row["answer"])
    gold = plain_number(answer)
    if gold is None:
        raise PredictionsError(f"no number follows '####' in the answer {answer[-60:]!r}")
    # The socratic files write "subquestion ** answer", a line for each.
    asked = [_CALCULATOR.sub("", found) for found in _SUBQUESTION.findall(answer)]
    return _asked(row, row["question"], _whole(gold), subquestions=asked or None)


def _multiarith(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    return _asked(row, row["sQuestion"], _whole(row["lSolutions"][0]))


def _svamp(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    return _asked(row, f"{str(row['Body']).strip()} {str(row['Question']).strip()}", _whole(row["Answer"]))


def _final(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    final = row["final"]
    return _asked(row, row["question"], row.get("answer") if final is None else final)


def _question(row: Row, _: Mapping[str, Prediction]) -> Prediction:
    answers = row.get("answers") or []
    gold = next((row[name] for name in ("gold", "answer") if row.get(name) is not None), None)
    if gold is None and answers:
        gold = answers[0]
    return _asked(row, row["question"], gold, answers=answers, options=row.get("options"))


def _asked(row: Row, question: Any, gold: Gold | None, **about: Any) -> Prediction:
    """A question without answers; what is known about it goes into the metadata."""
    kept = {name: row[name] for name in ("passages", "type", "subquestions") if row.get(name)}
    kept |= {name: value for name, value in about.items() if value}
    made = {"id": _id(row, str(question)), "question": question, "gold": gold, "candidates": []}
    return from_row(kept | made)


def _id(row: Row, question: str) -> Any:
    """The row's own id; failing that, one made of the question's words."""
    own = next((row[name] for name in ("id", "_id", "qid", "ID", "iIndex") if row.get(name) is not None), None)
    return question_id(question) if own is None else own


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


def _is_socratic(row: Row) -> bool:
    steps = row.get("steps")
    return isinstance(steps, list) and all(isinstance(step, dict) and "subquestion" in step for step in steps)


def _is_chain(row: Row) -> bool:
    return all(isinstance(row.get(name), list) for name in ("subquestions", "subanswers"))


def _is_solution(row: Row) -> bool:
    steps = row.get("steps")
    told = isinstance(steps, list) and all(isinstance(step, str) for step in steps) and "answer_correct" in row
    return "solution" in row or told


def _is_question(row: Row) -> bool:
    return "question" in row and any(row.get(name) is not None for name in ("gold", "answer", "answers"))


_Reader = Callable[[Row, Mapping[str, Prediction]], Prediction]
# The first that fits counts: a solution may have a `final`, too.
_LAYOUTS = cast(
    dict[Layout, tuple[str, Callable[[Row], bool], _Reader]],
    {
        "predictions": ("id, question, candidates", _has("candidates"), _predictions),
        "chain": ("id, answerer, questioner, subquestions, subanswers, final_text", _is_chain, _chain),
        "solution": ("id, solution or steps, predicted, is_correct or answer_correct, model", _is_solution, _solution),
        "socratic": ("question, steps of subquestion and answer, final", _is_socratic, _socratic),
        "strategyqa": (
            "question, answer: true or false, facts, decomposition",
            lambda row: "question" in row and isinstance(row.get("answer"), bool),
            _strategyqa,
        ),
        "gsm8k": (
            "question, answer that ends in '#### number'",
            lambda row: "question" in row and "####" in str(row.get("answer", "")),
            _gsm8k,
        ),
        "multiarith": ("sQuestion, lSolutions", _has("sQuestion", "lSolutions"), _multiarith),
        "svamp": ("Body, Question, Answer", _has("Body", "Question", "Answer"), _svamp),
        "final": ("question, final", _has("question", "final"), _final),
        "question": ("question, answer or answers, options", _is_question, _question),
    },
)
