"""judge: let a chat model judge the answers by Ragas' four metrics, and see whether it can be believed."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from artrag.errors import UsageError
from artrag.evaluation.answering import Answered
from artrag.evaluation.metrics import Score, holds_wording
from artrag.evaluation.questions import Question, read_questions
from artrag.evaluation.ragas_scores import JudgeCheck, Judged, Metric, check_judge, ragas_scores
from artrag.evaluation.rows import write_rows
from artrag.evidence import is_refusal, whole, without_marks
from artrag.nodes.evaluate.alone import alone
from artrag.nodes.evaluate.report import answers
from artrag.nodes.evaluate.score import AT_ONCE, JUDGED
from artrag.nodes.node import Run, node
from artrag.passages import own_words
from artrag.state import EvaluateState
from artrag.steps import Call, Steps

KNOWN = 20
"""Rows with known answers that the judge is checked on, of each sort."""
NONE = "It is not told."
"""The right answer to a question that has none."""


def judge(chat: BaseChatModel, embedder: Embeddings | None = None) -> Runnable[Any, Any]:
    """A node that judges every answer that was made from passages, and writes `judged.jsonl` into the run's folder.

    The judge is checked first, on the run's own questions: right answers with passages that hold them, against the same
    answers with the passages of another question, and against answers that were given to questions which have none.

    Reads `run`, `questions`, `rungs`, `at_once`; writes `judge`.

    Raises:
        UsageError: no answer was made from passages.
        RunLockedError: somebody else is running in this folder.
        MissingExtraError: the extra `ragas` is not installed.
    """

    def body(state: EvaluateState, run: Run) -> Steps[dict[str, Any]]:
        questions = yield Call(read_questions, None, (Path(state["questions"]),))
        rows = yield Call(answers, None, (Path(state["run"]), questions, state["rungs"]))
        at_once = state.get("at_once") or AT_ONCE
        wanted = [(name, row) for name, own in rows.items() for row in own if _to_judge(row)]
        if not wanted:
            raise UsageError("no answer was made from passages: judge systems that retrieve")
        asked = {one.id: one for one in questions}
        run.tell(f"checking the judge, judging {len(wanted)} answers")
        judged = [_judged(asked[row.id], row) for _, row in wanted]

        async def judging() -> tuple[JudgeCheck, list[dict[Metric, Score]]]:
            # One event loop for both: a chat model's connections belong to the loop that they were opened in.
            checked = await check_judge(*known_rows(questions, rows), chat, at_once=at_once)
            return checked, await ragas_scores(judged, chat, embedder=embedder, at_once=at_once)

        found, scores = yield Call(lambda: _in_a_thread(judging), judging)
        lines = [
            {"system": name, "id": row.id, **{key: _plain(one) for key, one in own.items()}}
            for (name, row), own in zip(wanted, scores, strict=True)
        ]
        yield Call(write_rows, None, (Path(state["run"]) / JUDGED, lines))
        return {"judge": str(found)}

    return node("judge", lambda state, run: alone(Path(state["run"]), body(state, run)))


def known_rows(
    questions: Sequence[Question], rows: Mapping[str, Sequence[Answered]], *, most: int = KNOWN, seed: int = 0
) -> tuple[list[Judged], list[Judged], list[Judged]]:
    """(supported, swapped, unanswerable), all answers in whole sentences.

    Right ones with passages that hold them, the same with other passages, and what was said to questions without an
    answer.
    """
    held: dict[str, Judged] = {}
    made_up: dict[str, Judged] = {}
    for own in rows.values():
        for question, row in zip(questions, own, strict=True):
            if question.kind == "refusal" and _to_judge(row):
                told = f"{question.question} {without_marks(own_words(row.answer))}"
                made_up.setdefault(question.id, Judged(question.question, told, tuple(map(whole, row.read)), NONE))
            if question.kind != "words" or question.id in held:
                continue
            holding = [whole(one) for one in row.read if holds_wording(whole(one), question.answers).value]
            if holding:
                told = f"{question.question} {question.answers[0]}"
                held[question.id] = Judged(question.question, told, (holding[0],), question.answers[0])
    draw = random.Random(seed)  # noqa: S311
    right, without = (draw.sample(list(some.values()), min(most, len(some))) for some in (held, made_up))
    swapped = []
    for n, one in enumerate(right):
        others = (other.passages for other in (*right[n + 1 :], *right[:n]))
        lacking = next((read for read in others if not holds_wording(read[0], [one.reference]).value), None)
        if lacking:
            swapped.append(Judged(one.question, one.answer, lacking, one.reference))
    return right, swapped, without


def _plain(score: Score) -> list[Any]:
    return [None if math.isnan(score.value) else score.value, score.reason]


def _judged(question: Question, row: Answered) -> Judged:
    said = row.answer or "-"
    return Judged(question.words, said, tuple(map(whole, row.read)), "; ".join(question.answers) or NONE)


def _to_judge(row: Answered) -> bool:
    return bool(row.passages) and not row.error and not row.abstained and not is_refusal(row.answer)


def _in_a_thread(what: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine where nobody awaits; the caller's thread may have a loop of its own, as in a notebook."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, what()).result()
