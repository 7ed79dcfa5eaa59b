"""Ragas' four metrics through the `ragas` library itself, with any LangChain chat model as the judge.

A judge may time out, refuse or say nonsense: such a score is nan with its reason, the others go on, and the share that
could be scored is always told. Whether a judge can be believed is measured on rows with known answers (`check_judge`).
"""

import asyncio
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, get_args

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from artrag.errors import MissingExtraError
from artrag.evaluation.calibration import auc
from artrag.evaluation.metrics import Score

Metric = Literal["faithfulness", "answer_relevancy", "context_precision", "context_recall"]
METRICS: tuple[Metric, ...] = get_args(Metric)
SECONDS = 120.0
"""A score may take."""
GOOD_AUC, GOOD_COVERAGE = 0.7, 0.8
"""A judge below one of them fails."""

_JSON = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged: a question, an answer to it, the passages it was made from, and the right answer."""

    question: str
    answer: str
    passages: tuple[str, ...]
    reference: str


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """What a judge makes of rows whose answers are known.

    Attributes:
        auc: faithfulness ranks supported answers above the same with other passages.
        answerable: it ranks them above answers to questions that have none; nan where nobody asked such.
        coverage: share of the rows that it could score.
        rows: how many there were.
    """

    auc: float
    answerable: float
    coverage: float
    rows: int

    @property
    def passes(self) -> bool:
        """May its scores be believed?"""
        return self.auc >= GOOD_AUC and self.coverage >= GOOD_COVERAGE and not self.answerable < GOOD_AUC

    def __str__(self) -> str:
        if math.isnan(self.auc) and (not self.rows or self.coverage):
            return f"the judge could not be checked: {self.rows} rows with known answers are too few, or of one sort"
        said = "can tell" if self.passes else "cannot tell"
        asked = "" if math.isnan(self.answerable) else f", {self.answerable:.2f} against questions without an answer"
        return (
            f"on {self.rows} rows with known answers the judge {said} supported from unsupported ones: AUC "
            f"{self.auc:.2f}{asked} (at least {GOOD_AUC}), {self.coverage:.0%} scored (at least {GOOD_COVERAGE:.0%})"
        )


async def ragas_scores(
    rows: Sequence[Judged],
    judge: BaseChatModel,
    *,
    embedder: Embeddings | None = None,
    metrics: Sequence[Metric] = METRICS,
    at_once: int = 4,
    seconds: float = SECONDS,
) -> list[dict[Metric, Score]]:
    """The metrics of each row; nan where the judge could not score it, with the reason.

    Args:
        rows: what is judged.
        judge: any chat model.
        embedder: `answer_relevancy` needs one, and is left out without.
        metrics: which.
        at_once: rows judged side by side.
        seconds: a score may take.

    Raises:
        MissingExtraError: `ragas` is not installed.
    """
    made = _metrics(judge, embedder, [name for name in metrics if name != "answer_relevancy" or embedder])
    gate = asyncio.Semaphore(at_once)

    async def one(name: Metric, row: Judged) -> Score:
        async with gate:
            try:
                found = await asyncio.wait_for(made[name](row), seconds)
            except TimeoutError:
                return Score(math.nan, f"the judge did not answer in {seconds:g} s")
            except Exception as error:  # the library hands on whatever the judge raises
                return Score(math.nan, f"{type(error).__name__}: {str(error)[:200]}")
        return Score(
            found, "as the judge says" if not math.isnan(found) else "the judge made no statement of the answer"
        )

    wanted = [(name, row) for row in rows for name in made]
    found = await asyncio.gather(*(one(name, row) for name, row in wanted))
    each = len(made)
    return [dict(zip(made, found[at : at + each], strict=True)) for at in range(0, len(found), each)] if each else []


def coverage(scores: Sequence[Score]) -> float:
    """The share that is no nan."""
    return sum(not math.isnan(one.value) for one in scores) / len(scores) if scores else 0.0


async def check_judge(
    supported: Sequence[Judged],
    swapped: Sequence[Judged],
    unanswerable: Sequence[Judged],
    judge: BaseChatModel,
    *,
    at_once: int = 4,
) -> JudgeCheck:
    """Does a judge tell answers that their passages hold from those that they do not?

    Args:
        supported: right answers with the passages that hold them.
        swapped: the same with passages that do not.
        unanswerable: answers to questions that their passages do not answer.
        judge: any chat model.
        at_once: rows judged side by side.
    """
    rows = [*supported, *swapped, *unanswerable]
    found = [one["faithfulness"] for one in await ragas_scores(rows, judge, metrics=["faithfulness"], at_once=at_once)]
    values = [one.value for one in found]
    right, rest = values[: len(supported)], values[len(supported) :]
    return JudgeCheck(
        _above(right, rest[: len(swapped)]), _above(right, rest[len(swapped) :]), coverage(found), len(rows)
    )


def _above(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The AUC of scores of right rows above those of wrong ones; nan counts as not scored."""
    labels = [True] * len(right) + [False] * len(wrong)
    scored = [(score, label) for score, label in zip([*right, *wrong], labels, strict=True) if not math.isnan(score)]
    return auc([score for score, _ in scored], [label for _, label in scored]) if scored else math.nan


