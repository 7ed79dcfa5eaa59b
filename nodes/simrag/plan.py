"""plan: check what a SimRAG run is given, and fill in what is not."""

import os
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import UsageError
from artrag.evaluation.questions import read_questions
from artrag.formats import begin_run
from artrag.nodes.node import Run, node
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.answerer_sets import load_examples
from artrag.training.proposing import KINDS

PASSAGES = 200
MIX_SHARE = 0.25
ROUNDS = 2


def plan() -> Runnable[Any, Any]:
    """A node that settles the index, the kinds of questions, the passages a round, the rounds, and what is mixed in.

    Reads and writes `passages`, `kinds`, `rounds`, `mix_share`; reads `run`, `questions`, `mix`; writes `index`, and
    begins `round`, `scores` and `decision`.

    Raises:
        UsageError: a kind of question is unknown, the run is not named, or this is one of several processes.
        UsageError: a line of the held-out questions is none.
        FormatError: the folder of the run cannot be gone on with.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        if not state.get("run"):
            raise UsageError("no run is named: give a folder that everything goes into")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                "several processes would write to one run: start SimRAG as one process, then train on all of them with "
                "'accelerate launch artrag train answerer RUN/round-1/kept.jsonl'"
            )
        kinds = dict(state.get("kinds") or KINDS)
        if unknown := kinds.keys() - KINDS.keys():
            raise UsageError(f"there are no questions of the kind {min(unknown)!r}: there are {', '.join(KINDS)}")
        if not sum(kinds.values()) > 0 or min(kinds.values()) < 0:
            raise UsageError(f"the kinds of questions are weighted {kinds}: give one of them a weight above 0")
        if not 0 <= (share := state.get("mix_share", MIX_SHARE)) < 1:
            raise UsageError(f"{share!r} is no share of the training: give 'mix_share' from 0 to below 1")
        mixed = yield Call(load_examples, None, tuple(map(Path, state.get("mix") or [])))
        run.tell(f"{len(mixed[0])} examples can be mixed in")
        if state.get("questions"):
            held = yield Call(read_questions, None, (Path(state["questions"]),))
            run.tell(f"{len(held)} held-out questions")
        yield Call(begin_run, None, (Path(state["run"]), "simrag"))
        return {
            "index": str(Path(state["run"]) / "index"),
            "passages": state.get("passages") or PASSAGES,
            "kinds": kinds,
            "rounds": state.get("rounds") or ROUNDS,
            "mix_share": share,
            "round": 0,
            "scores": {},
            "decision": "",
        }

    return node("plan", body)
