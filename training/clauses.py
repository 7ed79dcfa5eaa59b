"""Long candidate answers: the part of a sentence that says why, how, what for, which ones, or what something is."""

import re

from artrag.text import sentences
from artrag.training.candidates import CITATION, Span

FEWEST, MOST = 4, 30
"""Words of a clause."""
_LISTS = r"such as|including|namely|consist(?:s|ed|ing)? of|composed of|includes?|compris(?:es?|ed|ing)"
_BEGINS = re.compile(
    rf"\b(?:(?P<list>{_LISTS})|because(?: of)?|due to|owing to|as a result of|in order to|so that|"
    r"(?:characteri[sz]|defin|describ)ed (?:by|as)|known as|leads? to|led to|result(?:s|ed)? in|"
    r"responsible for|associated with|involved in|depend(?:s|ed)? on|roles? in|aim(?:s|ed)? to|designed (?:to|for)|"
    r"used (?:for|to)|needed (?:for|to)|required (?:for|to)|capable of|able to|"
    r"(?:show(?:s|ed|n)?|suggest(?:s|ed|ing)?|found|demonstrate[sd]?|indicate[sd]?|reported|concluded?|revealed) that|"
    r"(?:caused|transmitted|spread|mediated|induced|activated|inhibited|followed|replaced|limited) (?:by|through|via)|"
    r"(?:is|are|was|were)(?= (?:an?|the|to)\b)|(?:by|through)(?= \w+ing\b))\s+",
    re.IGNORECASE,
)
_NEXT = r"[;:(]|,? (?:which|whereas|while|although|but|however|because|since|where|who)\b"
_ENDS_LIST = re.compile(rf"{_NEXT}|$")
_ENDS = re.compile(rf"{_NEXT}|, (?:and|or|so|with|as|in|it|they|we|the|this|\w+ing)\b|$")
_LEANS = re.compile(
    r"\b(?:it|its|they|their|them|this|these|those|we|our|he|she|his|her|such|following)\b", re.IGNORECASE
)


def clauses(passage: str) -> list[Span]:
    """The clauses of a passage that a question could ask for, in their order, one of a sentence at most.

    What follows a word such as "because", "by" or "is" up to the next clause: 4 to 30 words, with no citation in it and
    no pronoun that leans on words before it.
    """
    found: list[Span] = []
    at = 0
    for sentence in sentences(passage):
        begun = passage.find(sentence, at)
        if begun < 0:
            continue
        at = begun + len(sentence)
        said = sentence.rstrip(".!。 ")
        for begin in _BEGINS.finditer(said):
            end = (_ENDS_LIST if begin["list"] else _ENDS).search(said, begin.end() + 1)
            text = said[begin.end() : end.start() if end else len(said)].rstrip(" ,")
            if telling(text):
                found.append(Span(text, begun + begin.end(), "clause"))
                break
    return found


def telling(text: str) -> bool:
    """May this be asked for? It is long enough and says by itself what it says."""
    return FEWEST <= len(text.split()) <= MOST and not (CITATION.search(text) or _LEANS.search(text) or "\n" in text)
