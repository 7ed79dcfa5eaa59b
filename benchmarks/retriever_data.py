"""The couples that the shipped retriever learned from: rule-made questions about packages' source, and prose.

    python benchmarks/retriever_data.py --sources DIR --squad DIR --nq-qed FILE --out DIR

DIR of --sources holds one unpacked folder a package, published under MIT or Apache-2.0; the model card lists those that
were taken. Of SQuAD, every second article (in the alphabet) is learned from; the others are free to choose settings on.
Writes `couples.jsonl`, which `artrag train retriever` reads, and tells how many couples each package and article gave.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from artrag.evaluation.rows import read_rows, write_rows
from artrag.training.code_questions import code_pairs, source_files

A_FILE, A_PACKAGE = 6, 800
A_PARAGRAPH = 3


OTHER_LICENCE = re.compile(
    r"\b(?:BSD|[AL]?GPL|MPL|PSF)\b|GNU (?:Lesser |Affero )?General|Mozilla Public|Python Software Foundation|"
    r"Redistribution and use|Eclipse Public|Boost Software|Creative Commons"
)
"""What a file says that was taken over from elsewhere."""
HEAD = 6000
"""Characters of a file in which it says so."""


def code(sources: Path) -> Iterator[dict[str, str]]:
    """At most 800 questions a package, so that no large one outweighs the others; of files under its own licence."""
    by_package: dict[str, list[dict[str, str]]] = {}
    files = (file for file in source_files(sources) if not OTHER_LICENCE.search(file[2][:HEAD]))
    for row in code_pairs(files, most=A_FILE):
        by_package.setdefault(row["group"], []).append(row)
    for package, rows in by_package.items():
        yield from random.Random(package).sample(rows, min(A_PACKAGE, len(rows)))  # noqa: S311


def learned_titles(folder: Path) -> set[str]:
    """Of SQuAD's articles those that are learned from: every second one in the alphabet."""
    return set(sorted({row["title"] for _, row in read_rows(folder / "corpus.jsonl")})[::2])


def squad(folder: Path) -> Iterator[dict[str, str]]:
    """Questions of every second article, at most 3 a paragraph; the passage has the article's title in front."""
    passages = {row["id"]: row for _, row in read_rows(folder / "corpus.jsonl")}
    titles = learned_titles(folder)
    asked: Counter[str] = Counter()
    for _, row in read_rows(folder / "train.jsonl"):
        found = passages.get(next(iter(row.get("evidence_ids", [])), ""))
        if row["type"] == "unanswerable" or found is None or found["title"] not in titles:
            continue
        asked[found["id"]] += 1
        if asked[found["id"]] <= A_PARAGRAPH:
            yield _prose(row["question"], found["title"], found["text"], f"squad/{found['title']}", found["id"])


def nq_qed(path: Path) -> Iterator[dict[str, str]]:
    """Search questions with their paragraph; there is one a page, so all are one group."""
    for _, row in read_rows(path):
        yield _prose(row["question"], row["meta"]["title"], row["context"][0], "", f"nq/{row['meta']['title']}")


def _prose(question: str, title: str, text: str, group: str, source: str) -> dict[str, str]:
    return {"question": question, "passage": f"{title}\n{text}", "group": group, "source": source}


def main() -> None:
    """Write the file, and tell what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sources", "squad", "nq-qed", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    rows = [*code(options.sources), *squad(options.squad), *nq_qed(options.nq_qed)]
    options.out.mkdir(parents=True, exist_ok=True)
    write_rows(options.out / "couples.jsonl", rows)
    print(json.dumps(dict(sorted(Counter(row["group"] for row in rows).items()))))


if __name__ == "__main__":
    main()
