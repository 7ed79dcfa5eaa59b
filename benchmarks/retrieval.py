"""What the defaults retrieve on judged questions, without any language model.

    python benchmarks/retrieval.py --data ../shared/data --out build/retrieval [--only contextual covidqa]

Sets: `contextual` (142 public questions of Anthropic's guide about 5 of 9 code repositories, over the chunks of all),
and `covidqa`, `squad`, `pubmedqa` (their test questions over their corpora). The indexes stay under --out: made once,
about two minutes for 1,000 chunks on one core, and brought up to date when run again. Only measures: nothing is chosen
here. One line of JSON a figure: each arm and the fused one with 95% intervals over questions, the fused one also minus
the best single arm, question by question, and against the figure to be reached.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artrag import build_ingest
from artrag.evaluation.intervals import Interval
from artrag.evaluation.queries import read_queries
from artrag.evaluation.retrieval import Judged, Table, differences, intervals, judge, scores, table_of
from artrag.evaluation.retrieval_figures import HYBRID, Searched
from artrag.evaluation.rows import read_rows
from artrag.index.store import ARMS
from artrag.interfaces.searching import keyed, open_indexes, search_all
from artrag.models import load_embedder
from artrag.settings import Settings

KS = (5, 10, 20)
AT_MOST_BELOW = 0.01
"""So much the fused result may lie below the best single arm."""


@dataclass(frozen=True, slots=True)
class Set:
    """A corpus with judged questions.

    Attributes:
        corpus: the documents, below --data.
        queries: the questions, likewise.
        limits: what the fused result is to reach.
        part: a field of the questions by which they are reported apart, too.
    """

    corpus: str
    queries: str
    limits: Mapping[str, float]
    part: str


SETS = {
    "contextual": Set(
        "contextual/documents.jsonl",
        "contextual/queries.jsonl",
        {"pass@5": 0.85, "pass@10": 0.915, "pass@20": 0.94},
        "repo",
    ),
    "covidqa": Set("simrag/covidqa/corpus.jsonl", "simrag/covidqa/test.jsonl", {"hit@10": 0.87}, "type"),
    "squad": Set("simrag/squad/corpus.jsonl", "simrag/squad/test.jsonl", {"hit@10": 0.975}, "type"),
    "pubmedqa": Set("simrag/pubmedqa/corpus.jsonl", "simrag/pubmedqa/test.jsonl", {"hit@10": 0.98}, "type"),
}


def index_of(corpus: Path, folder: Path, embedder: Any, **context: Any) -> None:
    """Bring the index of a corpus up to date."""
    graph = build_ingest(embedder=embedder).compile()
    given: Any = {"paths": [str(corpus)], "index": str(folder)}
    report = graph.invoke(given, context=Settings.of(context))["report"]
    print(f"{folder}: {report['chunks']} chunks, {report['embedded']} embedded", file=sys.stderr)


def searched(folder: Path, queries: Path) -> Searched:
    """Every arm's rankings of every question."""
    ((index, embedder),) = open_indexes([folder])
    with closing(index):
        chunks, names = keyed(index)
        judged = judge(read_queries(queries), chunks)
        return search_all(index, embedder, judged, names, arms=[*ARMS, HYBRID], k=max(KS))


def figures(name: str, one: Set, found: Searched, part_of: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of one set."""
    tables = {arm: _table(found.judged, rankings) for arm, rankings in found.rankings.items()}
    for arm, table in tables.items():
        about = {"set": name, "arm": arm, "questions": len(found.judged), "context": found.context}
        times = {"search_p50_ms": round(float(np.median(found.search_ms[arm])), 2)}
        for measure, interval in intervals(table).items():
            yield about | {"measure": measure} | _plain(interval) | times
    for measure, limit in one.limits.items():
        best = max((arm for arm in tables if arm != HYBRID), key=lambda arm: float(np.mean(tables[arm][measure])))
        gain = differences(tables[best], tables[HYBRID])[measure]
        value = float(np.mean(tables[HYBRID][measure]))
        yield {
            "set": name,
            "figure": f"{HYBRID} {measure}",
            "value": round(value, 4),
            "limit": limit,
            "ok": value >= limit,
            "best_single": best,
            "over_best_single": _plain(gain),
            "no_worse": gain.value >= -AT_MOST_BELOW,
        }
    parts = dict.fromkeys(part_of[judged.query.id] for judged in found.judged)
    for part in parts if len(parts) > 1 else ():
        kept = [n for n, judged in enumerate(found.judged) if part_of[judged.query.id] == part]
        for arm, table in tables.items():
            own = intervals({measure: [table[measure][n] for n in kept] for measure in one.limits})
            for measure, interval in own.items():
                about = {"set": name, one.part: part, "arm": arm, "questions": len(kept)}
                yield about | {"measure": measure} | _plain(interval)


def _table(judged: Sequence[Judged], rankings: Iterable[Sequence[str]]) -> Table:
    return table_of([scores(one, ranking, KS) for one, ranking in zip(judged, rankings, strict=True)])


def _plain(found: Interval) -> dict[str, float]:
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def main() -> None:
    """Build what is missing, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    given = parser.parse_args()
    embedder = load_embedder(Settings().embedder)
    for name in given.only:
        one = SETS[name]
        index_of(given.data / one.corpus, given.out / name, embedder)
        part_of = {str(row["id"]): str(row.get(one.part)) for _, row in read_rows(given.data / one.queries)}
        for line in figures(name, one, searched(given.out / name, given.data / one.queries), part_of):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
