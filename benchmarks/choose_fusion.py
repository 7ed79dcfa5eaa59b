"""Choose the shipped fusion: weights and rank constant, over code, Wikipedia and abstracts, leaving out a repository.

    python benchmarks/retrieval.py --data ../shared/data --out build/retrieval
    python benchmarks/choose_fusion.py --data ../shared/data --indexes build/retrieval

Questions: `contextual` (5 repositories), 300 of SQuAD's *train* about articles that the shipped retriever did not learn
from, 300 of PubMedQA's *train*. A candidate counts the mean over the three sets of its mean pass@k, averaged with its
neighbours'. For each repository the best candidate by all other questions is measured on it; together they say what the
choosing is worth. Prints one
JSON object.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from retriever_data import learned_titles

from artrag.evaluation.intervals import clustered
from artrag.evaluation.queries import read_queries
from artrag.evaluation.retrieval import judge
from artrag.evaluation.rows import read_rows, write_rows
from artrag.index.fusion import Fusion
from artrag.index.tuning import candidates, distance
from artrag.interfaces.searching import fused_values, keyed, open_indexes

QUESTIONS = 300
CODE_KS, PROSE_KS = (5, 10, 20), (1, 5, 10)
NEIGHBOURS = 0.2
"""Two fusions this near differ by two tenths of the weight, or by two doublings of the ranks."""
ARMS = ("dense", "bm25", "proximity", "late")

Values = NDArray[np.float64]


def drawn(data: Path, name: str) -> list[dict[str, Any]]:
    """Train questions of a prose set, always the same ones; of SQuAD those that the retriever did not learn from."""
    rows = [row for _, row in read_rows(data / name / "train.jsonl") if row["type"] != "unanswerable"]
    if name == "squad":
        titles = learned_titles(data / name)
        title_of = {row["id"]: row["title"] for _, row in read_rows(data / name / "corpus.jsonl")}
        rows = [row for row in rows if title_of.get(row["evidence_ids"][0]) not in titles]
    return random.Random(0).sample(rows, min(QUESTIONS, len(rows)))  # noqa: S311


def measured(folder: Path, queries: Path, tried: Sequence[Fusion], ks: Sequence[int]) -> Values:
    """(candidates, questions, ks) of one set."""
    ((index, _),) = open_indexes([folder])
    with closing(index):
        chunks, names = keyed(index)
        judged = judge(read_queries(queries), chunks)
        return fused_values(
            index, judged, names, tried, ks, tell=lambda n, of: print(f"{folder.name}: {n} of {of}", file=sys.stderr)
        )


def best(sets: Sequence[Values], near: Values) -> tuple[int, Values]:
    """The candidate whose neighbourhood is best, and what each counts: the middle of a plateau, not its highest spike.

    Args:
        sets: (candidates, questions, ks) of each.
        near: (candidates, candidates) 1 where two are neighbours, or the same, else 0.
    """
    counts = np.mean([values.mean(axis=(1, 2)) for values in sets], axis=0)
    return int((near @ counts / near.sum(axis=1)).argmax()), counts


def main() -> None:
    """Search, choose, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--indexes", type=Path, required=True)
    given = parser.parse_args()
    tried = candidates(ARMS, Fusion())
    code = given.data / "contextual/queries.jsonl"
    sets = [measured(given.indexes / "contextual", code, tried, CODE_KS)]
    for name in ("squad", "pubmedqa"):
        with tempfile.TemporaryDirectory() as folder:
            queries = Path(folder) / "queries.jsonl"
            write_rows(queries, drawn(given.data / "simrag", name))
            sets.append(measured(given.indexes / name, queries, tried, PROSE_KS))
    near = np.array([[distance(one, other, ARMS) <= NEIGHBOURS for other in tried] for one in tried], dtype=float)
    repos = np.array([row["repo"] for _, row in read_rows(code)])
    left_out, chosen_without = np.empty(sets[0].shape[1:]), {}
    for repo in sorted(set(repos)):
        chosen, _ = best([sets[0][:, repos != repo], *sets[1:]], near)
        chosen_without[str(repo)] = tried[chosen].model_dump()
        left_out[repos == repo] = sets[0][chosen, repos == repo]
    chosen, counts = best(sets, near)
    top = np.argsort(-counts)[:10]
    print(
        json.dumps(
            {
                "chosen": tried[chosen].model_dump(),
                "without": chosen_without,
                "left out": {
                    f"pass@{k}": [
                        round(getattr(clustered(left_out[:, n], range(len(repos))), part), 4) for part in _PARTS
                    ]
                    for n, k in enumerate(CODE_KS)
                },
                "best": [_told(tried[n], float(counts[n]), [values[n] for values in sets]) for n in top],
                "now": _told(tried[0], float(counts[0]), [values[0] for values in sets]),
            }
        )
    )


_PARTS = ("value", "low", "high")


def _told(fusion: Fusion, count: float, values: Sequence[Values]) -> dict[str, Any]:
    own = {
        name: each.mean(axis=0).round(4).tolist()
        for name, each in zip(("code", "squad", "pubmedqa"), values, strict=True)
    }
    return {"fusion": fusion.model_dump(), "counts": round(count, 4)} | own


if __name__ == "__main__":
    main()
