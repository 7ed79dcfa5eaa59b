"""Two thousand questions to the graphs on LangGraph's server: memory, threads, files and seconds while they come.

    python benchmarks/reliability/soak.py --questions 2000

`langgraph dev` and a chat server that answers at once run as processes of their own on 127.0.0.1; eight questions are
under way at a time. One JSON line: questions tried and answered; growth of the server's resident memory, threads and
open files (the median of the last tenth against that of the tenth after the warm-up); p50 and p99 of the seconds that a
question takes.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from langgraph_sdk import get_client

ROOT = Path(__file__).parents[2]
WARM_UP, AT_ONCE = 0.2, 8
MOST_GROWTH, MOST_TAIL = 0.05, 5.0
GRAPHS = ("art", "routed")


@contextmanager
def chat_server() -> Iterator[str]:
    """The model reference of a server that answers at once."""
    words = [sys.executable, str(Path(__file__).with_name("slow_server.py")), "--latency", "0"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield f"openai:slow@http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.stdin.close()


@contextmanager
def graph_server(chat: str) -> Iterator[tuple[int, str]]:
    """The process and the address of `langgraph dev`, in a folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = Path(tempfile.mkdtemp())
    shutil.copy(ROOT / "langgraph.json", folder)
    hidden = ("ARTRAG_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | {
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "ARTRAG_CHAT": chat,
        "ARTRAG_ASKER": "evidence",
        "ARTRAG_TRUSTER": "evidence",
    }
    words = ["langgraph", "dev", "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
    words[0] = str(Path(sys.executable).with_name("langgraph"))
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/ok", process)
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("the server ended")
        try:
            httpx.get(url).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def watched(pid: int) -> dict[str, int]:
    """Resident memory (KiB), threads and open files of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"memory": int(status["VmRSS"].split()[0]), "threads": int(status["Threads"]), "files": files}


async def ask(address: str, pid: int, questions: int) -> tuple[list[float], list[str], list[dict[str, int]]]:
    """Ask; seconds of each, what went wrong, and the process as it was after every hundredth."""
    client = get_client(url=address)
    gate, seconds, wrong, seen = asyncio.Semaphore(AT_ONCE), [], [], []

    async def one(number: int) -> None:
        async with gate:
            began = time.perf_counter()
            inputs: Any = {"question": f"What is {number} plus {number % 7}?"}
            try:
                state: Any = await client.runs.wait(None, GRAPHS[number % len(GRAPHS)], input=inputs)
            except Exception as error:  # each is counted
                wrong.append(f"{type(error).__name__}: {str(error)[:100]}")
                return
            seconds.append(time.perf_counter() - began)
            if not state.get("answer"):
                wrong.append(str(state)[:200])
            if number % 20 == 0:
                seen.append(watched(pid))

    await asyncio.gather(*(one(number) for number in range(questions)))
    return seconds, wrong, seen


def growth(seen: list[dict[str, int]], what: str) -> float:
    """How much more there is at the end than after the warm-up, as a share."""
    values = [one[what] for one in seen]
    start, tenth = int(WARM_UP * len(values)), max(1, len(values) // 10)
    return median(values[-tenth:]) / median(values[start : start + tenth]) - 1


def main() -> None:
    """Ask, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2000)
    given = parser.parse_args()
    with chat_server() as chat, graph_server(chat) as (pid, address):
        seconds, wrong, seen = asyncio.run(ask(address, pid, given.questions))
    cut = quantiles(seconds, n=100)
    grown = {what: round(growth(seen, what), 4) for what in ("memory", "threads", "files")}
    tail = cut[98] / median(seconds)
    print(
        json.dumps(
            {
                "suite": "soak",
                "tried": given.questions,
                "survived": given.questions - len(wrong),
                "lost": wrong[:20],
                "growth": grown,
                "memory_mib": {
                    "after_warm_up": seen[int(WARM_UP * len(seen))]["memory"] >> 10,
                    "end": seen[-1]["memory"] >> 10,
                },
                "seconds": {"p50": round(median(seconds), 4), "p99": round(cut[98], 4)},
                "tail": round(tail, 2),
                "limits": {"growth": MOST_GROWTH, "tail": MOST_TAIL},
                "held": max(grown.values()) < MOST_GROWTH and tail < MOST_TAIL,
            }
        )
    )


if __name__ == "__main__":
    main()
