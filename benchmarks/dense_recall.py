"""Dense search in cells (faiss IVF) against comparing every vector: recall and speed in one run.

    python benchmarks/dense_recall.py [--vectors 200000]

The vectors are synthetic and clustered, 384 dimensions: topics, documents around a topic, chunks around a document, all
Gaussian. Questions are new points around random chunks, half as far off as the chunks lie around their document.
Embeddings of real text differ; what an index found on its own corpus stands in its manifest. Prints one line of JSON:
the recall of the exact best 10 and 150 for the questions, the recall at 150 that was measured on the corpus when it was
built, medians of milliseconds a query by turns, their ratio, and the seconds of building each.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from artrag.index.dense import RECALL_AT, TARGET_RECALL, Dense

DIMENSION, CHUNKS_A_DOCUMENT, DOCUMENTS_A_TOPIC, QUESTIONS = 384, 20, 100, 200


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def noise(rows: int, share: float, draw: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian rows whose length is about `share`."""
    return np.float32(share / DIMENSION**0.5) * draw.standard_normal((rows, DIMENSION), dtype=np.float32)


def main() -> None:
    """Build both, ask by turns, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=int, default=200_000)
    count = parser.parse_args().vectors
    draw = np.random.default_rng(0)
    documents = count // CHUNKS_A_DOCUMENT + 1
    topics = noise(documents // DOCUMENTS_A_TOPIC + 1, 1.0, draw)
    around = topics[draw.integers(0, len(topics), documents)] + noise(documents, 1.0, draw)
    vectors = around[np.sort(draw.integers(0, documents, count))]
    vectors += noise(count, 1.0, draw)
    vectors = unit(vectors)
    questions = unit(vectors[draw.integers(0, count, QUESTIONS)] + noise(QUESTIONS, 0.5, draw))

    built, seconds, about = {}, {}, {}
    with TemporaryDirectory() as folder:
        for kind, limit in (("flat", count), ("ivf", 0)):
            started = time.perf_counter()
            dense = Dense.build(vectors, flat_limit=limit)
            seconds[kind] = time.perf_counter() - started
            about[kind] = dense.about()
            dense.save(Path(folder) / kind)
            del dense
            built[kind] = Dense.load(Path(folder) / kind)
        for dense in built.values():
            dense.top(questions[0], RECALL_AT)
        took: dict[str, list[float]] = {kind: [] for kind in built}
        found_of: dict[int, list[float]] = {10: [], RECALL_AT: []}
        for question in questions:
            found = {}
            for kind, dense in built.items():
                started = time.perf_counter()
                found[kind] = dense.top(question, RECALL_AT)
                took[kind].append(1000 * (time.perf_counter() - started))
            for k, shares in found_of.items():
                exact, ours = ({row for row, _ in found[kind][:k]} for kind in ("flat", "ivf"))
                shares.append(len(exact & ours) / k)
        del built, dense
    flat, ivf = median(took["flat"]), median(took["ivf"])
    recall = float(np.mean(found_of[RECALL_AT]))
    report = {
        "vectors": count,
        "dimension": DIMENSION,
        **{key: about["ivf"][key] for key in ("cells", "probes")},
        "recall_at_10": round(float(np.mean(found_of[10])), 4),
        "recall_at_150": round(recall, 4),
        "recall_at_150_on_the_corpus": about["ivf"]["recall"],
        "target": TARGET_RECALL,
        "flat_ms": round(flat, 2),
        "ivf_ms": round(ivf, 2),
        "ratio": round(flat / ivf, 1),
        "flat_build_s": round(seconds["flat"], 1),
        "ivf_build_s": round(seconds["ivf"], 1),
        "ok": recall >= TARGET_RECALL - 0.01 and flat / ivf > 1,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
