"""What a question needs: passages, a calculation, or neither. By rule, from what retrieval brought."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from langchain_core.documents import Document

from artrag.evidence import ON_TOPIC, coverage, whole
from artrag.text import numbers

Need = Literal["retrieval", "arithmetic", "neither"]
_WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twice|half|double|triple"
_COUNTED = re.compile(rf"\b(?:{_WORDS})\b", re.IGNORECASE)
_ASKED = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|heavy|fast|often)\b|[-+*/×÷=]|\bcalculate\b|\bwhat is \d", re.I
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a question needs, and why."""

    need: Need
    reason: str


def route_of(question: str, passages: Sequence[Document] | None) -> Route:
    """What a question needs.

    Args:
        question: as it was asked.
        passages: what retrieval brought; None where there is nothing to search.
    """
    near = max((coverage(question, whole(passage)) for passage in passages or ()), default=0.0)
    given = len(numbers(question)) + len(_COUNTED.findall(question))
    if near >= ON_TOPIC:
        return Route("retrieval", f"a passage holds {near:.0%} of what the question speaks of")
    if given >= 2 and _ASKED.search(question):
        return Route("arithmetic", f"it gives {given} numbers and asks for one")
    return Route("neither", f"no passage holds more than {near:.0%} of what the question speaks of")
