"""report: measure all answers, compare the systems, and write it down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable

from artrag.errors import ModelCallError, UsageError
from artrag.evaluation.against import compare, write_qualities
from artrag.evaluation.answering import Answered
from artrag.evaluation.ladder import Price, Rung, ladder
from artrag.evaluation.ladder_page import write_ladder
from artrag.evaluation.questions import Question, read_questions
from artrag.evaluation.ragas_scores import METRICS
from artrag.evaluation.rows import read_rows
from artrag.ledger import read_lines
from artrag.nodes.evaluate.alone import alone
from artrag.nodes.evaluate.faithful import faithfulness
from artrag.nodes.evaluate.score import ANSWERS, JUDGED, TRACES, key_of, trace_of
from artrag.nodes.node import Run, node
from artrag.passages import own_words
from artrag.protocols import Truster
from artrag.state import EvaluateState
from artrag.steps import Call, Steps
from artrag.telling import told


def report(embedder: Embeddings | None = None, truster: Truster | None = None) -> Runnable[Any, Any]:
    """A node that writes `report.html`, `report.md` and `report.json` into the run's folder.

    Reads `run`, `questions`, `rungs`, `judge`, `price`, `against`; writes `report`.

    Raises:
        UsageError: the run to compare with is none, or asked other questions.
        RunLockedError: somebody else is running in this folder.
    """

    def body(state: EvaluateState, run: Run) -> Steps[dict[str, Any]]:
        run.tell("measuring")
        made = yield Call(_report, None, (state, embedder, truster))
        return {"report": made}

    return node("report", lambda state, run: alone(Path(state["run"]), body(state, run)))


def _report(state: EvaluateState, embedder: Embeddings | None, truster: Truster | None) -> dict[str, Any]:
    folder = Path(state["run"])
    questions = read_questions(Path(state["questions"]))
    rows = answers(folder, questions, state["rungs"])
    rungs = [Rung(one["name"], one["over"], one["adds"]) for one in state["rungs"]]
    more: dict[str, dict[str, list[float]]] = {name: {} for name in rows}
    for name, own in rows.items():
        if embedder:
            more[name]["relevancy"] = relevancy(questions, own, embedder)
        if truster:
            more[name]["faithfulness"] = faithfulness(folder, questions, own, truster)
        if state.get("judge"):
            more[name] |= judged(folder / JUDGED, name, questions)
    given = state.get("price")
    price: Price | None = (given[0], given[1]) if given else None
    found = ladder(questions, rows, rungs, more=more, price=price)
    if state.get("judge"):
        found.about["judge"] = state["judge"]
    if state.get("against"):
        found.about["against"] = compare(found, questions, Path(state["against"]))
    write_qualities(folder, found, questions)
    page, text, data = write_ladder(folder, found, questions, rows, traces(folder, questions, state["rungs"]))
    return found.as_dict() | {"page": str(page), "markdown": str(text), "json": str(data)}


def answers(
    folder: Path, questions: Sequence[Question], rungs: Sequence[Mapping[str, Any]]
) -> dict[str, list[Answered]]:
    """The kept answers of each system, in the order of the questions; of several to one question the last.

    Raises:
        UsageError: an answer is not there.
    """
    known: dict[str, Answered] = {}
    alike: dict[tuple[str, ...], Mapping[str, str]] = {}  # the systems read much the same: each passage is kept once
    for row in read_lines(folder / ANSWERS):
        if not row["error"] or row["key"] not in known:  # a failure never replaces an answer
            passages = row.get("passages")
            if passages:
                row["passages"] = [alike.setdefault(tuple(one.values()), one) for one in passages]
            known[row["key"]] = Answered.of_row(row)
    keys = _keys(questions, rungs)
    if lacking := [name for name, own in keys.items() if any(key not in known for key in own)]:
        raise UsageError(f"{str(folder / ANSWERS)!r} lacks answers of {lacking[0]!r}: give the command again")
    # Known by its words: the question may have had another id then.
    return {
        name: [replace(known[key], id=question.id) for key, question in zip(own, questions, strict=True)]
        for name, own in keys.items()
    }


def traces(folder: Path, questions: Sequence[Question], rungs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Where the trace of each system's answers lies, from the folder on; empty where none was kept."""
    if not (folder / TRACES).is_dir():
        return {}
    pages = {name: [trace_of(folder, key) for key in own] for name, own in _keys(questions, rungs).items()}
    return {
        name: [page.relative_to(folder).as_posix() if page.exists() else "" for page in own]
        for name, own in pages.items()
    }


def _keys(questions: Sequence[Question], rungs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    return {one["name"]: [key_of(one["name"], one["about"], question) for question in questions] for one in rungs}


def judged(path: Path, system: str, questions: Sequence[Question]) -> dict[str, list[float]]:
    """Ragas' metrics of a system's answers, nan where there is none, and the share that could be scored."""
    rows = {row["id"]: row for _, row in read_rows(path) if row["system"] == system}
    found: dict[str, list[float]] = {}
    for metric in METRICS:
        if any(metric in row for row in rows.values()):
            values = [rows[one.id][metric][0] if one.id in rows else None for one in questions]
            found[f"ragas_{metric}"] = [math.nan if value is None else value for value in values]
            asked = [one.id in rows for one in questions]
            found[f"ragas_{metric}_coverage"] = [
                float(value is not None) if there else math.nan for value, there in zip(values, asked, strict=True)
            ]
    return found


def relevancy(questions: Sequence[Question], rows: Sequence[Answered], embedder: Embeddings) -> list[float]:
    """The cosine of each answer's vector with its question's, not below 0; 0 where nothing was said.

    Raises:
        ModelCallError: the embedder fails, or gives what are no vectors.
    """
    said = [own_words(row.answer) or "-" for row in rows]
    try:
        one, other = (
            np.asarray(embedder.embed_documents(list(texts)), dtype=np.float32)
            for texts in ([question.question for question in questions], said)
        )
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        near = np.clip((one * other).sum(axis=1) / np.maximum(lengths, 1e-9), 0, 1)
        if near.shape != (len(rows),) or not np.isfinite(near).all():
            raise ValueError(f"vectors of shape {one.shape} and {other.shape} for {len(rows)} texts, some not finite")
    except Exception as error:  # every provider has classes of its own
        raise ModelCallError(
            f"the embedder failed at the answers ({told(error, 200)}): check it, and run it again; no answer is asked "
            "for again"
        ) from None
    return [float(value) if row.answer.strip() else 0.0 for value, row in zip(near, rows, strict=True)]
