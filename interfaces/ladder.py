"""The rungs of the evaluation ladder, made of what the settings name."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableLambda

from artrag import __version__, prompts
from artrag.errors import UsageError
from artrag.graphs import build_art, build_contextual_rag, build_routed
from artrag.index.manifest import read_manifest
from artrag.index.retriever import IndexRetriever
from artrag.interfaces.wiring import open_index
from artrag.models import load_asker, load_chat, load_reranker, load_truster
from artrag.models.opening import part_folder
from artrag.models.parts import MANIFEST, SHIPPED
from artrag.models.references import ModelReference, base_reference
from artrag.models.verified import VerifiedTruster
from artrag.protocols import Adds, System
from artrag.remembering import Remembered
from artrag.settings import Settings
from artrag.steps import Steps, arun, invoke, method, run

REPLIES = "replies.jsonl"
RAG = {"k", "fetch_k", "where", "initial", "max_question", "answer_prompt"}
ART = RAG | {"rounds", "samples", "refine_above", "trust_margin", "abstain_below", "tool_calls", "refine_prompt"}
"""Settings that the rungs read."""
PLAIN = "none"
"""The context of an index without any."""


def rungs(settings: Settings, indexes: Sequence[str], folder: Path, *, tuned: str | None = None) -> list[System]:
    """The systems from the bottom up, as far as there is something to make them of.

    Args:
        settings: name the chat model, the Asker, the Truster, the reranker; all else of them holds for every rung. Of
            a chat model with a trained part, the rungs below "fine-tuned" use the model without it.
        indexes: none: no rung retrieves. One: plain RAG is its dense arm alone. Two, one of them without context: plain
            and hybrid RAG search that one, contextual RAG the other.
        folder: replies of the chat models are kept there, so that rungs with the same draft share it.
        tuned: reference of a fine-tuned chat model.

    Raises:
        UsageError: more than two indexes, or two of which none is without context.
    """
    return _Builder(settings, indexes, folder, tuned).made


class _Builder:
    def __init__(self, settings: Settings, indexes: Sequence[str], folder: Path, tuned: str | None) -> None:
        self.settings, self.made, self.folder = settings, [], folder
        self.memories: dict[str, Remembered] = {}
        base = base_reference(settings.chat)
        tuned = tuned or (settings.chat if settings.chat != base else None)
        plain, situated = _told_apart(indexes)
        self._alone(base)
        draft = "reasoned"
        if plain or situated:
            draft = self._retrieving(base, plain, situated)
        index = situated or plain
        if index:
            about = self._reading(RAG) | {"chat": model_state(base), "index": _state_of(index)}
            graph = build_routed(chat=self._chat(base), retriever=self._retriever(index, None))
            self._add("routed", graph.compile(name="routed"), draft, "routing", about)
        self._art(base, "self-refine", draft, index, asker="prompted", truster="prompted")
        self._art(base, "always-refine", draft, index, refine_above=0.0)
        self._art(base, "art", draft, index)
        if tuned:
            self._prompted(tuned, "fine-tuned", "direct", "direct", "tuning")
            if index:
                self._rag(tuned, "fine-tuned rag", draft, index, "tuning")
                self._art(tuned, "all together", "fine-tuned rag", index)

    made: list[System]

    def _alone(self, chat: str) -> None:
        self._prompted(chat, "direct", "", "direct", None)
        self._prompted(chat, "instructed", "direct", "instructed", "prompt")
        self._prompted(chat, "reasoned", "instructed", "solve", "prompt")

    def _retrieving(self, chat: str, plain: str | None, situated: str | None) -> str:
        """The rungs that retrieve; the name of the last one."""
        first = plain or situated
        assert first is not None  # noqa: S101
        self._rag(chat, "rag", "instructed", first, "retrieval", arms=("dense",))
        self._rag(chat, "hybrid", "rag", first, "retrieval")
        last = "hybrid"
        if plain and situated:
            self._rag(chat, "contextual", last, situated, "retrieval")
            last = "contextual"
        if self.settings.reranker:
            self._rag(chat, "reranked", last, situated or first, "retrieval", rerank=True)
        return last  # the rungs above do without a reranker

    def _prompted(self, chat: str, name: str, over: str, prompt: str, adds: Adds | None) -> None:
        self._add(name, _alone(self._chat(chat), prompt), over, adds, {"chat": model_state(chat), "prompt": prompt})

    def _rag(
        self,
        chat: str,
        name: str,
        over: str,
        index: str,
        adds: Adds,
        *,
        arms: tuple[str, ...] | None = None,
        rerank: bool = False,
    ) -> None:
        reranker = load_reranker(self.settings.reranker) if rerank and self.settings.reranker else None
        graph = build_contextual_rag(chat=self._chat(chat), retriever=self._retriever(index, arms), reranker=reranker)
        about = self._reading(RAG) | {"chat": model_state(chat), "index": _state_of(index), "arms": arms}
        about["reranker"] = model_state(self.settings.reranker) if rerank and self.settings.reranker else None
        self._add(name, graph.compile(name=name), over, adds, about)

    def _art(self, chat: str, name: str, over: str, index: str | None, **changes: Any) -> None:
        settings = self.settings.model_copy(update=changes)
        live = self._chat(chat)
        graph = build_art(
            chat=live,
            asker=load_asker(settings.asker, chat=live),
            truster=load_truster(settings.truster, chat=live),
            retriever=self._retriever(index, None) if index else None,
            sampler=live.model_copy(update={"temperature": 0.7, "cache": False}) if settings.samples else None,
        )
        verifier = sha256((SHIPPED / "verifier" / MANIFEST).read_bytes()).hexdigest()[:16]
        parts = [
            _digest(settings.asker, "asker"),
            _digest(settings.truster, "truster"),
            verifier,
            VerifiedTruster().about,
        ]
        about = self._reading(ART, settings) | {"chat": model_state(chat), "parts": parts}
        about["index"] = index and _state_of(index)
        self._add(name, graph.compile(name=name), over, "doubt", about, settings)

    def _add(
        self,
        name: str,
        answers: Runnable[Any, Any],
        over: str,
        adds: Adds | None,
        about: Mapping[str, Any],
        settings: Settings | None = None,
    ) -> None:
        told = {"version": __version__, "prompts": _prompts(), **about}
        key = json.dumps(told, sort_keys=True, default=str)
        self.made.append(System(name, answers, over, adds, key, settings or self.settings))

    def _reading(self, names: set[str], settings: Settings | None = None) -> dict[str, Any]:
        """The settings that a rung reads."""
        return {"settings": (settings or self.settings).model_dump(include=names)}

    def _chat(self, reference: str) -> BaseChatModel:
        chat = load_chat(reference, local_only=self.settings.local_only)
        if reference not in self.memories:
            self.memories[reference] = Remembered(self.folder / REPLIES, model_state(reference))
        return chat.model_copy(update={"cache": self.memories[reference]})

    def _retriever(self, index: str, arms: tuple[str, ...] | None) -> IndexRetriever:
        opened = open_index(index, self.settings.local_only)
        return IndexRetriever(index=opened, k=self.settings.fetch_k, arms=arms, where=self.settings.where)


def _alone(chat: BaseChatModel, prompt: str) -> Runnable[Any, Any]:
    """The chat model with a prompt, and nothing else."""

    def body(given: Any) -> Steps[dict[str, Any]]:
        template = yield method(prompts, "load", prompt)
        said = yield invoke(chat, template.format_messages(question=given["question"]))
        return {"answer": said.text.strip()}

    def sync(given: Any) -> dict[str, Any]:
        return run(body(given))

    async def twin(given: Any) -> dict[str, Any]:
        return await arun(body(given))

    return RunnableLambda(sync, afunc=twin, name=prompt)


def _told_apart(indexes: Sequence[str]) -> tuple[str | None, str | None]:
    """(without context, with context)."""
    kinds = {index: _context(index) for index in indexes}
    plain = [index for index, kind in kinds.items() if kind == PLAIN]
    situated = [index for index in kinds if index not in plain]
    if len(plain) > 1 or len(situated) > 1:
        raise UsageError(
            f"indexes {list(kinds)}: give one, or one made with --context none and one with contexts, to tell what the "
            "contexts bring"
        )
    return next(iter(plain), None), next(iter(situated), None)


def _context(index: str) -> str:
    return read_manifest(Path(index)).context if "://" not in index else "auto"


def _state_of(index: str) -> str:
    """An index as it is now."""
    if "://" in index:
        return f"{index} {open_index(index).manifest.generation}"
    return f"{index} {read_manifest(Path(index)).generation}"


def model_state(reference: str) -> str:
    """A model as it is now: a folder may have been trained again under the same name."""
    parsed = ModelReference.parse(reference)
    if parsed.part is not None:
        return f"{reference} {sha256((parsed.part / MANIFEST).read_bytes()).hexdigest()[:16]}"
    folder = Path(parsed.name).expanduser()
    if parsed.kind == "folder" or folder.is_dir():
        files = sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in folder.glob("*"))
        return f"{reference} {sha256(repr(files).encode()).hexdigest()[:16]}"
    return reference


def _digest(name: str, kind: Any) -> str:
    """A trained part as it is now; any other by its name."""
    if name in ("prompted", "evidence", "judge"):
        return name
    return sha256((part_folder(kind, name) / MANIFEST).read_bytes()).hexdigest()[:16]


def _prompts() -> str:
    """All prompts as they are now."""
    return sha256("".join(prompts.load(name).pretty_repr() for name in prompts.names()).encode()).hexdigest()[:16]
