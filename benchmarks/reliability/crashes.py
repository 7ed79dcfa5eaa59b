"""Kill -9 at seeded moments of an ingest, a training, a SimRAG run, an evaluation and a conversation on a thread.

    python benchmarks/reliability/crashes.py --kills 30

Each stage runs in a process of its own. It is killed at a moment drawn by the seed, begun again, killed again, and
after three kills it may end. A kill is survived if the process after it starts from what was left, if the stage ends
with just what an undisturbed run ends with, and if nothing is paid for again: every call of a model, and every
checkpoint of a training, is a line in a file, and only what a process died in may be done once more. One JSON line:
kills tried, survived and lost, and for each stage the calls made, and those begun again that a kill had cut short.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from fakes import AnsweringChat, HashedWords, ScriptedRetriever, ScriptedTruster, passage, tiny_chat
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.sqlite import SqliteSaver

from artrag import Doubt, Settings, System, build_chat, build_evaluate, build_ingest, build_simrag
from artrag.evaluation.rows import read_rows
from artrag.index import Index
from artrag.index.verify import verify
from artrag.models.weights import ADAPTER
from artrag.training.answerer import HOW, train_answerer
from artrag.training.answerer_data import Example

CALLS, FOUND, ERRORS, BASE = "calls.jsonl", "found.json", "errors.txt", "base"
PER_ROUND = 3
LATENCY = 0.004
THREAD: Any = {"configurable": {"thread_id": "1"}}
ROOMS = "amber blue coral dusky ebony fern gold hazel".split()
TURNS = 6
HEAVY = ("faiss", "matplotlib.pyplot", "peft", "rouge_score.rouge_scorer", "safetensors.torch", "transformers")
"""Loaded once, before any process is begun: a kill should hit the work."""


# What a call leaves behind.


def note(folder: Path, event: str, *keys: str) -> None:
    """A line of the file of calls."""
    line = json.dumps({"pid": os.getpid(), "event": event, "keys": [sha256(k.encode()).hexdigest() for k in keys]})
    with (folder / CALLS).open("a") as file:
        file.write(line + "\n")


def paying(folder: Path, answer: Callable[[str], str]) -> AnsweringChat:
    """A chat model whose calls are noted."""

    def said(prompt: str) -> str:
        note(folder, "begun", prompt)
        time.sleep(LATENCY)
        text = answer(prompt)
        note(folder, "done", prompt)
        return text

    return AnsweringChat(said)


class PaidWords(HashedWords):
    """An embedder whose calls are noted."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """See `Embeddings`."""
        note(self._folder, "begun", *texts)
        made = super().embed_documents(texts)
        note(self._folder, "done", *texts)
        return made


def paid(folder: Path) -> tuple[int, int, int]:
    """(calls begun, begun again after a process died in them, begun again although they were kept)."""
    events = [json.loads(line) for line in (folder / CALLS).read_text().splitlines()]
    last = {event["pid"]: n for n, event in enumerate(events)}
    finished: set[str] = set()
    seen: set[str] = set()
    begun = again = twice = 0
    for n, event in enumerate(events):
        if event["event"] == "begun":
            begun += len(event["keys"])
            again += sum(key in seen and key not in finished for key in event["keys"])
            twice += sum(key in finished for key in event["keys"])
            seen |= set(event["keys"])
        elif last[event["pid"]] != n:  # it went on to something else: what was said to it must be kept
            finished |= set(event["keys"])
    return begun, again, twice


# The stages.


@dataclass(frozen=True, slots=True)
class Stage:
    """What is killed: `go` runs it in a folder, from the beginning or from what is left; `found` is what it leaves."""

    name: str
    go: Callable[[Path], None]
    found: Callable[[Path], Any]


def ingest(folder: Path) -> None:
    """Pages with contexts of a model, which are then changed and ingested again."""
    pages, index, changed = folder / "pages", folder / "index", folder / "changed"
    if (index / "manifest.json").exists():  # whatever was left answers
        with closing(Index.open(index, embedder=HashedWords())) as opened:
            assert opened.search("page", 3, arms=["bm25"])
    chat = paying(folder, lambda prompt: f"Of the report on {sha256(prompt.encode()).hexdigest()[:6]} and its pages.")
    graph = build_ingest(embedder=PaidWords(folder), chat=chat).compile()
    context = Settings(context="llm", context_calls=1)
    given: Any = {"paths": [str(pages)], "index": str(index)}
    if not changed.exists():
        for room in ROOMS:
            write(
                pages / f"{room}.md",
                f"# The {room} page\n\nThis page speaks of the {room} room.\n\n## More\n\nWords.\n",
            )
        graph.invoke(given, context=context)
        changed.touch()
    for room in ROOMS[::2]:
        write(pages / f"{room}.md", f"# The {room} page\n\nThis page tells more of the {room} room.\n")
    graph.invoke(given, context=context)


def write(path: Path, text: str) -> None:
    """Write a file in one step."""
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".new").write_text(text, "utf-8")
    path.with_suffix(".new").replace(path)


def indexed(folder: Path) -> Any:
    """Every chunk with its context, and what is wrong with the index."""
    with closing(Index.open(folder / "index", embedder=HashedWords())) as opened:
        chunks = sorted([chunk.id, chunk.text, chunk.context] for chunk in opened.chunks())
    verdict = verify(folder / "index", HashedWords())
    return [chunks, verdict.problems, verdict.left_over]


def train(folder: Path) -> None:
    """An answerer on a tiny model."""
    plan = replace(HOW, rank=4, window=512, epochs=3, evaluations=2)
    learn = [
        Example("answer", f"Who keeps door {n} of the {room} room?", (room,), ((f"{room} {n}", ""),), (1,))
        for room in ROOMS
        for n in range(3)
    ]
    steps = plan.epochs * len(learn) // plan.batch
    every = steps // (plan.epochs * plan.evaluations)

    def tell(_what: str, share: float) -> None:
        if round(share * steps) % every == 0:  # the checkpoint is written
            note(folder, "begun", f"checkpoint {share}")
            note(folder, "done", f"checkpoint {share}")

    check = [replace(one, question=f"Dev: {one.question}") for one in learn[::6]]
    train_answerer(learn, check, folder / "part", base=str(folder.parent / BASE), plan=plan, progress=tell)


def trained(folder: Path) -> Any:
    """The weights, and what is told of them."""
    part = json.loads((folder / "part" / "part.json").read_text("utf-8"))
    left = sorted(path.name for path in (folder / "part").iterdir())
    return [sha256((folder / "part" / ADAPTER).read_bytes()).hexdigest(), part, left]


def learn(folder: Path) -> None:
    """SimRAG: a scripted teacher, a tiny student."""
    for room in ROOMS:
        text = (
            f"# The {room} room\n\nThe {room} room of the museum holds a lamp that was made in {1900 + len(room)} by "
            f"Meister {room.capitalize()}son. Visitors of the {room} room pay 4 francs at the door, and the guard of "
            f"the {room} room is called Guard {room[::-1].capitalize()}. Nobody knows more about the {room} room.\n"
        )
        write(folder / "docs" / f"{room}.md", text)

    def teach(prompt: str) -> str:
        room = re.findall(r"The (\w+) room of the museum", prompt)[-1]
        guard = f"Guard {room[::-1].capitalize()}"
        if "Write down the parts" in prompt:
            return guard
        return f"What is the guard of the {room} room called?" if "Write one question" in prompt else f"{guard} [1]"

    student = str(folder.parent / BASE)
    graph = build_simrag(teacher=paying(folder, teach), embedder=PaidWords(folder), student=student).compile()
    given: Any = {"paths": [str(folder / "docs")], "run": str(folder / "run"), "rounds": 1, "kinds": {"short": 1.0}}
    graph.invoke(given, context=Settings(context_calls=1))


def learned(folder: Path) -> Any:
    """The pairs, the scores and the weights."""
    first = folder / "run" / "round-1"
    rows = [[row for _, row in read_rows(first / name)] for name in ("kept.jsonl", "rejected.jsonl")]
    scores = json.loads((first / "scores.json").read_text("utf-8"))
    decision = json.loads((folder / "run" / "report.json").read_text("utf-8"))["decision"]
    return [rows, scores, decision, sha256((first / "answerer" / ADAPTER).read_bytes()).hexdigest()]


def evaluate(folder: Path) -> None:
    """Two systems over the same questions, and the report."""
    rows = [{"id": str(n), "question": f"What is {n} plus 1?", "answer": n + 1} for n in range(40)]
    write(folder / "questions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def system(name: str, add: int) -> System:
        chat = paying(folder, lambda prompt: f"Answer: {int(prompt.split()[-3]) + add}")
        return System(name, RunnableLambda(lambda given: chat.invoke(f"{name}: {given['question']}")), about=name)

    given: Any = {"questions": str(folder / "questions.jsonl"), "run": str(folder / "run"), "at_once": 1}
    build_evaluate([system("right", 1), system("wrong", 2)]).compile().invoke(given)


def evaluated(folder: Path) -> Any:
    """Every answer, once, and the figures."""
    rows = sorted((row["system"], row["id"], row["answer"]) for _, row in read_rows(folder / "run" / "answers.jsonl"))
    told = json.loads((folder / "run" / "report.json").read_text("utf-8"))
    return [rows, {name: one["quality"] for name, one in told["systems"].items()}]


class Doubtful:
    """Doubts every draft."""

    def ask(self, question: str, draft: str, passages: Any = None) -> Doubt:
        """See `Asker`."""
        return Doubt([], 0.9, "it doubts all")


def converse(folder: Path) -> None:
    """A thread in SQLite: each turn is rewritten, drafted, doubted and refined."""

    def said(prompt: str) -> str:
        turn = re.findall(r"valve (\d)", prompt)[-1]
        return f"How is valve {turn} cleared?" if "Last question" in prompt else f"Valve {turn} opens at {turn} bar."

    found = ScriptedRetriever(found=[passage("Every valve opens.")])
    parts: Any = {"chat": paying(folder, said), "asker": Doubtful(), "truster": ScriptedTruster({}), "retriever": found}
    with SqliteSaver.from_conn_string(str(folder / "threads.sqlite")) as saver:
        graph = build_chat(**parts).compile(checkpointer=saver)
        while True:
            state = graph.get_state(THREAD)
            asked = sum(one.type == "human" for one in state.values.get("messages", []))
            # Not `state.next`, which leaves out a stage that had said its word when it was killed.
            if not state.tasks and asked == TURNS:
                return
            turn: Any = None if state.tasks else {"messages": f"How is valve {asked} cleared?"}
            graph.invoke(turn, THREAD, durability="sync")


def talked(folder: Path) -> Any:
    """The conversation."""
    with SqliteSaver.from_conn_string(str(folder / "threads.sqlite")) as saver:
        parts: Any = {"chat": AnsweringChat(str), "asker": Doubtful(), "truster": ScriptedTruster({})}
        state = build_chat(**parts).compile(checkpointer=saver).get_state(THREAD)
    return [[one.type, one.text] for one in state.values["messages"]]


STAGES = (
    Stage("ingest", ingest, indexed),
    Stage("training", train, trained),
    Stage("SimRAG", learn, learned),
    Stage("evaluation", evaluate, evaluated),
    Stage("conversation", converse, talked),
)


# Killing.


def start(work: Callable[[Path], Any], folder: Path) -> int:
    """A process that does this in the folder; what it raises goes into a file there."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        work(folder)
        status = 0
    except BaseException:
        (folder / ERRORS).write_text(traceback.format_exc())
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """The exit status of a process, or the negated signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_after(pid: int, seconds: float) -> int:
    """Kill a process that has not ended by itself until then; its exit status, or the negated signal."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(0.002, max(0.0, until - time.monotonic())))
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


