"""score: put every question to every system, and keep what they say."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config, merge_configs, var_child_runnable_config
from langgraph.pregel import Pregel

from artrag.errors import ArtragError, UsageError
from artrag.evaluation.answering import Answered
from artrag.evaluation.page import written
from artrag.evaluation.questions import Question, read_questions
from artrag.ledger import Ledger, read_lines
from artrag.nodes.evaluate.alone import alone
from artrag.nodes.node import Meter, Run, node
from artrag.protocols import System
from artrag.remembering import sparing
from artrag.settings import Settings
from artrag.state import EvaluateState
from artrag.steps import Call, Steps, side_by_side
from artrag.telling import told
from artrag.tracing import LocalTracer, as_html

Systems = Callable[[Settings, Mapping[str, Any]], Mapping[str, System]]
"""The systems by name, from the bottom of the ladder to its top, as settings and input ask for them."""

ANSWERS, JUDGED, TRACES = "answers.jsonl", "judged.jsonl", "traces"
AT_ONCE = 4


def score(systems: Systems) -> Runnable[Any, Any]:
    """A node that asks one system after another, `at_once` questions at a time.

    Side by side the systems would slow each other down, and their times say nothing. Each answer is kept as soon as it
    exists, and known again by the system's `about` and the question's words: a killed run goes on, a changed system is
    asked anew. A question on which a system fails is kept with its error, and asked again in the next run.

    Reads `run`, `questions`, `systems`, `at_once`, `traces`; writes `rungs`.

    Raises:
        UsageError: a system is unknown.
        RunLockedError: somebody else is running in this folder.
    """

    def body(state: EvaluateState, run: Run) -> Steps[dict[str, Any]]:
        known = yield Call(systems, None, (run.settings, state))
        chosen = _chosen(known, state.get("systems") or known)
        questions = yield Call(read_questions, None, (Path(state["questions"]),))
        path = Path(state["run"]) / ANSWERS
        done = yield Call(_answered, None, (path,))
        ledger: Ledger = yield Call(Ledger.open, None, (path,))
        try:
            for system in chosen:
                yield from _ask(system, questions, ledger, done, run, state)
        finally:
            ledger.close()
        return {"rungs": [_rung(one, known, {system.name for system in chosen}) for one in chosen]}

    return node("score", lambda state, run: alone(Path(state["run"]), body(state, run)))


def _answered(path: Path) -> set[str]:
    """The keys of the answers that are there; one that failed is asked for again."""
    return {row["key"] for row in read_lines(path) if not row["error"]}


def _chosen(known: Mapping[str, System], wanted: Collection[str]) -> list[System]:
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(
            f"there is no system {unknown[0]!r} here: there are {', '.join(known)}; give an index for those that "
            "retrieve, a fine-tuned model or a reranker for theirs"
        )
    return [one for name, one in known.items() if name in wanted]  # from the bottom up, however they were named


def _rung(system: System, known: Mapping[str, System], chosen: Collection[str]) -> dict[str, Any]:
    """Where a system stands among those chosen; what it adds is unknown where a rung that adds another thing is out."""
    below, adds = system.over, {system.adds}
    while below and below not in chosen:
        adds.add(known[below].adds)
        below = known[below].over
    only = system.adds if len(adds) == 1 else None
    return {"name": system.name, "over": below, "adds": only, "about": system.about}


def _ask(
    system: System,
    questions: Sequence[Question],
    ledger: Ledger,
    known: Collection[str],
    run: Run,
    state: EvaluateState,
) -> Steps[None]:
    """Put the questions to a system that it has not answered yet."""
    missing = {key: one for one in questions if (key := key_of(system.name, system.about, one)) not in known}
    done = len(questions) - len(missing)

    def of(key: str, question: Question) -> Callable[[], Steps[None]]:
        def ask() -> Steps[None]:
            nonlocal done
            tracer = LocalTracer() if state.get("traces") else None
            row = yield _asking(system, question, tracer)
            if tracer:
                yield Call(_keep, None, (trace_of(Path(state["run"]), key), tracer))
            yield Call(ledger.add, None, ({"key": key} | row.as_row(),))
            done += 1
            run.progress(system.name, done, len(questions))

        return ask

    yield from side_by_side([of(*one) for one in missing.items()], state.get("at_once") or AT_ONCE)


def trace_of(folder: Path, key: str) -> Path:
    """The page with the trace of an answer, in a run's folder."""
    return folder / TRACES / f"{key}.html"


def _keep(path: Path, tracer: LocalTracer) -> None:
    path.parent.mkdir(exist_ok=True)
    written(path, as_html(tracer.spans))


