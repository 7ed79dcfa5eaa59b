"""Cut a document at its own seams: headings, then paragraphs, lines, sentences; for source code its definitions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

from artrag.index.definitions import Definitions
from artrag.text import is_cjk

CHUNK_SIZE = 800
OVERLAP = 80
WHOLE = 1.5
"""Of the size of a chunk: a section that is no longer stays whole."""
CUT_LIKE = f"cut 3: {CHUNK_SIZE}/{OVERLAP}"
"""Count it up when texts are cut in another way: then the documents of old indexes are cut again."""

_CODE = {
    ".py": Language.PYTHON,
    ".js": Language.JS,
    ".jsx": Language.JS,
    ".ts": Language.TS,
    ".tsx": Language.TS,
    ".java": Language.JAVA,
    ".go": Language.GO,
    ".rs": Language.RUST,
    ".c": Language.C,
    ".h": Language.C,
    ".cc": Language.CPP,
    ".cpp": Language.CPP,
    ".hpp": Language.CPP,
    ".cs": Language.CSHARP,
    ".rb": Language.RUBY,
    ".php": Language.PHP,
    ".swift": Language.SWIFT,
    ".kt": Language.KOTLIN,
    ".scala": Language.SCALA,
    ".tex": Language.LATEX,
}
_PROSE = ["\n\n", "\n", "。", "！", "？", ". ", "；", "; ", "，", ", ", " "]
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,})[ \t]*$")
_TITLE = re.compile(r"(?![-*+>|#=`~ \t]|\d+[.)] |<)[^|]{1,120}$")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:[^\n]*\n){0,200}?---[ \t]*(?:\n|$)")
_WORD = re.compile(r"\S")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_REMARKS = {
    ".yaml",
    ".yml",
    ".toml",
    ".ini",
    ".cfg",
    ".conf",
    ".properties",
    ".env",
    ".sh",
    ".bash",
    ".zsh",
    ".ps1",
    ".r",
}
_REMARKS |= {
    ".jl",
    ".pl",
    ".mk",
    ".cmake",
    ".tf",
    ".sql",
    ".csv",
    ".tsv",
    ".log",
    ".json",
    ".xml",
    ".diff",
    ".patch",
    ".pdf",
}
_REMARKED = {"Makefile", "Dockerfile", "Gemfile", "Rakefile", "CMakeLists.txt", "requirements.txt", "robots.txt"}
"""Here a line that begins with "#" is no heading."""
_ATTACHED = ("@", "#", "//", "/*", "*", "--", "template")
_BLOCK = 200_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A cut: `document[start:end]` is its text.

    `section` are the headings, or in source code the definitions, that it stands below, outermost first.
    """

    text: str
    start: int
    end: int
    section: tuple[str, ...] = ()


