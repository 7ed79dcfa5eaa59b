"""Term proximity: pairs of near words, weighed as BM25 weighs words."""

import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fakes import HashedWords, json_lines
from hypothesis import given
from hypothesis import strategies as st

from artrag import build_ingest
from artrag.errors import IndexDamagedError
from artrag.index import Index
from artrag.index.arrays import save_arrays
from artrag.index.manifest import read_manifest
from artrag.index.proximity import GAP, K1, MOST_TERMS, WINDOW, B, Proximity
from artrag.index.verify import verify

WORDS = st.lists(st.sampled_from("abcdefg"), max_size=20)
RARITY = {"a": 2.0, "b": 0.5, "c": 1.0, "d": 3.0, "e": 0.0, "f": 0.1, "g": 1.5}


def by_hand(question: list[str], chunk: list[str], mean: float) -> float:
    """The definition, pair by pair."""
    weights: dict[frozenset[str], float] = {}
    for i, one in enumerate(question):
        for j in range(i + 1, min(len(question), i + GAP + 1)):
            if one != question[j]:
                pair = frozenset((one, question[j]))
                weights[pair] = weights.get(pair, 0.0) + min(RARITY[one], RARITY[question[j]]) / (j - i)
    total = 0.0
    for pair, weight in weights.items():
        near = sum(
            1 / (j - i)
            for i in range(len(chunk))
            for j in range(i + 1, min(len(chunk), i + WINDOW + 1))
            if frozenset((chunk[i], chunk[j])) == pair
        )
        total += weight * near * (K1 + 1) / (near + K1 * (1 - B + B * len(chunk) / (mean or 1)))
    return total


@given(WORDS, st.lists(WORDS, min_size=1, max_size=6), st.data())
def test_scores_are_those_of_the_definition(question: list[str], chunks: list[list[str]], data: st.DataObject) -> None:
    made = Proximity.build(chunks)
    rows = data.draw(st.sets(st.sampled_from(range(len(chunks)))))
    mean = sum(map(len, chunks)) / len(chunks)
    expected = {row: by_hand(question, chunks[row], mean) for row in rows}
    found = made.score(question, RARITY.__getitem__, rows)
    assert dict(found) == pytest.approx({row: score for row, score in expected.items() if score > 0})
    assert found == sorted(found, key=lambda hit: (-hit[1], hit[0])) and made.size == len(chunks)


def test_near_words_beat_far_ones_in_either_order() -> None:
    far = ["fever", *["x"] * 9, "rat"]
    made = Proximity.build([far, ["rat", "fever"], ["x", "fever", "y", "rat"], ["rat"], []])
    found = made.score(["fever", "rat"], lambda _: 1.0, range(5))
    assert [row for row, _ in found] == [1, 2]
    assert made.score(["fever"], lambda _: 1.0, range(5)) == made.score([], lambda _: 1.0, range(5)) == []
    assert made.score(["fever", "rat"], lambda _: 1.0, []) == []
    long = [f"w{n}" for n in range(MOST_TERMS + 5)]
    ends = Proximity.build([long[-2:], long[:2]])
    assert [row for row, _ in ends.score(long, lambda _: 1.0, [0, 1])] == [1]


def test_it_is_kept_and_what_was_altered_is_named(tmp_path: Path) -> None:
    made = Proximity.build([["a", "b"], [], ["\ud800", "b"]])
    made.save(tmp_path / "p.npz")
    again = Proximity.load(tmp_path / "p.npz")
    rows = range(3)
    assert again.score(["b", "a"], lambda _: 1.0, rows) == made.score(["b", "a"], lambda _: 1.0, rows) != []
    assert again.holds(2, ["\ud800", "b"]) and again.holds(1, []) and not again.holds(0, ["b", "a"])
    for begins in ([], [0, 5], [1, 4], [0, 3, 2, 4]):
        save_arrays(tmp_path / "p.npz", {"tokens": np.zeros(4, np.uint32), "begins": np.array(begins, np.int64)})
        with pytest.raises(IndexDamagedError, match="do not fit"):
            Proximity.load(tmp_path / "p.npz")


def test_an_index_searches_by_it_and_verifies_it(tmp_path: Path) -> None:
    rows = [
        {"id": "apart", "title": "", "text": "Without a fever we fed every rat. Causes of the feast are many."},
        {"id": "beside", "title": "", "text": "We list many causes of rat fever, and fed the feast to every other."},
    ]
    corpus, path = json_lines(tmp_path / "c.jsonl", rows), tmp_path / "i"
    build_ingest(embedder=HashedWords()).compile().invoke({"paths": [str(corpus)], "index": str(path)})
    with closing(Index.open(path, embedder=HashedWords())) as index:
        (best, *_) = index.search("What causes rat fever?", arms=["proximity"])
        assert best.document == "beside" and best.arms["proximity"]["rank"] == 1
        assert list(index.rankings("What causes rat fever?", arms=["proximity"])) == ["proximity"]
        found = index.rankings("What causes rat fever?")
        assert {row for row, _ in found["proximity"]} <= {row for arm in ("dense", "bm25") for row, _ in found[arm]}
        expected = math.log(1 + (2 - 2 + 0.5) / (2 + 0.5))
        assert index._bm25.rarity("rat") == pytest.approx(expected) and index._bm25.rarity("unheard") > expected
    assert "proximity" in verify(path).checked and not verify(path).problems
    file = path / read_manifest(path).generation / "proximity.npz"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(IndexDamagedError, match="proximity.npz"):
        Index.open(path, embedder=HashedWords())
