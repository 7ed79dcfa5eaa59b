"""Late interaction: its score against the definition, its file, and its place in an index."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import HashedWords, TokenWords
from hypothesis import given, settings
from hypothesis import strategies as st

from artrag import build_ingest
from artrag.errors import IndexDamagedError, UsageError
from artrag.index import Index, finish
from artrag.index.arrays import save_arrays
from artrag.index.late import SCALE, Late, LateWriter, as_int8
from artrag.index.manifest import read_manifest
from artrag.index.store import ARMS
from artrag.index.verify import repair, verify

DIMENSION = 8


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some(seed: int, lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [unit(rng.normal(size=(n, DIMENSION))) if n else np.empty((0, DIMENSION), np.float32) for n in lengths]


def written(path: Path, chunks: list[np.ndarray], places: list[int]) -> Late:
    with LateWriter(path.with_suffix(".part")) as writer:
        assert [writer.add(as_int8(tokens)) for tokens in chunks] == list(range(len(chunks)))
        writer.save(path, places)
    assert not path.with_suffix(".part").exists()
    return Late.load(path)


@given(st.integers(0, 99), st.lists(st.integers(0, 6), min_size=1, max_size=7))
@settings(max_examples=60)
def test_the_score_is_maxsim_of_the_tokens_that_tell_apart(
    tmp_path_factory: pytest.TempPathFactory, seed: int, lengths: list[int]
) -> None:
    chunks, (asked,) = some(seed, lengths), some(seed + 1000, [3])
    late = written(tmp_path_factory.mktemp("late") / "late.npz", chunks, list(range(len(chunks))))
    assert late.size == len(chunks) and [len(late.of(row)) for row in range(late.size)] == lengths
    rows = list(range(late.size))
    found = late.score(asked, [*rows[::-1], *rows])
    assert sorted(row for row, _ in found) == rows
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    near = [[max(float(q @ t) for t in chunks[row]) if lengths[row] else 0.0 for q in asked] for row in rows]
    weights = [max(column) - sum(column) / len(column) for column in zip(*near, strict=True)]
    if len(rows) == 1:
        weights = [1.0] * len(asked)
    elif sum(weights) < 0.2:  # next to nothing tells them apart: rounding to int8 would decide
        return
    for row, score in found:
        exact = sum(weight * each for weight, each in zip(weights, near[row], strict=True)) / sum(weights)
        assert type(score) is float and score == pytest.approx(exact, abs=6 / SCALE)


def test_a_token_that_all_chunks_hold_decides_nothing() -> None:
    rare, common, other = np.eye(DIMENSION, dtype=np.float32)[:3]
    half = unit((common + other)[None])[0]  # the second chunk speaks of the common thing only in passing
    chunks = [np.stack([rare, half]), np.stack([common, other]), np.stack([common, half])]
    late = Late(as_int8(np.concatenate(chunks)), np.array([0, 2, 4]), np.array([2, 2, 2]))
    asked = np.stack([rare, common])
    (best, score), *_ = late.score(asked, range(3))
    rare_weight, common_weight = 1 - 1 / 3, 1 - (1 + 1 + 2**-0.5) / 3
    exact = (rare_weight + common_weight * 2**-0.5) / (rare_weight + common_weight)
    assert best == 0 and score == pytest.approx(exact, abs=2 / SCALE)
    assert late.score(asked[1:], [1, 2]) == [(1, pytest.approx(1.0)), (2, pytest.approx(1.0))]  # nothing tells apart
    assert late.score(asked[:0], [1, 0]) == [(0, 0.0), (1, 0.0)] and late.score(asked, []) == []


def test_equal_texts_share_their_vectors_and_rows_keep_their_order(tmp_path: Path) -> None:
    chunks = some(1, [2, 3])
    late = written(tmp_path / "late.npz", chunks, [1, 0, 1])
    assert (late.size, late.dimension) == (3, DIMENSION)
    assert (late.of(0) == late.of(2)).all() and (late.of(1) == as_int8(chunks[0])).all() and len(late.of(0)) == 3


def test_ties_go_by_row_and_only_the_rows_asked_for_are_scored() -> None:
    (tokens,) = some(0, [2])
    same = Late(as_int8(tokens), np.array([0, 0, 0]), np.array([2, 2, 2]))
    assert [row for row, _ in same.score(tokens, [2, 0])] == [0, 2]


@pytest.mark.parametrize(
    ("vectors", "begins", "lengths"),
    [
        (np.zeros((4, 2), np.int8), [0, 3], [3, 2]),
        (np.zeros((4, 2), np.int8), [-1], [2]),
        (np.zeros((4, 2), np.int8), [2], [-1]),
        (np.zeros((4, 2), np.int8), [0, 1], [1]),
        (np.zeros(4, np.int8), [0], [4]),
    ],
)
def test_a_file_that_does_not_agree_with_itself_is_refused(
    tmp_path: Path, vectors: np.ndarray, begins: list[int], lengths: list[int]
) -> None:
    numbers = {"begins": np.asarray(begins, dtype=np.int64), "lengths": np.asarray(lengths, dtype=np.int64)}
    save_arrays(tmp_path / "late.npz", {"vectors": vectors, **numbers})
    with pytest.raises(IndexDamagedError, match="ingest again"):
        Late.load(tmp_path / "late.npz")


QUESTION = "What does alarm PMP-417 mean?"


def ingested(corpus: Path, index: Path, embedder: HashedWords, **context: Any) -> dict[str, Any]:
    inputs = {"paths": [str(corpus)], "index": str(index)}
    return build_ingest(embedder=embedder).compile().invoke(inputs, context=context)["report"]  # type: ignore[no-any-return,arg-type]


def test_an_index_has_the_arm_where_its_embedder_tells_tokens(corpus: Path, tmp_path: Path) -> None:
    embedder = TokenWords()
    ingested(corpus, tmp_path / "i", embedder)
    with closing(Index.open(tmp_path / "i", embedder=embedder)) as index:
        assert index.arms == ARMS and index.manifest.late is True
        found = index.rankings(QUESTION)
        assert list(found) == list(ARMS) and {row for row, _ in found["late"]} <= {row for row, _ in found["dense"]}
        best = index.search(QUESTION, 1)[0]
        assert best.document == "manual.md" and best.arms["late"]["rank"] == 1
        assert list(index.rankings(QUESTION, arms=["late"])) == ["late"]
        tokens = embedder.encode_tokens([QUESTION])[1][0]
        chunk = next(chunk for chunk in index.chunks() if chunk.id == best.id)
        own = embedder.encode_tokens([chunk.indexed])[1][0]
        (alone,) = index.search(QUESTION, 9, arms=["late"], where={"document": "manual.md"})
        assert alone.id == best.id
        assert alone.arms["late"]["score"] == pytest.approx((tokens @ own.T).max(axis=1).mean(), abs=0.02)
    plain = HashedWords()
    ingested(corpus, tmp_path / "plain", plain)
    with closing(Index.open(tmp_path / "plain", embedder=plain)) as index:
        assert index.arms == ARMS[:-1] and index.manifest.late is None
        with pytest.raises(UsageError, match="late"):
            index.search(QUESTION, arms=["late"])


def test_token_vectors_are_taken_over_and_made_once(corpus: Path, tmp_path: Path) -> None:
    path, first = tmp_path / "i", TokenWords()
    ingested(corpus, path, first)
    (corpus / "new.md").write_text("# New pump\n\nAlarm PMP-500 means air in line.\n", "utf-8")
    again = TokenWords()
    assert ingested(corpus, path, again)["embedded"] == 1 and len(again.embedded) == 1
    fresh = TokenWords()
    ingested(corpus, tmp_path / "fresh", fresh)
    with (
        closing(Index.open(path, embedder=again)) as grown,
        closing(Index.open(tmp_path / "fresh", embedder=fresh)) as new,
    ):
        for question in (QUESTION, "Which alarm means air in line?"):
            one, other = ({p.id: p.arms["late"]["score"] for p in i.search(question, 9)} for i in (grown, new))
            assert one == pytest.approx(other)


def test_turned_off_or_too_large_and_turned_on_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i"
    ingested(corpus, path, TokenWords(), late=False)
    assert read_manifest(path).late is False and "late.npz" not in read_manifest(path).files
    kept = read_manifest(path).generation
    ingested(corpus, path, TokenWords(), late=False)
    assert read_manifest(path).generation == kept
    ingested(corpus, path, TokenWords())
    assert read_manifest(path).late is True and "late.npz" in read_manifest(path).files
    monkeypatch.setattr(finish, "LATE_CHUNKS", 2)
    without = TokenWords()
    ingested(corpus, path, without)
    assert read_manifest(path).late is False and without.embedded == []


def test_a_damaged_arm_is_named_and_built_again(corpus: Path, tmp_path: Path) -> None:
    path, embedder = tmp_path / "i", TokenWords()
    ingested(corpus, path, embedder)
    assert "late" in verify(path).checked and not verify(path).problems
    file = path / read_manifest(path).generation / "late.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(IndexDamagedError, match="late.npz"):
        Index.open(path, embedder=embedder)
    assert [problem.file.rsplit("/", 1)[1] for problem in verify(path).problems] == ["late.npz"]
    repair(path, embedder)
    assert not verify(path).problems and read_manifest(path).late is True
    assert (path / read_manifest(path).generation / "late.npz").read_bytes() == whole
