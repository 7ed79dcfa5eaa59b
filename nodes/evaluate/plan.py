"""plan: read the questions, and see which systems they are put to."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import UsageError
from artrag.evaluation.against import earlier_of
from artrag.evaluation.ladder_page import check_libraries
from artrag.evaluation.questions import Question, read_questions
from artrag.formats import begin_run, check_run
from artrag.nodes.node import Run, node
from artrag.protocols import System
from artrag.settings import Settings
from artrag.state import EvaluateState
from artrag.steps import Call, Steps

Systems = Callable[[Settings, Mapping[str, Any]], Mapping[str, System]]
"""The systems by name, from the bottom of the ladder to its top, as settings and input ask for them."""


def plan(systems: Systems) -> Runnable[Any, Any]:
    """A node that begins an evaluation.

    Reads `questions`, `systems`, `run`; writes `systems`, `left`, `asked`.

    Raises:
        UsageError: no run is named, a system is unknown, a line of the questions is none, the price is not two numbers,
            or the run to compare with asked other questions. All of it is said before anything is paid.
        FormatError: the folder of the run cannot be gone on with.
        MissingExtraError: what the report needs is not installed.
    """

    def body(state: EvaluateState, run: Run) -> Steps[dict[str, Any]]:
        if not state.get("run"):
            raise UsageError("no run is named: give a folder that everything goes into")
        yield Call(check_run, None, (Path(state["run"]), "evaluate"))
        known = yield Call(systems, None, (run.settings, state))
        wanted = list(dict.fromkeys(state.get("systems") or known))
        if unknown := [name for name in wanted if name not in known]:
            raise UsageError(
                f"there is no system {unknown[0]!r} here: there are {', '.join(known)}; give an index for those that "
                "retrieve, a fine-tuned model or a reranker for theirs"
            )
        wanted = [name for name in known if name in wanted]  # from the bottom up, however they were named
        questions = yield Call(read_questions, None, (Path(state["questions"]),))
        yield Call(_check, None, (state, questions))
        run.tell(f"{len(questions)} questions, {len(wanted)} systems")
        return {"systems": wanted, "left": wanted, "asked": len(questions), "judge": "", "report": {}}

    return node("plan", body)


def _check(state: EvaluateState, questions: Sequence[Question]) -> None:
    if (price := state.get("price")) and len(price) != 2:
        raise UsageError(f"price {price}: give two numbers, of a million prompt tokens and of a million written ones")
    if state.get("against"):
        earlier_of(questions, Path(state["against"]))
    check_libraries()
    begin_run(Path(state["run"]), "evaluate")
