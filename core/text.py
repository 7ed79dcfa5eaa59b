"""Words, sentences and numbers of a text, in any script."""

import re
import unicodedata
from functools import lru_cache
from threading import Lock

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing down during each few for from further had has have having he her here hers him his how i
    if in into is it its itself just me more most my no nor not now of off on once only or other our out over own per
    s same she should so some such t than that the their them then there these they this those through to too under
    until up upon very was we were what when where which while who whom why will with would you your""".split()
)

# One run of CJK characters, or one word with inner hyphens, dots and apostrophes left to the caller.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]+|(?:(?![{_CJK}])[^\W_])+")
_PLAIN_WORD = re.compile(r"[^\W_]+")
_IS_CJK = re.compile(rf"[{_CJK}]")
_CODE = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)+\b")
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NUMBER = re.compile(r"(?<![\w.])(?<![A-Za-z]-)[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w-])")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9\u00c0-\u024f])|(?<=[。！？])|\n\s*\n|\n(?=\s*(?:[-*|#]|\d+[.)]\s))"
)


def readable(text: str) -> str:
    """The text without control characters (other than tabs and ends of lines); half characters become "?"."""
    return _CONTROL.sub("", text.encode("utf-8", "replace").decode("utf-8"))


def visible(text: str) -> str:
    """The text as a reader sees it: `readable`, and without invisible characters.

    Those are zero-width spaces, marks that turn the direction of writing, and tag characters, which can carry whole
    hidden sentences. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
    """
    return _INVISIBLE.sub("", readable(text))


def is_cjk(text: str) -> bool:
    """Does `text` hold Chinese, Japanese or Korean characters?"""
    return bool(_IS_CJK.search(text))


def words(text: str) -> list[str]:
    """Lower-case words; runs of Chinese, Japanese and Korean come as overlapping pairs of characters."""
    text = unicodedata.normalize("NFKC", text).lower()
    if not is_cjk(text):
        return _PLAIN_WORD.findall(text)
    found: list[str] = []
    for word in _WORD.findall(text):
        if is_cjk(word):
            found.extend(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        else:
            found.append(word)
    return found


_STEMMING = Lock()
"""The stemmer keeps the word that it works on: two threads at once would get stems of neither."""


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The English stem of a word (Snowball); other scripts are left as they are."""
    if not word.isascii():
        return word
    with _STEMMING:
        stemmed: str = _stemmer().stemWord(word)
    return stemmed


@lru_cache(maxsize=1)
def _stemmer():  # type: ignore[no-untyped-def]
    import snowballstemmer  # here: `import artrag` stays light

    return snowballstemmer.stemmer("english")


def terms(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def codes(text: str) -> list[str]:
    """Identifiers such as `XYZ-123`, `AB-9000` or `max_flow_2`, lower-cased, in order."""
    return [code.lower() for code in _CODE.findall(text)]


def numbers(text: str) -> list[float]:
    """The plain numbers of a text, in order; digits inside codes do not count."""
    return [float(found.replace(",", "").replace("−", "-")) for found in _NUMBER.findall(text)]


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped, none empty; list items and table rows count as sentences."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]
