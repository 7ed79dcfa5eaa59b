"""ask: doubt the draft."""

import math
from dataclasses import asdict
from typing import Any, cast

from langchain_core.runnables import Runnable

from artrag.nodes.calling import unless_signal
from artrag.nodes.node import Run, node
from artrag.protocols import Asker, Doubt
from artrag.state import QAState, SubquestionRecord
from artrag.steps import Steps, method
from artrag.telling import told


def ask(asker: Asker) -> Runnable[Any, Any]:
    """A node that lets the Asker doubt the latest answer and decides whether to refine it (ART, Section 3.2).

    It refines where the Asker's probability reaches `Settings.refine_above` and a round is left. A failing Asker
    leaves the draft as it is, and the reason says so.

    Reads `question`, `draft`, `passages`, `rounds`; writes `subquestions`, `refine_probability`, `needs_refining`,
    `refine_reason`.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        question, draft, passages = state["question"], state["draft"], state.get("passages")
        try:
            doubt = yield method(asker, "ask", question, draft, passages)
            limits = (yield method(asker, "limits", passages)) if hasattr(asker, "limits") else {}
            if not isinstance(doubt, Doubt) or not math.isfinite(doubt.refine_probability):
                raise TypeError(f"the Asker gave {doubt!r:.200} instead of a doubt")
        except Exception as error:  # degrade in the open: a draft without doubts is better than no draft
            unless_signal(error)
            return _decided([], 0.0, False, f"ask failed: {told(error)}", run)
        asked = [cast(SubquestionRecord, asdict(subquestion)) for subquestion in doubt.subquestions]
        wanted = doubt.refine_probability >= run.settings.limit("refine_above", limits)
        left = run.settings.rounds - state.get("rounds", 0)
        reason = doubt.reason if not wanted or left > 0 else f"{doubt.reason}, but no round is left"
        return _decided(asked, doubt.refine_probability, wanted and left > 0, reason, run)

    return node("ask", body, quiet=True)


def _decided(asked: list[SubquestionRecord], probability: float, refine: bool, reason: str, run: Run) -> dict[str, Any]:
    run.tell("refining" if refine else "not refining", reason=reason, probability=probability)
    return {
        "subquestions": asked,
        "refine_probability": float(probability),
        "needs_refining": refine,
        "refine_reason": reason,
    }
