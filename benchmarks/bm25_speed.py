"""BM25 as a sparse matrix against `rank_bm25.BM25Okapi`, on the same documents and queries in one run.

    python benchmarks/bm25_speed.py [--chunks 100000] [--queries 20]

The documents are synthetic: terms by Zipf's law (exponent 1.05) over 200,000 terms, the first 100 left out as a
tokenizer leaves out stop words, log-normal lengths of 120 tokens on average; one term stands in 98 of 100 documents, as
the title of a manual does in all of its chunks. A query is 8 terms of one document; every fourth asks for that term,
too. Prints one line of JSON: milliseconds of `BM25Okapi.get_scores` (no ranking) and of ours from the query's tokens
to the ranked best 150, by turns, their ratio, whether scores and rankings are the same, and what building and opening
take.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from rank_bm25 import BM25Okapi

from artrag.index.bm25 import BM25

LIMIT, DEPTH = 100.0, 150
TERMS, LEFT_OUT, EXPONENT, EVERYWHERE = 200_000, 100, 1.05, "everywhere"


def documents(count: int, draw: np.random.Generator) -> list[list[str]]:
    """Tokens of so many documents."""
    share = 1 / np.arange(LEFT_OUT + 1, LEFT_OUT + TERMS + 1) ** EXPONENT
    below = np.cumsum(share / share.sum())
    terms = [f"t{n}" for n in range(TERMS)]
    made = []
    for length in np.clip(draw.lognormal(4.7, 0.4, count), 5, 600).astype(int):
        numbers = np.minimum(np.searchsorted(below, draw.random(length)), TERMS - 1)
        made.append([terms[n] for n in numbers] + [EVERYWHERE] * int(draw.random() < 0.98))
    return made


def main() -> None:
    """Build both, ask by turns, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=20)
    asked = parser.parse_args()
    draw = np.random.default_rng(0)
    corpus = documents(asked.chunks, draw)
    queries = []
    for number in range(asked.queries):
        tokens = corpus[draw.integers(len(corpus))]
        queries.append([*draw.choice(tokens, 8).tolist(), *([EVERYWHERE] if number % 4 == 0 else [])])

    started = time.perf_counter()
    built = BM25.build(corpus)
    build_seconds = time.perf_counter() - started
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bm25.npz"
        built.save(path)
        megabytes = path.stat().st_size / 1e6
        started = time.perf_counter()
        ours = BM25.load(path)
        open_seconds = time.perf_counter() - started
        theirs = BM25Okapi(corpus)

        took: dict[str, list[float]] = {"ours": [], "theirs": []}
        same_ranking, difference = True, 0.0
        for query in queries:
            started = time.perf_counter()
            expected = theirs.get_scores(query)
            between = time.perf_counter()
            found = ours.top(query, DEPTH)
            ended = time.perf_counter()
            took["theirs"].append(between - started)
            took["ours"].append(ended - between)
            best = np.lexsort((np.arange(len(expected)), -expected))[:DEPTH].tolist()
            same_ranking &= [row for row, _ in found] == best
            difference = max(difference, float(np.abs(ours.scores(query) - expected).max()))
    ratio = sum(took["theirs"]) / sum(took["ours"])
    report = {
        "chunks": asked.chunks,
        "rank_bm25_ms": round(1000 * median(took["theirs"]), 1),
        "artrag_ms": round(1000 * median(took["ours"]), 3),
        "ratio": round(ratio, 1),
        "limit": LIMIT,
        "same_ranking": same_ranking,
        "largest_difference": difference,
        "build_s": round(build_seconds, 1),
        "file_mb": round(megabytes, 1),
        "open_ms": round(1000 * open_seconds, 2),
        "ok": ratio >= LIMIT and same_ranking and difference <= 1e-6,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
