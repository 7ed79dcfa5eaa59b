"""Stage 2 over stage 1 on a domain: what a model that asks itself questions gains, and what each part adds to it.

    python benchmarks/simrag_domain.py --corpus ../shared/data/simrag/covidqa/corpus.jsonl \
        --questions ../shared/data/simrag/covidqa/test.jsonl --out build/covidqa [--only whole no-short]

Variants: `whole` (one round, all kinds of questions), `two-rounds`, `no-stage-1` (the student is the plain base model),
`no-filter` (as many pairs as `whole` keeps, drawn by chance from all that are questions), and `no-short`, `no-choice`,
`no-claim`, `no-long` (without that kind). All ask about the same passages, are measured on the same `--limit` questions
with the same passages, and keep their folder under --out, with the report of the product; a killed run goes on. A seed
is of the training alone. Settings are for choosing on train questions only. One line of JSON a variant and
seed: pairs and their reasons, scores and the gain of the last round with 95% intervals, seconds.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

from artrag.evaluation.rows import read_rows, write_rows
from artrag.graphs.simrag import build_simrag
from artrag.models import load_chat, load_embedder
from artrag.nodes.simrag import HOW
from artrag.settings import EMBEDDED_BASE, EMBEDDED_CHAT, Settings
from artrag.training.proposing import KINDS

VARIANTS = ("whole", "two-rounds", "no-stage-1", "no-filter", *(f"no-{kind}" for kind in KINDS))


@contextmanager
def unfiltered(share: float) -> Iterator[None]:
    """Keep a share of whatever is a question at all."""
    from artrag.nodes.simrag import keep

    module = sys.modules[keep.__module__]

    def fault(pair: Any) -> str | None:
        if len(pair.question) < 2:
            return "not one question"
        return None if random.Random(pair.question).random() < share else "not drawn"  # noqa: S311

    with mock.patch.multiple(
        module,
        fault=fault,
        brought_back=lambda *_: True,
        answered=lambda *_: True,
        SURE=0.0,
    ):
        yield


def ran(
    variant: str, seed: int, given: argparse.Namespace, questions: Path, embedder: Any, share: float
) -> dict[str, Any]:
    """The end of a variant's run; what the same teacher says to the same prompts is taken over from `whole`."""
    run, first = given.out / (f"{variant}-seed-{seed}" if seed else variant), given.out / "whole"
    if first.exists() and not run.exists():  # replies are known again by model and prompt
        shutil.copytree(first, run, ignore=shutil.ignore_patterns("answerer", "report.*", "round-2"))
    kinds = {kind: weight for kind, weight in KINDS.items() if variant != f"no-{kind}"}
    student = EMBEDDED_BASE if variant == "no-stage-1" else given.student
    state = {
        "paths": [str(given.corpus)],
        "run": str(run),
        "questions": str(questions),
        "passages": given.passages,
        "rounds": 2 if variant == "two-rounds" else 1,
        "kinds": kinds,
        "mix": [str(path) for path in given.mix],
    }
    plan = replace(HOW, epochs=given.epochs, rate=given.rate, seed=seed)
    graph = build_simrag(teacher=load_chat(given.student), embedder=embedder, student=student, plan=plan).compile()
    settings = Settings.of({"chat": given.student})
    if variant != "no-filter":
        return graph.invoke(state, context=settings)  # type: ignore[arg-type]
    with unfiltered(share):
        return graph.invoke(state, context=settings)  # type: ignore[arg-type]


def main() -> None:
    """Run the variants, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("corpus", "questions", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--student", default=EMBEDDED_CHAT, help="learns, and is the teacher of all variants")
    parser.add_argument("--mix", type=Path, nargs="*", default=[], help="examples of stage 1 mixed in")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--limit", type=int, default=200, help="questions")
    parser.add_argument("--epochs", type=int, default=HOW.epochs)
    parser.add_argument("--rate", type=float, default=HOW.rate, help="the highest learning rate")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    if "no-filter" in given.only and given.only[0] != "whole":
        parser.error("no-filter keeps as many pairs as whole: name whole first (a finished run is not repeated)")
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [row for _, row in read_rows(given.questions) if row.get("answers") or row.get("options")]
    rows = random.Random(0).sample(rows, min(given.limit, len(rows)))  # noqa: S311
    questions = given.out / "questions.jsonl"
    write_rows(questions, rows)
    embedder, share = load_embedder(), 1.0
    for variant, seed in product(given.only, given.seeds):
        started = time.monotonic()
        end = ran(variant, seed, given, questions, embedder, share)
        if variant == "whole":
            share = end["kept"] / max(end["proposed"], 1)
        line = {"variant": variant, "seed": seed, "passages": given.passages, "questions": len(rows)}
        line |= {name: end[name] for name in ("round", "proposed", "kept", "rejected", "scores", "decision")}
        print(json.dumps(line | {"seconds": round(time.monotonic() - started)}), flush=True)


if __name__ == "__main__":
    main()
