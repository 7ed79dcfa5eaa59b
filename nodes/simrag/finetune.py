"""finetune: train the student on the pairs that were kept."""

import random
import shutil
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import TrainingDataError, UsageError
from artrag.index.store import Index
from artrag.models.references import ModelReference
from artrag.nodes.node import Run, node
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.answerer import HOW as FROM_BASE
from artrag.training.answerer import train_answerer, unasked
from artrag.training.answerer_sets import load_examples, with_distractors
from artrag.training.loop import Plan
from artrag.training.rounds import PART, example_of, kept_pairs, parted, round_folder

HOW = replace(FROM_BASE, rate=1e-4, warmup=0.2)
"""Few pairs, weights that know the task: at the rate that trained these, two pairs fewer cost seven points."""
DISTRACTORS = 3
OF = "pairs.sha256"


def finetune(student: str, plan: Plan = HOW) -> Runnable[Any, Any]:
    """A node that goes on training the student's weights on all kept pairs and on some of the examples in `mix`.

    Beside its passage a question sees others of the index that are near it, as retrieval would bring them.

    So many of those are drawn that they are `mix_share` of what is trained on, as far as there are.

    Reads `run`, `index`, `round`, `mix`, `mix_share`, `questions`; writes `trained`, the figures of the training.

    Args:
        student: reference of a local chat model; where it has a trained answerer, that is gone on with.
        plan: how to train.

    Raises:
        UsageError: the student is a remote model.
        TrainingDataError: the kept pairs cannot be learned from.
    """
    if ModelReference.parse(student).kind == "remote":
        raise UsageError(f"the student {student!r} is a remote model: name one that is run here")

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        def tell(what: str, share: float) -> None:
            run.progress(what, round(100 * share), 100)

        trained = yield Call(_train, None, (state, student, plan, tell))
        run.tell(f"{trained['rows']['read']} rows read in {trained['seconds']:.0f} s")
        return {"trained": trained}

    return node("finetune", body)


def _train(state: SimragState, student: str, plan: Plan, tell: Any) -> dict[str, Any]:
    parts = parted(kept_pairs(state["run"], state["round"]), test=not state.get("questions"))
    if not parts.train or not parts.dev:
        raise TrainingDataError(
            f"the kept pairs come from too few passages ({len(parts.train)} pairs to learn from, {len(parts.dev)} to "
            "choose by): give more documents, or more passages a round"
        )
    mixed, share = load_examples(*map(Path, state.get("mix") or []))[0], state["mix_share"]
    with closing(Index.open(Path(state["index"]))) as opened:
        among = [(chunk.text, chunk.context) for chunk in opened.chunks()]
    learn, check = (
        with_distractors([example_of(one) for one in side], DISTRACTORS, among=among, seed=plan.seed)
        for side in (parts.train, parts.dev)
    )
    mixed = unasked(mixed, check)
    wanted = round(len(learn) * share / (1 - share))
    learn += random.Random(plan.seed).sample(mixed, min(wanted, len(mixed)))  # noqa: S311
    out = round_folder(state["run"], state["round"]) / PART
    mark = sha256(repr((student, plan, learn, check)).encode()).hexdigest()
    known = out / OF
    if out.exists() and (not known.exists() or known.read_text("utf-8") != mark):
        shutil.rmtree(out)  # weights of other pairs, which an earlier run with other arguments kept
    out.mkdir(parents=True, exist_ok=True)
    known.write_text(mark, "utf-8")
    return train_answerer(learn, check, out, base=student, plan=plan, progress=tell)
