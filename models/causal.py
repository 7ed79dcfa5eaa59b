"""Asker and Truster as a small causal language model with trained LoRA weights.

ART (Shridhar et al., arXiv 2311.07961): the Asker of Section 3.2 writes the subquestions of a draft, each marked
answered or open, and decides; the decision is the calibrated probability that "Yes" follows "Refine:", read off the
logits, never parsed from text. The Truster of Section 3.4 has a scalar head instead of words.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from langchain_core.documents import Document
from langchain_core.messages import convert_to_openai_messages

from artrag import prompts
from artrag.errors import PartError, UnknownModelError
from artrag.evidence import examine
from artrag.models.askers import MOST_SUBQUESTIONS
from artrag.models.causal_model import WINDOW, CausalModel, Head, Message
from artrag.models.parts import Part, check_base, probability, read_part
from artrag.models.references import weights_folder
from artrag.models.weights import base_weights
from artrag.passages import numbered
from artrag.protocols import Doubt, Subquestion

Kind = Literal["asker", "truster"]
Item = tuple[str, str, Sequence[Document] | None]
"""A question, a draft or an answer to it, and the passages it was written from (None: reasoned without any)."""

DECISION = "Refine:"
YES, NO = " Yes", " No"
MOST_WORDS = 160
"""Tokens that the subquestions may have."""

_LINE = re.compile(r"^[ \t]*-[ \t]*(?P<text>\S.*?)[ \t]*\((?P<mark>answered|open)\)[ \t]*$", re.MULTILINE)


def asker_prompt(question: str, draft: str, passages: Sequence[Document] | None) -> list[Message]:
    """What the Asker reads (`prompts/asker.md`), its arithmetic checked by a calculator."""
    return _messages("asker", passages, question=question, draft=draft, checks=checks(question, draft, passages))


def truster_prompt(question: str, answer: str, passages: Sequence[Document] | None) -> list[Message]:
    """What the Truster reads (`prompts/truster.md`), its arithmetic checked by a calculator."""
    return _messages("truster", passages, question=question, answer=answer, checks=checks(question, answer, passages))


def _messages(name: Kind, passages: Sequence[Document] | None, **values: str) -> list[Message]:
    made = prompts.load(name).format_messages(passages=numbered(passages), **values)
    return [{"role": m["role"], "content": m["content"].strip()} for m in convert_to_openai_messages(made)]


def prompt_digest(kind: Kind) -> str:
    """Tells the prompt that the weights were trained with from others."""
    texts = [getattr(message, "prompt", message) for message in prompts.load(kind).messages]
    return hashlib.sha256("\n".join(str(getattr(text, "template", text)) for text in texts).encode()).hexdigest()


def checks(question: str, answer: str, passages: Sequence[Document] | None) -> str:
    """What can be checked about an answer without a model, in words: small models cannot calculate."""
    seen = examine(question, answer, passages)
    said = []
    if seen.wrong:
        said.append(f"{len(seen.wrong)} of {seen.equations} equations wrong: {'; '.join(seen.wrong[:3])}")
    else:
        said.append(f"{seen.equations} equations, none wrong" if seen.equations else "no equation")
    if passages is not None:
        said.append(f"{seen.support:.0%} stands in the passages, {seen.numbers_found:.0%} of its numbers are known")
    if seen.refuses or seen.empty:
        said.append("gives no answer")
    return "; ".join(said)


def written(asked: Sequence[Subquestion]) -> str:
    """Subquestions as the Asker writes them, one a line, ready for the decision that follows."""
    lines = [f"- {' '.join(one.text.split())} ({'answered' if one.answered else 'open'})" for one in asked]
    return "".join(f"{line}\n" for line in lines)


def read(text: str) -> list[Subquestion]:
    """The subquestions in a text of the Asker, each once, at most six; other lines are passed over."""
    found = {match["text"]: match["mark"] == "answered" for match in _LINE.finditer(text.split(DECISION)[0])}
    return [Subquestion(question, answered) for question, answered in found.items()][:MOST_SUBQUESTIONS]


class CausalAsker:
    """A trained Asker that writes subquestions and reads its decision off the logits."""

    def __init__(self, model: CausalModel, part: Part) -> None:
        self._model, self.part = model, part

    @classmethod
    def load(cls, folder: str | Path, *, base: str = "") -> "CausalAsker":
        """Load a trained part; its LoRA weights are merged into the base model in float32, once.

        Args:
            folder: holds `part.json` and the adapter.
            base: reference of the base model, where it is no longer found under the part's own.

        Raises:
            PartError: no causal Asker, or one of another base model, format or prompt.
            MissingExtraError: peft, torch or transformers is not installed.
        """
        return cls(*_opened(Path(folder), "asker", base))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """The threshold chosen with these weights."""
        return self.part.thresholds

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`."""
        item = (question, draft, passages)
        asked = self.subquestions([item])
        doubt = probability(self.part.calibration, self.log_odds([item], asked)[0])
        unanswered = sum(not one.answered for one in asked[0])
        said = "no subquestion" if not asked[0] else f"{unanswered} of {len(asked[0])} subquestions open"
        return Doubt(asked[0], doubt, f"{said}; {checks(question, draft, passages)}; {doubt:.2f} likely wrong")

    def subquestions(self, items: Sequence[Item]) -> list[list[Subquestion]]:
        """The subquestions of each draft, at most six, written greedily in batches."""
        room = self._model.window - MOST_WORDS
        rows = [self._model.prompt(asker_prompt(*item), room) for item in items]
        return [read(text) for text in self._model.write(rows, most=MOST_WORDS, until=DECISION)]

    def log_odds(self, items: Sequence[Item], asked: Sequence[Sequence[Subquestion]]) -> list[float]:
        """The raw score of each draft: how much likelier "Yes" than "No" follows "Refine:" after its subquestions."""
        rows = []
        for item, subquestions in zip(items, asked, strict=True):
            begun = self._model.tokens(written(subquestions) + DECISION)
            rows.append(self._model.prompt(asker_prompt(*item), self._model.window - len(begun) - 2) + begun)
        return self._model.log_odds(rows, YES, NO)


