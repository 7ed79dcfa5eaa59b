"""How long the report of a large evaluation takes, and how much memory and room.

    python benchmarks/report_size.py                    # 10,000 questions, every rung of the ladder
    python benchmarks/report_size.py --questions 1000   # about 10,000 rows

Makes up a corpus, questions and every rung's answers of about 30 words with four passages each, as a finished run has
them, and gives the command again in a fresh process: nothing is asked, all is measured and written down. Prints one
line of JSON: the seconds of the whole run, of its report, and of the processor (with the start of the interpreter),
peak memory, and the size of each file.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda

from artrag import System, build_evaluate
from artrag.evaluation.answering import Answered
from artrag.evaluation.questions import Question, read_questions
from artrag.evaluation.rows import write_rows
from artrag.nodes.evaluate.score import ANSWERS, key_of

RUNGS: tuple[tuple[str, str, Any, float], ...] = (
    ("direct", "", None, 0.1),
    ("instructed", "direct", "prompt", 0.15),
    ("reasoned", "instructed", "prompt", 0.15),
    ("rag", "instructed", "retrieval", 0.5),
    ("hybrid", "rag", "retrieval", 0.6),
    ("contextual", "hybrid", "retrieval", 0.65),
    ("reranked", "contextual", "retrieval", 0.68),
    ("routed", "contextual", "routing", 0.65),
    ("self-refine", "contextual", "doubt", 0.6),
    ("always-refine", "contextual", "doubt", 0.55),
    ("art", "contextual", "doubt", 0.7),
    ("fine-tuned", "direct", "tuning", 0.3),
    ("fine-tuned rag", "contextual", "tuning", 0.75),
    ("all together", "fine-tuned rag", "doubt", 0.78),
)
"""Name, the rung below, what is added, and how often it is right."""
ALONE = ("direct", "instructed", "reasoned", "fine-tuned")
READ, SENTENCES = 4, 6


def systems() -> list[System]:
    """The ladder; whoever asks it anything is told that all was answered."""

    def never(_: Any) -> Any:
        raise AssertionError("it was asked")

    return [System(name, RunnableLambda(never), over, adds, "made up") for name, over, adds, _ in RUNGS]


def write_run(folder: Path, count: int) -> None:
    """A finished run: questions, and an answer of each system to each."""
    draw = random.Random(0)
    words = [
        f"{a}{b}{c}" for a in ("ka", "lo", "mi", "tu", "ver") for b in ("ren", "sal", "dor", "") for c in _endings()
    ]
    weights = [1 / (n + 3) for n in range(len(words))]

    def sentence(length: int) -> str:
        return " ".join(draw.choices(words, weights, k=length)).capitalize() + "."

    chunks = [" ".join(sentence(15) for _ in range(SENTENCES)) for _ in range(2 * count)]
    read = [
        {"id": f"d{n // 10}.md#{n % 10}", "document": f"d{n // 10}.md", "text": chunks[n]} for n in range(2 * count)
    ]
    asked, homes = [], []
    for n in range(count):
        home = draw.randrange(len(chunks))
        told = draw.choice(chunks[home].split(". ")).rstrip(".").split()
        homes.append(home)
        asked.append(
            {
                "id": f"q{n}",
                "question": f"What of {' '.join(told[:6])} in {n}?",
                "answer": " ".join(told[8:11]),
                "relevant": [read[home]["id"]],
            }
        )
    write_rows(folder / "questions.jsonl", asked)
    questions = read_questions(folder / "questions.jsonl")

    def rows() -> Iterator[dict[str, Any]]:
        for name, _, _, right in RUNGS:
            for n, question in enumerate(questions):
                yield row(name, question, homes[n], right)

    def row(name: str, question: Question, home: int, right: float) -> dict[str, Any]:
        near = random.Random(home).sample(range(len(chunks)), 2 * READ)  # the rungs find much the same
        found = draw.sample(near, READ)
        if draw.random() < 0.85:
            found[draw.randrange(READ)] = home
        if name in ALONE:
            said = sentence(26)
        else:
            one = found.index(home) if home in found and draw.random() < right else draw.randrange(READ)
            said = f"{draw.choice(chunks[found[one]].split('. ')).rstrip('.')} [{one + 1}]. {sentence(11)}"
        if draw.random() < right:
            said = f"{said} Answer: {question.answers[0]}"
        made = Answered(
            system=name,
            id=question.id,
            answer=said,
            passages=None if name in ALONE else tuple(read[n] | {"context": f"Of part {n % 10}."} for n in found),
            confidence=draw.random() if name in ("self-refine", "always-refine", "art", "all together") else None,
            calls=1,
            prompt_tokens=500,
            completion_tokens=40,
            seconds=round(draw.random(), 4),
            error="TimeoutError: " if draw.random() < 0.005 else "",
        )
        return {"key": key_of(name, "made up", question)} | made.as_row()

    write_rows(folder / ANSWERS, rows())


def _endings() -> list[str]:
    return [f"{a}{b}" for a in "aeiou" for b in ("", "n", "s", "l", "r", "t", "m", "k", "ng", "st")]


def report(folder: Path) -> dict[str, Any]:
    """The run given again in this process: seconds, and peak memory in MiB."""
    started = time.perf_counter()
    given: Any = {"questions": str(folder / "questions.jsonl"), "run": str(folder)}
    state = build_evaluate(systems()).compile().invoke(given)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = {
        "seconds": time.perf_counter() - started,
        "report_s": state["usage"]["report"]["seconds"],
        "cpu_s": used.ru_utime + used.ru_stime,
    }
    return {name: round(value, 1) for name, value in seconds.items()} | {"peak_mib": used.ru_maxrss >> 10}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="Folder for the run; else it is deleted.")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(report(given.once)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = given.keep or Path(place)
        write_run(folder, given.questions)
        command = [sys.executable, __file__, "--once", str(folder)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        sizes = {path.name: round(path.stat().st_size / 2**20, 1) for path in sorted(folder.iterdir())}
    rows = given.questions * len(RUNGS)
    told = {"figure": "report_size", "questions": given.questions, "systems": len(RUNGS), "rows": rows}
    print(json.dumps(told | found | {"mib": {name: size for name, size in sizes.items() if size >= 0.1}}))


if __name__ == "__main__":
    main()
