"""contextualize: say of each chunk what its document says of it.

Deterministic context always; a sentence by the chat model on top, by option (Anthropic, "Contextual Retrieval", 2024).
"""

from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.errors import PromptTooLongError
from artrag.index.build import Cache, digest, touch, working
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.context import fault, lead_of, situate
from artrag.nodes.calling import say
from artrag.nodes.node import Run, node
from artrag.state import IngestState
from artrag.steps import Call, Steps

HEAD, AROUND = 1500, 3000
"""Characters of a document that is longer than the model's window: its head, and what stands around the chunk."""


def contextualize(chat: Runnable[Any, Any] | None = None, *, model: str | None = "") -> Runnable[Any, Any]:
    """A node that gives every chunk its context, of the kind `Settings.context`.

    A context written by the model is kept as soon as it exists, so that nothing is paid for twice; one that is empty,
    refuses, echoes or runs on is rejected for the deterministic one, and counted.

    Args:
        chat: writes the contexts of the kinds "document" and "llm".
        model: its name, part of each context's fingerprint; None: `Settings.chat`.

    Reads `index`, `build`; writes `contexts`.
    """

    def body(state: IngestState, run: Run) -> Steps[dict[str, Any]]:
        index, build = Path(state["index"]), state["build"]
        counts = {"made": 0, "reused": 0, "rejected": 0}
        kind = run.settings.context
        name_of_model = run.settings.chat if model is None else model
        names = yield Call(_names, None, (index, build))
        for number, name in enumerate(names, start=1):
            run.progress("situating", number, len(names))
            document, chunks = yield Call(_read, None, (index, build, name))
            contexts = _deterministic(document, chunks, kind)
            if kind == "document" and chat is not None:
                text = document.text[: HEAD + AROUND]
                said = yield from _written(
                    chat, "contextualize_document", {"document": text}, "", name_of_model, index, run, counts
                )
                if said:
                    contexts = {key: f"{context}\n{said}" for key, context in contexts.items()}
            if kind == "llm" and chat is not None:
                for piece in chunks:
                    said = yield from _situated(chat, document, piece, name_of_model, index, run, counts)
                    if said:
                        contexts[piece.id] += f"\n{said}"
                    yield Call(touch, None, (index, build))
            yield Call(_write, None, (index, build, contexts))
        return {"contexts": counts}

    return node("contextualize", body)


def _names(index: Path, build: str) -> list[str]:
    with working(index, build) as catalog:
        return sorted(catalog.fingerprints())


def _read(index: Path, build: str, name: str) -> tuple[StoredDocument, list[StoredChunk]]:
    with working(index, build) as catalog:
        return catalog.document(name), catalog.chunks_of(name)


def _write(index: Path, build: str, contexts: dict[str, str]) -> None:
    with working(index, build) as catalog:
        catalog.set_contexts(contexts)


def _deterministic(document: StoredDocument, chunks: list[StoredChunk], kind: str) -> dict[str, str]:
    if kind == "none":
        return {piece.id: "" for piece in chunks}
    lead = lead_of(document.text)
    return {
        piece.id: situate(
            document.title,
            tuple(piece.metadata.get("section", ())),
            document.path,
            "" if lead and lead in piece.text else lead,
        )
        for piece in chunks
    }


def _situated(
    chat: Runnable[Any, Any],
    document: StoredDocument,
    piece: StoredChunk,
    model: str,
    index: Path,
    run: Run,
    counts: dict[str, int],
) -> Steps[str]:
    values = {"document": document.text, "chunk": piece.text}
    try:
        return (yield from _written(chat, "contextualize", values, piece.text, model, index, run, counts))
    except PromptTooLongError:
        start = max(0, piece.start - AROUND // 2)
        window = document.text[start : piece.end + AROUND // 2]
        values["document"] = window if start < HEAD else f"{document.text[:HEAD]}\n...\n{window}"
        return (yield from _written(chat, "contextualize", values, piece.text, model, index, run, counts))


def _written(
    chat: Runnable[Any, Any],
    name: str,
    values: dict[str, str],
    chunk: str,
    model: str,
    index: Path,
    run: Run,
    counts: dict[str, int],
) -> Steps[str]:
    """A context from the cache or the model; empty where it is unusable."""
    prompt = yield Call(prompts.load, None, (name,))
    messages = prompt.format_messages(**values)
    key = digest(model, *(message.text for message in messages))
    said = yield Call(_cached, None, (index, key))
    if said is None:
        said = yield from say(chat, messages, run)
        yield Call(_kept, None, (index, key, said))
        counts["made"] += 1
    else:
        counts["reused"] += 1
    said = " ".join(said.split())
    if fault(said, chunk):
        counts["rejected"] += 1
        return ""
    return said


def _cached(index: Path, key: str) -> str | None:
    with Cache(index) as cache:
        return cache.context(key)


def _kept(index: Path, key: str, text: str) -> None:
    with Cache(index) as cache:
        cache.keep_context(key, text)
