"""How many of the pairs that SimRAG keeps are right, by labels that a person gave; and what a kept pair costs.

    python benchmarks/pair_precision.py --run build/covidqa/whole --labels benchmarks/labels/covidqa_pairs.jsonl \
        --without benchmarks/labels/rules_chosen_on.jsonl

Draws 100 of the kept pairs, always the same ones, none about a passage that a setting was chosen on. Right is a short
answer or an option that is a span of its passage and answers the question by it, and a claim that is as true or false
as its answer says. A label is a line {"question", "answer", "right": true or false}; pairs without one are added to the
file with "right": null and their sentence, to be filled in. One line of JSON: the share that is right with its 95%
interval over passages, overall and by kind, how many pairs were proposed and kept, seconds a kept pair.
"""

import argparse
import json
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from artrag.evaluation.intervals import clustered
from artrag.evaluation.rows import read_rows, write_rows
from artrag.text import sentences
from artrag.training.keeping import Pair
from artrag.training.rounds import KEPT, PROPOSED, read_pairs, round_folder, seconds_of

DRAWN = 100


def key(question: str, answer: str) -> str:
    """What a label is known by."""
    return f"{question}\n{answer}"


def blank(one: Pair) -> dict[str, Any]:
    """A line to be filled in."""
    shown = {"options": dict(one.options)} if one.options else {}
    told = next((said for said in sentences(one.text) if one.span in said), one.span)
    line = {"kind": one.kind, "question": one.question, "answer": one.answer, "span": one.span, **shown}
    return line | {"passage": one.passage, "sentence": told, "right": None}


def main() -> None:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--without", type=Path, nargs="*", default=[], help="labels that settings were chosen on")
    parser.add_argument("--round", type=int, default=1)
    given = parser.parse_args()
    folder = round_folder(given.run, given.round)
    kept, proposed = read_pairs(folder / KEPT), read_pairs(folder / PROPOSED)
    chosen_on = {row["passage"] for path in given.without for _, row in read_rows(path)}
    kept_elsewhere = [one for one in kept if one.passage not in chosen_on]
    if not kept_elsewhere:
        parser.error(f"{folder} kept no pair about another passage")
    drawn = sorted(kept_elsewhere, key=lambda one: sha256(key(one.question, one.answer).encode()).digest())[:DRAWN]
    known = [row for _, row in read_rows(given.labels)] if given.labels.exists() else []
    labels = {key(row["question"], row["answer"]): row["right"] for row in known}
    if missing := [blank(one) for one in drawn if key(one.question, one.answer) not in labels]:
        given.labels.parent.mkdir(parents=True, exist_ok=True)
        write_rows(given.labels, known + missing)
    right = [(one, labels.get(key(one.question, one.answer))) for one in drawn]
    if left := sum(label is None for _, label in right):
        parser.error(f'{left} of {len(drawn)} pairs have no label: fill in "right" in {given.labels}')
    by_kind: dict[str, list[tuple[Pair, float]]] = defaultdict(list)
    for one, label in right:
        for name in ("all", one.kind):
            by_kind[name].append((one, float(bool(label))))
    line: dict[str, Any] = {"run": given.run, "proposed": len(proposed), "kept": len(kept)}
    for name, own in by_kind.items():
        share = clustered([value for _, value in own], [one.passage for one, _ in own])
        line[name] = {"labelled": len(own), "right": share.value, "low": share.low, "high": share.high}
    took = seconds_of(given.run, given.round)
    line["seconds_a_kept_pair"] = round((took["propose"] + took["keep"]) / len(kept), 2)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
