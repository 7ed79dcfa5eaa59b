"""A hundred concurrent runs of `art` against a chat model that takes 200 ms a call, against one run.

    python benchmarks/reliability/concurrency.py [--client openai]

Every run drafts, is doubted, refines and is graded by the same model: six calls in five waits. The model is a LangChain
chat model that waits in this process; with `--client openai` it is OpenAI's own client and a server in another process
on 127.0.0.1, and the ratio is the client's: a request costs it milliseconds of this process's one core. One JSON line:
seconds of one run (the median of five) and of a hundred, their ratio, and how many end as `invoke` ends.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda

from artrag import build_art
from artrag.interfaces.serving import spare_the_collector
from artrag.models import load_asker, load_chat, load_truster

sys.path.insert(0, str(Path(__file__).parent))

from slow_server import SAID

LIMIT = 1.5
QUESTION: Any = {"question": "Which event was most common?"}


class SlowChat(BaseChatModel):
    """Says the same after a while."""

    latency: float

    @property
    def _llm_type(self) -> str:
        return "slow"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        time.sleep(self.latency)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(SAID))])

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        await asyncio.sleep(self.latency)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(SAID))])


@contextmanager
def model(client: str, latency: float) -> Iterator[BaseChatModel]:
    """A chat model of this latency."""
    if client == "none":
        yield SlowChat(latency=latency)
        return
    script = Path(__file__).with_name("slow_server.py")
    words = [sys.executable, str(script), "--latency", str(latency)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield load_chat(f"openai:slow@http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.stdin.close()


async def measure(graph: Any, runs: int) -> tuple[list[float], float, list[Any]]:
    """Seconds of single runs, of all at once, and the states they end in."""
    await asyncio.gather(*(graph.ainvoke(QUESTION) for _ in range(5)))  # the first ones open and import
    spare_the_collector()  # as the server does
    single = []
    for _ in range(5):
        began = time.perf_counter()
        await graph.ainvoke(QUESTION)
        single.append(time.perf_counter() - began)
    began = time.perf_counter()
    states = await asyncio.gather(*(graph.ainvoke(QUESTION) for _ in range(runs)))
    return single, time.perf_counter() - began, states


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--client", choices=["none", "openai"], default="none")
    given = parser.parse_args()
    found = [Document("Nausea was the most common event.", metadata={"id": "a#0"})]

    async def search(_: str) -> list[Document]:
        return found

    with model(given.client, given.latency) as chat:
        parts: Any = {"asker": load_asker("prompted", chat=chat), "truster": load_truster("prompted", chat=chat)}
        graph = build_art(chat=chat, retriever=RunnableLambda(lambda _: found, afunc=search), **parts).compile()
        single, together, states = asyncio.run(measure(graph, given.runs))
        blocking = bare(graph.invoke(QUESTION))
    ratio = together / median(single)
    alike = sum(bare(state) == blocking for state in states)
    print(
        json.dumps(
            {
                "suite": "concurrency" if given.client == "none" else f"concurrency, {given.client}",
                "tried": given.runs,
                "survived": alike,
                "lost": given.runs - alike,
                "seconds": {"one": round(median(single), 3), "together": round(together, 3)},
                "ratio": round(ratio, 2),
                "limit": LIMIT if given.client == "none" else None,
            }
        )
    )


def bare(state: Any) -> dict[str, Any]:
    """A state without what differs from run to run."""
    return {key: value for key, value in state.items() if key != "usage"}


if __name__ == "__main__":
    main()
