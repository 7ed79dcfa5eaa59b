"""Sample answers to questions and write them down as predictions, one question after another.

Every finished question is a line of the output at once, so that a killed run continues where it stopped. What the
answers were made with stands in a file beside it (`OUT.meta.json`): answers of two recipes are never mixed.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

from langchain_core.documents import Document

from artrag.errors import ArtragError, ModelCallError, PredictionsError, PromptTooLongError, QuestionError
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import Prediction, RecordedAnswer, Stage, read_predictions
from artrag.protocols import Subquestion
from artrag.training.journal import Journal

T = TypeVar("T")
GIVE_UP_AFTER = 10
_OF_ONE_QUESTION = (ModelCallError, PromptTooLongError, QuestionError)

Told = Callable[[int, int, int], None]
"""Is told (questions finished, failed, to do)."""


class Solver(Protocol):
    """Who answers."""

    async def passages(self, question: str) -> list[Document] | None:
        """The passages to answer from, None for reasoning alone."""
        ...

    async def drafts(self, question: str, passages: list[Document] | None, k: int, seed: int) -> list[str]:
        """`k` answers, each sampled on its own."""
        ...

    async def subquestions(self, question: str, seed: int) -> list[str]:
        """What must be answered first; it does not see the gold answer."""
        ...

    async def refine(
        self, question: str, draft: str, subquestions: Sequence[str], passages: list[Document] | None, seed: int
    ) -> str:
        """The draft rewritten."""
        ...


@dataclass(slots=True)
class Budget:
    """How many calls a run may make, None for any number, and how many it has made; `refused`: it wanted more."""

    most: int | None = None
    spent: int = 0
    refused: bool = False

    def spend(self) -> None:
        """Count one call.

        Raises:
            ModelCallError: it would be one too many.
        """
        if not self.has(1):
            self.refused = True
            raise ModelCallError(f"the budget of {self.most} calls is spent: raise it, or run again")
        self.spent += 1

    def has(self, calls: int) -> bool:
        """Are that many calls left?"""
        return self.most is None or self.spent + calls <= self.most


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the answers are made with; a file of answers has one recipe.

    Attributes:
        chat: reference of the chat model.
        k: initial answers a question.
        subquestions: those of the data set, generated where it has none; always generated; or none.
        prompts: prompt name -> checksum.
        index: generation of the index that passages come from, "" for reasoning alone.
    """

    chat: str
    k: int
    initial: Literal["cot", "decomposition"] = "cot"
    temperature: float = 0.7
    seed: int = 0
    subquestions: Literal["given", "generated", "none"] = "given"
    refine: bool = True
    index: str = ""
    prompts: dict[str, str] = field(default_factory=dict)

    def calls(self, question: Prediction) -> int:
        """The calls that a question takes where none is repeated."""
        asks = self.subquestions == "generated" or (self.subquestions == "given" and not given_subquestions(question))
        return self.k * (2 if self.refine else 1) + asks


@dataclass(slots=True)
class Collected:
    """What a run has done.

    Attributes:
        done: questions finished by this run; `skipped` were finished by an earlier one.
        failures: question id -> what went wrong; they are tried again by the next run.
        remaining: questions not begun, and `stopped` says why.
        rows: everything in the file.
    """

    done: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    remaining: int = 0
    stopped: str = ""
    rows: list[Prediction] = field(default_factory=list)

    def answers(self) -> dict[Stage, tuple[int, float]]:
        """Stage -> (answers in the file, share of them that is right)."""
        right: dict[Stage, list[bool]] = {}
        for row in self.rows:
            for answer in row.candidates:
                right.setdefault(answer.stage, []).append(bool(answer.correct))
        return {stage: (len(labels), sum(labels) / len(labels)) for stage, labels in right.items()}


