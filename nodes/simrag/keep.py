"""keep: drop the pairs that are of no use, each with its reason."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.index.store import Index
from artrag.ledger import Ledger, read_lines
from artrag.nodes.asking_all import key_of, replies
from artrag.nodes.node import Run, node
from artrag.nodes.situating import opened
from artrag.passages import numbered, own_words
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.keeping import SURE, Pair, Reason, Seen, answered, brought_back, fault, sureness
from artrag.training.proposing import posing_again
from artrag.training.rounds import (
    ANSWERED,
    KEPT,
    LIKELY,
    PROPOSED,
    REJECTED,
    ROUND,
    SCORES,
    kept_pairs,
    read_pairs,
    round_folder,
    write_json,
    write_pairs,
)

TOP_K = 10
"""Retrieval must bring the answer back among so many passages, of few passages among a quarter."""


def keep(teacher: Runnable[Any, Any], embedder: Embeddings) -> Runnable[Any, Any]:
    """A node that keeps the pairs which pass every check: by rule, by retrieval, and by the teacher's own words.

    Reads `run`, `index`, `round`; writes `kept` and `rejected`, a count a reason.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        number = state["round"]
        folder = round_folder(state["run"], number)
        pairs, reasons = yield Call(_by_rule, None, (state["run"], number))
        left = {place: one for place, one in enumerate(pairs) if place not in reasons}
        run.tell(f"{len(left)} of {len(pairs)} pairs pass the rules")
        reasons |= yield Call(_not_found, None, (Path(state["index"]), embedder, left, run))
        chat = yield Call(opened, None, (teacher,))
        found = {n: one for n, one in left.items() if n not in reasons}
        reasons |= yield Call(_unsure, None, (chat, folder / LIKELY, found, run))
        asked = {n: one for n, one in found.items() if n not in reasons}
        wanted = yield Call(_asking, None, (asked,))
        said = yield from replies(chat, folder / ANSWERED, wanted, run)
        reasons |= {
            n: "the model does not answer it"
            for n, one in asked.items()
            if not answered(one, own_words(said.get(str(n), "")))
        }
        told = yield Call(_write, None, (folder, number, pairs, reasons))
        run.tell(f"{told['kept']} of {len(pairs)} pairs kept")
        return {"kept": told["kept"], "rejected": told["rejected"]}

    return node("keep", body)


def _by_rule(run: str, number: int) -> tuple[list[Pair], dict[int, Reason]]:
    """The proposed pairs, and which of them fall by themselves or were kept before."""
    pairs, seen = read_pairs(round_folder(run, number) / PROPOSED), Seen()
    for one in kept_pairs(run, number - 1):
        seen.again(one)
    reasons: dict[int, Reason] = {}
    for place, one in enumerate(pairs):
        wrong: Reason | None = fault(one) or ("a duplicate" if seen.again(one) else None)
        if wrong:
            reasons[place] = wrong
    return pairs, reasons


def _not_found(index: Path, embedder: Embeddings, pairs: Mapping[int, Pair], run: Run) -> dict[int, Reason]:
    """Which pairs retrieval does not bring back."""
    reasons: dict[int, Reason] = {}
    with closing(Index.open(index, embedder=embedder)) as opened_index:
        k = max(1, min(TOP_K, opened_index.manifest.chunks // 4))
        for done, (place, one) in enumerate(pairs.items()):
            found = [(hit.id, hit.text) for hit in opened_index.search(one.plain, k=k)]
            if not brought_back(one, found):
                reasons[place] = "retrieval does not bring it back"
            if done % 20 == 0:
                run.progress("searching", done, len(pairs))
    return reasons


def _unsure(chat: Any, path: Path, pairs: Mapping[int, Pair], run: Run) -> dict[int, Reason]:
    """Pairs that are not sure enough, where the teacher tells how likely its words are."""
    if not hasattr(type(chat), "likelihood"):
        return {}
    reasons: dict[int, Reason] = {}
    known = {row["key"]: row["likelihood"] for row in read_lines(path)}
    ledger = Ledger.open(path)
    try:
        for done, (place, one) in enumerate(pairs.items()):
            began, prompt = time.monotonic(), posing_again(one)
            key = key_of(chat, [*prompt, AIMessage(one.plain)])
            if key not in known:
                known[key] = chat.likelihood(prompt, one.plain)
                ledger.add({"key": key, "likelihood": known[key], "seconds": round(time.monotonic() - began, 3)})
            if sureness(one, known[key]) < SURE:
                reasons[place] = "it is not sure enough"
            if done % 20 == 0:
                run.progress("weighing questions", done, len(pairs))
    finally:
        ledger.close()
    return reasons


def _asking(pairs: Mapping[int, Pair]) -> dict[str, list[BaseMessage]]:
    """The prompts that ask for an answer from the passage, of a claim and of options for the words themselves."""
    prompt = prompts.load("answer")
    shown = {n: numbered([Document(one.text, metadata={"context": one.context})]) for n, one in pairs.items()}
    return {str(n): prompt.format_messages(passages=shown[n], question=one.plain) for n, one in pairs.items()}


def _write(folder: Path, number: int, pairs: list[Pair], reasons: Mapping[int, Reason]) -> dict[str, Any]:
    kept = [asdict(one) for place, one in enumerate(pairs) if place not in reasons]
    dropped = [asdict(pairs[place]) | {"reason": reasons[place]} for place in sorted(reasons)]
    write_pairs(folder / KEPT, kept)
    write_pairs(folder / REJECTED, dropped)
    counted = dict(Counter(reasons.values()).most_common())
    told = {"round": number, "proposed": len(pairs), "kept": len(kept), "rejected": counted}
    write_json(folder / ROUND, told)
    (folder / SCORES).unlink(missing_ok=True)  # of an earlier run, with other pairs
    return told