class CausalTruster:
    """A trained Truster with a scalar head; it reads one answer at a time, so no score depends on another answer."""

    pointwise = True

    def __init__(self, model: CausalModel, part: Part) -> None:
        self._model, self.part = model, part

    @classmethod
    def load(cls, folder: str | Path, *, base: str = "") -> "CausalTruster":
        """Load a trained part; arguments and errors as for `CausalAsker.load`."""
        return cls(*_opened(Path(folder), "truster", base))

    def limits(self, passages: Sequence[Document] | None = None) -> Mapping[str, float]:
        """Margin and floor chosen with these weights."""
        return self.part.thresholds

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`."""
        return self.scores([(question, answer, passages) for answer in answers])

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`."""
        return probability(self.part.calibration, self.scores([(question, answer, passages)])[0])

    def scores(self, items: Sequence[Item]) -> list[float]:
        """The raw score of each answer."""
        rows = [self._model.prompt(truster_prompt(*item), self._model.window) for item in items]
        return [value for (value,) in self._model.projected(rows, self._model.model.score.weight)]


def _opened(folder: Path, kind: Kind, base: str) -> tuple[CausalModel, Part]:
    part = read_part(folder, kind)
    if part.variant != "causal":
        raise PartError(f"{str(folder)!r} holds a {kind} of the variant {part.variant!r}: this reads 'causal' ones")
    if part.options.get("prompt") != prompt_digest(kind):
        raise PartError(f"this {kind} was trained with another prompts/{kind}.md: put that one back, or train it again")
    try:
        weights = weights_folder(base or part.base)
    except UnknownModelError as error:
        raise PartError(f"the base model {base or part.base!r} of this {kind} is not there ({error})") from None
    check_base(part, base_weights(weights))
    window = int(part.options.get("window", WINDOW))
    head: Head = "words" if kind == "asker" else "scalar"
    return CausalModel.load(weights, head, adapter=folder, window=window), part
