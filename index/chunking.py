"""Cut a document at its own seams: headings, then paragraphs, lines, sentences; for source code its definitions."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

from artrag.text import is_cjk

CHUNK_SIZE = 800
OVERLAP = 80

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
_PROSE = ["\n\n", "\n", "。", "！", "？", ". ", "；", "; ", "，", ", ", " ", ""]
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_WORD = re.compile(r"\S")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A cut: `document[start:end]` is its text; `section` its headings, outermost first."""

    text: str
    start: int
    end: int
    section: tuple[str, ...] = ()


def cut(text: str, path: str = "", *, size: int = CHUNK_SIZE, overlap: int = OVERLAP) -> list[Chunk]:
    """Cut a text into chunks of at most about `size` characters (a CJK character counts as three).

    Markdown (`.md`, and whatever was converted to it) never mixes two sections in a chunk.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _CODE:
        separators, keep = RecursiveCharacterTextSplitter.get_separators_for_language(_CODE[suffix]), "start"
        sections: list[tuple[int, int, tuple[str, ...]]] = [(0, len(text), ())]
    else:
        separators, keep = _PROSE, "end"
        sections = _sections(text)
    splitter = RecursiveCharacterTextSplitter(
        separators=separators,
        keep_separator=keep,  # type: ignore[arg-type]
        chunk_size=size,
        chunk_overlap=overlap,
        length_function=_length,
    )
    chunks = []
    for start, end, section in sections:
        body, done = text[start:end], 0
        for piece in splitter.split_text(body):
            # Pieces come in order and leave no gap but white space: a piece stands at its last place before the gap.
            ahead = _WORD.search(body, done)
            at = body.rfind(piece, 0, (ahead.start() if ahead else done) + len(piece))
            done = at + len(piece)
            chunks.append(Chunk(piece, start + at, start + done, section))
    return chunks


def _length(text: str) -> int:
    return len(text) + 2 * sum(map(is_cjk, text)) if is_cjk(text) else len(text)


def headings(text: str) -> list[tuple[int, int, str]]:
    """The Markdown headings of a text: (offset, level, title); those inside fenced code do not count."""
    found, at, fenced = [], 0, False
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (match := _HEADING.match(line.rstrip("\r\n"))):
            found.append((at, len(match[1]), match[2]))
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
