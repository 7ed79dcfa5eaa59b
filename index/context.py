"""Deterministic context: what situates a chunk in its document, without a model."""

import re

from artrag.index.chunking import headings

LONGEST_LEAD = 200
LONGEST_CONTEXT = 700

_LICENCE = re.compile(r"copyright|licen[cs]e|spdx|all rights reserved|warrant", re.IGNORECASE)
_IMPORT = re.compile(r"^\s*(?:import|from|use|using|#include|require|package|const .*require)\b")
_REFUSAL = re.compile(r"\b(?:i cannot|i can't|i'm sorry|i am sorry|as an ai|unable to)\b", re.IGNORECASE)
_PREAMBLE = re.compile(r"\s*(?:sure|certainly|of course|here is|here's|the succinct context)\b", re.IGNORECASE)
_COMMENT = re.compile(r"^[\s#/*;\"'<!-]+")


def title_of(text: str, path: str) -> str:
    """A document's title: its first heading, else its first short line, else its file name."""
    found = headings(text[:5000])
    if found:
        return min(found[:3], key=lambda heading: (heading[1], heading[0]))[2]
    first = next((line.strip() for line in text[:2000].splitlines() if line.strip()), "")
    return first if 0 < len(first) <= 120 else path.rsplit("/", 1)[-1]


def lead_of(text: str) -> str:
    """The first words of a document: after headings, licence and imports, at most 200 characters."""
    for line in text[:5000].splitlines():
        bare = _COMMENT.sub("", line).strip()
        if line.startswith("#") or len(bare) < 20 or _LICENCE.search(bare) or _IMPORT.match(line):
            continue
        return bare[:LONGEST_LEAD].rsplit(" ", 1)[0] if len(bare) > LONGEST_LEAD else bare
    return ""


def situate(title: str, section: tuple[str, ...], path: str, lead: str = "") -> str:
    """One or two lines: title, section path and file path, then the document's lead."""
    trail = [title, *(name for name in section if name != title)]
    head = " > ".join(part for part in trail if part)
    place = f"{head} ({path})" if path else head
    return f"{place}\n{lead}" if lead else place


def fault(context: str, chunk: str) -> str:
    """Why a context written by a model is unusable, or an empty string.

    It may not be empty, refuse, open with a preamble, run on, repeat itself, or echo the chunk.
    """
    words = context.lower().split()
    if len(words) < 3:
        return "empty"
    if len(context) > LONGEST_CONTEXT:
        return "over-long"
    if _REFUSAL.search(context):
        return "refusal"
    if _PREAMBLE.match(context):
        return "preamble"
    triples = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    if len(set(triples)) < 0.7 * len(triples):
        return "repetition"
    said = {tuple(pair) for pair in zip(chunk.lower().split(), chunk.lower().split()[1:], strict=False)}
    pairs = list(zip(words, words[1:], strict=False))
    if sum(pair in said for pair in pairs) > 0.6 * len(pairs):
        return "echo"
    return ""
