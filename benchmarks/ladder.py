"""The whole ladder with the embedded models: what each rung scores, gains and costs, on four public sets.

    python benchmarks/ladder.py --data ../shared/data --out build/ladder [--only squad pubmedqa covidqa mixed svamp]

Sets: `squad` and `covidqa` (short answers, token F1), `pubmedqa` (yes, no or maybe, accuracy) and `mixed` (squad's
questions and as many that its corpus does not answer, where abstaining is right), each over its corpus once without and
once with contexts, and `svamp` (word problems, accuracy), which there is nothing to retrieve for. The same --limit
questions are drawn each time. A killed run goes on. One line of JSON a set: what `artrag evaluate answers`
says, which leaves its page, too, under --out.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval import index_of

from artrag.evaluation.rows import read_rows, write_rows
from artrag.interfaces.wiring import wired_evaluate
from artrag.models import load_embedder
from artrag.settings import Settings

PROSE = {"squad": "squad", "pubmedqa": "pubmedqa", "covidqa": "covidqa", "mixed": "squad"}
"""Each set's corpus."""
KEEP = ("id", "question", "answers", "evidence_ids")


def questions(data: Path, name: str, most: int) -> list[dict[str, Any]]:
    """At most so many questions that have an answer, always the same ones; "mixed" has as many without one, too."""
    if name == "svamp":
        found = [asked | {"answer": asked["final"]} for _, asked in read_rows(data / "arithmetic/svamp.jsonl")]
        keep: tuple[str, ...] = ("id", "question", "answer")
    else:
        every = [asked for _, asked in read_rows(data / f"simrag/{PROSE[name]}/test.jsonl")]
        found, keep = [asked for asked in every if asked["answers"]], KEEP
    drawn = random.Random(0).sample(found, min(most, len(found)))  # noqa: S311
    if name == "mixed":
        without = [asked for asked in every if not asked["answers"]]
        drawn += random.Random(0).sample(without, min(len(drawn), len(without)))  # noqa: S311
    return [{field: asked[field] for field in keep if field in asked} for asked in drawn]


def climbed(data: Path, out: Path, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The report over one set."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / "questions.jsonl"
    write_rows(asked, questions(data, name, given["limit"]))
    indexes = []
    if name in PROSE:
        embedder = load_embedder()
        for context in ("none", "auto"):
            indexes.append(str(out / PROSE[name] / context))
            index_of(data / f"simrag/{PROSE[name]}/corpus.jsonl", Path(indexes[-1]), embedder, context=context)
    state: Any = {"questions": str(asked), "run": str(folder / "run"), "indexes": indexes, "at_once": given["at_once"]}
    if given["systems"]:
        state["systems"] = given["systems"]
    settings = Settings.of({"reranker": given["reranker"]} if given["reranker"] else {})
    report: dict[str, Any] = wired_evaluate().compile().invoke(state, context=settings)["report"]
    return report


def main() -> None:
    """Climb, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/ladder"))
    parser.add_argument("--only", nargs="+", choices=(*PROSE, "svamp"), default=[*PROSE, "svamp"])
    parser.add_argument("--limit", type=int, default=200, help="questions a set")
    parser.add_argument("--systems", nargs="+", help="some of the rungs")
    parser.add_argument("--reranker", help="a cross-encoder")
    parser.add_argument("--at-once", type=int, default=16)
    given = parser.parse_args()
    for name in given.only:
        print(f"{name} ...", file=sys.stderr)
        report = climbed(given.data, given.out, name, vars(given))
        print(json.dumps({"set": name} | report, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