def _metrics(
    judge: BaseChatModel, embedder: Embeddings | None, names: Sequence[Metric]
) -> dict[Metric, Callable[[Judged], Awaitable[float]]]:
    """Each metric as a function of a row."""
    library = _library()
    llm = judge_of(judge)
    made: dict[Metric, Callable[[Judged], Awaitable[float]]] = {}
    for name in names:
        if name == "faithfulness":
            metric = library.Faithfulness(llm=llm)
        elif name == "answer_relevancy":
            metric = library.AnswerRelevancy(llm=llm, embeddings=embedder_of(embedder))
        else:
            metric = (library.ContextPrecision if name == "context_precision" else library.ContextRecall)(llm=llm)
        made[name] = _scoring(name, metric)
    return made


def _scoring(name: Metric, metric: Any) -> Callable[[Judged], Awaitable[float]]:
    async def score(row: Judged) -> float:
        given: dict[str, Any] = {"user_input": row.question}
        if name in ("faithfulness", "answer_relevancy"):
            given["response"] = row.answer
        if name != "answer_relevancy":
            given["retrieved_contexts"] = list(row.passages)
        if name.startswith("context"):
            given["reference"] = row.reference
        return float((await metric.ascore(**given)).value)

    return score


def check_library() -> None:
    """Before anything is paid.

    Raises:
        MissingExtraError: `ragas` is not installed.
    """
    _library()


def _library() -> Any:
    """The metrics of `ragas`.

    It looks for a module of langchain-community that is gone since 0.4; an empty one stands in while it is imported.
    """
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")  # it reports its use to its makers
    gone = "langchain_community.chat_models.vertexai"
    stub = ModuleType(gone)
    stub.ChatVertexAI = type("ChatVertexAI", (), {})  # type: ignore[attr-defined]
    sys.modules.setdefault(gone, stub)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            from ragas.metrics import collections
    except ImportError as error:
        raise MissingExtraError(f"ragas cannot be had ({error}): pip install 'artrag[ragas]'") from None
    finally:
        if sys.modules.get(gone) is stub:
            del sys.modules[gone]
    return collections


def judge_of(chat: BaseChatModel) -> Any:
    """A chat model as the judge that ragas takes: it must reply with a JSON object of the wanted form."""
    _library()
    from ragas.llms.base import InstructorBaseRagasLLM

    class Judge(InstructorBaseRagasLLM):  # type: ignore[misc]
        """Asks once, and once more where the reply was no such object."""

        def generate(self, prompt: str, response_model: Any) -> Any:
            return asyncio.run(self.agenerate(prompt, response_model))

        async def agenerate(self, prompt: str, response_model: Any) -> Any:
            told = f"{prompt}\n\nReply with one JSON object and nothing else."
            reply = await chat.ainvoke(told)
            try:
                return _parsed(reply.text, response_model)
            except ValueError as error:
                again = f"{told}\n\nYour last reply could not be read ({str(error)[:300]})."
                return _parsed((await chat.ainvoke(again)).text, response_model)

    return Judge()


def embedder_of(embedder: Any) -> Any:
    """A LangChain embedder as ragas takes it."""
    from ragas.embeddings.base import BaseRagasEmbedding

    class Embedder(BaseRagasEmbedding):  # type: ignore[misc]
        """Hands texts on."""

        def embed_text(self, text: str, **_: Any) -> list[float]:
            return list(embedder.embed_query(text))

        async def aembed_text(self, text: str, **_: Any) -> list[float]:
            return list(await embedder.aembed_query(text))

    return Embedder()


def _parsed(reply: str, wanted: Any) -> Any:
    """The object in a reply.

    Raises:
        ValueError: there is none of this form.
    """
    found = _JSON.search(reply)
    if found is None:
        raise ValueError(f"no JSON object in {reply[:120]!r}")
    return wanted.model_validate(json.loads(found[0]))
