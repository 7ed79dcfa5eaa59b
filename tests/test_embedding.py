"""Embedding in one process and in several."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ROOT, HashedWords

from artrag.errors import EmbedderMismatchError, ModelCallError, UsageError
from artrag.index.embedding import _embed, embed, embed_all
from artrag.settings import EMBEDDED_EMBEDDER

TEXTS = [f"text number {n} of the corpus" + " and more" * (n % 5) for n in range(23)]


def test_batches_come_in_order_and_are_unit_vectors() -> None:
    embedder = HashedWords()
    blocks = [part.vectors for part in embed_all(iter(TEXTS), embedder, batch=10)]
    assert [len(block) for block in blocks] == [10, 10, 3] and embedder.embedded == TEXTS
    vectors = np.concatenate(blocks)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[7], embed(embedder, [TEXTS[7]]).vectors[0])
    assert list(embed_all([], embedder)) == []


def test_texts_are_read_as_they_are_needed() -> None:
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for text in TEXTS:
            read += 1
            yield text

    blocks = embed_all(texts(), HashedWords(), batch=5)
    next(blocks)
    assert read == 5


class Said(HashedWords):
    """Says what it was told to."""

    def __init__(self, *said: Any) -> None:
        super().__init__()
        self.said = list(said)

    def embed_documents(self, texts: list[str]) -> Any:
        return self.said.pop(0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([[1.0, 2.0]], "shape"),
        ([[1.0, 2.0], [1.0]], "one length"),
        ([[1.0, float("nan")], [1.0, 2.0]], "numbers that are none"),
        ([[], []], "shape"),
        ([None, None], "shape|one length"),
    ],
)
def test_what_is_no_vector_is_refused(said: Any, words: str) -> None:
    with pytest.raises(ModelCallError, match=f"hashed-words:64.*({words})"):
        embed(Said(said), ["a", "b"])


def test_vectors_of_two_lengths_are_refused() -> None:
    with pytest.raises(ModelCallError, match="3 numbers where the others have 2"):
        list(embed_all(["a", "b"], Said([[1.0, 2.0]], [[1.0, 2.0, 3.0]]), batch=1))
    with pytest.raises(ModelCallError, match="2 numbers where the others have 5"):
        list(embed_all(["a"], Said([[1.0, 2.0]]), dimension=5))


def test_a_zero_vector_stays_zero() -> None:
    np.testing.assert_array_equal(embed(Said([[0.0, 0.0], [0.0, 4.0]]), ["a", "b"]).vectors, [[0, 0], [0, 1]])


def test_several_workers_need_a_reference() -> None:
    with pytest.raises(UsageError, match="hashed-words:64.*workers=1"):
        list(embed_all(TEXTS, HashedWords(), workers=2))
    with pytest.raises(UsageError, match="workers=0"):
        list(embed_all(TEXTS, HashedWords(), reference="x", workers=0))


def test_ingest_hands_the_number_of_workers_on(build: Callable[..., dict[str, Any]], corpus: Path) -> None:
    with pytest.raises(UsageError, match="2 processes.*hashed-words:64"):
        build(corpus, workers=2)
    assert build(corpus, workers=1)["embedded"] == 5


@pytest.mark.local
def test_the_embedded_model_gives_the_same_vectors_in_workers() -> None:
    from artrag.models import load_embedder

    embedder = load_embedder(EMBEDDED_EMBEDDER)
    texts = [*TEXTS, "a long text " * 600]
    alone = list(embed_all(texts, embedder, batch=8))
    together = list(embed_all(texts, embedder, reference=EMBEDDED_EMBEDDER, workers=2, batch=8))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.vectors, one.vectors, atol=1e-5)
    assert [part.cut for part in together] == [part.cut for part in alone] == [0, 0, 1]


def test_a_worker_that_opens_another_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artrag.models.load_embedder", lambda reference: HashedWords(), raising=False)
    with pytest.raises(EmbedderMismatchError, match="'any' opens 'hashed-words:64'.*'another:1'.*workers=1"):
        _embed(["a"], "any", "another:1", False)


# A worker runs the lines of the script that started it, so these workers open the fake, too.
SCRIPT = """
import multiprocessing, os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import artrag.models
from artrag.errors import ModelCallError
from artrag.index.embedding import embed_all
from fakes import HashedWords

class Cutting(HashedWords):
    cut = 0

    def embed_documents(self, texts):
        self.cut += sum(len(text) > 40 for text in texts)
        if "deadly" in texts:
            os._exit(9)
        return super().embed_documents(texts)

artrag.models.load_embedder = lambda reference: Cutting()

def in_workers(texts, embedder):
    return embed_all(texts, embedder, reference="any", workers=2, batch=4)

if __name__ == "__main__":
"""


def started(body: str, tmp_path: Path) -> "subprocess.Popen[str]":
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + body)
    return subprocess.Popen([sys.executable, str(script), str(ROOT / "tests")], stdout=subprocess.PIPE, text=True)


WHOLE = """
    texts = [f"text number {n}" + " and much more of it" * (n % 3) for n in range(50)]
    alone, together = Cutting(), Cutting()
    expected = list(embed_all(texts, alone, batch=4))
    made = list(in_workers(texts, together))
    print([len(part.vectors) for part in made] == [4] * 12 + [2])
    print(all((one.vectors == other.vectors).all() for one, other in zip(made, expected, strict=True)))
    cut = [part.cut for part in made]
    print(cut == [part.cut for part in expected], sum(cut) == alone.cut > 9)
    print(together.embedded == [])
    read = []
    blocks = in_workers((read.append(n) or f"text {n}" for n in range(10**9)), together)
    next(blocks)
    print(len(read) <= 4 * 2 * 2)
    blocks.close()
    print(not multiprocessing.active_children())
    try:
        list(in_workers(["fine", "deadly"], together))
    except ModelCallError as error:
        print("died" in str(error))
"""


def test_workers_give_the_same_vectors_in_order_and_end(tmp_path: Path) -> None:
    with started(WHOLE, tmp_path) as run:
        assert run.stdout and run.stdout.read().split() == ["True"] * 8
    assert run.returncode == 0


ENDLESS = """
    blocks = in_workers((f"text {n}" for n in range(10**9)), HashedWords())
    next(blocks)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    for _ in blocks:
        pass
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_workers_of_a_killed_run_end_with_it(tmp_path: Path) -> None:
    with started(ENDLESS, tmp_path) as run:
        assert run.stdout
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert workers and all(map(_runs, workers))
        run.send_signal(signal.SIGKILL)
    waited_until = time.monotonic() + 20
    while any(map(_runs, workers)):
        assert time.monotonic() < waited_until, "workers outlive their run"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
