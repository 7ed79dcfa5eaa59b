"""The verifier: does a passage answer a question, or does it only speak of the same things?

LoRA weights of the embedded chat model, taught on questions that their paragraph answers and on others that it only
seems to (SQuAD 2.0, Rajpurkar et al., arXiv 1806.03822). The words of an answer cannot tell that.
"""

import math
from functools import lru_cache
from typing import Any

from langchain_core.documents import Document

from artrag import prompts
from artrag.errors import PromptTooLongError
from artrag.models.references import load_chat
from artrag.passages import tagged
from artrag.settings import EMBEDDED_BASE

SHIPPED_VERIFIER = f"{EMBEDDED_BASE}+verifier"
REMEMBERED = 1024
CERTAIN = 6.0
"""No logit counts for more."""


class Verifier:
    """Reads a passage and a question, and says how sure it is that the one answers the other."""

    def __init__(self, chat: Any) -> None:
        """`chat` is a `LocalChat`; its weights decide what its "Yes" is worth."""
        self._chat = chat
        self.about = str(getattr(chat, "name_or_path", ""))
        """Tells it from others: its base and the checksum of its weights."""
        self._read = lru_cache(maxsize=REMEMBERED)(self._asked)

    def logit(self, question: str, passage: Document) -> float:
        """log(P("Yes") / P("No")), at most 6 either way; 0 where the passage is too long to be read."""
        return self._read(question, tagged(passage))

    def _asked(self, question: str, passage: str) -> float:
        asked = prompts.load("verify").format_messages(passage=passage, question=question)
        try:
            yes, no = self._chat.choice_probabilities(asked, ("Yes", "No"))
        except PromptTooLongError:
            return 0.0
        return max(-CERTAIN, min(CERTAIN, math.log(max(yes, 1e-9) / max(no, 1e-9))))


def open_verifier(reference: str = SHIPPED_VERIFIER) -> Verifier:
    """The verifier that a model reference names, once a process; raises as `load_chat` does."""
    return _opened(reference)


@lru_cache(maxsize=2)
def _opened(reference: str) -> Verifier:
    return Verifier(load_chat(reference))
