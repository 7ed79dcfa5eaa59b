"""Seeded runs of every graph that answers questions on parts that fail.

    python benchmarks/reliability/faults.py --runs 2500

Each run has a seed, a share of failing calls (0 to 0.6) and a deadline; every third streams what the model says. It
survives if it ends in time with an answer, an abstention or a typed error (`ArtragError`), with values of the types
that the state promises, as JSON; and if a draft that once stood is not lost. One JSON line: tried, survived, lost (with
their seeds), what each graph ended with, and how often each fault was drawn.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from faulty import Dice, FaultyAsker, FaultyChat, FaultyReranker, FaultyRetriever, FaultyTruster, plain, summed

from artrag import build_art, build_chat, build_contextual_rag, build_routed
from artrag.errors import ArtragError
from artrag.nodes import calling

GRAPHS = ("art", "art without passages", "contextual_rag", "routed", "chat")
DEADLINE = 1.0
VALUES = "values"
GRACE = 2.0
"""Seconds of the machine's own that a run may take beyond its deadline: they run side by side on few cores."""
TYPES = {"answer": str, "confidence": float, "abstained": bool, "decision": str, "candidates": list, "rounds": int}


def build(kind: str, dice: Dice) -> Any:
    """A graph on faulty parts."""
    chat, retriever = FaultyChat(dice), FaultyRetriever(dice)
    if kind == "contextual_rag":
        return build_contextual_rag(chat=chat, retriever=retriever, reranker=FaultyReranker(dice)).compile()
    if kind == "routed":
        return build_routed(chat=chat, retriever=retriever).compile()
    parts: Any = {"asker": FaultyAsker(dice), "truster": FaultyTruster(dice), "sampler": FaultyChat(dice)}
    parts["retriever"] = None if kind == "art without passages" else retriever
    return (build_chat if kind == "chat" else build_art)(chat=chat, **parts).compile()


async def once(seed: int, *, blocking: bool) -> tuple[str, str, Counter[str]]:
    """One run: the graph, what it ended with ("lost: ..." where it did not survive), and the faults drawn."""
    dice = Dice(seed, rate=dice_rate(seed))
    kind = GRAPHS[seed % len(GRAPHS)]
    graph = build(kind, dice)
    context: Any = {
        "deadline": DEADLINE,
        "rounds": seed % 4,
        "samples": seed % 3,
        "retries": seed % 3,
        "trust_margin": 0,
    }
    seen: list[Any] = []
    began = time.monotonic()
    try:
        asked = "What is 3 * 4?" if seed % 7 == 0 else "Which event was most common?"
        earlier = [("human", "Which drug is it about?"), ("ai", "Alphadrug.")] if seed % 2 else []
        inputs: Any = {"messages": [*earlier, ("human", asked)]} if kind == "chat" else {"question": asked}
        modes = ["values", "messages"] if seed % 3 == 1 else ["values"]  # with messages the model is streamed
        if blocking:
            seen.extend(
                part for mode, part in graph.stream(inputs, context=context, stream_mode=modes) if mode == VALUES
            )
        else:
            async for mode, part in graph.astream(inputs, context=context, stream_mode=modes):
                if mode == VALUES:
                    seen.append(part)
        ended = judge(kind, seen)
    except ArtragError as error:
        ended = (
            f"lost: a draft, by {type(error).__name__}" if any(s.get("draft") for s in seen) else type(error).__name__
        )
    except Exception as error:  # what this suite looks for
        ended = f"lost: {type(error).__name__}: {str(error)[:80]}"
    if (took := time.monotonic() - began) > DEADLINE + GRACE:
        ended = f"lost: took {took:.1f} s"
    return kind, ended, dice.drawn


def dice_rate(seed: int) -> float:
    """The share of failing calls."""
    return (0.0, 0.1, 0.3, 0.6)[seed // len(GRAPHS) % 4]


def judge(kind: str, seen: list[Any]) -> str:
    """What the last state is."""
    state = seen[-1]
    for key, kind_of in TYPES.items():
        if not isinstance(state.get(key), kind_of):
            return f"lost: {key} is {state.get(key)!r:.60}"
    if kind == "chat":
        turns = state["messages"]
        if turns[-1].type != "ai" or not state["asked"] or len(turns) not in (2, 4):
            return f"lost: the conversation is {str(turns)[:60]}"
        state = state | {"messages": [turn.text for turn in turns]}
    if not state["answer"].strip() or not plain(state):
        return "lost: no answer" if plain(state) else "lost: not JSON"
    if not math.isfinite(state["confidence"]) or not 0 <= state["confidence"] <= 1:
        return f"lost: confidence {state['confidence']}"
    texts = [candidate["text"] for candidate in state["candidates"]]
    if any(s.get("draft") and s["candidates"][0]["text"] != texts[0] for s in seen):
        return "lost: the draft is not among the candidates"
    return "abstained" if state["abstained"] else "answered"


async def suite(runs: int, *, first: int = 0, side_by_side: int = 10) -> dict[str, Any]:
    """All runs; every tenth by `invoke`'s way, in a thread."""
    gate = asyncio.Semaphore(side_by_side)

    async def one(seed: int) -> tuple[int, str, str, Counter[str]]:
        async with gate:
            if seed % 10 == 9:
                kind, ended, drawn = await asyncio.to_thread(lambda: asyncio.run(once(seed, blocking=True)))
            else:
                kind, ended, drawn = await once(seed, blocking=False)
            return seed, kind, ended, drawn

    made = await asyncio.gather(*(one(seed) for seed in range(first, first + runs)))
    return summed("faults", GRAPHS, made)


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2500)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    given = parser.parse_args()
    calling.FIRST_PAUSE = 0.01
    print(json.dumps(asyncio.run(suite(given.runs, first=given.first))))


if __name__ == "__main__":
    main()
