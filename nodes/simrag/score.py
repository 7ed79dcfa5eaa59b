"""score: measure the student before and after, without and with passages, on the same held-out questions."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable

from artrag.errors import TrainingDataError
from artrag.evaluation.intervals import bootstrap, paired
from artrag.evaluation.predictions import normal_question
from artrag.index.store import Index
from artrag.models.references import base_reference, load_chat
from artrag.nodes.asking_all import ask_all
from artrag.nodes.node import Run, node
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.ledger import Ledger
from artrag.training.measuring import HeldOut, messages, of_pairs, read_questions, without
from artrag.training.rounds import KEPT, PART, SCORES, earlier_pairs, read_pairs, round_folder

System = Literal["base", "base with passages", "before", "after"]
MOST_TOKENS = 64


def score(student: str, embedder: Embeddings) -> Runnable[Any, Any]:
    """A node that scores four systems on the held-out questions and decides whether the trained one is better.

    The systems are the base model without and with passages, and the student before and after this run, both with
    passages; all read the same passages. Without questions of people's, every seventh pair that was kept out of the
    training serves; the report says so.

    Reads `run`, `index`, `round`, `rounds`, `questions`; writes `scores` and `decision`: "ship" where the interval of
    the gain lies above zero, "again" where it does not and a round is left, else "reject".
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        number = state["round"]
        folder = round_folder(state["run"], number)
        held, leaked, own = yield Call(_held_out, None, (state, number))
        found = yield Call(_passages, None, (Path(state["index"]), embedder, held, run))
        systems: dict[System, tuple[str, Sequence[list[Document] | None]]] = {
            "base": (base_reference(student), [None] * len(held)),
            "base with passages": (base_reference(student), found),
            "before": (student, found),
            "after": (str(folder / PART), found),
        }
        values: dict[System, list[float]] = {}
        for system, (reference, passages) in systems.items():
            if system == "before" and reference == systems["base with passages"][0]:  # a student that is yet untaught
                values[system] = values["base with passages"]
            else:
                values[system] = yield from _values(folder, system, reference, held, passages, run)
        scores = _scores(values) | {"questions": len(held), "own_questions": own, "leaked": leaked}
        yield Call(_write, None, (folder / SCORES, scores))
        gain = scores["gain"]
        decision = "ship" if gain["low"] > 0 else "again" if number < state["rounds"] else "reject"
        run.tell(f"gain {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]: {decision}")
        return {"scores": scores, "decision": decision}

    return node("score", body)


def _held_out(state: SimragState, number: int) -> tuple[list[HeldOut], int, bool]:
    """The questions, how many were left out because they were learned from, and whether they are the model's own."""
    from artrag.training.answerer import is_held

    pairs = [*earlier_pairs(state["run"], number), *read_pairs(round_folder(state["run"], number) / KEPT)]
    own = not state.get("questions")
    if own:
        held = clean = of_pairs([one for one in pairs if is_held(((one.text, one.context),))])
    else:
        held = read_questions(Path(state["questions"]))
        clean = without(held, {normal_question(one.question) for one in pairs})
    if not clean:
        raise TrainingDataError(
            f"no question is left to measure by: of {len(held)} held-out ones all were asked in training, too; "
            "give others, or more documents"
        )
    return clean, len(held) - len(clean), own


def _passages(index: Path, embedder: Embeddings, held: Sequence[HeldOut], run: Run) -> list[list[Document]]:
    with closing(Index.open(index, embedder=embedder)) as opened:
        return [[hit.to_document() for hit in opened.search(one.question, k=run.settings.k)] for one in held]


def _values(
    folder: Path,
    system: System,
    reference: str,
    held: Sequence[HeldOut],
    passages: Sequence[list[Document] | None],
    run: Run,
) -> Steps[list[float]]:
    """What each answer of a system is worth; answers are kept as soon as they exist."""
    with Ledger(folder / f"{system.replace(' ', '-')}.jsonl") as ledger:
        known = {row["id"]: row["said"] for row in ledger.rows}
        left = [(one, read) for one, read in zip(held, passages, strict=True) if one.id not in known]
        if left:
            chat = yield Call(load_chat, None, (reference,))
            chat = chat.model_copy(update={"max_tokens": MOST_TOKENS})

            def keep(number: int, said: str) -> None:
                known[left[number][0].id] = said
                ledger.add({"id": left[number][0].id, "said": said})
                run.progress(system, len(known), len(held))

            yield from ask_all(chat, [messages(one, read) for one, read in left], run, keep)
    return [one.value(known.get(one.id, "")) for one in held]


def _scores(values: dict[System, list[float]]) -> dict[str, Any]:
    def plain(found: Any) -> dict[str, float]:
        return {"value": found.value, "low": found.low, "high": found.high}

    return {
        "systems": {system: plain(bootstrap(own)) for system, own in values.items()},
        "gain": plain(paired(values["before"], values["after"])),
    }


def _write(path: Path, scores: dict[str, Any]) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(scores, indent=1), "utf-8")
    os.replace(beside, path)
