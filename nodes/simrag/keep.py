"""keep: drop the pairs that are of no use, each with its reason."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.index.store import Index
from artrag.nodes.asking_all import ask_all
from artrag.nodes.node import Run, node
from artrag.nodes.situating import opened
from artrag.passages import numbered, own_words
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.keeping import Pair, Reason, Seen, answered, brought_back, fault
from artrag.training.ledger import Ledger
from artrag.training.rounds import (
    ANSWERED,
    KEPT,
    PROPOSED,
    REJECTED,
    ROUND,
    earlier_pairs,
    read_pairs,
    round_folder,
    write_pairs,
)

TOP_K = 10
"""Retrieval must bring the answer back among so many passages."""


def keep(teacher: Runnable[Any, Any], embedder: Embeddings) -> Runnable[Any, Any]:
    """A node that keeps the pairs which pass every check: by rule, by retrieval, and by the teacher's own answer.

    Reads `run`, `index`, `round`; writes `kept` and `rejected`, a count a reason.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        number = state["round"]
        folder = round_folder(state["run"], number)
        pairs: list[Pair] = yield Call(read_pairs, None, (folder / PROPOSED,))
        seen = Seen()
        for one in (yield Call(earlier_pairs, None, (state["run"], number))):
            seen.again(one)
        reasons: dict[int, Reason] = {}
        for place, one in enumerate(pairs):
            wrong: Reason | None = fault(one) or ("a duplicate" if seen.again(one) else None)
            if wrong:
                reasons[place] = wrong
        left = [place for place in range(len(pairs)) if place not in reasons]
        run.tell(f"{len(left)} of {len(pairs)} pairs pass the rules")
        found = yield Call(_searched, None, (Path(state["index"]), embedder, [pairs[place] for place in left], run))
        reasons |= {
            place: "retrieval does not bring it back"
            for place, passages in zip(left, found, strict=True)
            if not brought_back(pairs[place], passages)
        }
        # A claim is its passage's own sentence, or that with another word in it: nobody need be asked whether it holds.
        asked = [place for place in left if place not in reasons and pairs[place].kind != "claim"]
        chat = yield Call(opened, None, (teacher,))
        said = yield from _answers(chat, folder / ANSWERED, [pairs[place] for place in asked], run)
        reasons |= {
            place: "the model does not answer it"
            for place, reply in zip(asked, said, strict=True)
            if not answered(pairs[place], reply)
        }
        kept = [asdict(one) for place, one in enumerate(pairs) if place not in reasons]
        dropped = [asdict(pairs[place]) | {"reason": reasons[place]} for place in sorted(reasons)]
        yield Call(write_pairs, None, (folder / KEPT, kept))
        yield Call(write_pairs, None, (folder / REJECTED, dropped))
        counted = dict(Counter(reasons.values()).most_common())
        told = {"round": number, "proposed": len(pairs), "kept": len(kept), "rejected": counted}
        yield Call((folder / ROUND).write_text, None, (json.dumps(told), "utf-8"))
        run.tell(f"{len(kept)} of {len(pairs)} pairs kept")
        return {"kept": len(kept), "rejected": counted}

    return node("keep", body)


def _searched(index: Path, embedder: Embeddings, pairs: list[Pair], run: Run) -> list[list[tuple[str, str]]]:
    """(id, text) of the passages that each question finds."""
    found = []
    with closing(Index.open(index, embedder=embedder)) as opened_index:
        for done, one in enumerate(pairs):
            found.append([(hit.id, hit.text) for hit in opened_index.search(one.question, k=TOP_K)])
            if done % 20 == 0:
                run.progress("searching", done, len(pairs))
    return found


def _answers(chat: Any, path: Path, pairs: list[Pair], run: Run) -> Steps[list[str]]:
    """What the teacher answers from the passage, without the options; empty where it could not be asked."""
    prompt = prompts.load("answer")
    with Ledger(path) as ledger:
        known = {row["question"]: row["said"] for row in ledger.rows}
        left = [one for one in pairs if one.question not in known]
        conversations = [
            prompt.format_messages(
                passages=numbered([Document(one.text, metadata={"context": one.context})]), question=one.question
            )
            for one in left
        ]

        def keep_reply(number: int, said: str) -> None:
            known[left[number].question] = own_words(said)
            ledger.add({"question": left[number].question, "said": known[left[number].question]})
            run.progress("answering", len(known), len(pairs))

        yield from ask_all(chat, conversations, run, keep_reply)
    return [known.get(one.question, "") for one in pairs]
