"""Retrieval against judged questions: recall@k, Pass@k, hit@k, MRR and nDCG of rankings of chunk ids.

A question's relevant ids are chunks or documents; a document is found with the first of its chunks. k counts passages.

- recall@k goes by id: the share of a question's relevant ids among its first k passages.
- pass@k goes by text (Anthropic's contextual retrieval guide): a chunk whose stripped text equals that of a relevant
  one, a twin, counts as well. Readers cannot tell twins apart, so every other measure goes by text, too. Without twins
  pass@k equals recall@k. A document's twins are the documents with the same chunks.
- hit@k: 1 where any relevant id is among the first k.
- mrr: 1 / rank of the first relevant passage.
- ndcg@k: binary gains, discounted by log2(1 + rank), over the best order there could be; relevant twins count once.

Each is averaged over questions. `mrr` and `ndcg` see as many passages as the largest k. What is relevant but not in the
index can never be found: it stays in the denominators, and is named in `missing`.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from artrag.errors import UsageError
from artrag.evaluation.intervals import Interval, clustered_ratios
from artrag.evaluation.queries import Query

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with the chunks that count as finding each of its relevant ids.

    Attributes:
        query: the question.
        by_id: for each relevant id the chunks that are it.
        by_text: the same with their twins.
        documents: those of the relevant chunks.
        missing: relevant ids that are not in the index.
    """

    query: Query
    by_id: tuple[frozenset[str], ...]
    by_text: tuple[frozenset[str], ...]
    documents: frozenset[str]
    missing: tuple[str, ...]


def judge(queries: Sequence[Query], chunks: Iterable[tuple[str, str, str]]) -> list[Judged]:
    """The questions that have relevant ids, with what counts as finding them.

    Args:
        queries: questions; those without relevant ids are left out.
        chunks: (id, document id, text) of every chunk of the index.

    Raises:
        UsageError: no question has relevant ids, or none of these is in the index.
    """
    asked = [query for query in queries if query.relevant]
    if not asked:
        raise UsageError(
            f"none of {len(queries)} questions says what is relevant: give 'relevant' ids, or a qrels.tsv beside them"
        )
    home: dict[str, str] = {}
    key_of: dict[str, int] = {}
    alike: dict[int, set[str]] = {}
    parts: dict[str, list[str]] = {}
    for name, document, text in chunks:
        key_of[name], home[name] = hash(text.strip()), document
        alike.setdefault(key_of[name], set()).add(name)
        parts.setdefault(document, []).append(name)
    same: dict[tuple[int, ...], set[str]] = {}
    for document, names in parts.items():
        same.setdefault(tuple(key_of[name] for name in names), set()).add(document)

    def twins(name: str) -> frozenset[str]:
        if name in home:
            return frozenset(alike[key_of[name]])
        others = same[tuple(key_of[part] for part in parts[name])] if name in parts else ()
        return frozenset(part for other in others for part in parts[other])

    found = []
    for query in asked:
        own = tuple(frozenset([name] if name in home else parts.get(name, ())) for name in query.relevant)
        gone = tuple(name for name, chunk in zip(query.relevant, own, strict=True) if not chunk)
        documents = frozenset(home[name] for names in own for name in names)
        found.append(Judged(query, own, tuple(twins(name) for name in query.relevant), documents, gone))
    if not any(judged.documents for judged in found):
        raise UsageError(
            f"no relevant id of {len(found)} questions is in the index, such as {found[0].missing[0]!r} of "
            f"{found[0].query.id!r}: give the questions of these documents; 'artrag search --json' shows their ids"
        )
    return found


def ranks(ranking: Sequence[Hashable], wanted: Iterable[Iterable[Hashable]]) -> list[float]:
    """For each set of chunks the rank, from 1, of the first of them in the ranking; infinite where there is none."""
    place: dict[Hashable, int] = {}
    for rank, name in enumerate(ranking, start=1):
        place.setdefault(name, rank)
    return [min((place.get(name, math.inf) for name in names), default=math.inf) for names in wanted]


def share(found: Sequence[float], k: float) -> float:
    """The share of ranks up to k: recall@k of ranks by id, pass@k of ranks by text."""
    return sum(rank <= k for rank in found) / len(found)


def ndcg(found: Sequence[float], k: int, relevant: int) -> float:
    """nDCG@k with binary gains (Järvelin and Kekäläinen, 2002).

    Args:
        found: ranks of relevant passages; a passage that is several relevant ids at once counts once.
        k: how many passages are looked at.
        relevant: how many different passages are relevant.
    """
    gain = sum(1 / math.log2(1 + rank) for rank in set(found) if rank <= k)
    return gain / sum(1 / math.log2(1 + rank) for rank in range(1, min(k, relevant) + 1))


def scores(judged: Judged, ranking: Sequence[str], ks: Sequence[int]) -> dict[str, float]:
    """Every measure of one ranking; see the head of this file.

    Args:
        judged: the question.
        ranking: chunk ids, best first.
        ks: numbers of passages.
    """
    deepest = max(ks)
    by_id, by_text = ranks(ranking[:deepest], judged.by_id), ranks(ranking[:deepest], judged.by_text)
    first, different = min(by_text), len(set(judged.by_text) - {frozenset()}) + len(judged.missing)
    made = {f"recall@{k}": share(by_id, k) for k in ks}
    made |= {f"pass@{k}": share(by_text, k) for k in ks}
    made |= {f"hit@{k}": float(first <= k) for k in ks}
    made |= {f"ndcg@{k}": ndcg(by_text, k, different) for k in ks}
    return made | {"mrr": 1 / first, "ndcg": made[f"ndcg@{deepest}"]}


Table = dict[str, list[float]]
"""For each measure one value a question."""


def table_of(rows: Sequence[Mapping[str, float]]) -> Table:
    """The measures of questions, turned by measure."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def intervals(table: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """The mean of each measure with its 95% bootstrap interval over questions, the same draws for all."""
    values = np.asarray(list(table.values()), dtype=np.float64)
    found = clustered_ratios(values, np.ones_like(values), range(values.shape[1]))
    return dict(zip(table, found, strict=True))


def differences(first: Table, second: Table) -> dict[str, Interval]:
    """What the second gains over the first on the same questions: each measure with its paired interval."""
    return intervals({name: np.subtract(second[name], first[name]).tolist() for name in first})


def signed(gain: Interval) -> str:
    """A difference in points: `+1.2 [-0.3, +2.8]`."""
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def missing_note(judged: Sequence[Judged], index: str) -> str:
    """One line about relevant ids that are not in the index; empty where all are."""
    gone = [(one.query.id, name) for one in judged for name in one.missing]
    if not gone:
        return ""
    lost = [one.query.id for one in judged if not one.documents]
    named = ", ".join(f"{name!r} of {query!r}" for query, name in gone[:_NAMED])
    return (
        f"{len(gone)} relevant ids are not in {index!r} and count as not found: {named}"
        f"{', ...' if len(gone) > _NAMED else ''}; {len(lost)} questions have none there"
        f"{': ' + ', '.join(map(repr, lost[:_NAMED])) + (', ...' if len(lost) > _NAMED else '') if lost else ''}"
    )
