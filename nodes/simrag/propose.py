"""propose: let the teacher find answers in the documents, and ask for them."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from artrag.errors import TrainingDataError
from artrag.index.catalog import StoredChunk
from artrag.index.store import Index
from artrag.nodes.asking_all import replies
from artrag.nodes.node import Run, node
from artrag.nodes.situating import opened
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.candidates import Span, spans
from artrag.training.proposing import Candidate, candidates, extraction, long_enough, pair, posing, sample
from artrag.training.rounds import EXTRACTED, POSED, PROPOSED, round_folder, write_pairs

DISTRACTORS_FROM = 400
"""Passages whose spans serve as wrong options."""


def propose(teacher: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A node that makes pairs of question and answer from the index, as many passages as `passages` says.

    First the teacher names candidate answers of each passage, then it asks for some of them. Every reply is kept: a
    killed run goes on.

    Reads `run`, `index`, `round`, `passages`, `kinds`; writes `round` and `proposed`.

    Raises:
        TrainingDataError: no passage of the index is long enough to ask about.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        number = state["round"] + 1
        folder = round_folder(state["run"], number)
        chosen, others, short = yield Call(_chosen, None, (Path(state["index"]), state["passages"], number))
        run.tell(f"{len(chosen)} passages are asked about; {short} of the index are too short")
        chat = yield Call(opened, None, (teacher,))
        wanted = yield Call(_extractions, None, (chosen,))  # prompts are files
        named = yield from replies(chat, folder / EXTRACTED, wanted, run)
        found = yield Call(_candidates, None, (chosen, named, state["kinds"], number))
        wanted = yield Call(_posings, None, (found,))
        posed = yield from replies(chat, folder / POSED, wanted, run)
        else_short = bool(state["kinds"].get("short"))
        count = yield Call(_write, None, (folder / PROPOSED, found, posed, others, number, else_short))
        run.tell(f"{count} pairs from {len(chosen)} passages")
        return {"round": number, "proposed": count}

    return node("propose", body)


def _chosen(index: Path, count: int, seed: int) -> tuple[list[StoredChunk], list[Span], int]:
    """The passages to ask about, spans of these and others for wrong options, and how many passages are too short."""
    with closing(Index.open(index)) as opened_index:
        chunks = list(opened_index.chunks())
    chosen = sample(chunks, count, seed=seed)
    if not chosen:
        raise TrainingDataError(
            f"no passage of {str(index)!r} is long enough to ask about: give documents with more than a few lines"
        )
    others = [span for chunk in sample(chunks, DISTRACTORS_FROM, seed=seed) for span in spans(chunk.text)]
    return chosen, others, sum(not long_enough(chunk) for chunk in chunks)


def _extractions(chosen: list[StoredChunk]) -> dict[str, list[BaseMessage]]:
    return {chunk.id: extraction(chunk) for chunk in chosen}


def _posings(found: list[Candidate]) -> dict[str, list[BaseMessage]]:
    return {_name(one): posing(one) for one in found}


def _candidates(
    chosen: list[StoredChunk], named: dict[str, str], kinds: dict[str, float], seed: int
) -> list[Candidate]:
    return [one for chunk in chosen for one in candidates(chunk, named.get(chunk.id, ""), kinds=kinds, seed=seed)]


def _write(
    path: Path, found: list[Candidate], posed: dict[str, str], others: list[Span], seed: int, else_short: bool
) -> int:
    made = [pair(one, posed.get(_name(one), ""), others, seed=seed, else_short=else_short) for one in found]
    write_pairs(path, [asdict(one) for one in made])
    return len(made)


def _name(one: Candidate) -> str:
    return f"{one.chunk.id} {one.span.start} {one.span.text}"
