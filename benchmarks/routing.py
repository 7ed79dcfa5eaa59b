"""Does the route of a question, chosen by rule, fit what the question needs?

    python benchmarks/retrieval.py --data ../shared/data --out build/retrieval --only covidqa squad pubmedqa
    python benchmarks/routing.py --data ../shared/data --indexes build/retrieval

Test questions of squad, covidqa and pubmedqa need their own index; those of SVAMP a calculation; those of StrategyQA
neither, as none of the indexes speaks of them. Each goes to each index with its default search. One line of JSON an
index: the share routed rightly by what is needed, with 95% intervals.
"""

import argparse
import json
import random
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from artrag.evaluation.intervals import bootstrap
from artrag.evaluation.rows import read_rows
from artrag.index.store import Index
from artrag.routing import route_of

K = 4


def main() -> None:
    """Route, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "indexes"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=150, help="questions of each kind")
    given = parser.parse_args()
    others = {"arithmetic": "arithmetic/svamp.jsonl", "neither": "strategyqa/dev.jsonl"}
    for own in ("squad", "covidqa", "pubmedqa"):
        asked = {"retrieval": _drawn(given.data / f"simrag/{own}/test.jsonl", given.limit)}
        asked |= {need: _drawn(given.data / path, given.limit) for need, path in others.items()}
        with closing(Index.open(given.indexes / own)) as index:
            right = {
                need: [float(_need(index, row["question"]) == need) for row in rows] for need, rows in asked.items()
            }
        told: dict[str, Any] = {need: asdict(bootstrap(values)) for need, values in right.items()}
        print(json.dumps({"figure": "routing", "index": own, **told}), flush=True)


def _drawn(path: Path, most: int) -> list[dict[str, Any]]:
    rows = [row for _, row in read_rows(path) if row.get("answers") != []]
    return random.Random(0).sample(rows, min(most, len(rows)))  # noqa: S311


def _need(index: Index, question: str) -> str:
    return route_of(question, [passage.to_document() for passage in index.search(question, k=K)]).need


if __name__ == "__main__":
    main()
