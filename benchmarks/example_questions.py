"""The sixty questions over the example corpus, through plain RAG, contextual RAG and ART.

    python benchmarks/example_questions.py --split dev     # for choosing settings
    python benchmarks/example_questions.py --split test    # once, for the README

Prints one line of JSON: for each system the share of evidence found in the passages, the share of right answers (an
abstention counts as right only where the documents do not say), how many were given, and how many of those were right,
each with its 95% bootstrap interval; calls, tokens and seconds a question; and the paired differences to plain RAG.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from artrag.evaluation import bootstrap, evidence_recall, holds_answer, paired
from artrag.interfaces.demo import systems
from artrag.interfaces.running import execute
from artrag.interfaces.wiring import wired_ingest
from artrag.settings import Settings

EXAMPLES = Path(__file__).parents[1] / "examples"


def rounded(interval: Any) -> list[float]:
    """Value, low, high."""
    return [round(x, 3) for x in (interval.value, interval.low, interval.high)]


def main() -> None:
    """Ingest, ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=["dev", "test"], default="dev")
    parser.add_argument("--chat", default=Settings().chat)
    parser.add_argument("--rows", type=Path, help="write every answer here, one JSON line each")
    options = parser.parse_args()
    rows = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == options.split]
    quiet = Console(file=sys.stderr)
    report: dict[str, Any] = {"split": options.split, "questions": len(rows), "chat": options.chat}
    right: dict[str, list[float]] = {}
    kept: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("none", "auto"):
            settings = Settings(context=kind, index=f"{scratch}/{kind}")
            execute(wired_ingest, {"paths": [str(EXAMPLES / "corpus")], "index": settings.index or ""}, settings, quiet)
        for name, (kind, graph) in systems().items():
            settings = Settings(index=f"{scratch}/{kind}", chat=options.chat)
            started = time.perf_counter()
            states = [execute(graph, {"question": row["question"]}, settings, quiet) for row in rows]
            seconds = time.perf_counter() - started
            recall = [
                evidence_recall(state["passages"], row["evidence"]).value
                for row, state in zip(rows, states, strict=True)
                if row["evidence"]
            ]
            right[name] = [score(row, state) for row, state in zip(rows, states, strict=True)]
            given = [r for r, state in zip(right[name], states, strict=True) if not state.get("abstained")]
            report[name] = {
                "evidence_recall": rounded(bootstrap(recall)),
                "right": rounded(bootstrap(right[name])),
                "given": len(given),
                "right_where_given": rounded(bootstrap(given)) if given else None,
                **costs(states),
                "seconds": round(seconds / len(rows), 2),
            }
            kept += [
                {
                    "system": name,
                    "id": row["id"],
                    "right": r,
                    "answer": state["answer"],
                    "confidence": state.get("confidence"),
                    "abstained": state.get("abstained"),
                    "rounds": state.get("rounds"),
                    "candidates": [c["text"] for c in state["candidates"]],
                }
                for row, state, r in zip(rows, states, right[name], strict=True)
            ]
    report["minus plain RAG"] = {
        name: rounded(paired(right["plain RAG"], values)) for name, values in right.items() if name != "plain RAG"
    }
    if options.rows:
        options.rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), "utf-8")
    print(json.dumps(report, ensure_ascii=False))


COSTS = ("calls", "prompt_tokens", "completion_tokens")


def costs(states: list[dict[str, Any]]) -> dict[str, float]:
    """Calls and tokens a question."""
    usage = [stage for state in states for stage in state["usage"].values()]
    return {key: round(sum(stage[key] for stage in usage) / len(states), 1) for key in COSTS}


def score(row: dict[str, Any], state: dict[str, Any]) -> float:
    """1 for a right answer, or for an abstention where there is none."""
    if state.get("abstained"):
        return float(not row["answers"])
    return holds_answer(state["answer"], row["answers"]).value


if __name__ == "__main__":
    main()
