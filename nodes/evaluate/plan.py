"""plan: see that there is all that an evaluation needs, before anything is paid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import UsageError
from artrag.evaluation.against import earlier_of
from artrag.evaluation.ladder_page import check_libraries
from artrag.evaluation.questions import Question, groups, read_questions
from artrag.formats import begin_run
from artrag.nodes.node import Run, node
from artrag.state import EvaluateState
from artrag.steps import Call, Steps


def plan() -> Runnable[Any, Any]:
    """A node that begins an evaluation.

    Reads `run`, `questions`, `price`, `against`; writes `judge`, `report`, of which nothing is left.

    Raises:
        UsageError: no run is named, a line of the questions is none, the price is not two numbers, or the run to
            compare with asked other questions.
        FormatError: the folder of the run cannot be gone on with.
        MissingExtraError: what the report needs is not installed.
    """

    def body(state: EvaluateState, run: Run) -> Steps[dict[str, Any]]:
        if not state.get("run"):
            raise UsageError("no run is named: give a folder that everything goes into")
        questions = yield Call(read_questions, None, (Path(state["questions"]),))
        yield Call(_check, None, (state, questions))
        run.tell(f"{len(questions)} questions")
        if again := _again(questions):
            run.tell(f"asked further up already: {len(again)}, such as {again[0]!r}; intervals count them as one")
        return {"judge": "", "report": {}}

    return node("plan", body)


def _again(questions: Sequence[Question]) -> list[str]:
    """Ids of the questions that stand there a second time."""
    first: dict[str, str] = {}
    return [
        one.id
        for one, group in zip(questions, groups(questions), strict=True)
        if first.setdefault(group, one.id) != one.id
    ]


def _check(state: EvaluateState, questions: Sequence[Question]) -> None:
    if (price := state.get("price")) and len(price) != 2:
        raise UsageError(f"price {price}: give two numbers, of a million prompt tokens and of a million written ones")
    if state.get("against"):
        earlier_of(questions, Path(state["against"]))
    check_libraries()
    begin_run(Path(state["run"]), "evaluate")
