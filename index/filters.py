"""Filters on metadata, as SQL with every word of the caller's bound, none of it written into the query.

A filter is a mapping; all of its conditions must hold. A condition is a value, or a list of which one must hold:

    {"document": "trials/alpha.md"}          the document's id
    {"path": ["docs/*", "README.md"]}        its path; `*` stands for anything, `?` for one character
    {"title": "Pump manual"}                 its title
    {"year": [2019, 2020], "draft": False}   metadata of the document or of the chunk ("page", "section");
                                             of a list, one element must be equal
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from artrag.errors import UsageError

# Text equals text, a number a number, true only true: 1 is not "1", and not true either.
_EQUAL = """w.atom IS {0}.atom AND (w.type = {0}.type OR
    (w.type IN ('integer', 'real') AND {0}.type IN ('integer', 'real')))"""
_MATCHES = f"""EXISTS (SELECT 1 FROM json_each(?) AS w WHERE {_EQUAL.format("m")})
    OR (m.type = 'array' AND EXISTS (
        SELECT 1 FROM json_each(?) AS w, json_each(m.value) AS e WHERE {_EQUAL.format("e")}))"""
_METADATA = f"""
document IN (SELECT documents.id FROM documents, json_each(documents.metadata) AS m WHERE m.key = ? AND ({_MATCHES}))
OR (instr(chunks.metadata, ?) AND EXISTS (
    SELECT 1 FROM json_each(chunks.metadata) AS m WHERE m.key = ? AND ({_MATCHES})))"""
_TITLE = "document IN (SELECT id FROM documents WHERE title IN (SELECT value FROM json_each(?)))"
_DOCUMENT = "document IN (SELECT value FROM json_each(?))"
_PATH = """document IN (SELECT documents.id FROM documents, json_each(?) AS w
    WHERE documents.path = w.value OR documents.path GLOB w.value)"""


def condition(key: Any, wanted: Any) -> tuple[str, list[Any]]:
    """One condition as a clause over `chunks`, and the values bound in it.

    Raises:
        UsageError: the key is no text, or the value neither text, number, true, false, None, nor a list of them.
    """
    values = (
        list(wanted) if isinstance(wanted, Sequence | set | frozenset) and not isinstance(wanted, str) else [wanted]
    )
    named = key in ("document", "path", "title")
    if (
        not isinstance(key, str)
        or not _is_plain(key)
        or any(not _is_plain(value) or (named and not isinstance(value, str)) for value in values)
    ):
        kinds = "texts" if named else "texts, numbers, true, false or None"
        raise UsageError(f"cannot filter by {key!r}: {wanted!r}: give {kinds}, one or a list of them")
    bound = json.dumps(values)
    if key == "document":
        return _DOCUMENT, [bound]
    if key == "path":
        return _PATH, [bound]
    if key == "title":
        return _TITLE, [bound]
    return _METADATA, [key, bound, bound, json.dumps(key, ensure_ascii=False), key, bound, bound]


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)  # halves of none
    if isinstance(value, int):  # true and false, too; SQLite counts in 64 bits
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, float) and math.isfinite(value)
