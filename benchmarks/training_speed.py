"""Tokens a second of answerer training: merged LoRA weights and attention in blocks, against peft and PyTorch alone.

    python benchmarks/training_speed.py [--turns 2]

Rows of about 900 tokens from the example corpus, four passages and eight questions about them, forward and backward
with the embedded model in the number format this machine is fast in. Each way runs in a process of its own, by turns.
One line of JSON: the medians of both, their ratio, and the memory of each at its highest, in MB.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from artrag.evaluation.rows import read_rows
from artrag.models.causal_model import open_base
from artrag.models.local_chat import place
from artrag.models.references import weights_folder
from artrag.settings import EMBEDDED_BASE
from artrag.training.answerer import HOW
from artrag.training.answerer_data import Example, rows_of
from artrag.training.attention import with_blocks
from artrag.training.branches import branches_loss, row_loss
from artrag.training.loop import peak_memory_mb
from artrag.training.lora import add_lora
from artrag.training.lora_batches import Encoded, fast
from artrag.training.merged import train_merged

EXAMPLES = Path(__file__).parents[1] / "examples"
WORDS = 110
ROWS = 4
ROUNDS = 2

Loss = Callable[[Any, Encoded], Any]


def rows(tokenizer: Any) -> list[Encoded]:
    """Eight questions and four passages each."""
    texts = [" ".join(path.read_text("utf-8").split()) for path in sorted((EXAMPLES / "corpus").rglob("*.md"))]
    shown = [(" ".join(text.split()[:WORDS]), "") for text in texts]
    asked = [row for _, row in read_rows(EXAMPLES / "questions.jsonl") if row["answers"]]
    examples = [
        Example("answer", row["question"], (row["answers"][0],), tuple(shown[n // 8 * 4 : n // 8 * 4 + 4]), (1,))
        for n, row in enumerate(asked[: 8 * ROWS])
    ]
    return rows_of(tokenizer, examples, HOW.window, {"in": 0, "shortened": 0, "dropped": 0})


def usual(model: Any, row: Encoded) -> Any:
    """The same loss, and the layers as peft and transformers have them."""
    with fast("cpu"):
        return row_loss(model, row, "cpu")


def one_way(ours: bool) -> dict[str, float | None]:
    """Measured in this process."""
    model, tokenizer = open_base(weights_folder(EMBEDDED_BASE), "words")
    learner = add_lora(model, HOW.rank, "CAUSAL_LM")
    loss: Loss = usual
    if ours:
        with_blocks(model)
        train_merged(learner, place()[1])
        loss = lambda model, row: branches_loss(model, [row], "cpu")  # noqa: E731
    learner.train()
    learned = rows(tokenizer)
    for row in learned[:1]:
        loss(learner, row).backward()
    started = time.perf_counter()
    for row in learned * ROUNDS:
        loss(learner, row).backward()
    tokens = ROUNDS * sum(len(part) for row in learned for part in row)
    return {"tokens_per_second": tokens / (time.perf_counter() - started), "peak_mb": peak_memory_mb()}


def main() -> None:
    """Both ways by turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--way", choices=("ours", "usual"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(one_way(given.way == "ours")))
        return
    found: dict[str, list[dict[str, float]]] = {"ours": [], "usual": []}
    for _ in range(given.turns):
        for way, turns in found.items():
            done = subprocess.run([sys.executable, __file__, "--way", way], capture_output=True, text=True, check=True)
            turns.append(json.loads(done.stdout))
    speeds = {way: median(turn["tokens_per_second"] for turn in turns) for way, turns in found.items()}
    told = {
        "figure": "training_speed",
        "tokens_per_second": {way: round(speed) for way, speed in speeds.items()},
        "ratio": round(speeds["ours"] / speeds["usual"], 2),
        "peak_mb": {way: round(max(turn["peak_mb"] for turn in turns)) for way, turns in found.items()},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
