"""Askers that need no training: checks of the evidence, and the chat model asked about its own draft.

ART (Shridhar et al., arXiv 2311.07961), Section 3.2. The prompted kind is the paper's self-refine baseline.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.errors import UnknownModelError
from artrag.evidence import Evidence, coverage, examine, term_weights, whole, without_marks
from artrag.passages import numbered
from artrag.protocols import Asker, Doubt, Subquestion
from artrag.steps import Call, Steps, awaitable, blocking, invoke
from artrag.text import codes, numbers

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w-]+(?:\s+[A-Z][\w-]+)*")
MOST_SUBQUESTIONS = 6


def load_asker(kind: Literal["evidence", "prompted"] | Asker = "evidence", *, chat: Any = None) -> Asker:
    """The Asker of that kind; a live one is handed back. The prompted kind needs `chat`.

    Raises:
        UnknownModelError: there is no such kind.
    """
    if not isinstance(kind, str):
        return kind
    if kind == "evidence":
        return EvidenceAsker()
    if kind == "prompted" and chat is not None:
        return PromptedAsker(chat)
    raise UnknownModelError(f"no asker {kind!r}: name 'evidence', or 'prompted' together with a chat model")


class EvidenceAsker:
    """Doubts a draft on what can be checked: support by the passages, numbers, equations, coverage of the question.

    Its subquestions are the checks themselves: one for each name, code and number of the question, one for each number
    of the draft and one for each equation; answered where the passages (or the recomputation) bear it out.
    """

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`."""
        seen = examine(question, draft, passages)
        asked = list(_checks(question, draft, passages))[:MOST_SUBQUESTIONS]
        probability, reason = weigh(seen)
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
    return 1 - kept, reason if strongest > 0.25 else "the evidence bears out the draft"


def _checks(question: str, draft: str, passages: Sequence[Document] | None) -> list[Subquestion]:
    read = "\n".join(whole(passage) for passage in passages or ())
    asked = []
    if passages is not None:
        weights = term_weights(passages)
        named = _NAME.findall(question)
        for thing in dict.fromkeys(
            [*named, *(code for code in codes(question) if code not in " ".join(named).lower())]
        ):
            asked.append(
                Subquestion(f"What do the documents say about {thing}?", coverage(thing, read, weights) >= 0.5)
            )
        known = set(numbers(read))
        for number in dict.fromkeys(numbers(without_marks(draft))):
            if number not in numbers(question):
                asked.append(Subquestion(f"Where does the number {number:g} come from?", number in known))
    seen = examine(question, draft, passages)
    asked += [Subquestion(f"What is {wrong.split('=')[0].strip()}?", False) for wrong in seen.wrong]
    if not asked or (seen.support < 0.5 and all(check.answered for check in asked)):
        asked.append(Subquestion(question, seen.support >= 0.5 and not (seen.refuses or seen.empty)))
    return asked


class PromptedAsker:
    """Asks the chat model for subquestions and a verdict on the draft (`prompts/ask.md`).

    A reply that cannot be read leaves the decision to the evidence, and the reason says so.
    """

    def __init__(self, chat: Runnable[Any, Any]) -> None:
        self._chat = chat
        self._evidence = EvidenceAsker()

    def _ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Steps[Doubt]:
        prompt = yield Call(prompts.load, None, ("ask",))
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
