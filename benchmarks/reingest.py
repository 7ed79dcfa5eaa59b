"""How long an ingest takes, and how long the next one of the same or almost the same documents.

    python benchmarks/reingest.py                      # 10,000 chunks, about 15 minutes on one core
    python benchmarks/reingest.py --chunks 300         # a minute
    python benchmarks/reingest.py --embedder instant   # all but the model
    python benchmarks/reingest.py --embedder instant --big   # a text of 50 MB and a PDF of 10,000 pages instead

Prints one JSON line: seconds of the first ingest, of an unchanged one (fresh process, interpreter start apart), and of
one with one document changed; the share of the first; texts embedded in each; peak memory.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = 75
A_DOCUMENT = 10


class Instant:
    """Vectors at no cost, so that all the rest is measured."""

    fingerprint, reference = "instant:384", ""

    def embed_documents(self, texts: list[str]) -> Any:
        """The same vector for every text."""
        import numpy as np

        return np.ones((len(texts), 384), dtype=np.float32)

    def embed_query(self, text: str) -> Any:
        """The same vector."""
        return self.embed_documents([text])[0]


def write_documents(folder: Path, chunks: int) -> None:
    """Markdown of about ten chunks a file, of words with the frequencies of a language."""
    draw = random.Random(0)
    words = [
        f"{first}{second}{n}" for n in range(40) for first in ("ka", "lo", "mi", "tu") for second in ("ren", "sal")
    ]
    weights = [1 / (n + 1) for n in range(len(words))]
    for n in range(chunks // A_DOCUMENT):
        parts = [" ".join(draw.choices(words, weights, k=WORDS)) + "." for _ in range(A_DOCUMENT)]
        body = "\n\n".join(f"## Part {k}\n\n{part}" for k, part in enumerate(parts))
        (folder / f"{n:05}.md").write_text(f"# Document {n}\n\n{body}\n", encoding="utf-8")


def write_big(folder: Path) -> None:
    """A text of 50 MB and a PDF of 10,000 pages."""
    draw = random.Random(0)
    with (folder / "big.txt").open("w", encoding="utf-8") as file:
        while file.tell() < 50_000_000:
            file.write(" ".join(f"w{draw.randrange(50_000)}" for _ in range(100)) + ".\n\n")
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    for n in range(10_000):
        pdf.add_page()
        for k in range(30):
            pdf.cell(text=f"Line {k} of page {n}, word {draw.randrange(50_000)}.", new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(folder / "big.pdf"))


def ingest(documents: Path, index: Path, embedder: str) -> dict[str, Any]:
    """One ingest in this process: its report, seconds, and peak memory in MiB."""
    from artrag import build_ingest

    if embedder == "instant":
        model: Any = Instant()
    else:
        from artrag.interfaces.wiring import SettingsEmbedder

        model = SettingsEmbedder()  # opened when it is first needed
    graph = build_ingest(embedder=model).compile()
    started = time.perf_counter()
    report = graph.invoke({"paths": [str(documents)], "index": str(index)})["report"]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    opened = "torch" in sys.modules
    return {"seconds": seconds, "peak_mib": peak, "model_opened": opened} | {
        key: report[key] for key in ("documents", "chunks", "embedded", "unchanged", "changed", "skipped")
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--embedder", choices=["embedded", "instant"], default="embedded")
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--once", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(ingest(*given.once, given.embedder)))
        return
    with tempfile.TemporaryDirectory() as place:
        documents, index = Path(place) / "documents", Path(place) / "index"
        documents.mkdir()
        if given.big:
            write_big(documents)
        else:
            write_documents(documents, given.chunks)

        def again() -> dict[str, Any]:
            command = [sys.executable, __file__, "--embedder", given.embedder, "--once", str(documents), str(index)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            said: dict[str, Any] = json.loads(done.stdout)
            return said

        first, unchanged = again(), again()
        (documents / "00000.md").write_text("# Another document\n\nOf one part.\n", encoding="utf-8")
        changed = again()
        size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    runs = {"first": first, "unchanged": unchanged, "one_changed": changed}
    row = {
        "figure": "reingest",
        "embedder": given.embedder,
        "chunks": first["chunks"],
        "documents": first["documents"],
        "skipped": len(first["skipped"]),
        "index_mib": round(size / 2**20, 1),
        "share_unchanged": round(unchanged["seconds"] / first["seconds"], 5),
        "share_one_changed": round(changed["seconds"] / first["seconds"], 5),
    }
    for name, run in runs.items():
        row |= {
            f"{name}_s": round(run["seconds"], 3),
            f"{name}_embedded": run["embedded"],
            f"{name}_model_opened": run["model_opened"],
            f"{name}_peak_mib": run["peak_mib"],
        }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
