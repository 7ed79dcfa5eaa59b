"""score: measure the student before and after, without and with passages, on the same held-out questions."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from artrag.errors import TrainingDataError
from artrag.evaluation.intervals import clustered
from artrag.evaluation.predictions import normal_question
from artrag.evaluation.questions import Question, read_questions
from artrag.index.store import Index
from artrag.models.references import base_reference, load_chat
from artrag.nodes.asking_all import replies
from artrag.nodes.node import Run, node
from artrag.passages import own_words
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.answerer_sets import load_examples
from artrag.training.measuring import messages, of_pairs, without
from artrag.training.rounds import PART, SCORES, kept_pairs, parted, round_folder, write_json

System = Literal["base", "base with passages", "before", "after"]
MOST_TOKENS = 64
FEWEST = 20
"""Of fewer held-out questions nothing is shipped: an interval over them says nothing."""


def score(student: str, embedder: Embeddings) -> Runnable[Any, Any]:
    """A node that scores four systems on the held-out questions and decides whether the trained one is better.

    The systems are the base model without and with passages, and the student before and after this run, both with
    passages; all read the same passages. Without questions of people's, the pairs about a seventh of the passages
    serve, which were kept out of the training; the report says so.

    Reads `run`, `index`, `round`, `rounds`, `questions`, `mix`; writes `scores` and `decision`: "ship" where the
    interval of the gain over at least 20 questions lies above zero, "again" where it does not and a round is left, else
    "reject".

    Raises:
        TrainingDataError: no question is left to measure by.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        number = state["round"]
        folder = round_folder(state["run"], number)
        held, leaked = yield Call(_held_out, None, (state,))
        found = yield Call(_passages, None, (Path(state["index"]), embedder, held, run))
        systems: dict[System, tuple[str, Sequence[list[Document] | None]]] = {
            "base": (base_reference(student), [None] * len(held)),
            "base with passages": (base_reference(student), found),
            "before": (student, found),
            "after": (str(folder / PART), found),
        }
        values: dict[System, list[float]] = {}
        for system, (reference, passages) in systems.items():
            chat = yield Call(load_chat, None, (reference,))
            chat = chat.model_copy(update={"max_tokens": MOST_TOKENS})
            wanted = yield Call(_asking, None, (held, passages))
            said = yield from replies(chat, folder / f"{system.replace(' ', '-')}.jsonl", wanted, run)
            values[system] = [one.value(own_words(said.get(str(n), ""))) for n, one in enumerate(held)]
        own = not state.get("questions")
        scores = _scores(values, held) | {"questions": len(held), "own_questions": own, "leaked": leaked}
        yield Call(write_json, None, (folder / SCORES, scores))
        gain = scores["gain"]
        better = gain["low"] > 0 and len(held) >= FEWEST
        decision = "ship" if better else "again" if number < state["rounds"] else "reject"
        run.tell(f"gain {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]: {decision}")
        return {"scores": scores, "decision": decision}

    return node("score", body)


def _held_out(state: SimragState) -> tuple[list[Question], int]:
    """The questions, and how many were left out because they were learned from."""
    pairs = kept_pairs(state["run"], state["round"])
    mixed = load_examples(*map(Path, state.get("mix") or []))[0]
    seen = {normal_question(one.question) for one in mixed}
    if state.get("questions"):
        held = read_questions(Path(state["questions"]))
        seen |= {normal_question(text) for one in pairs for text in (one.question, one.plain)}
    else:
        held = of_pairs(parted(pairs, test=True).test)
    clean = without(held, seen)
    if not clean:
        raise TrainingDataError(
            f"no question is left to measure by: of {len(held)} held-out ones none is apart from the training; "
            "give others, or more documents"
        )
    return clean, len(held) - len(clean)


def _passages(index: Path, embedder: Embeddings, held: Sequence[Question], run: Run) -> list[list[Document]]:
    with closing(Index.open(index, embedder=embedder)) as opened:
        return [[hit.to_document() for hit in opened.search(one.question, k=run.settings.k)] for one in held]


def _asking(held: Sequence[Question], passages: Sequence[list[Document] | None]) -> dict[str, list[BaseMessage]]:
    return {str(n): messages(one, read) for n, (one, read) in enumerate(zip(held, passages, strict=True))}


def _scores(values: dict[System, list[float]], held: Sequence[Question]) -> dict[str, Any]:
    """Means and the gain with intervals; questions about one passage are no independent witnesses."""
    groups = [one.group for one in held]

    def plain(own: Sequence[float]) -> dict[str, float]:
        found = clustered(own, groups)
        return {"value": found.value, "low": found.low, "high": found.high}

    gains = [after - before for before, after in zip(values["before"], values["after"], strict=True)]
    return {"systems": {system: plain(own) for system, own in values.items()}, "gain": plain(gains)}
