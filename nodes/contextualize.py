"""contextualize: say of each chunk what its document says of it.

Deterministic context always; a sentence by the chat model on top, by option (Anthropic, "Contextual Retrieval", 2024).
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.index.build import Cache, digest, give_up, working
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.context import LONGEST_LEAD, fault, lead_beside, lead_of, situate
from artrag.index.lock import touch
from artrag.index.windows import Piece
from artrag.nodes.node import Run, node
from artrag.nodes.situating import Asking, Questions, opened
from artrag.state import IngestState
from artrag.steps import Call, Steps

CONTEXT_VERSION = f"context 3: {LONGEST_LEAD}"
"""Count it up when the deterministic context changes: then the documents of old indexes are situated again."""
WAVE = 128
"""Questions that are asked together, so that a budget is checked and answers are decoded or fetched side by side."""


def contextualize(chat: Runnable[Any, Any] | None = None, *, model: str | None = "") -> Runnable[Any, Any]:
    """A node that gives every chunk its context, of the kind `Settings.context`.

    A context written by the model is kept as soon as it exists, so that nothing is paid for twice; one that is empty,
    refuses, echoes or runs on is rejected for the deterministic one, and counted by its reason. Beyond
    `Settings.context_budget` the deterministic one stays, is counted, and the next ingest goes on from there.

    A model with `answer_many` and `fits`, as `LocalChat` has them, reads a document once for all its chunks. Another is
    asked for the first chunk of a document alone, then for the others side by side (`Settings.context_calls`), so that
    its server can keep what they begin with; models of Anthropic are told to.

    Args:
        chat: writes the contexts of the kinds "document" and "llm".
        model: its name, part of each context's fingerprint; None: `Settings.chat`.

    Reads `index`, `build`; writes `contexts`.
    """

    def body(state: IngestState, run: Run) -> Steps[dict[str, Any]]:
        index, build = Path(state["index"]), state["build"]
        kind = run.settings.context
        name_of_model = run.settings.chat if model is None else model
        counts = {"made": 0, "reused": 0, "rejected": 0}
        if chat is None or kind in ("none", "auto"):
            like = digest(CONTEXT_VERSION, kind)
            names = yield Call(_names, None, (index, build, like))
            yield Call(_situate, None, (index, build, names, kind, like, run))
            return {"contexts": counts}
        questions = yield Call(Questions, None, (kind, name_of_model, run.settings.context_window))
        like = digest(CONTEXT_VERSION, questions.like)
        names = yield Call(_names, None, (index, build, like))
        if names:
            asking = Asking((yield Call(opened, None, (chat,))), questions, run, counts)
            cache = yield Call(Cache, None, (index,))
            try:
                yield from _Writing(asking, like, index, build, cache, run, counts).write(names)
            finally:
                cache.__exit__()
        return {"contexts": counts}

    def guarded(state: IngestState, run: Run) -> Steps[dict[str, Any]]:
        try:
            return (yield from body(state, run))
        except BaseException:  # the model fails or the run is cancelled: the next writer need not wait
            give_up(Path(state["index"]), state["build"])
            raise

    return node("contextualize", guarded)


def deterministic(document: StoredDocument, chunks: Sequence[StoredChunk], kind: str) -> dict[str, str]:
    """The context of each chunk, by id, that needs no model; of the kind "none" an empty one."""
    if kind == "none":
        return {piece.id: "" for piece in chunks}
    lead = lead_of(document.text, path=document.path)
    return {
        piece.id: situate(
            document.title,
            tuple(piece.metadata.get("section", ())),
            document.path,
            lead_beside(lead, piece.text, document.path),
        )
        for piece in chunks
    }


def _names(index: Path, build: str, like: str) -> list[str]:
    with working(index, build) as catalog:
        return catalog.unsituated(like)


def _situate(index: Path, build: str, names: list[str], kind: str, like: str, run: Run) -> None:
    with working(index, build) as catalog:
        for number, name in enumerate(names, start=1):
            touch(index, build)
            run.progress("situating", number, len(names))
            catalog.situate(name, deterministic(catalog.document(name), catalog.chunks_of(name), kind), like)


def _read(index: Path, build: str, name: str) -> tuple[StoredDocument, list[StoredChunk]]:
    with working(index, build) as catalog:
        return catalog.document(name), catalog.chunks_of(name)


def _write(index: Path, build: str, done: list[tuple[str, dict[str, str], str]]) -> None:
    with working(index, build) as catalog:
        for name, contexts, like in done:
            catalog.situate(name, contexts, like)


class _Writing:
    """Contexts by a model for one ingest: documents are read, asked about in waves, and written when answered."""

    def __init__(
        self, asking: Asking, like: str, index: Path, build: str, cache: Cache, run: Run, counts: dict[str, int]
    ) -> None:
        self._asking, self._like, self._index, self._build = asking, like, index, build
        self._cache, self._run, self._counts = cache, run, counts
        self._contexts: dict[str, dict[str, str]] = {}  # of the documents under way, by chunk
        self._lacking: set[str] = set()  # documents of which a question stayed without an answer
        self._at = (0, 0)
        self._lock = threading.Lock()  # answers come from several threads

    def write(self, names: list[str]) -> Steps[None]:
        """Situate these documents."""
        wave: list[list[Piece]] = []
        asked: list[str] = []  # documents whose questions are all in this wave or in those before
        for number, name in enumerate(names, start=1):
            self._at = (number, len(names))
            self._run.progress("situating", *self._at)
            document, chunks = yield Call(_read, None, (self._index, self._build, name))
            self._contexts[name] = deterministic(document, chunks, "auto")
            for group in self._asking.questions(document, chunks):
                wave.append(group)
                if sum(map(len, wave)) >= WAVE:
                    yield from self._flush(wave, asked)
            asked.append(name)
        yield from self._flush(wave, asked)
        if self._run.meter.cached_tokens:
            self._counts["prompt tokens read from a cache"] = self._run.meter.cached_tokens

    def _flush(self, wave: list[list[Piece]], asked: list[str]) -> Steps[None]:
        """Ask the questions of a wave, and write the documents that are answered by then."""
        known = yield Call(self._known, None, ([piece.key for group in wave for piece in group],))
        answers = yield from self._asking.answer(wave, known, self._keep)
        for piece in (piece for group in wave for piece in group):
            self._take(piece, answers)
        done = [(name, self._contexts.pop(name), "" if name in self._lacking else self._like) for name in asked]
        yield Call(_write, None, (self._index, self._build, done))
        wave.clear()
        asked.clear()

    def _take(self, piece: Piece, answers: dict[str, str | None]) -> None:
        if piece.key not in answers:
            self._lacking.add(piece.document)
            return
        said = answers[piece.key]
        said = None if said is None else " ".join(said.split())
        reason = "too long to read" if said is None else fault(said, piece.chunk)
        if reason:
            self._counts["rejected"] += 1
            self._counts[reason] = self._counts.get(reason, 0) + 1
            return
        contexts = self._contexts[piece.document]
        for chunk in piece.chunks:
            contexts[chunk] += f"\n{said}"

    def _known(self, keys: list[str]) -> dict[str, str | None]:
        return {key: said for key in keys if (said := self._cache.context(key)) is not None}

    def _keep(self, piece: Piece, said: str) -> None:
        """Keep an answer at once, whatever happens next."""
        with self._lock:
            self._cache.keep_context(piece.key, said)
            self._counts["made"] += 1
        touch(self._index, self._build)
        self._run.progress(f"situating, {self._counts['made']} contexts written", *self._at)
