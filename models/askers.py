"""Askers that need no training: checks of the evidence, and the chat model asked about its own draft.

ART (Shridhar et al., arXiv 2311.07961), Section 3.2. The prompted kind is the paper's self-refine baseline.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.evidence import Evidence, coverage, examine, is_refusal, term_weights, whole, without_marks
from artrag.models.opening import open_trained
from artrag.models.signals import asked_for, given_numbers
from artrag.passages import numbered
from artrag.protocols import Asker, Doubt, Subquestion
from artrag.steps import Steps, awaitable, blocking, invoke, method
from artrag.text import codes, numbers
from artrag.working import near, read_steps

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w-]+(?:\s+[A-Z][\w-]+)*")
MOST_SUBQUESTIONS = 6
BORNE_OUT = "the evidence bears out the draft"


def load_asker(kind: str | Path | Asker = "trained", *, chat: Any = None) -> Asker:
    """The Asker that a name or a folder stands for; a live one is handed back.

    Args:
        kind: "trained" for the shipped one, "evidence", "prompted" (needs `chat`), or the folder of a trained part.
        chat: the chat model that a prompted Asker asks.

    Raises:
        UnknownModelError: there is no such Asker.
        PartError: the folder holds no trained Asker, or one of another version or base model.
    """
    if not isinstance(kind, str | Path):
        return kind
    if kind == "evidence":
        return EvidenceAsker()
    if kind == "prompted" and chat is not None:
        return PromptedAsker(chat)
    opened: Asker = open_trained("asker", kind)
    return opened


class EvidenceAsker:
    """Doubts a draft on what can be checked: support by the passages, numbers, equations, coverage of the question.

    Its subquestions are the checks themselves: one for each name, code and number of the question, one for each number
    of the draft and one for each equation; answered where the passages (or the recomputation) bear it out.
    """

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`."""
        asked = list(_checks(question, draft, passages))[:MOST_SUBQUESTIONS]
        probability, reason = weigh(examine(question, draft, passages))
        if passages is None and reason == BORNE_OUT:
            reason = "nothing that can be checked speaks against the draft"
        return Doubt(asked, probability, reason)


def weigh(seen: Evidence) -> tuple[float, str]:
    """The probability that a draft needs refining given its evidence, and the strongest reason."""
    doubts = [
        (1.0 if seen.empty else 0.0, "the draft is empty"),
        (0.9 if seen.wrong else 0.0, f"wrong arithmetic: {'; '.join(seen.wrong)}"),
        (0.8 if seen.refuses else 0.0, "the draft gives no answer"),
        (0.8 * (1 - seen.numbers_found), "a number of the draft stands in no passage"),
        (0.9 * (1 - seen.support), "the passages do not bear out the draft"),
        (0.5 * (1 - seen.on_topic), "the passages used do not speak of all that is asked"),
    ]
    kept = 1.0
    for doubt, _ in doubts:
        kept *= 1 - doubt
    strongest, reason = max(doubts)
    return 1 - kept, reason if strongest > 0.25 else BORNE_OUT


def _checks(question: str, draft: str, passages: Sequence[Document] | None) -> list[Subquestion]:
    if passages is None:
        return open_points(question, draft)
    read = "\n".join(whole(passage) for passage in passages)
    weights = term_weights(passages)
    named = _NAME.findall(question)
    things = dict.fromkeys([*named, *(code for code in codes(question) if code not in " ".join(named).lower())])
    asked = [
        Subquestion(f"What do the documents say about {thing}?", coverage(thing, read, weights) >= 0.5)
        for thing in things
    ]
    known = set(numbers(read))
    for number in dict.fromkeys(numbers(without_marks(draft))):
        if number not in numbers(question):
            asked.append(Subquestion(f"Where does the number {number:g} come from?", number in known))
    seen = examine(question, draft, passages)
    asked += [Subquestion(f"What is {wrong.split('=')[0].strip()}?", False) for wrong in seen.wrong]
    if not asked or (seen.support < 0.5 and all(check.answered for check in asked)):
        asked.append(Subquestion(question, seen.support >= 0.5 and not (seen.refuses or seen.empty)))
    return asked


def open_points(question: str, draft: str) -> list[Subquestion]:
    """What the working of a draft leaves open: wrong steps, numbers of the question it does not use, what is asked."""
    steps = read_steps(draft)
    used = [number for step in steps for number in step.operands]
    asked = [Subquestion(f"What is {step.text}?", False) for step in steps if not step.correct]
    if steps:
        asked += [
            Subquestion(f"What does the number {number:g} change?", False)
            for number in given_numbers(question)
            if not any(near(each, number) or near(100 * each, number) for each in used)
        ]
    ended = bool(draft.strip()) and not is_refusal(draft)
    return [*asked[: MOST_SUBQUESTIONS - 1], Subquestion(asked_for(question), ended)]


class PromptedAsker:
    """Asks the chat model for subquestions and a verdict on the draft (`prompts/ask.md`).

    A reply that cannot be read leaves the decision to the evidence, and the reason says so.
    """

    def __init__(self, chat: Runnable[Any, Any]) -> None:
        self._chat = chat
        self._evidence = EvidenceAsker()

    def _ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Steps[Doubt]:
        prompt = yield method(prompts, "load", "ask")
        messages = prompt.format_messages(passages=numbered(passages), question=question, draft=draft)
        reply = yield invoke(self._chat, messages)
        doubt = read_doubt(reply.text)
        if doubt is None:
            checked = self._evidence.ask(question, draft, passages)
            return Doubt(
                checked.subquestions, checked.refine_probability, f"unreadable reply; by evidence: {checked.reason}"
            )
        return doubt

    ask = blocking(_ask)
    aask = awaitable(_ask)


def read_doubt(text: str) -> Doubt | None:
    """A model's JSON verdict as a `Doubt`, or None where it is not one."""
    found = _OBJECT.search(text)
    try:
        data = json.loads(found[0]) if found else None
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("refine"), bool):
        return None
    listed = data.get("subquestions")
    asked = [
        Subquestion(str(entry["question"]), entry.get("answered") is True)
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and str(entry.get("question", "")).strip()
    ]
    # A bare yes or no carries no degree; the share of answered subquestions gives it one.
    share = sum(not q.answered for q in asked) / len(asked) if asked else 0.5
    probability = (0.6 + 0.4 * share) if data["refine"] else 0.4 * share
    return Doubt(asked[:MOST_SUBQUESTIONS], probability, str(data.get("reason") or "the model's own verdict"))
