"""Joins settings to live objects: what a reference names is opened when a run first needs it, and kept.

The command line and Studio use the same graphs; only the settings differ from run to run.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import StateGraph
from langgraph.runtime import get_runtime

from artrag.graphs import build_art, build_chat, build_contextual_rag, build_ingest, build_routed
from artrag.index.retriever import IndexRetriever
from artrag.index.store import Index
from artrag.models import load_asker, load_chat, load_embedder, load_reranker, load_truster
from artrag.protocols import Doubt, System, Truster
from artrag.settings import EMBEDDED_CHAT, Settings
from artrag.steps import Call, Steps, arun, awaitable, blocking, invoke, method, run
from artrag.tracing.remote import refuse_remote_tracing

if TYPE_CHECKING:
    from artrag.index.qdrant import QdrantIndex

_CONNECTING = threading.Lock()
SAMPLING = 0.7
"""Temperature of further drafts."""


def wired_art() -> StateGraph[Any, Any, Any, Any]:
    """`art` on what the settings name; without an index the chat model reasons alone."""
    return build_art(**wired_parts())


def wired_chat() -> StateGraph[Any, Any, Any, Any]:
    """`chat` on what the settings name."""
    return build_chat(**wired_parts())


def wired_parts(chat: BaseChatModel | None = None) -> dict[str, Any]:
    """What `build_art` takes, as the settings name it; a live `chat` stands in for theirs, and draws no samples."""
    return {
        "chat": chat or settings_chat(),
        "asker": SettingsAsker(chat),
        "truster": SettingsTruster(chat),
        "retriever": settings_retriever(),
        "sampler": None if chat else settings_chat(temperature=SAMPLING),
    }


def wired_contextual_rag() -> StateGraph[Any, Any, Any, Any]:
    """`contextual_rag` on what the settings name."""
    return build_contextual_rag(chat=settings_chat(), retriever=settings_retriever(), reranker=SettingsReranker())


def wired_routed() -> StateGraph[Any, Any, Any, Any]:
    """`routed` on what the settings name; without an index nothing is retrieved."""
    return build_routed(chat=settings_chat(), retriever=settings_retriever())


def wired_ingest() -> StateGraph[Any, Any, Any, Any]:
    """`ingest` with what the settings name."""
    return build_ingest(embedder=SettingsEmbedder(), chat=settings_chat(), chat_reference=None)


def wired_simrag(student: str = EMBEDDED_CHAT, **changed: Any) -> StateGraph[Any, Any, Any, Any]:
    """`simrag` with the chat model of the settings as teacher, and their embedder; `changed` is of its training."""
    from artrag.graphs.simrag import build_simrag
    from artrag.nodes.simrag import HOW

    plan = replace(HOW, **changed)
    return build_simrag(teacher=settings_chat(), embedder=SettingsEmbedder(), student=student, plan=plan)


def wired_evaluate(
    embedder: Embeddings | None = None, judge: BaseChatModel | None = None, truster: Truster | None = None
) -> StateGraph[Any, Any, Any, Any]:
    """`evaluate` with the ladder that settings and input make."""
    from artrag.graphs.evaluate import build_evaluate

    return build_evaluate(wired_systems, embedder=embedder, truster=truster, judge=judge)


def wired_systems(settings: Settings, state: Mapping[str, Any]) -> dict[str, System]:
    """The ladder that settings and the input of `evaluate` make, by name."""
    from artrag.interfaces.ladder import rungs

    refuse_remote_tracing(settings)
    indexes = state.get("indexes") or ([settings.index] if settings.index else [])
    made = rungs(settings, indexes, Path(state["run"]), tuned=state.get("tuned"))
    return {system.name: system for system in made}


def current_settings() -> Settings:
    """The settings of the run that is going on."""
    return Settings.of(get_runtime().context)


def settings_chat(temperature: float | None = None) -> Runnable[Any, Any]:
    """The chat model of the settings, at a temperature where one is given."""

    def body(messages: Any) -> Steps[Any]:
        settings = current_settings()
        refuse_remote_tracing(settings)
        chat = yield Call(load_chat, None, (settings.chat,), {"local_only": settings.local_only})
        if temperature is not None:
            chat = chat.model_copy(update={"temperature": temperature})
        return (yield invoke(chat, messages))

    def sync(messages: Any) -> Any:
        return run(body(messages))

    async def twin(messages: Any) -> Any:
        return await arun(body(messages))

    return _SettingsChat(sync, afunc=twin, name="chat")


class _SettingsChat(RunnableLambda[Any, Any]):
    """The chat model of the settings, opened at each call."""

    @property
    def reference(self) -> str:
        """What the settings name."""
        return current_settings().chat

    @staticmethod
    def live() -> BaseChatModel:
        """The model itself, for those who ask it more than `invoke` can."""
        settings = current_settings()
        refuse_remote_tracing(settings)
        return load_chat(settings.chat, local_only=settings.local_only)


def settings_retriever(arms: tuple[str, ...] | None = None) -> Runnable[Any, Any]:
    """The index of the settings as a retriever; None where they name none."""

    def body(question: str) -> Steps[list[Document] | None]:
        settings = current_settings()
        if not settings.index:
            return None
        index = yield Call(open_index, None, (settings.index, settings.local_only))
        retriever = IndexRetriever(index=index, k=settings.fetch_k, arms=arms, where=settings.where)
        found: list[Document] = yield invoke(retriever, question)
        return found

    def sync(question: str) -> Any:
        return run(body(question))

    async def twin(question: str) -> Any:
        return await arun(body(question))

    return RunnableLambda(sync, afunc=twin, name="retriever")


def open_index(path: str, local_only: bool = False) -> "Index | QdrantIndex":
    """The index at `path`, or on Qdrant at a URL (`artrag.index.qdrant_server`), kept open until it is swapped."""
    from artrag.index.manifest import read_manifest
    from artrag.index.qdrant_server import SCHEME

    if path.startswith(SCHEME):
        with _CONNECTING:  # two first callers must not open one folder twice
            index = _connected(path, local_only)
        index.refresh()
        return index
    return _opened(path, local_only, read_manifest(Path(path)).generation)


@lru_cache(maxsize=8)
def _opened(path: str, local_only: bool, generation: str) -> Index:
    return Index.open(path, local_only=local_only)


@lru_cache(maxsize=8)
def _connected(url: str, local_only: bool) -> "QdrantIndex":
    from artrag.index.qdrant import QdrantIndex

    return QdrantIndex.open(url, local_only=local_only)


class SettingsAsker:
    """The Asker of the settings; a prompted one asks `chat`, or else their chat model."""

    def __init__(self, chat: BaseChatModel | None = None) -> None:
        self._chat = chat

    def _ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Steps[Doubt]:
        asker = yield _opening(load_asker, current_settings().asker, self._chat)
        doubt: Doubt = yield method(asker, "ask", question, draft, passages)
        return doubt

    def _limits(self, passages: Sequence[Document] | None = None) -> Steps[Mapping[str, float]]:
        return (yield from _limits_of((yield _opening(load_asker, current_settings().asker, self._chat)), passages))

    ask, aask = blocking(_ask), awaitable(_ask)
    limits, alimits = blocking(_limits), awaitable(_limits)


class SettingsTruster:
    """The Truster of the settings; a prompted one asks `chat`, or else their chat model."""

    def __init__(self, chat: BaseChatModel | None = None) -> None:
        self._chat = chat

    def _score(
        self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None
    ) -> Steps[list[float]]:
        truster = yield _opening(load_truster, current_settings().truster, self._chat)
        scores: list[float] = yield method(truster, "score", question, answers, passages)
        return scores

    def _confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> Steps[float]:
        truster = yield _opening(load_truster, current_settings().truster, self._chat)
        confidence: float = yield method(truster, "confidence", question, answer, passages)
        return confidence

    def _limits(self, passages: Sequence[Document] | None = None) -> Steps[Mapping[str, float]]:
        return (yield from _limits_of((yield _opening(load_truster, current_settings().truster, self._chat)), passages))

    def _out_of_depth(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> Steps[str]:
        truster = yield _opening(load_truster, current_settings().truster, self._chat)
        if not hasattr(truster, "out_of_depth"):
            return ""
        reason: str = yield method(truster, "out_of_depth", question, answer, passages)
        return reason

    score, ascore = blocking(_score), awaitable(_score)
    confidence, aconfidence = blocking(_confidence), awaitable(_confidence)
    limits, alimits = blocking(_limits), awaitable(_limits)
    out_of_depth, aout_of_depth = blocking(_out_of_depth), awaitable(_out_of_depth)


def _opening(load: Callable[..., Any], kind: str, chat: BaseChatModel | None) -> Call:
    """The call that opens a part; it may read weights, so an asynchronous run makes it in a thread."""
    return Call(load, None, (kind,), {"chat": chat or settings_chat()})


def _limits_of(part: Any, passages: Sequence[Document] | None) -> Steps[Mapping[str, float]]:
    if not hasattr(part, "limits"):
        return {}
    found: Mapping[str, float] = yield method(part, "limits", passages)
    return found


class SettingsReranker(BaseDocumentCompressor):
    """The reranker of the settings; where they name none, the passages stay as they are."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """See `BaseDocumentCompressor`."""
        settings = current_settings()
        if not settings.reranker:
            return documents
        reranker = load_reranker(settings.reranker, local_only=settings.local_only)
        return reranker.compress_documents(documents, query, callbacks)


class SettingsEmbedder(Embeddings):
    """The embedder of the settings."""

    @property
    def _live(self) -> Any:
        settings = current_settings()
        return load_embedder(settings.embedder, local_only=settings.local_only)

    @property
    def reference(self) -> str:
        """The reference that opens it again."""
        return current_settings().embedder

    @property
    def fingerprint(self) -> str:
        """What tells it from others."""
        from artrag.index.store import fingerprint

        return fingerprint(self._live)

    def __getattr__(self, name: str) -> Any:
        if name == "encode_tokens":  # only some embedders have it
            return getattr(self._live, name)
        raise AttributeError(name)

    @property
    def cut(self) -> int:
        """Texts it had to cut so far."""
        return int(getattr(self._live, "cut", 0))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """See `Embeddings`."""
        return self._live.embed_documents(texts)  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """See `Embeddings`."""
        return self._live.embed_query(text)  # type: ignore[no-any-return]
