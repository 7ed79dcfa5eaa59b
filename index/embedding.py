"""Texts to unit vectors, in this process or side by side in several.

A model that computes on processors is no faster in threads: with `workers` above 1, each is a process of its own that
opens the embedder by its reference.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, cast

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from artrag.errors import EmbedderMismatchError, ModelCallError, UsageError
from artrag.index.late import as_int8
from artrag.index.store import embedding, fingerprint, unit
from artrag.protocols import TokenEmbedder

BATCH = 64
_AHEAD = 2  # batches a worker has in hand or waiting: the texts of a corpus are read no faster than they are embedded


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch.

    Attributes:
        vectors: unit vectors, shape (texts, dimension), float32.
        cut: how many of the texts were longer than the model's window and were cut, where the embedder counts them.
        tokens: for each text the unit vectors of its content tokens, shape (tokens, dimension), int8; None where they
            were not asked for.
    """

    vectors: NDArray[np.float32]
    cut: int = 0
    tokens: list[NDArray[np.int8]] | None = None


def embed_all(
    texts: Iterable[str],
    embedder: Embeddings,
    *,
    reference: str = "",
    workers: int = 1,
    batch: int = BATCH,
    dimension: int = 0,
    late: bool = False,
) -> Generator[Embedded]:
    """Unit vectors of the texts, in their order, a batch at a time.

    The vectors do not depend on `workers`, save for the last bits of floating-point sums.

    Args:
        texts: read as they are needed, by the caller's thread.
        embedder: makes the vectors; with several workers only asked for its fingerprint.
        reference: the model reference that opens it again. Needed with several workers.
        workers: processes; 1 embeds in this one.
        batch: texts a call.
        dimension: the length that the vectors must have; 0: that of the first.
        late: give token vectors, too, by the embedder's `encode_tokens` (`artrag.protocols.TokenEmbedder`).

    Yields:
        Batches; the last may be shorter.

    Raises:
        UsageError: `workers` is below 1, or above it and there is no reference.
        EmbedderMismatchError: a worker opened another model than `embedder`.
        ModelCallError: the embedder fails, gives something else than one vector a text, or a worker died.
    """
    if workers < 1:
        raise UsageError(f"cannot embed with workers={workers!r}: give 1, or the number of processor cores")
    if workers > 1 and not reference:
        raise UsageError(
            f"cannot embed in {workers} processes with the object {fingerprint(embedder)!r}, which has no model "
            "reference to open it by there: give the reference, or workers=1"
        )
    waiting = iter(texts)
    batches = iter(lambda: list(islice(waiting, batch)), [])
    made = (embed(embedder, texts, late) for texts in batches)
    for part in made if workers == 1 else _side_by_side(batches, embedder, reference, workers, late):
        width = part.vectors.shape[1]
        dimension = dimension or width
        if width != dimension:
            raise ModelCallError(
                f"the embedder {fingerprint(embedder)!r} gave vectors of {width} numbers where the others have "
                f"{dimension}: check its model and settings"
            )
        yield part


def embed(embedder: Embeddings, texts: list[str], late: bool = False) -> Embedded:
    """Unit vectors of a few texts, and where asked for those of their tokens.

    Raises:
        ModelCallError: the embedder fails, or gives something else than one vector of numbers a text.
    """
    before = getattr(embedder, "cut", 0)
    tokens: list[NDArray[np.int8]] | None = None
    rows: Any
    with embedding(embedder):
        if late:
            rows, own = cast(TokenEmbedder, embedder).encode_tokens(texts)
            tokens = [as_int8(vectors) for vectors in own]
        else:
            rows = embedder.embed_documents(texts)
    try:
        vectors = np.asarray(rows, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ModelCallError(
            f"the embedder {fingerprint(embedder)!r} gave no vectors of one length ({error}): check its model"
        ) from None
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
        raise ModelCallError(
            f"the embedder {fingerprint(embedder)!r} gave vectors of shape {vectors.shape!r} for {len(texts)} texts: "
            "check its model and settings"
        )
    if not np.isfinite(vectors).all():
        raise ModelCallError(f"the embedder {fingerprint(embedder)!r} gave numbers that are none: check its model")
    return Embedded(unit(vectors), getattr(embedder, "cut", 0) - before, tokens)


def _side_by_side(
    batches: Iterator[list[str]], embedder: Embeddings, reference: str, workers: int, late: bool
) -> Generator[Embedded]:
    threads = max(1, (os.cpu_count() or 1) // workers)
    expected = fingerprint(embedder)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(threads,))
    running: deque[Future[Embedded]] = deque()
    try:
        while True:
            for texts in islice(batches, _AHEAD * workers - len(running)):
                running.append(pool.submit(_embed, texts, reference, expected, late))
            if not running:
                return
            yield running.popleft().result()
    except BrokenProcessPool as error:
        raise ModelCallError(
            f"a process that embeds with {reference!r} died: with too little memory give fewer than {workers} workers; "
            "a script of your own must start under `if __name__ == '__main__':`"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    """Make this process a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when the model's library is imported


def _end_with_parent() -> None:
    """A parent that was killed closes nothing: without this its workers would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _embed(texts: list[str], reference: str, expected: str, late: bool) -> Embedded:
    """What a worker does."""
    return embed(_opened(reference, expected), texts, late)


@lru_cache(maxsize=1)
def _opened(reference: str, expected: str) -> Embeddings:
    from artrag.models import load_embedder

    embedder = load_embedder(reference)
    if fingerprint(embedder) != expected:
        raise EmbedderMismatchError(
            f"{reference!r} opens {fingerprint(embedder)!r}, but the index is built with {expected!r}: "
            "give the reference of that embedder, or workers=1"
        )
    return embedder
