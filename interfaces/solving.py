"""The graphs' own nodes as the one who answers when answers are collected."""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import ensure_config
from langgraph.graph import END, START, StateGraph

from artrag import nodes, prompts
from artrag.errors import ModelCallError
from artrag.models.askers import MOST_SUBQUESTIONS
from artrag.nodes.calling import say
from artrag.nodes.node import Meter, Run, node
from artrag.settings import Settings
from artrag.state import Candidate, QAState
from artrag.steps import Steps, method
from artrag.training.collect import Budget, side_by_side

_QUESTION = re.compile(r"^\W*(?:\d+[.):]\s*)?(\w[^?\n]{2,300}\?)", re.MULTILINE)


@dataclass(slots=True)
class _Sampling:
    """How the calls of one task are sampled: a further call takes the next seed."""

    seed: int
    together: int = 1
    ready: deque[BaseMessage] = field(default_factory=deque)


_SAMPLING: ContextVar[_Sampling] = ContextVar("sampling")


class NodeSolver:
    """Answers by the nodes `retrieve`, `answer` and `refine`; a `artrag.training.collect.Solver`.

    A remote model's samples are asked for side by side, each with a seed of its own; a model that is run here writes
    them together. Refinements see the passages of the draft: they call the calculator, but not the retriever, so that
    all answers of a question cite the same passages.
    """

    def __init__(
        self,
        chat: BaseChatModel,
        settings: Settings,
        *,
        temperature: float,
        budget: Budget,
        retriever: Runnable[Any, Any] | None = None,
    ) -> None:
        self._model, self._settings, self._temperature, self._budget = chat, settings, temperature, budget
        here = chat._llm_type == "artrag-local"
        self._together = here and temperature > 0
        # A model that is run here answers one call at a time; those that wait in a thread could not be stopped.
        self._turns: Any = asyncio.Semaphore(1) if here else contextlib.nullcontext()
        self.meter = Meter()
        said: Runnable[Any, Any] = RunnableLambda(self._said, name="chat")
        self._retrieve = _alone("retrieve", nodes.retrieve(retriever)) if retriever else None
        self._answer = _alone("answer", nodes.answer(said))
        self._refine = _alone("refine", nodes.refine(said))
        self._ask = _alone("subquestions", _ask_for_subquestions(said))

    async def passages(self, question: str) -> list[Document] | None:
        """See `Solver`."""
        if self._retrieve is None:
            return None
        found: list[Document] = (await self._run(self._retrieve, question=question))["passages"]
        return [_lean(passage) for passage in found]

    async def drafts(self, question: str, passages: list[Document] | None, k: int, seed: int) -> list[str]:
        """See `Solver`."""

        async def draft() -> str:
            state = await self._run(self._answer, question=question, passages=passages)
            return str(state["draft"])

        if self._together:
            _SAMPLING.set(_Sampling(seed, together=k))
            return [await draft() for _ in range(k)]

        async def alone(n: int) -> str:
            # Retries count on from here; the samples' seeds lie far enough apart.
            _SAMPLING.set(_Sampling(seed + 100 * n))
            return await draft()

        return await side_by_side(alone(n) for n in range(k))

    async def subquestions(self, question: str, seed: int) -> list[str]:
        """See `Solver`."""
        _SAMPLING.set(_Sampling(seed))
        state = await self._run(self._ask, question=question)
        return [record["text"] for record in state["subquestions"]]

    async def refine(
        self, question: str, draft: str, subquestions: Sequence[str], passages: list[Document] | None, seed: int
    ) -> str:
        """See `Solver`."""
        _SAMPLING.set(_Sampling(seed))
        state = await self._run(
            self._refine,
            question=question,
            draft=draft,
            passages=passages,
            subquestions=[{"text": text, "answered": False} for text in subquestions],
            candidates=[Candidate(stage="initial", text=draft)],
            rounds=0,
        )
        if state["refine_failure"]:
            raise ModelCallError(state["refine_failure"])
        return str(state["candidates"][-1]["text"])

    async def _run(self, graph: Any, **state: Any) -> dict[str, Any]:
        made: dict[str, Any] = await graph.ainvoke(
            state, context=self._settings, config={"callbacks": [self.meter], "recursion_limit": 5}
        )
        return made

    async def _said(self, messages: list[BaseMessage]) -> BaseMessage:
        """One reply of the chat model, sampled as the task at hand asks for."""
        wanted = _SAMPLING.get()
        if wanted.ready:
            return wanted.ready.popleft()
        async with self._turns:
            self._budget.spend()
            model = sampled(self._model, self._temperature, wanted.seed)
            wanted.seed += 1
            if wanted.together == 1:
                return await model.ainvoke(messages)
            made = await model.agenerate([messages], callbacks=ensure_config().get("callbacks"), n=wanted.together)
            wanted.together = 1
        first, *others = [generation.message for generation in made.generations[0]]  # type: ignore[union-attr]
        wanted.ready.extend(others)
        return first


def sampled(chat: BaseChatModel, temperature: float, seed: int) -> BaseChatModel:
    """The model at this temperature and seed, as far as it has such fields."""
    wanted = {"temperature": temperature, "seed": seed}
    return chat.model_copy(update={name: value for name, value in wanted.items() if name in type(chat).model_fields})


def _ask_for_subquestions(chat: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A node that has the chat model write subquestions from the question alone (`prompts/subquestions.md`)."""

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        prompt = yield method(prompts, "load", "subquestions")
        text = yield from say(chat, prompt.format_messages(question=state["question"]), run)
        return {"subquestions": [{"text": asked, "answered": False} for asked in read_subquestions(text)]}

    return node("subquestions", body)


def read_subquestions(text: str) -> list[str]:
    """The questions that begin a line of a reply, each once; list marks and what follows the question are left out."""
    return list(dict.fromkeys(found.strip() for found in _QUESTION.findall(text)))[:MOST_SUBQUESTIONS]


def _alone(name: str, step: Runnable[Any, Any]) -> Any:
    graph = StateGraph(QAState, context_schema=Settings)
    graph.add_node(name, step)
    graph.add_edge(START, name)
    graph.add_edge(name, END)
    return graph.compile()


def _lean(passage: Document) -> Document:
    """The passage without the scores of each arm: a row carries what was read, not how it was found."""
    about = {name: value for name, value in passage.metadata.items() if name != "arms"}
    return Document(passage.page_content, id=passage.id, metadata=about)
