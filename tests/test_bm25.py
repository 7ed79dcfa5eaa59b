"""BM25 against its definition, its file, and what a file from elsewhere can do."""

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi

from artrag.errors import IndexDamagedError
from artrag.index import bm25 as module
from artrag.index.arrays import map_arrays, save_arrays
from artrag.index.bm25 import BM25

# Few terms: half of them stand in more than half of the documents, where the idf is negative and the floor holds.
TERMS = st.sampled_from(["a", "b", "c", "ab", "é", "空气", "", "\n", "\ud800", "zz"])
DOCUMENTS = st.lists(st.lists(TERMS, max_size=7), min_size=1, max_size=9).filter(any)
QUERY = st.lists(TERMS | st.just("unknown"), max_size=7)


def ranked(scores: NDArray[np.float64], documents: list[list[str]], query: list[str]) -> list[int]:
    sharing = [row for row, tokens in enumerate(documents) if set(tokens) & set(query)]
    return sorted(sharing, key=lambda row: (-scores[row], row))


@given(DOCUMENTS, QUERY, st.integers(1, 10))
@settings(max_examples=200)
def test_scores_and_ranking_are_those_of_the_definition(documents: list[list[str]], query: list[str], k: int) -> None:
    bm25, expected = BM25.build(documents), BM25Okapi(documents).get_scores(query)
    assert bm25.size == len(documents)
    np.testing.assert_allclose(bm25.scores(query), expected, rtol=0, atol=1e-12)
    found = bm25.top(query, k)
    assert [row for row, _ in found] == ranked(expected, documents, query)[:k]
    assert all(type(row) is int and type(score) is float and score == bm25.scores(query)[row] for row, score in found)


@given(DOCUMENTS, QUERY, st.integers(1, 10), st.data())
def test_only_allowed_rows_are_found(documents: list[list[str]], query: list[str], k: int, data: st.DataObject) -> None:
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))))
    bm25 = BM25.build(documents)
    everything = bm25.top(query, len(documents))
    assert bm25.top(query, k, allowed) == [hit for hit in everything if allowed[hit[0]]][:k]


def corpus(count: int, seed: int = 0) -> list[list[str]]:
    draw = np.random.default_rng(seed)
    ranks = np.minimum(draw.zipf(1.3, (count, 12)), 3000)
    return [["everywhere"] * (row % 50 > 0) + [f"w{rank}" for rank in ranks[row]] for row in range(count)]


def test_many_documents_are_ranked_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheap choice of the best, and the sort in portions, change nothing."""
    monkeypatch.setattr(module, "_PORTION", 1000)
    documents = corpus(3000)
    bm25, okapi = BM25.build(iter(documents)), BM25Okapi(documents)
    steps = np.diff(bm25._rows.astype(np.int64))
    steps[bm25._starts[1:-1] - 1] = 1  # from one term to the next
    assert (steps > 0).all()  # in order, so that a query walks through memory
    for query in (["w1"], ["everywhere", "w2", "w2", "w77"], ["everywhere"], documents[7], ["w2999", "nothing"], []):
        expected = okapi.get_scores(query)
        np.testing.assert_array_equal(bm25.scores(query), expected)
        for k in (1, 10, 150, 5000):
            assert [row for row, _ in bm25.top(query, k)] == ranked(expected, documents, query)[:k]


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_nothing_to_index_finds_nothing(documents: list[list[str]], tmp_path: Path) -> None:
    BM25.build(documents).save(tmp_path / "x.npz")
    loaded = BM25.load(tmp_path / "x.npz")
    assert loaded.size == len(documents) and loaded.top(["a"], 5) == [] and not loaded.scores(["a"]).any()


@given(DOCUMENTS, QUERY)
@settings(max_examples=30)
def test_the_file_keeps_every_score(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[str]], query: list[str]
) -> None:
    path = tmp_path_factory.mktemp("bm25") / "x.npz"
    bm25 = BM25.build(documents)
    bm25.save(path)
    loaded = BM25.load(path)
    np.testing.assert_array_equal(loaded.scores(query), bm25.scores(query))
    assert loaded.top(query, 4) == bm25.top(query, 4)


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        BM25.build(corpus(50)).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_opening_and_asking_read_little(tmp_path: Path) -> None:
    """Arrays are mapped: neither the postings nor the vocabulary come into Python's memory."""
    path = tmp_path / "x.npz"
    BM25.build(corpus(20_000)).save(path)
    assert path.stat().st_size > 2_000_000
    tracemalloc.start()
    try:
        loaded = BM25.load(path)
        opened = tracemalloc.get_traced_memory()[1]
        assert opened < 200_000
        assert loaded.top(["w2999"], 3)
        assert tracemalloc.get_traced_memory()[1] < 600_000  # the scores of 20,000 documents are 160,000 bytes
    finally:
        tracemalloc.stop()


