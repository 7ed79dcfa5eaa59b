"""A chat model as judge, read by probability instead of by word: no training, one short call an answer.

The expected grade over the probabilities of the grade tokens tells apart what the same written grade would not
(G-Eval's scoring function, Liu et al., arXiv 2303.16634). Probabilities come from a model that is run here, or from one
that speaks OpenAI's protocol and sends them (`logprobs`); where there are none, the written word counts, and the judge
says so.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from artrag import prompts
from artrag.evidence import whole
from artrag.models.askers import EvidenceAsker
from artrag.passages import numbered
from artrag.protocols import Doubt
from artrag.steps import Call, Steps, awaitable, blocking, invoke, method

GRADES = tuple(str(grade) for grade in range(10))
TOP_LOGPROBS = 20
REMEMBERED = 1024
_REFUSED = (400, 422)  # what servers answer that know no logprobs


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model answered: the probability of each choice, or None and the text it wrote."""

    probabilities: list[float] | None
    text: str = ""


class ChoiceReader:
    """Reads how likely a chat model answers with each of a few words.

    Args:
        chat: any chat model, bound or not. `choice_probabilities` is called where there is one; a model with a
            `top_logprobs` setting is asked to send them.
        choices: the words, each told from the others by its first token.
    """

    def __init__(self, chat: Runnable[Any, Any], choices: Sequence[str]) -> None:
        self._chat, self._choices = chat, list(choices)
        model = _bare(chat)
        self._local = model if _tells_apart(model, self._choices) else None
        sends = "top_logprobs" in getattr(type(model), "model_fields", {})
        self._sending = chat.bind(logprobs=True, top_logprobs=TOP_LOGPROBS) if sends else None

    def read(self, messages: Sequence[Any]) -> Steps[Reading]:
        """One call of the model; a second one only where its server refuses to send probabilities."""
        if self._local is not None:
            found = yield Call(self._local.choice_probabilities, None, (list(messages), self._choices))
            return Reading(found)
        if self._sending is not None:
            try:
                reply = yield invoke(self._sending, messages)
                return Reading(choice_probabilities(reply.response_metadata, self._choices), reply.text)
            except Exception as error:
                if getattr(error, "status_code", None) not in _REFUSED:
                    raise
        reply = yield invoke(self._chat, messages)
        self._sending = None  # answered without: it was the probabilities that the server refused
        return Reading(None, reply.text)


def choice_probabilities(metadata: Mapping[str, Any], choices: Sequence[str]) -> list[float] | None:
    """The probability of each choice, normalised over them, from a reply's `logprobs`; None where there are none.

    The first token of the reply that is one of the choices counts, with the likeliest tokens beside it; case and blanks
    are looked past.
    """
    known = {choice.casefold(): place for place, choice in enumerate(choices)}
    try:
        for token in (metadata.get("logprobs") or {}).get("content") or []:
            if token["token"].strip().casefold() not in known:
                continue
            likely = {other["token"]: other["logprob"] for other in token.get("top_logprobs") or []}
            likely[token["token"]] = token["logprob"]
            shares = [0.0] * len(choices)
            for word, logprob in likely.items():
                if (place := known.get(word.strip().casefold())) is not None:
                    shares[place] += math.exp(min(logprob, 0.0))
            return [share / sum(shares) for share in shares] if sum(shares) else None
    except (AttributeError, KeyError, TypeError):  # another provider's metadata of the same name
        return None
    return None


