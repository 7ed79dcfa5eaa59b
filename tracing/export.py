"""Runs of a trace as rows of recorded answers, plain data."""

from collections.abc import Iterable
from typing import Any

from artrag.tracing.spans import Span, roots

ACCEPTED, WRITTEN = "a person accepted the answer", "a person wrote the answer"
_STAGES = {"initial": "initial", "refined": "refined", "edited": "refined", "sample": "sample"}


def recorded_runs(spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Every finished question-answering run of a trace.

    Each has `run` (the id of its first step), `question`, `passages` (None for reasoning alone), `candidates` (stage,
    text, subquestions), `chosen` (the text of the answer that the graph gave), and `approved`: did a person accept or
    write it? Runs that failed, wait for a person, or are of another graph are left out.
    """
    rows = []
    for root in roots(spans):
        ended = root.outputs
        question, candidates = ended.get("question"), ended.get("candidates")
        waits = "__interrupt__" in ended or ended.get("needs_review")
        if root.error or waits or not isinstance(question, str) or not candidates:
            continue
        passages = ended.get("passages")
        rows.append(
            {
                "run": root.id,
                "started": root.started,
                "question": question,
                "passages": None if passages is None else [_passage(passage) for passage in passages],
                "candidates": [_candidate(candidate) for candidate in candidates],
                "chosen": ended.get("draft") or ended.get("answer") or "",
                "approved": ended.get("decision") in (ACCEPTED, WRITTEN),
            }
        )
    return rows


def _candidate(candidate: dict[str, Any]) -> dict[str, Any]:
    asked = [
        {"text": record["text"], "answered": bool(record.get("answered"))}
        for record in candidate.get("subquestions") or []
    ]
    return {"stage": _STAGES[candidate["stage"]], "text": candidate["text"], "subquestions": asked}


def _passage(passage: dict[str, Any]) -> dict[str, Any]:
    about = {name: value for name, value in passage.get("metadata", {}).items() if name != "arms"}
    return {"text": passage["text"], **about}