async def collect(
    questions: Sequence[Prediction],
    out: Path,
    *,
    recipe: Recipe,
    solver: Solver,
    budget: Budget | None = None,
    concurrency: int = 8,
    tell: Told = lambda done, failed, total: None,
) -> Collected:
    """Sample, label and refine answers to every question that `out` does not hold yet.

    Each row has the initial answer, the further samples, and behind each of these its refined form. A question whose
    calls fail is left out and reported. The run ends early where the budget is spent, or where ten questions in a row
    have failed.

    Args:
        questions: with their gold answers; `metadata` may give `subquestions`, `options` and further right `answers`.
        out: JSON Lines of predictions, new or of an earlier run with the same recipe.
        recipe: how the answers are made.
        solver: makes them.
        budget: of calls, shared with the solver.
        concurrency: questions that are worked on side by side.
        tell: is told how far the run is.

    Raises:
        PredictionsError: a question has no gold answer, or its id twice, or `out` is damaged.
        UsageError: `out` cannot be appended to, was collected with another recipe, or another run is writing it.
    """
    check_questions(questions)
    budget = budget or Budget()
    state = Collected()
    with Journal(out, asdict(recipe)) as journal:
        todo = deque(question for question in questions if not journal.holds(question.id, shown(question)))
        state.skipped = len(questions) - len(todo)
        total, in_flight, in_a_row, fatal = len(todo), 0, 0, None

        async def work() -> None:
            nonlocal in_flight, in_a_row, fatal
            while todo and not state.stopped:
                # The calls of the questions in flight are promised.
                if not budget.has(recipe.calls(todo[0]) * (in_flight + 1)):
                    if not in_flight:
                        state.stopped = f"{budget.spent} of {budget.most} calls are spent"
                    return
                question = todo.popleft()
                in_flight += 1
                try:
                    row = await _row(question, recipe, solver)
                except Exception as error:
                    if budget.refused:  # retries took what this question needs
                        todo.append(question)
                        state.stopped = f"{budget.spent} of {budget.most} calls are spent"
                        return
                    if isinstance(error, ArtragError) and not isinstance(error, _OF_ONE_QUESTION):
                        fatal, state.stopped = error, str(error)  # every other question would fail as well
                        return
                    state.failures[question.id] = f"{type(error).__name__}: {error}"
                    in_a_row += 1
                    if in_a_row >= GIVE_UP_AFTER and not state.stopped:
                        state.stopped = f"{in_a_row} questions in a row have failed"
                else:
                    journal.write(row)
                    state.done += 1
                    in_a_row = 0
                finally:
                    in_flight -= 1
                tell(state.done, len(state.failures), total)

        tell(0, 0, total)
        await asyncio.gather(*(work() for _ in range(min(concurrency, total))))
    if fatal is not None:
        raise fatal
    state.remaining = len(todo)
    state.rows = read_predictions(out) if out.stat().st_size else []
    return state


async def side_by_side(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all, then raise the first error: no call is left behind that nobody waits for."""
    made = await asyncio.gather(*calls, return_exceptions=True)
    for one in made:
        if isinstance(one, BaseException):
            raise one
    return cast(list[T], made)


def check_questions(questions: Sequence[Prediction]) -> None:
    """Refuse questions that cannot be labelled, before a call is paid for.

    Raises:
        PredictionsError: a question has no gold answer, one that is none of its options, or its id twice.
    """
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise PredictionsError(f"the question {question.id!r} stands there twice: take one of them out")
        seen.add(question.id)
        if _labelled(question, "").correct is None:
            raise PredictionsError(f"the question {question.id!r} has no gold answer: add one, or take it out")


def shown(question: Prediction) -> str:
    """The question as the model reads it: with its options, a line each."""
    options: Mapping[str, str] = question.metadata.get("options") or {}
    lines = [f"{key}) {words}" for key, words in options.items()]
    return question.question if not lines else "\n".join([question.question, *lines])


def given_subquestions(question: Prediction) -> list[str]:
    """The subquestions that the data set gives."""
    return [str(asked) for asked in question.metadata.get("subquestions") or ()]


def seed_of(seed: int, question: str, n: int) -> int:
    """A seed of its own for each question and stage, whatever the order in which they come."""
    return zlib.crc32(f"{seed}/{n}/{question}".encode("utf-8", "backslashreplace"))


async def _row(question: Prediction, recipe: Recipe, solver: Solver) -> Prediction:
    text = shown(question)
    passages = await solver.passages(text)
    asked = given_subquestions(question) if recipe.subquestions == "given" else []
    origin = "given" if asked else "none"
    if not asked and recipe.subquestions != "none":
        asked = await solver.subquestions(text, seed_of(recipe.seed, question.id, 1))
        origin = "generated" if asked else "none"
    drafts = await solver.drafts(text, passages, recipe.k, seed_of(recipe.seed, question.id, 0))
    refined: Sequence[str | None] = [None] * len(drafts)
    if recipe.refine:
        refined = await side_by_side(
            solver.refine(text, draft, asked, passages, seed_of(recipe.seed, question.id, n))
            for n, draft in enumerate(drafts, start=2)
        )
    answers = []
    for n, (draft, better) in enumerate(zip(drafts, refined, strict=True)):
        answers.append(_answer(question, "sample" if n else "initial", draft, asked, recipe))
        if better is not None:
            answers.append(_answer(question, "refined", better, asked, recipe))
    about = {"initial": recipe.initial, "subquestions_from": origin}
    return Prediction(
        question.id,
        text,
        tuple(answers),
        question.gold,
        None if passages is None else tuple(passages),
        question.metadata | about,
    )


def _answer(question: Prediction, stage: Stage, text: str, asked: Iterable[str], recipe: Recipe) -> RecordedAnswer:
    judged = _labelled(question, text)
    subquestions = tuple(Subquestion(subquestion, False) for subquestion in asked)
    return RecordedAnswer(stage, text, judged.predicted, judged.correct, subquestions, recipe.chat)


def _labelled(question: Prediction, text: str) -> Any:
    about = question.metadata
    return label(text, question.gold, answers=about.get("answers") or (), options=about.get("options"))
