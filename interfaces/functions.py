"""artrag without LangGraph: plain functions, blocking and asynchronous, that take settings by name.

    artrag.ingest(["docs/"], index=".artrag/index")
    answer = artrag.ask("What does alarm PMP-417 mean?", index=".artrag/index", chat="ollama:qwen3")
    answer.answer, answer.confidence, answer.sources

What is not given comes from `ARTRAG_*` in the environment, else from the defaults of `artrag.Settings`.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from artrag.answer import Answer
from artrag.errors import UsageError
from artrag.index.passage import Passage
from artrag.interfaces.wiring import open_index, wired_art, wired_ingest
from artrag.settings import Settings

Place = str | PathLike[str]


def ask(question: str, *, index: Place | None = None, **settings: Any) -> Answer:
    """Answer a question from an index, or by reasoning where there is none, as the graph `art` does.

    Args:
        question: a whole one.
        index: the index to retrieve from; none: `ARTRAG_INDEX`, else no passages.
        settings: of `artrag.Settings`, such as `chat="openai:gpt-4.1-mini"`, `k=6`, `local_only=True`.

    Raises:
        UsageError: the question, a setting or a model's name is wrong.
        IndexStoreError: the index cannot be used.
        ModelError: a model cannot be had, or gives no usable reply.
    """
    return Answer.of(_art().invoke({"question": question}, context=_settings(index, settings)))


async def aask(question: str, *, index: Place | None = None, **settings: Any) -> Answer:
    """As `ask`."""
    return Answer.of(await _art().ainvoke({"question": question}, context=_settings(index, settings)))


def search(question: str, *, index: Place | None = None, **settings: Any) -> list[Passage]:
    """The best `k` passages for a question, best first, each with every arm's view of it.

    Args:
        question: what to look for.
        index: the index; none: `ARTRAG_INDEX`.
        settings: `k`, `where`, `local_only`.

    Raises:
        UsageError: the question is blank, no index is named, or a setting is wrong.
        IndexStoreError: the index cannot be used.
    """
    chosen = _settings(index, settings)
    if not question.strip():
        raise UsageError(f"the question is blank ({question!r}): say what to look for")
    if not chosen.index:
        raise UsageError("there is no index to search: give index=..., or set ARTRAG_INDEX")
    return open_index(chosen.index, chosen.local_only).search(question, chosen.k, where=chosen.where)


async def asearch(question: str, *, index: Place | None = None, **settings: Any) -> list[Passage]:
    """As `search`, in a thread."""
    return await asyncio.to_thread(search, question, index=index, **settings)


def ingest(paths: Place | Sequence[Place], *, index: Place | None = None, **settings: Any) -> dict[str, Any]:
    """Index files and folders; run again, only what changed is done again. Gives the report.

    Args:
        paths: files and folders.
        index: directory of the index, new or existing; none: `ARTRAG_INDEX`.
        settings: such as `embedder`, `context`, `workers`.

    Raises:
        UsageError: paths, index or a setting are wrong.
        IndexStoreError: the index cannot be written, or nothing can be indexed.
    """
    inputs = _inputs(paths)
    report: dict[str, Any] = _ingest().invoke(inputs, context=_settings(index, settings))["report"]
    return report


async def aingest(paths: Place | Sequence[Place], *, index: Place | None = None, **settings: Any) -> dict[str, Any]:
    """As `ingest`."""
    made = await _ingest().ainvoke(_inputs(paths), context=_settings(index, settings))
    report: dict[str, Any] = made["report"]
    return report


def _inputs(paths: Place | Sequence[Place]) -> dict[str, Any]:
    return {"paths": [str(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths)]}


def _settings(index: Place | None, given: dict[str, Any]) -> Settings:
    settings = Settings(**given | ({} if index is None else {"index": str(index)}))
    if settings.review:
        raise UsageError("a person can review only where a graph can wait: build_art(...) with a checkpointer")
    return settings


@lru_cache(maxsize=1)
def _art() -> CompiledStateGraph[Any, Any, Any, Any]:
    return wired_art().compile(name="art")


@lru_cache(maxsize=1)
def _ingest() -> CompiledStateGraph[Any, Any, Any, Any]:
    return wired_ingest().compile(name="ingest")
