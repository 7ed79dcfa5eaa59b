"""Seeded runs of the graphs that take long on parts that fail: ingest, evaluate and simrag.

    python benchmarks/reliability/faults_at_work.py --runs 250

A model's own time limit ends its calls that hang: these graphs have no deadline. A run survives if it ends with a
report or a typed error (`ArtragError`); if an index that stood before still answers, and nothing half-written is left;
if an evaluation has a row for every question, with its answer or why there is none; and if the next run, on parts that
do not fail, completes from what is left. One JSON line, as of `faults.py`.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import faulty
from fakes import HashedWords, tiny_chat
from faulty import FAULTS, Dice, FaultyChat, FaultyRetriever, plain, summed, wait
from langchain_core.runnables import RunnableLambda

from artrag import Settings, System, build_contextual_rag, build_evaluate, build_ingest, build_simrag
from artrag.errors import ArtragError
from artrag.evaluation.rows import read_rows
from artrag.index import Index
from artrag.index.verify import verify
from artrag.nodes import calling
from artrag.training.rounds import read_pairs

LIMIT = 60.0
"""Seconds that a run may take."""
OFTEN = ("ingest", "evaluate")
EVERY = 20
"""One run of so many is of simrag, which trains."""
RATES = (0.0, 0.05, 0.2, 0.5)
ROOMS = "amber blue coral dusky ebony fern gold hazel".split()
QUESTIONS = 4
SOUND = Dice(0, 0.0)


class FaultyEmbedder(HashedWords):
    """Embeds, or fails, or gives what are no vectors."""

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self._dice = dice

    def _vectors(self, made: Any, odd: dict[str, Any]) -> Any:
        name = self._dice.fault([*odd])
        if name in FAULTS:
            raise FAULTS[name]()
        time.sleep(wait(name))
        return odd.get(name, made)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """See `Embeddings`."""
        odd = {"none": None, "nan": [[float("nan")] * 64 for _ in texts], "few": [[1.0] * 64], "short": [[1.0]] * 9}
        return self._vectors(super().embed_documents(texts), odd)  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """See `Embeddings`."""
        odd = {"none": None, "nan": [float("nan")] * 64, "short": [1.0], "words": ["a"] * 64}
        return self._vectors(super().embed_query(text), odd)  # type: ignore[no-any-return]


def once(seed: int, base: str, folder: Path) -> tuple[str, str, Counter[str]]:
    """One run: the graph, what it ended with ("lost: ..." where it did not survive), and the faults drawn."""
    kind = "simrag" if seed % EVERY == EVERY - 1 else OFTEN[seed % 2]
    choose = random.Random(seed)
    dice = Dice(seed, choose.choice(RATES))
    began = time.monotonic()
    try:
        ended = {"ingest": ingest, "evaluate": evaluate, "simrag": simrag}[kind](choose, dice, base, folder)
    except Exception as error:  # what this suite looks for
        ended = f"lost: {type(error).__name__}: {str(error)[:120]}"
    if (took := time.monotonic() - began) > LIMIT:
        ended = f"lost: took {took:.1f} s"
    return kind, ended, dice.drawn


def run(graph: Any, given: dict[str, Any], choose: random.Random, **context: Any) -> dict[str, Any] | ArtragError:
    """The state that a graph ends with, by `invoke` or `ainvoke`, or the typed error."""
    settings = Settings(retries=choose.randrange(3), **context)
    try:
        if choose.random() < 0.5:
            return asyncio.run(graph.compile().ainvoke(given, context=settings))  # type: ignore[no-any-return]
        return graph.compile().invoke(given, context=settings)  # type: ignore[no-any-return]
    except ArtragError as error:
        return error


def write_pages(folder: Path, words: str) -> None:
    """A page a room."""
    folder.mkdir(exist_ok=True)
    for n, room in enumerate(ROOMS):
        (folder / f"{room}.md").write_text(
            f"# The {room} room\n\nThe {room} room of the museum holds a lamp that was made in {1900 + n} by Meister "
            f"{room.capitalize()}son. {words} Visitors of the {room} room pay {n + 3} francs at the door, and the "
            f"guard of the {room} room is called Guard {room[::-1].capitalize()}.\n"
        )


# ingest


def ingest(choose: random.Random, dice: Dice, _base: str, folder: Path) -> str:
    """Contexts by a failing model, vectors by a failing embedder; every other run over an index that stands."""
    pages, index = folder / "pages", folder / "index"
    given = {"paths": [str(pages)], "index": str(index)}
    sound = build_ingest(embedder=HashedWords(), chat=FaultyChat(SOUND))
    write_pages(pages, "It is old.")
    context = {"context": choose.choice(["document", "llm"]), "context_calls": choose.choice([1, 4])}
    if choose.random() < 0.5:
        assert not isinstance(run(sound, given, choose), ArtragError)
        write_pages(pages, "It was mended.")
    before = answers(index)
    made = run(build_ingest(embedder=FaultyEmbedder(dice), chat=FaultyChat(dice)), given, choose, **context)
    if isinstance(made, ArtragError):
        ended = type(made).__name__
        if answers(index) != before:
            return "lost: the index that stood before"
    else:
        ended = "report"
        if not plain(made["report"]) or made["report"]["documents"] != len(ROOMS):
            return f"lost: the report says {str(made['report'])[:80]}"
    if index.is_dir() and (half := [path.name for path in index.glob("building-*")]):
        return f"lost: {half} is left"
    again = run(sound, given, choose, **context)
    if isinstance(again, ArtragError):
        return f"lost: and cannot be mended: {again}"
    verdict = verify(index, HashedWords())
    if verdict.problems or again["report"]["documents"] != len(ROOMS):
        return f"lost: {verdict.problems}"
    return ended


def answers(index: Path) -> list[str]:
    """What an index finds; nothing where there is none."""
    if not (index / "manifest.json").exists():
        return []
    with closing(Index.open(index, embedder=HashedWords())) as opened:
        return [found.text for found in opened.search("Who made the lamp of the gold room?", 3)]


# evaluate


def evaluate(choose: random.Random, dice: Dice, _base: str, folder: Path) -> str:
    """A bare chat model and contextual RAG on failing parts; then the same systems on sound ones."""
    questions, place = folder / "questions.jsonl", folder / "run"
    rows = [{"id": str(n), "question": f"Event {n}?", "answers": ["Nausea"]} for n in range(QUESTIONS)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"questions": str(questions), "run": str(place), "at_once": choose.choice([1, 3])}

    def systems(dice: Dice) -> list[System]:
        chat, settings = FaultyChat(dice), Settings(deadline=1.0, retries=1)
        bare = RunnableLambda(lambda given: chat.invoke(given["question"]))
        rag = build_contextual_rag(chat=chat, retriever=FaultyRetriever(dice)).compile()
        return [System("bare", bare), System("rag", rag, over="bare", context=settings)]

    embedder = FaultyEmbedder(dice) if choose.random() < 0.3 else None
    made = run(build_evaluate(systems(dice), embedder=embedder), given, choose)
    kept = [row for _, row in read_rows(place / "answers.jsonl")]
    if sorted((row["system"], row["id"]) for row in kept) != sorted(
        (name, str(n)) for name in ("bare", "rag") for n in range(QUESTIONS)
    ):
        return f"lost: {2 * QUESTIONS - len(kept)} rows"
    if any(not isinstance(row["answer"], str) or not isinstance(row["error"], str) for row in kept):
        return "lost: a row with an answer of another type"
    ended = type(made).__name__ if isinstance(made, ArtragError) else "report"
    again = run(build_evaluate(systems(SOUND)), given, choose)
    if isinstance(again, ArtragError):
        return f"lost: and cannot be mended: {again}"
    whole = [row for _, row in read_rows(place / "answers.jsonl")]
    failed = sum(bool(row["error"]) for row in kept)
    if (
        whole[: len(kept)] != kept
        or len(whole) != len(kept) + failed
        or any(row["error"] for row in whole[len(kept) :])
    ):
        return f"lost: {failed} of {len(kept)} failed, and the next run asked {len(whole) - len(kept)}"
    if not plain(json.loads((place / "report.json").read_text("utf-8"))):
        return "lost: the report is not JSON"
    return ended


# simrag


def teach(prompt: str) -> str:
    """Names two answers of a room, asks for them, and knows them."""
    room = re.findall(r"The (\w+) room of the museum", prompt)[-1]
    year, guard = re.findall(r"made in (\d+)", prompt)[-1], f"Guard {room[::-1].capitalize()}"
    if "Write down the parts" in prompt:
        return f"{year}\n{guard}"
    if "Write one question" in prompt:
        asked = prompt.rsplit("Answer:", 1)[-1].strip()
        lamp, keeper = (
            f"In which year was the lamp of the {room} room made?",
            f"What is the guard of the {room} called?",
        )
        return lamp if asked == year else keeper
    return f"{year if 'year' in prompt.rsplit('Question:', 1)[-1] else guard} [1]"


def simrag(choose: random.Random, dice: Dice, base: str, folder: Path) -> str:
    """A teacher and an embedder that fail, and a tiny student."""
    write_pages(folder / "pages", "It is old.")
    place = folder / "run"
    given = {"paths": [str(folder / "pages")], "run": str(place), "rounds": 1, "kinds": {"short": 1.0}}

    def built(dice: Dice) -> Any:
        return build_simrag(teacher=FaultyChat(dice, teach), embedder=FaultyEmbedder(dice), student=base)

    made = run(built(dice), given, choose)
    if isinstance(made, ArtragError):
        ended = type(made).__name__
        if (place / "report.json").exists() or (place / "answerer").exists():
            return "lost: an error, and a report or an answerer"
        made = run(built(SOUND), given, choose)
        if isinstance(made, ArtragError):
            return f"lost: and cannot be mended: {made}"
    else:
        ended = f"decided to {made['decision']}"
    pairs = [read_pairs(place / "round-1" / name) for name in ("kept.jsonl", "rejected.jsonl")]
    if [made["kept"], sum(made["rejected"].values()), made["proposed"]] != [*map(len, pairs), sum(map(len, pairs))]:
        return "lost: pairs"
    if made["decision"] not in ("ship", "reject") or not plain(made["outcome"]) or not plain(made.get("scores")):
        return f"lost: it ended with {str(made)[:80]}"
    return ended


def suite(runs: int, *, first: int = 0) -> dict[str, Any]:
    """All runs, one after another."""
    made = []
    with tempfile.TemporaryDirectory() as place:
        base = str(tiny_chat(Path(place) / "base"))
        for seed in range(first, first + runs):
            folder = Path(place) / str(seed)
            folder.mkdir()
            made.append((seed, *once(seed, base, folder)))
            shutil.rmtree(folder)
    return summed("faults at work", (*OFTEN, "simrag"), made)


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=250)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    given = parser.parse_args()
    calling.FIRST_PAUSE, calling.LONGEST_ASKED, faulty.HANG = 0.01, 0.02, 0.05
    print(json.dumps(suite(given.runs, first=given.first)))


if __name__ == "__main__":
    main()
