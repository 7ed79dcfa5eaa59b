"""plan: check what a SimRAG run is given, and fill in what is not."""

from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import UsageError
from artrag.nodes.node import Run, node
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.measuring import read_questions
from artrag.training.proposing import KINDS

PASSAGES = 200
ROUNDS = 2


def plan() -> Runnable[Any, Any]:
    """A node that settles the index, the kinds of questions, the passages a round, and the rounds.

    Reads and writes `index`, `passages`, `kinds`, `rounds`; reads `run`, `questions`.

    Raises:
        UsageError: a kind of question is unknown, or the run is not named.
        TrainingDataError: the held-out questions cannot be read.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        if not state.get("run"):
            raise UsageError("no run is named: give a folder that everything goes into")
        kinds = dict(state.get("kinds") or KINDS)
        if unknown := kinds.keys() - KINDS.keys():
            raise UsageError(f"there are no questions of the kind {min(unknown)!r}: there are {', '.join(KINDS)}")
        if state.get("questions"):
            held = yield Call(read_questions, None, (Path(state["questions"]),))
            run.tell(f"{len(held)} held-out questions")
        return {
            "index": state.get("index") or str(Path(state["run"]) / "index"),
            "passages": state.get("passages") or PASSAGES,
            "kinds": kinds,
            "rounds": state.get("rounds") or ROUNDS,
            "round": 0,
        }

    return node("plan", body)
