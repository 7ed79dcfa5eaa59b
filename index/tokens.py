"""Tokens for BM25: Unicode words, code identifiers split and whole, English stems, pairs of CJK characters."""

import re

from artrag.text import STOP_WORDS, codes, is_cjk, stem, words

_IDENTIFIER = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]*\b")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def tokenize(text: str) -> list[str]:
    """Tokens of a document or a query, with repetitions.

    `parse_HTTPHeader2` gives the whole identifier and its parts; `XYZ-123` the whole code, beside its words.
    """
    found: list[str] = codes(text)
    for name in _IDENTIFIER.findall(text):
        parts = _PARTS.findall(name)
        if len(parts) > 1:
            found.append(name.lower())
            # "nCoV" and "H7N9" have but one part that is longer than a letter: they are names, not compounds.
            compound = [part for part in parts if len(part) > 1]
            found += [stem(part.lower()) for part in compound if len(compound) > 1]
    for word in words(text):
        if word not in STOP_WORDS and (len(word) > 1 or word.isdigit() or is_cjk(word)):
            found.append(stem(word))
    return found
