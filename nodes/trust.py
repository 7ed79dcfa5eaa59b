"""trust: choose among all answers seen, say how sure that is, and abstain where it is not sure enough."""

import math
from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag.choice import pick
from artrag.nodes.calling import unless_signal
from artrag.nodes.node import Run, node
from artrag.passages import cite
from artrag.protocols import Truster
from artrag.state import Candidate, QAState
from artrag.steps import Steps, method
from artrag.telling import told

WIDENED = 1.5
"""By how much the abstention floor rises for an answer that the Truster cannot judge."""


def trust(truster: Truster) -> Runnable[Any, Any]:
    """A node that lets the Truster pick the best candidate of all rounds (ART, Section 3.4).

    Another answer replaces the draft only if it scores higher by `Settings.trust_margin`; below
    `Settings.abstain_below` the graph abstains and says so. Where neither is set, the thresholds chosen with the
    Truster's weights count. Where the Truster is out of its depth, the floor is half as high again and the decision
    says so; where it fails, the draft stands with confidence 0.5.

    Reads `question`, `passages`, `candidates`, `refine_failure`, `needs_refining`, `rounds`; writes `answer`, `draft`,
    `citations`, `candidates`, `confidence`, `abstained`, `decision`, `stop_reason`, `needs_review`. An empty
    `stop_reason` means one more round.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        question, passages, seen = state["question"], state.get("passages"), state["candidates"]
        failed = state.get("refine_failure", "")
        floor = run.settings.limit("abstain_below", {})
        try:
            judged = yield from _judged(truster, question, seen, passages, run)
        except Exception as error:  # degrade in the open: the draft stands
            unless_signal(error)
            best, confidence, scored = 0, 0.5, seen
            decision = f"trust failed: {told(error)}; the draft stands"
        else:
            best, scores, confidence, floor, strange = judged
            decision = _decision(seen, scores, best)
            if strange:
                floor = min(1.0, WIDENED * floor)
                decision = f"{decision}; the Truster is {strange}"
            if unread := getattr(truster, "unread", ""):
                decision = f"{decision}; the Truster is {unread}"
            scored = [Candidate(**{**c, "score": float(s)}) for c, s in zip(seen, scores, strict=True)]
        if failed:
            decision = f"{failed}; {decision}"
        text = seen[best]["text"]
        stop = _stop(state, failed, confidence, run)
        abstained = bool(stop) and confidence < floor
        cited, citations = cite(text, passages)
        run.tell(decision, confidence=confidence, abstained=abstained)
        return {
            "answer": _abstention(confidence, floor) if abstained else cited,
            "draft": text,
            "citations": [] if abstained else citations,
            "candidates": scored,
            "confidence": float(confidence),
            "abstained": abstained,
            "decision": decision,
            "stop_reason": stop,
            "needs_review": bool(stop) and run.settings.review and confidence < run.settings.review_below,
        }

    return node("trust", body, quiet=True, last=True)


def _judged(
    truster: Truster, question: str, seen: Sequence[Candidate], passages: Sequence[Document] | None, run: Run
) -> Steps[tuple[int, list[float], float, float, str]]:
    """The best answer, all scores, the confidence in it, the floor, and why the Truster cannot judge it, if so.

    Where it can judge none of the answers, the thresholds chosen with its weights do not count.
    """
    texts = [candidate["text"] for candidate in seen]
    scores = yield method(truster, "score", question, texts, passages)
    if len(scores) != len(seen) or not all(math.isfinite(score) for score in scores):
        raise ValueError(f"{len(seen)} answers got the scores {scores!r}")
    strange = [""] * len(seen)
    if hasattr(truster, "out_of_depth"):
        strange = yield [method(truster, "out_of_depth", question, text, passages) for text in texts]
    limits = {}
    if hasattr(truster, "limits") and not all(strange):
        limits = yield method(truster, "limits", passages)
    best = pick(scores, run.settings.limit("trust_margin", limits))
    confidence = yield method(truster, "confidence", question, texts[best], passages)
    if not math.isfinite(confidence):
        raise ValueError(f"the confidence is {confidence!r}")
    floor = run.settings.limit("abstain_below", limits)
    return best, [float(score) for score in scores], min(max(float(confidence), 0.0), 1.0), floor, strange[best]


def _decision(seen: Sequence[Candidate], scores: Sequence[float], best: int) -> str:
    if len(seen) == 1:
        return f"only one answer to trust (score {scores[0]:.2f})"
    others = ", ".join(f"{c['stage']} {s:.2f}" for n, (c, s) in enumerate(zip(seen, scores, strict=True)) if n != best)
    return f"trusts the {seen[best]['stage']} answer ({scores[best]:.2f} against {others})"


def _stop(state: QAState, failed: str, confidence: float, run: Run) -> str:
    """Why to stop here; empty for one more round."""
    if run.late:
        return f"the deadline of {run.settings.deadline:g} s is over"
    if not state.get("needs_refining"):
        return "the draft needs no refining" if not state.get("rounds") else "no further refining is needed"
    if failed:
        return "refining failed"
    if state.get("rounds", 0) >= run.settings.rounds:
        return f"the budget of {run.settings.rounds} rounds is used"
    return "confident enough" if confidence >= run.settings.review_below else ""


def _abstention(confidence: float, floor: float) -> str:
    shown = math.floor(100 * confidence + 1e-6) / 100  # rounded up it may look like the floor itself
    return f"I cannot answer this with enough confidence ({shown:.2f}, below the floor of {floor:.2f})."