def whole(stage: Stage, folder: Path) -> str:
    """Run to the end; what was found, or what went wrong."""

    def go(folder: Path) -> None:
        stage.go(folder)
        (folder / FOUND).write_text(json.dumps(stage.found(folder), sort_keys=True))

    if status := ended(start(go, folder)):
        raise RuntimeError(f"{status}: {(folder / ERRORS).read_text()[-600:]}")
    return (folder / FOUND).read_text()


def kill(stage: Stage, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill a stage so many times; counts, and what was lost."""
    dice, lost = random.Random(f"{seed} {stage.name}"), []
    killed = calls = again = rounds = 0
    place = folder / stage.name
    place.mkdir()
    began = time.monotonic()
    expected = whole(stage, place)
    seconds = time.monotonic() - began
    while killed < kills:
        rounds += 1
        place = folder / f"{stage.name}-{rounds}"
        place.mkdir()
        for _ in range(min(PER_ROUND, kills - killed)):
            status = killed_after(start(stage.go, place), dice.uniform(0, seconds))
            killed += status == -signal.SIGKILL
            if status not in (0, -signal.SIGKILL):
                lost.append(f"{place.name}: {(place / ERRORS).read_text()[-600:]}")
        try:
            if whole(stage, place) != expected:
                lost.append(f"{place.name}: it ended otherwise than an undisturbed run")
        except RuntimeError as error:
            lost.append(f"{place.name}: {error}")
        begun, retried, twice = paid(place)
        calls, again = calls + begun, again + retried
        if twice:
            lost.append(f"{place.name}: {twice} of {begun} calls were paid for again")
    return {"tried": killed, "lost": lost, "calls": calls, "again": again, "seconds": round(seconds, 2)}


def suite(kills: int, *, seed: int = 0, stages: Sequence[Stage] = STAGES) -> dict[str, Any]:
    """All stages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in HEAVY:
            import_module(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if ended(start(tiny_chat, folder / BASE)):
            raise RuntimeError("no tiny model")
        made = {stage.name: kill(stage, kills, seed, folder) for stage in stages}
    tried = sum(one["tried"] for one in made.values())
    lost = [told for one in made.values() for told in one["lost"]]
    return {
        "suite": "crashes",
        "tried": tried,
        "survived": max(0, tried - len(lost)),
        "lost": lost,
        "killed": {
            name: {key: one[key] for key in ("tried", "calls", "again", "seconds")} for name, one in made.items()
        },
    }


def main() -> None:
    """Kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES], help="one alone")
    given = parser.parse_args()
    chosen = [stage for stage in STAGES if given.stage in (None, stage.name)]
    print(json.dumps(suite(given.kills, seed=given.seed, stages=chosen)))


if __name__ == "__main__":
    main()
