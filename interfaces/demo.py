"""The demo: the same questions through plain RAG, contextual RAG and ART, side by side."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from artrag.errors import UsageError
from artrag.evaluation.metrics import holds_answer
from artrag.graphs import build_contextual_rag
from artrag.interfaces.running import execute, plain_result, ready_models
from artrag.interfaces.show import ingest_report, result, words
from artrag.interfaces.wiring import settings_chat, settings_retriever, wired_art, wired_contextual_rag, wired_ingest
from artrag.settings import Settings

KINDS = ("context", "exact", "arithmetic", "unanswerable")


def systems() -> dict[str, tuple[str, Callable[[], StateGraph[Any, Any, Any, Any]]]]:
    """Name -> (kind of context its index has, its graph)."""
    return {
        "plain RAG": ("none", plain_rag),
        "contextual RAG": ("auto", wired_contextual_rag),
        "ART": ("auto", wired_art),
    }


def plain_rag() -> StateGraph[Any, Any, Any, Any]:
    """What most people build first: chunks as they are, dense retrieval only, one answer."""
    return build_contextual_rag(chat=settings_chat(), retriever=settings_retriever(arms=("dense",)))


def read_questions(path: Path) -> list[dict[str, Any]]:
    """The first development question of each kind: chosen by a rule, not by how they turn out.

    Raises:
        UsageError: the file is missing or a line is no question (named by number).
    """
    if not path.is_file():
        raise UsageError(
            f"no questions at {str(path)!r}: run the demo in a checkout of the project, or give --questions"
        )
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            row["question"], row["answers"]
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"line {number} of {str(path)!r} is no question: it needs question and answers") from None
        rows.append(row)
    chosen = [next((r for r in rows if r.get("kind") == kind and r.get("split") == "dev"), None) for kind in KINDS]
    return [row for row in chosen if row] or rows[: len(KINDS)]


def run_demo(*, folder: Path, corpus: Path, questions: Path, out: Console | None, err: Console) -> dict[str, Any]:
    """Ingest the corpus twice, ask every question of every system, print (unless `out` is None) and return it all."""
    started = time.perf_counter()
    asked = read_questions(questions)
    base = Settings()
    ready_models(base, err, chat=False)
    ready_models(base, err)
    reports = {}
    for kind in ("none", "auto"):
        settings = base.model_copy(update={"context": kind, "index": str(folder / kind)})
        inputs = {"paths": [str(corpus)], "index": settings.index}
        reports[kind] = execute(wired_ingest, inputs, settings, err)["report"]
    if out:
        out.print(ingest_report(reports["auto"]))
    rows = []
    for question in asked:
        answers = {}
        for name, (kind, graph) in systems().items():
            settings = base.model_copy(update={"context": kind, "index": str(folder / kind)})
            answers[name] = execute(graph, {"question": question["question"]}, settings, err)
        if out:
            _print_question(out, question, answers)
        rows.append({"id": question.get("id"), **{name: plain_result(state) for name, state in answers.items()}})
    seconds = time.perf_counter() - started
    if out:
        out.print(Text(f"{len(asked)} questions, {len(systems())} systems, {seconds:.0f} s", style="dim"))
    return {"questions": rows, "seconds": round(seconds, 1)}


def _print_question(out: Console, question: dict[str, Any], answers: dict[str, dict[str, Any]]) -> None:
    out.print(Rule(words(question["question"], "bold"), align="left"))
    wanted = ", ".join(question["answers"]) or "nothing: the documents do not say"
    out.print(words(f"{question.get('kind', '')} question; expected: {wanted}", "dim"))
    table = Table(expand=True)
    table.add_column("system", no_wrap=True)
    table.add_column("answer", ratio=1)
    table.add_column("right", no_wrap=True)
    table.add_column("confidence", justify="right")
    for name, state in answers.items():
        right = _verdict(state, question["answers"])
        confidence = f"{state['confidence']:.2f}" if name == "ART" else "-"
        table.add_row(name, words(state["answer"]), right, confidence)
    out.print(table)
    out.print(Text("ART in full", style="bold"))
    out.print(result(answers["ART"]))


def _verdict(state: dict[str, Any], references: list[str]) -> Text:
    if state.get("abstained"):
        return Text("abstained", style="yellow" if references else "green")
    right = holds_answer(state["answer"], references).value == 1
    return Text("yes", style="green") if right else Text("no", style="red")
