"""Questions that a chat model writes to sampled chunks, for tuning where nobody has written any."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.errors import ModelCallError, UsageError
from artrag.evaluation.predictions import normal_question
from artrag.evaluation.queries import Query
from artrag.index.catalog import StoredChunk
from artrag.nodes.calling import say
from artrag.nodes.node import Run
from artrag.passages import data
from artrag.settings import Settings
from artrag.steps import run
from artrag.training.proposing import SHORTEST_CHUNK, sample

COPIED = 7
"""So many words in a row that stand in the passage are a copy."""
FAILURES = 3
"""So many failed calls in a row, and the model is given up."""

_POINTS = re.compile(
    r"\b(?:this|these|the (?:above|given|following|provided)) (?:passage|text|chunk|document|excerpt|section|file)"
    r"|\b(?:in|to|by) the (?:passage|text|chunk|excerpt|snippet|context)\b",
    re.IGNORECASE,
)


def generate(
    chunks: Sequence[StoredChunk],
    chat: Runnable[Any, Any],
    count: int,
    settings: Settings,
    *,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
    keep: Callable[[Query], None] = lambda query: None,
) -> tuple[list[Query], dict[str, int]]:
    """Ask the model for a question to each of `count` chunks; give the usable ones, and why the others were dropped.

    Args:
        chunks: of the index.
        chat: the model.
        count: how many chunks are drawn, by turns from every document.
        settings: `retries` of a failing call.
        seed: of the draw.
        tell: is called with the chunks done and all.
        keep: is called with each usable question as soon as there is one.

    Raises:
        UsageError: no chunk is long enough.
        ModelCallError: the model fails again and again.
    """
    drawn = sample(chunks, count, seed=seed)
    if not drawn:
        raise UsageError(f"no chunk has {SHORTEST_CHUNK} characters: there is nothing to ask about")
    prompt, this = prompts.load("question"), Run("tune", settings)
    found: dict[str, Query] = {}
    dropped: Counter[str] = Counter()
    failed = 0
    for number, chunk in enumerate(drawn, start=1):
        try:
            said = run(say(chat, prompt.format_messages(context=data(chunk.context), passage=data(chunk.text)), this))
        except ModelCallError:
            failed += 1
            if failed == FAILURES:
                raise
            dropped["the model failed"] += 1
            continue
        finally:
            tell(number, len(drawn))
        failed = 0
        question = " ".join(said.strip().strip('"').split())
        key = normal_question(question)
        reason = "a duplicate" if key in found else fault(question, chunk.text)
        if reason:
            dropped[reason] += 1
        else:
            found[key] = Query(f"generated-{number}", question, (chunk.id,))
            keep(found[key])
    return list(found.values()), dict(dropped)


def fault(question: str, passage: str) -> str:
    """Why a generated question is unusable, or an empty string."""
    words = re.findall(r"\w+", question.lower())
    if not question.endswith(("?", "\uff1f")) or len(question) < 12 or len(question) > 300:
        return "not one question"
    if _POINTS.search(question):
        return "it points at the passage"
    read = " " + " ".join(re.findall(r"\w+", passage.lower())) + " "
    copied = any(f" {' '.join(words[i : i + COPIED])} " in read for i in range(len(words) - COPIED + 1))
    return "it copies the passage" if copied else ""