def cut(text: str, path: str = "", *, size: int = CHUNK_SIZE, overlap: int = OVERLAP) -> list[Chunk]:
    """Cut a text into chunks of at most about `size` characters (a CJK character counts as three).

    A section that is at most half as long again stays whole: better one passage than one and a stump. Markdown (`.md`,
    and whatever was converted to it) never mixes two sections in a chunk. Source code is cut before
    definitions, together with the remarks and decorators on them. Time and memory grow with the text, not faster.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _CODE:
        return _cut_code(text, suffix, size, overlap)
    with_headings = suffix not in _REMARKS and PurePosixPath(path).name not in _REMARKED
    sections = _sections(text) if with_headings else [(0, len(text), ())]
    return [
        Chunk(text[start:end], start, end, section)
        for first, last, section in sections
        for start, end in _whole(text, first, last, size) or _spans(text, first, last, _PROSE, "end", size, overlap)
    ]


def _whole(text: str, first: int, last: int, size: int) -> list[tuple[int, int]]:
    """The one span of a section that stays whole; none where it is longer, or empty."""
    if last - first > 4 * size:  # white space apart, it cannot be short
        return []
    body = text[first:last]
    start, end = first + len(body) - len(body.lstrip()), first + len(body.rstrip())
    return [(start, end)] if 0 < _length(text[start:end]) <= WHOLE * size else []


def _cut_code(text: str, suffix: str, size: int, overlap: int) -> list[Chunk]:
    separators = RecursiveCharacterTextSplitter.get_separators_for_language(_CODE[suffix])[:-1]
    spans: list[tuple[int, int]] = []
    for start, end in _spans(text, 0, len(text), separators, "start", size, overlap):
        # A chunk begins with its first line's indentation, and with the remarks that belong to what it defines.
        while start and text[start - 1] in " \t":
            start -= 1
        if spans and spans[-1][1] == start - 1:
            before = spans[-1][0]
            moved = _remarks(text, before, start)
            if before < moved < start and end - moved <= size + overlap:
                spans[-1], start = (before, before + len(text[before:moved].rstrip())), moved
        spans.append((start, end))
    around = Definitions(text, suffix)
    return [Chunk(text[start:end], start, end, around.enclosing(start)) for start, end in spans]


def _remarks(text: str, first: int, last: int) -> int:
    """Where the run of remarks and decorators begins that ends at `last`, the beginning of a line."""
    while last > first:
        line = text.rfind("\n", first, last - 1) + 1 or first
        if not text[line:last].lstrip().startswith(_ATTACHED):
            break
        last = line
    return last


def _spans(
    text: str, first: int, last: int, separators: list[str], keep: Literal["start", "end"], size: int, overlap: int
) -> Iterator[tuple[int, int]]:
    """Where the pieces of `text[first:last]` stand."""
    splitter = RecursiveCharacterTextSplitter(
        separators=separators, keep_separator=keep, chunk_size=size, chunk_overlap=overlap, length_function=_length
    )
    for begin, end in _blocks(text, first, last):
        body, done = text[begin:end], 0
        for piece in splitter.split_text(body):
            # Pieces come in order and leave no gap but white space: a piece stands at its last place before the gap.
            ahead = _WORD.search(body, done)
            at = body.rfind(piece, 0, (ahead.start() if ahead else done) + len(piece))
            done = at + len(piece)
            # A run without a seam is as long as it is: base64, say. It is cut by the ruler.
            long = _length(piece) > size + overlap
            width = max(1, len(piece) * size // _length(piece)) if long else len(piece)
            for start in range(at, done, width):
                part = body[start : min(start + width, done)]
                if bare := part.strip():
                    start += part.index(bare[0]) if part[0] != bare[0] else 0
                    yield begin + start, begin + start + len(bare)


def _blocks(text: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    """A long text in blocks that end with a paragraph, a line, or at worst a character.

    The splitter takes lists of all parts of what it is given, and of a line without an end those are its characters.
    """
    while last - first > _BLOCK:
        middle, end = first + _BLOCK // 2, first + _BLOCK
        cuts = (text.rfind(seam, middle, end) + len(seam) for seam in ("\n\n", "\n", " "))
        end = next((cut for cut in cuts if cut > middle), end)
        yield first, end
        first = end
    yield first, last


def _length(text: str) -> int:
    return len(text) + 2 * sum(map(is_cjk, text)) if is_cjk(text) else len(text)


def headings(text: str) -> list[tuple[int, int, str]]:
    """The Markdown headings of a text: (offset, level, title).

    Underlined ones count, too; lines in fenced code and in the front matter do not.
    """
    found: list[tuple[int, int, str]] = []
    front = _FRONT_MATTER.match(text)
    at = front.end() if front else 0
    fence, before, two_before = "", (at, ""), ""
    for line in text[at:].splitlines(keepends=True) if at else text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        mark = _FENCE.match(bare)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (match := _HEADING.match(bare)):
            found.append((at, len(match[1]), match[2]))
        elif not fence and _UNDERLINE.match(bare) and _TITLE.match(before[1]) and not two_before.strip():
            found.append((before[0], 1 if bare[0] == "=" else 2, before[1].strip()))
        two_before, before = before[1], (at, "" if fence or mark else bare)
        at += len(line)
    return found


def _sections(text: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """(start, end, headings) of each section; a heading without a text of its own joins the next section."""
    found = headings(text)
    if not found:
        return [(0, len(text), ())]
    sections: list[tuple[int, int, tuple[str, ...]]] = []
    if text[: found[0][0]].strip():
        sections.append((0, found[0][0], ()))
    trail: list[tuple[int, str]] = []
    pending: int | None = None
    for (start, level, title), end in zip(found, [at for at, *_ in found[1:]] + [len(text)], strict=True):
        trail = [(depth, name) for depth, name in trail if depth < level] + [(level, title)]
        body = text[start:end].partition("\n")[2]
        begin = start if pending is None else pending
        if not body.strip() and end < len(text):
            pending = begin
            continue
        pending = None
        sections.append((begin, end, tuple(name for _, name in trail)))
    return sections
