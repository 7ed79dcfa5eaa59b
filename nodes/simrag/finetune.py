"""finetune: train the student on the pairs that were kept."""

from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.models.references import ModelReference, base_reference
from artrag.nodes.node import Run, node
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.answerer import HOW, hold_out, train_answerer
from artrag.training.answerer_data import Example
from artrag.training.answerer_sets import load_examples, with_distractors
from artrag.training.loop import Plan
from artrag.training.rounds import KEPT, PART, earlier_pairs, example_of, read_pairs, round_folder

DISTRACTORS = 3


def finetune(student: str, plan: Plan = HOW) -> Runnable[Any, Any]:
    """A node that goes on training the student's weights on all kept pairs and on the examples in `mix`.

    Reads `run`, `round`, `mix`; writes `trained`, the figures of the training.

    Args:
        student: reference of a local chat model; where it has a trained answerer, that is gone on with.
        plan: how to train.

    Raises:
        TrainingDataError: the kept pairs cannot be learned from.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        number = state["round"]

        def tell(what: str, share: float) -> None:
            run.progress(what, round(100 * share), 100)

        trained = yield Call(_train, None, (state["run"], number, state.get("mix") or [], student, plan, tell))
        run.tell(f"{trained['rows']['read']} rows read in {trained['seconds']:.0f} s")
        return {"trained": trained}

    return node("finetune", body)


def _train(run: str, number: int, mix: list[str], student: str, plan: Plan, tell: Any) -> dict[str, Any]:
    pairs = [*earlier_pairs(run, number), *read_pairs(round_folder(run, number) / KEPT)]
    learn, check = hold_out([example_of(one) for one in pairs])
    mixed: list[Example] = load_examples(*map(Path, mix))[0] if mix else []
    sides = [with_distractors(side, DISTRACTORS, seed=plan.seed) for side in (learn, check or learn[:1])]
    reference = ModelReference.parse(student)
    return train_answerer(
        [*sides[0], *mixed],
        sides[1],
        round_folder(run, number) / PART,
        base=base_reference(student),
        start=reference.part,
        plan=plan,
        progress=tell,
    )
