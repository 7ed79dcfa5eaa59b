"""Late interaction: its score against the definition, and its file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artrag.errors import IndexDamagedError
from artrag.index.arrays import save_arrays
from artrag.index.late import SCALE, Late, as_int8

DIMENSION = 8


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some(seed: int, lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [unit(rng.normal(size=(n, DIMENSION))) if n else np.empty((0, DIMENSION), np.float32) for n in lengths]


@given(st.integers(0, 99), st.lists(st.integers(0, 6), min_size=1, max_size=7))
@settings(max_examples=60)
def test_the_score_is_maxsim(tmp_path_factory: pytest.TempPathFactory, seed: int, lengths: list[int]) -> None:
    chunks, (asked,) = some(seed, lengths), some(seed + 1000, [3])
    path = tmp_path_factory.mktemp("late") / "late.npz"
    Late.write(path, (as_int8(tokens) for tokens in chunks), DIMENSION)
    late = Late.load(path)
    assert late.size == len(chunks) and [len(late.of(row)) for row in range(late.size)] == lengths
    rows = list(range(late.size))
    found = late.score(asked, [*rows[::-1], *rows])
    assert sorted(row for row, _ in found) == rows
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    for row, score in found:
        exact = np.mean([max(float(q @ t) for t in chunks[row]) for q in asked]) if lengths[row] else 0.0
        assert type(score) is float and score == pytest.approx(exact, abs=2.5 / SCALE)
    assert not path.with_suffix(".part").exists()


def test_ties_go_by_row_and_only_the_rows_asked_for_are_scored() -> None:
    (tokens,) = some(0, [2])
    same = Late(as_int8(np.concatenate([tokens] * 3)), np.array([0, 2, 4, 6]))
    assert [row for row, _ in same.score(tokens, [2, 0])] == [0, 2]


@pytest.mark.parametrize(
    ("vectors", "starts"),
    [
        (np.zeros((4, 2), np.int8), [0, 3]),
        (np.zeros((4, 2), np.int8), [1, 4]),
        (np.zeros((4, 2), np.int8), [0, 3, 2, 4]),
        (np.zeros((4, 2), np.int8), []),
        (np.zeros(4, np.int8), [0, 4]),
    ],
)
def test_a_file_that_does_not_agree_with_itself_is_refused(
    tmp_path: Path, vectors: np.ndarray, starts: list[int]
) -> None:
    save_arrays(tmp_path / "late.npz", {"vectors": vectors, "starts": np.asarray(starts, dtype=np.int64)})
    with pytest.raises(IndexDamagedError, match="ingest again"):
        Late.load(tmp_path / "late.npz")