def test_building_takes_a_few_bytes_a_posting() -> None:
    documents = corpus(20_000)
    postings = sum(len(set(tokens)) for tokens in documents)
    tracemalloc.start()
    try:
        BM25.build(documents)
        assert tracemalloc.get_traced_memory()[1] < 100 * postings  # tuples and dictionaries took over 300
    finally:
        tracemalloc.stop()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    BM25.build([["a", "b"], ["b", "c", "c"], ["d"]]).save(tmp_path / "bm25.npz")
    return tmp_path / "bm25.npz"


def test_numpy_reads_the_file_and_arrays_are_aligned(saved: Path) -> None:
    arrays = map_arrays(saved, module._ARRAYS)
    with np.load(saved, allow_pickle=False) as data:
        assert set(data) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, data[name])
            assert array.flags.aligned and not array.flags.writeable


def test_a_cut_file_is_named(saved: Path) -> None:
    raw = saved.read_bytes()
    for length in range(0, len(raw), 7):
        saved.write_bytes(raw[:length])
        with pytest.raises(IndexDamagedError, match="bm25.npz"):
            BM25.load(saved)


def test_a_file_of_something_else_is_named(saved: Path) -> None:
    wanted: dict[str, Any] = {name: array.copy() for name, array in map_arrays(saved, module._ARRAYS).items()}

    def altered(**given: Any) -> None:
        save_arrays(saved, wanted | given)
        with pytest.raises(IndexDamagedError):
            BM25.load(saved)

    altered(rows=wanted["rows"][:-1])
    altered(rows=wanted["rows"].astype(np.int64))
    altered(starts=wanted["starts"] + 1)
    altered(ends=wanted["ends"][:-1])
    altered(ends=np.empty(0, np.int64), starts=np.empty(0, np.int64))
    altered(weights=wanted["weights"].reshape(1, -1))
    save_arrays(saved, {name: array for name, array in wanted.items() if name != "words"})
    with pytest.raises(IndexDamagedError, match="words"):
        BM25.load(saved)
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("lengths.npy", b"\0" * 1000)
    with pytest.raises(IndexDamagedError, match="compressed"):
        BM25.load(saved)
    with zipfile.ZipFile(saved, "w") as file, file.open("lengths.npy", "w") as out:
        np.lib.format.write_array(out, wanted["lengths"])  # not where a number may start
    with pytest.raises(IndexDamagedError, match="aligned"):
        BM25.load(saved)
    saved.unlink()
    with pytest.raises(IndexDamagedError, match="No such file"):
        BM25.load(saved)


def test_arrays_that_lie_are_found_out_when_they_are_used(saved: Path) -> None:
    wanted: dict[str, Any] = {name: array.copy() for name, array in map_arrays(saved, module._ARRAYS).items()}
    save_arrays(saved, wanted | {"rows": np.full_like(wanted["rows"], 2**32 - 1)})
    with pytest.raises(IndexDamagedError, match="a document that is not there"):
        BM25.load(saved).top(["b"], 3)
    starts = wanted["starts"].copy()
    starts[1] = 2**40
    save_arrays(saved, wanted | {"starts": starts})
    with pytest.raises(IndexDamagedError, match="'b' are out of bounds"):
        BM25.load(saved).top(["b"], 3)


def test_no_array_is_unpickled(saved: Path) -> None:
    with zipfile.ZipFile(saved, "w") as file, file.open("lengths.npy", "w") as out:
        np.lib.format.write_array(out, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(IndexDamagedError, match="of object"):
        BM25.load(saved)
    with zipfile.ZipFile(saved, "w") as file, file.open("lengths.npy", "w") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<u4", "fortran_order": False, "shape": (2**50,)})
    with pytest.raises(IndexDamagedError, match="longer than the file"):
        BM25.load(saved)