class ExpectedGradeTruster:
    """A training-free verifier: the expected grade, 0 to 9, over the chat model's own probabilities.

    The prompt is `prompts/grade.md`. Scores and confidences are the grade as a share of 9; they are not calibrated.
    `readings` counts how the grades came about: "expected" by probabilities, "written" by the written digit,
    "unreadable" as 0.5. The first that has no probabilities warns. Grades are remembered: none is paid for twice.
    """

    pointwise = True

    def __init__(self, chat: Runnable[Any, Any]) -> None:
        self._reader = ChoiceReader(chat, GRADES)
        self._known: dict[Any, float] = {}
        self.readings: Counter[str] = Counter()

    def _score(
        self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None
    ) -> Steps[list[float]]:
        scores: list[float] = yield [method(self, "confidence", question, answer, passages) for answer in answers]
        return scores

    def _confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> Steps[float]:
        key = (question, answer, None if passages is None else tuple(whole(passage) for passage in passages))
        if key not in self._known:
            grade = yield from self._grade(question, answer, passages)
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = grade
        return self._known.get(key, 0.5)

    def _grade(self, question: str, answer: str, passages: Sequence[Document] | None) -> Steps[float]:
        prompt = yield method(prompts, "load", "grade")
        messages = prompt.format_messages(passages=numbered(passages), question=question, answer=answer)
        reading = yield from self._reader.read(messages)
        if reading.probabilities is not None:
            self.readings["expected"] += 1
            return expected(reading.probabilities)
        if not self.readings["written"] + self.readings["unreadable"]:
            _say_so("its written grade")
        found = re.search(r"(?<![\d.])\d(?![\d.]*\d)", reading.text)
        self.readings["written" if found else "unreadable"] += 1
        return int(found[0]) / 9 if found else 0.5

    score = blocking(_score)
    ascore = awaitable(_score)
    confidence = blocking(_confidence)
    aconfidence = awaitable(_confidence)


class LikelihoodAsker:
    """The probability of "Yes" against "No" where the chat model is asked if the draft must be refined.

    The prompt is `prompts/doubt.md`; the probability is not calibrated. Its subquestions are the checks of the
    evidence. Where the model sends no probabilities, its written word counts (0.9 or 0.1), and where that cannot be
    read the evidence decides; the reason says which, and `readings` counts as in `ExpectedGradeTruster`.
    """

    def __init__(self, chat: Runnable[Any, Any]) -> None:
        self._reader = ChoiceReader(chat, ("Yes", "No"))
        self._evidence = EvidenceAsker()
        self.readings: Counter[str] = Counter()

    def _ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Steps[Doubt]:
        prompt = yield method(prompts, "load", "doubt")
        messages = prompt.format_messages(passages=numbered(passages), question=question, draft=draft)
        reading = yield from self._reader.read(messages)
        checked = self._evidence.ask(question, draft, passages)
        if reading.probabilities is not None:
            self.readings["expected"] += 1
            probability = reading.probabilities[0]
            return Doubt(checked.subquestions, probability, f"the judge would refine it with {probability:.2f}")
        if not self.readings["written"] + self.readings["unreadable"]:
            _say_so("its written word")
        found = re.search(r"\b(yes|no)\b", reading.text, re.IGNORECASE)
        self.readings["written" if found else "unreadable"] += 1
        if found is None:
            reason = f"unreadable verdict; by evidence: {checked.reason}"
            return Doubt(checked.subquestions, checked.refine_probability, reason)
        probability = 0.9 if found[1].casefold() == "yes" else 0.1
        return Doubt(checked.subquestions, probability, f"the judge writes {found[1]!r}, without probabilities")

    ask = blocking(_ask)
    aask = awaitable(_ask)


def expected(probabilities: Iterable[float]) -> float:
    """The mean place of the choices, the last one counting 1."""
    shares = list(probabilities)
    return sum(place * share for place, share in enumerate(shares)) / (len(shares) - 1)


def _bare(chat: Any) -> Any:
    """The model under its bindings and retries."""
    while isinstance(chat, RunnableBindingBase):
        chat = chat.bound
    return chat


def _tells_apart(model: Any, choices: Sequence[str]) -> bool:
    """Can `model.choice_probabilities` tell the choices apart: does each begin with a token of its own?"""
    if not hasattr(model, "choice_probabilities"):
        return False
    return len({model.get_token_ids(choice)[0] for choice in choices}) == len(choices)


def _say_so(what: str) -> None:
    warnings.warn(
        f"the chat model sends no probabilities of its words: {what} counts instead, which is coarser", stacklevel=2
    )
