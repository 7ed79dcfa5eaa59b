"""refine: rewrite the draft, with what tools say about its open questions."""

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from artrag.arithmetic import evaluate, written
from artrag.errors import CalculationError, DeadlineError, PromptTooLongError
from artrag.nodes.calling import messages_of, say, unless_signal
from artrag.nodes.node import Run, node
from artrag.nodes.retrieve import passages_of
from artrag.passages import cite, data, numbered, own_words
from artrag.state import Candidate, QAState, SubquestionRecord
from artrag.steps import Steps, invoke
from artrag.telling import told
from artrag.working import read_steps

MOST_PASSAGES = 8


def refine(
    chat: Runnable[Any, Any], *, retriever: Runnable[Any, Any] | None = None, tools: Sequence[BaseTool] = ()
) -> Runnable[Any, Any]:
    """A node that rewrites the draft from its subquestions (ART, Section 3.3).

    Each unanswered subquestion may call the retriever (new passages are appended, so that `[n]` keeps its meaning), the
    calculator and `tools`, `Settings.tool_calls` in all. A failing model leaves the draft as it is, and
    `refine_failure` says why.

    Reads `question`, `draft`, `passages`, `subquestions`, `candidates`, `rounds`; writes `candidates`, `passages`,
    `subquestions`, `rounds`, `refine_failure`.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        passages = state.get("passages")
        asked, passages, notes = yield from _look_up(state, run, passages)
        rounds = state.get("rounds", 0) + 1
        done: dict[str, Any] = {"subquestions": asked, "rounds": rounds}
        run.tell("rewriting", round=rounds)
        name = "refine" if passages else "refine_solution"
        while True:
            values = {"question": state["question"], "draft": state["draft"], "subquestions": _listed(asked, notes)}
            values |= {"passages": numbered(passages)} if passages else {}
            try:
                messages = yield from messages_of(name, values, run.settings.refine_prompt)
            except DeadlineError as error:
                return done | {"refine_failure": _failure(error)}
            try:
                text = yield from say(chat, messages, run)
                break
            except PromptTooLongError as error:
                if not passages or len(passages) <= len(state.get("passages") or []) or len(passages) == 1:
                    return done | {"refine_failure": _failure(error)}
                passages = passages[:-1]
            except Exception as error:  # degrade in the open: the draft stands
                unless_signal(error)
                return done | {"refine_failure": _failure(error)}
        cited, _ = cite(own_words(text) if passages else text, passages)
        refined = Candidate(stage="refined", text=cited, subquestions=asked)
        return done | {"passages": passages, "candidates": [*state["candidates"], refined], "refine_failure": ""}

    def _look_up(
        state: QAState, run: Run, passages: list[Document] | None
    ) -> Steps[tuple[list[SubquestionRecord], list[Document] | None, list[str]]]:
        """Let the tools answer what is open; bounded, told, and never fatal."""
        asked = [record.copy() for record in state["subquestions"]]
        open_ones = [record for record in asked if not record["answered"]]
        steps = read_steps(state["draft"])
        notes = [f"{step.claim} is wrong: it is {written(step.actual)}" for step in steps if not step.correct]
        calls = 0
        for record in open_ones:
            value = _calculated(record["text"])
            if value is not None:
                record["found"] = value
                continue
            if passages is not None and retriever is not None and calls < run.settings.tool_calls:
                calls += 1
                run.tell("retrieving", subquestion=record["text"], calls=calls)
                try:
                    found = passages_of((yield invoke(retriever, f"{state['question']} {record['text']}"))) or []
                except Exception as error:  # degrade in the open
                    unless_signal(error)
                    record["found"] = f"(retrieval failed: {type(error).__name__})"
                    continue
                passages, numbers = _joined(passages, found[:2])
                if numbers:
                    record["found"] = "see " + " ".join(f"[{n}]" for n in numbers)
            for tool in tools:
                if calls >= run.settings.tool_calls:
                    break
                calls += 1
                run.tell(f"calling {tool.name}", subquestion=record["text"], calls=calls)
                try:
                    said = yield invoke(tool, record["text"])
                except Exception as error:  # degrade in the open
                    unless_signal(error)
                    notes.append(f"{tool.name} failed: {type(error).__name__}")
                else:
                    notes.append(f"{tool.name}: {data(str(said))[:300]}")
        return asked, passages, notes

    return node("refine", body)


def _failure(error: Exception) -> str:
    return f"refine failed: {told(error)}"


def _calculated(text: str) -> str | None:
    """The value of a subquestion that is plain arithmetic: "What is 3 * 4?"."""
    if not text.lower().startswith("what is "):
        return None
    try:
        return written(evaluate(text[8:].rstrip(" ?")))
    except CalculationError:
        return None


def _joined(passages: list[Document], found: Sequence[Document]) -> tuple[list[Document], list[int]]:
    """The passages with the new ones appended, and the numbers of the found ones."""
    joined, numbers = list(passages), []
    places = {_key(passage): n for n, passage in enumerate(joined, start=1)}
    for passage in found:
        if _key(passage) not in places and len(joined) < MOST_PASSAGES:
            joined.append(passage)
            places[_key(passage)] = len(joined)
        if _key(passage) in places:
            numbers.append(places[_key(passage)])
    return joined, numbers


def _key(passage: Document) -> str:
    return str(passage.metadata.get("id") or passage.id or passage.page_content)


def _listed(asked: Sequence[SubquestionRecord], notes: Sequence[str]) -> str:
    lines = [
        f"- {record['text']}" + (f" ({record['found']})" if record.get("found") else "")
        for record in asked
        if not record["answered"]
    ]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) or "- Is the draft right?"
