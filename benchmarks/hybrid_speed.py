"""A hybrid query over 100,000 chunks: how long it takes, how long the index takes to open, and in how much memory.

    python benchmarks/hybrid_speed.py [--chunks 100000] [--keep FOLDER]

The corpus is synthetic: 50,000 made-up words by Zipf's law (exponent 1.05, every second word a stop word, as in
English), chunks of 60 to 180 words, 50 to a document. It is ingested by the real graph with an embedder that answers at
once with random unit vectors of 384 numbers. A fresh process then opens the index, asks 300 questions of 8 words of a
chunk through `Index.search` with the default arms and k = 10, and reads its own peak memory. Prints one line of JSON;
on a machine with other work, `p50_processor_ms` is what a query computed. Embedding a question is part of it and takes
some ten microseconds here. With `--keep` the index is left in that folder, and found there by the next run. The files
stand in the page cache, as those of an index in use do.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from artrag.text import STOP_WORDS

P50_MS, OPEN_SECONDS, MEMORY_MIB = 15.0, 2.0, 1024.0
DIMENSION, WORDS, EXPONENT, CHUNKS_A_DOCUMENT, QUESTIONS = 384, 50_000, 1.05, 50, 300
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


class Instant(Embeddings):
    """A random unit vector for each text, always the same, at once."""

    fingerprint = f"instant:{DIMENSION}"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text, by its checksum."""
        vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSION, dtype=np.float32)
        return vector / np.linalg.norm(vector)  # type: ignore[return-value]  # an array spares a million floats


def word(number: int) -> str:
    """The made-up word of a rank."""
    made = ""
    while number >= 0:
        made += SYLLABLES[number % len(SYLLABLES)]
        number = number // len(SYLLABLES) - 1
    return made + "n"


def texts(chunks: int, seed: int) -> Iterator[str]:
    """So many chunks."""
    draw = np.random.default_rng(seed)
    share = 1 / np.arange(1, WORDS + 1) ** EXPONENT
    below = np.cumsum(share / share.sum())
    words, stop_words = [word(n) for n in range(WORDS)], sorted(STOP_WORDS)
    for length in draw.integers(30, 90, chunks):
        numbers = np.minimum(np.searchsorted(below, draw.random(length)), WORDS - 1)
        between = draw.integers(0, len(stop_words), length)
        yield " ".join(f"{stop_words[b]} {words[n]}" for b, n in zip(between, numbers, strict=True))


def write(path: Path, chunks: int) -> None:
    """The corpus as rows of documents with given chunks."""
    with path.open("w", encoding="utf-8") as file:
        waiting: list[str] = []
        for number, text in enumerate(texts(chunks, 0), start=1):
            waiting.append(text)
            if len(waiting) == CHUNKS_A_DOCUMENT or number == chunks:
                name = f"manual-{number}"
                row = {"id": name, "title": f"Manual {number}", "text": "\n\n".join(waiting), "chunks": waiting}
                file.write(json.dumps(row) + "\n")
                waiting = []


def ask(folder: Path, chunks: int) -> dict[str, Any]:
    """In a fresh process: open, ask, and say what it took."""
    from artrag.index import Index

    draw = np.random.default_rng(1)
    wanted = set(draw.integers(0, chunks, QUESTIONS).tolist())
    picked = [text.split() for number, text in enumerate(texts(chunks, 0)) if number in wanted]
    questions = [" ".join(draw.choice(text, 16)) + "?" for text in picked]  # half of it are stop words
    Instant().embed_query("warm")
    started = time.perf_counter()
    index = Index.open(folder, embedder=Instant())
    opened = time.perf_counter() - started
    took, busy = [], []
    for question in questions:
        started, computed = time.perf_counter(), time.process_time()
        found = index.search(question, 10)
        busy.append(1000 * (time.process_time() - computed))
        took.append(1000 * (time.perf_counter() - started))
        assert len(found) == 10 and {arm for passage in found for arm in passage.arms} == {"dense", "bm25", "proximity"}
    index.close()
    return {
        "first_ms": round(took[0], 1),
        "p50_ms": round(median(took), 2),
        "p50_processor_ms": round(median(busy), 2),
        "p95_ms": round(quantiles(took, n=20)[-1], 2),
        "open_s": round(opened, 3),
        "peak_memory_mib": round(peak_memory()),
    }


def peak_memory() -> float:
    """MiB that this process had resident at most."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says is at least what the parent had
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def build(folder: Path, chunks: int) -> float:
    """Ingest the corpus; seconds."""
    from artrag import build_ingest

    with tempfile.TemporaryDirectory() as corpus:
        write(Path(corpus) / "corpus.jsonl", chunks)
        started = time.perf_counter()
        graph = build_ingest(embedder=Instant()).compile()
        report = graph.invoke({"paths": [str(Path(corpus) / "corpus.jsonl")], "index": str(folder)})["report"]
    assert report["chunks"] == chunks and not report["skipped"], report
    return time.perf_counter() - started


def main() -> None:
    """Build, ask in a fresh process, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ask:
        print(json.dumps(ask(asked.ask, asked.chunks)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch) / "index"
        seconds = None if (folder / "manifest.json").exists() else build(folder, asked.chunks)
        command = [sys.executable, __file__, "--ask", str(folder), "--chunks", str(asked.chunks)]
        made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = sum(file.stat().st_size for file in folder.glob("generation-*/*")) / 2**20
    report = {
        "chunks": asked.chunks,
        "dimension": DIMENSION,
        **made,
        "index_mib": round(size),
        "ingest_s": seconds and round(seconds, 1),
        "limits": {"p50_ms": P50_MS, "open_s": OPEN_SECONDS, "peak_memory_mib": MEMORY_MIB},
        "ok": made["p50_ms"] < P50_MS and made["open_s"] < OPEN_SECONDS and made["peak_memory_mib"] < MEMORY_MIB,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