def key_of(name: str, about: str, question: Question) -> str:
    """What a system's answer is known again by."""
    return sha256(repr((name, about, question.words)).encode("utf-8", "replace")).hexdigest()[:24]


def _asking(system: System, question: Question, tracer: LocalTracer | None) -> Call:
    """The call that gives the system's row for a question; it never raises for what the system does."""
    given = {"question": question.words}

    def sync() -> Answered:
        with _measured(system, tracer) as made:
            try:
                made.row = _row(system, question, system.answers.invoke(given, **made.how))
            except Exception as error:  # a system may be anybody's
                made.row = _failed(system, question, error)
        return made.row

    async def twin() -> Answered:
        with _measured(system, tracer) as made:
            try:
                made.row = _row(system, question, await system.answers.ainvoke(given, **made.how))
            except Exception as error:
                made.row = _failed(system, question, error)
        return made.row

    return Call(sync, twin)


@dataclass(slots=True)
class _Made:
    how: dict[str, Any]
    row: Answered = field(default_factory=lambda: Answered("", "", ""))


@contextmanager
def _measured(system: System, tracer: LocalTracer | None) -> Iterator[_Made]:
    """Count what one answer costs. The evaluation's own stream and checkpoints are none of the system's business."""
    meter, started = Meter(), time.perf_counter()
    outer = {name: value for name, value in ensure_config().items() if name in ("callbacks", "tags", "metadata")}
    listening = [meter, *([tracer] if tracer else [])]
    config = merge_configs(outer, {"callbacks": listening, "run_name": system.name})  # type: ignore[arg-type]
    graph = isinstance(system.answers, Pregel)  # nothing else knows what a context is
    made = _Made({"config": config} | ({"context": system.context} if graph and system.context else {}))
    token = var_child_runnable_config.set(config)
    try:
        with sparing() as spared:
            yield made
    finally:
        var_child_runnable_config.reset(token)
    made.row = replace(
        made.row,
        calls=meter.calls,
        prompt_tokens=meter.prompt_tokens,
        completion_tokens=meter.completion_tokens,
        seconds=round(time.perf_counter() - started + sum(spared), 4),
    )


def _row(system: System, question: Question, made: Any) -> Answered:
    """What a system gave: a state, a message, or text.

    Raises:
        UsageError: there is no answer in it.
    """
    state = made if isinstance(made, Mapping) else {"answer": made}
    said = state.get("answer", (state.get("messages") or [None])[-1])
    if isinstance(said, BaseMessage):
        said = said.text
    if not isinstance(said, str):
        raise UsageError(
            f"{system.name!r} gave {str(made)[:80]!r}: give text, a message, or a state with 'answer' or 'messages'"
        )
    passages = state.get("passages")
    return Answered(
        system=system.name,
        id=question.id,
        answer=said,
        passages=None if passages is None else tuple(map(_plain, passages)),
        confidence=_confidence(state),
        abstained=bool(state.get("abstained")),
        decision=str(state.get("decision") or ""),
        draft=_draft(state),
        need=str(state.get("need") or ""),
    )


def _draft(state: Mapping[str, Any]) -> str:
    """What was said first, where there are further answers to choose from."""
    candidates = state.get("candidates") or []
    drafts = [one["text"] for one in candidates if one.get("stage") == "draft"]
    return str(drafts[0]) if drafts and len(candidates) > 1 else ""


def _confidence(state: Mapping[str, Any]) -> float | None:
    """The confidence, where somebody judged the answer."""
    said = state.get("confidence")
    if said is None or not any("score" in one for one in state.get("candidates") or [{"score": 0}]):
        return None
    if not 0 <= said <= 1:
        raise UsageError(f"the confidence {said!r} is no probability: give one between 0 and 1, or none")
    return float(said)


def _plain(passage: Any) -> dict[str, str]:
    if isinstance(passage, str):
        return {"id": "", "document": "", "text": passage, "context": ""}
    if isinstance(passage, Mapping):
        return {name: str(passage.get(name) or "") for name in ("id", "document", "text", "context")}
    about = passage.metadata
    name = str(about.get("id", passage.id or ""))
    return {
        "id": name,
        "document": str(about.get("document", about.get("source", ""))),
        "text": passage.page_content,
        "context": str(about.get("context", "")),
    }


def _failed(system: System, question: Question, error: Exception) -> Answered:
    said = str(error) if isinstance(error, ArtragError) else told(error)
    return Answered(system=system.name, id=question.id, answer="", error=said[:500] or type(error).__name__)
