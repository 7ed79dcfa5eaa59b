"""What a local model answers when 16 callers ask at once, against one after another.

    python benchmarks/concurrent_local.py [--index .artrag/index --questions examples/questions.jsonl]

Without an index the callers bring short sums to reason about; with one, questions with passages, whose prompts are ten
times as long. One JSON line: seconds of each way, the gain, tokens made, and how many answers are the same (survived).
"""

import argparse
import asyncio
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from artrag import prompts
from artrag.index.retriever import IndexRetriever
from artrag.index.store import Index
from artrag.models import load_chat
from artrag.passages import numbered
from artrag.settings import EMBEDDED_CHAT

AT_LEAST = 4.0
"""The throughput at once that sixteen callers are to have, in that of one after another."""


def main() -> None:
    """Ask both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chat", default=EMBEDDED_CHAT)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--questions", type=Path, default=Path("examples/questions.jsonl"))
    given = parser.parse_args()
    asked = with_passages(given) if given.index else sums(given.callers)
    chat = load_chat(given.chat)
    chat.invoke(asked[0])  # the first call is the slowest
    started = time.perf_counter()
    alone = [chat.invoke(prompt) for prompt in asked]
    middle = time.perf_counter()

    async def at_once() -> list[Any]:
        return await asyncio.gather(*(chat.ainvoke(prompt) for prompt in asked))

    together = asyncio.run(at_once())
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "suite": f"callers at once, {given.chat}",
                "tried": len(asked),
                "survived": sum(one.text == other.text for one, other in zip(alone, together, strict=True)),
                "seconds": {"one_after_another": round(middle - started, 1), "at_once": round(ended - middle, 1)},
                "gain": round((middle - started) / (ended - middle), 2),
                "at_least": AT_LEAST,
                "read": sum(answer.usage_metadata["input_tokens"] for answer in alone),
                "made": sum(answer.usage_metadata["output_tokens"] for answer in alone),
            }
        )
    )


def sums(count: int) -> list[Any]:
    """Short problems to reason about."""
    prompt = prompts.load("solve")
    return [
        prompt.format_messages(
            question=f"A shop has {n + 3} boxes of {2 * n + 5} pens and sells {n + 7}. How many stay?"
        )
        for n in range(count)
    ]


def with_passages(given: argparse.Namespace) -> list[Any]:
    """Questions with what the index holds about them."""
    prompt = prompts.load("answer")
    rows = [json.loads(line) for line in given.questions.read_text("utf-8").splitlines()][: given.callers]
    with closing(Index.open(given.index)) as index:
        retriever = IndexRetriever(index=index, k=4)
        found = [retriever.invoke(row["question"]) for row in rows]
    return [
        prompt.format_messages(question=row["question"], passages=numbered(passages))
        for row, passages in zip(rows, found, strict=True)
    ]


if __name__ == "__main__":
    main()
