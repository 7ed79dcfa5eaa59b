"""Deterministic context: what situates a chunk in its document, without a model."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from artrag.index.chunking import headings

LONGEST_LEAD = 200
LONGEST_CONTEXT = 700
LETTERS = 8
"""A line with fewer says nothing: "pass", "public:", "where"."""

_READ = 20_000
_LICENCE = re.compile(
    r"licen[cs]ed (?:under|to)|under (?:the|an?) .*licen[cs]e|governed by|warrant(?:y|ies)|redistribut"
    r"|permission is hereby",
    re.IGNORECASE,
)
_DEFINITION = re.compile(
    r"(?:(?:export|default|pub(?:\([a-z]+\))?|async|static|public|private|protected|internal|final|abstract|unsafe|const"
    r"|inline|virtual|explicit|override|sealed|data)\s+)*"
    r"(?:def|class|fn|func|function|struct|enum|trait|impl|interface|type|module|macro_rules!|object|record|template|union"
    r"|typedef|#define)\b"
    r"|[\w:<>*&\[\], ]+\s[*&]*[\w:~]+\([^;=]*\)\s*(?:const\s*)?(?:throws [\w, .]+)?\{?$"
)
_OWNER = re.compile(
    r"copyright|\(c\)|©|spdx-|(?:\w+ )?licen[cs]ed?\b|all rights reserved|see licen[cs]e", re.IGNORECASE
)
_IMPORT = re.compile(
    r"(?:import|from\s+[\w.]+\s+import|(?:pub(?:\([a-z]+\))?\s+)?use|using|#\s*include|#import|@import|require\w*|package"
    r"|extern crate)(?![\w'])|(?:const|let|var)\s.*\brequire\s*\("
)
_PREPROCESSOR = re.compile(r"#\s*(?:pragma|if|ifdef|ifndef|else|elif|endif|define\s+\w+\s*$|undef)\b|#!|#!?\[")
_BOILERPLATE = re.compile(
    r"""(?:[\s#/*;<!%-]*-\*-.*-\*-|[#/"\s]*coding[:=]|['"]use \w+['"]|(?:pub\s+)?mod\s+\w+;|(?:inline\s+)?namespace\b"""
    r"""|extern\s+"C"|<[!?/]|<(?:html|head|body|meta|link|script|style|div)\b|(?:module\.)?exports\s*="""
    r"""|(?:if )?\(?__\w+__\s*=|[/*#\s]*[\\@](?:file|author|version|since|date)\b|vim?:|eslint-|---$|\+\+\+$)"""
)
_COMMENT = re.compile(r"^(?:[\s/*;<!%=]|--|\"\"\"|'''|#(?!\w)|\"|')+")
_COMMENTED = re.compile(r"\s*(?://|/\*|\*|#(?!\s*(?:include|define|if|pragma)\b)|--|;|%|<!--|\"\"\"|''')")
_ENDING = re.compile(r"(?:\s|\*/|-->|\"\"\"|''')+$")
_LETTERS = re.compile(r"[^\W\d_]")
_HASH = re.compile(r"#")
_CODE = frozenset(
    (
        ".py .pyi .pyx .js .jsx .mjs .cjs .ts .tsx .vue .java .kt .kts .scala .groovy .gradle .go .rs .c .h .cc .cpp "
        ".cxx .hpp .hh .cu .m .mm .cs .fs .vb .rb .php .swift .dart .lua .pl .pm .r .jl .hs .ml .ex .exs .erl .clj "
        ".zig .nim .sol .proto .sh .bash .zsh .ps1 .sql .cmake .mk .tf"
    ).split()
)
_REFUSAL = re.compile(r"\b(?:i cannot|i can't|i'm sorry|i am sorry|as an ai|unable to)\b", re.IGNORECASE)
_PREAMBLE = re.compile(r"\s*(?:sure|certainly|of course|here is|here's|the succinct context)\b", re.IGNORECASE)


def title_of(text: str, path: str) -> str:
    """A document's title: its first heading, else its first short line, else its file name; of source code that."""
    if is_code(path):
        return path.rsplit("/", 1)[-1]
    found = headings(text[:5000])
    if found:
        return min(found[:3], key=lambda heading: (heading[1], heading[0]))[2]
    first = next((line.strip() for line in text[:2000].splitlines() if line.strip()), "")
    return first if 0 < len(first) <= 120 else path.rsplit("/", 1)[-1]


def lead_of(text: str, longest: int = LONGEST_LEAD, path: str = "") -> str:
    """The first lines of a document that say something; of source code the names that it defines, too.

    Left out are headings, licence texts, imports, include guards, module and package lines, and lines without words.
    The opening (comment, docstring, first definitions) has half of the room, where there are definitions after it.

    Args:
        text: the document.
        longest: characters the lead may have; a line that is longer is cut at a word.
        path: of the document; in source code a line that begins with "#" is a comment, elsewhere a heading.
    """
    code = is_code(path)
    told = list(dict.fromkeys(_telling(text[:_READ], code)))
    defined = [line for line in told if len(line) <= 200 and _DEFINITION.match(line)] if code else []
    opening = _filled(told, longest // 2 if defined else longest)
    room = longest - len(opening) - 1
    rest = _filled([line for line in defined if line not in opening], room) if opening and room > 0 else ""
    return f"{opening}\n{rest}" if rest else opening


def lead_beside(lead: str, chunk: str, path: str) -> str:
    """The lead without the lines that the chunk has itself: said twice, they would weigh twice.

    The chunk that begins the document has none: what comes after it does not situate it. Source code keeps all lines:
    there it helps that what a file defines weighs more (docs/experiments.md).
    """
    lines = lead.splitlines()
    if is_code(path) or not lines:
        return lead
    return "" if lines[0] in chunk else "\n".join(line for line in lines if line not in chunk)


def _filled(lines: list[str], room: int) -> str:
    """As many of the lines as there is room for, the last one cut at a word."""
    taken = ""
    for line in lines:
        left = room - len(taken) - bool(taken)
        if len(line) > left:
            cut = line[:left].rsplit(None, 1)[0] if " " in line[:left] else line[: max(0, left)]
            return taken or cut
        taken = f"{taken}\n{line}" if taken else line
    return taken


def _telling(text: str, code: bool) -> Iterator[str]:
    """The lines that say something, without their comment marks."""
    open_brackets = 0  # of an import that goes on over several lines
    for block in _blocks(text):
        if _COMMENTED.match(block[0]) and _LICENCE.search(" ".join(block)):
            continue
        for line in block:
            bare = line.strip()
            if open_brackets or _statement(bare):
                open_brackets = max(0, open_brackets + sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}")))
                continue
            if _BOILERPLATE.match(bare) or (_PREPROCESSOR if code else _HASH).match(bare):
                continue
            said = _ENDING.sub("", _COMMENT.sub("", bare))
            if len(_LETTERS.findall(said)) >= LETTERS and not _OWNER.match(said) and not _statement(said):
                yield said


def _blocks(text: str) -> Iterator[list[str]]:
    """Runs of lines: a comment is a run of its own, and ends where the code begins."""
    block: list[str] = []
    inside, last = False, ""
    for line in text.splitlines():
        bare = line.strip()
        kind = "doc" if bare[:3] in ('"""', "'''") else "comment" if inside or _COMMENTED.match(line) else "code"
        if bare.startswith("/*"):
            inside = True
        if inside and "*/" in bare:
            inside = False
        if block and (kind != last or (not bare and not inside)):
            yield block
            block = []
        if bare:
            block.append(line)
            last = kind
    if block:
        yield block


def _statement(line: str) -> bool:
    """Is this an import, and no English that begins with a word such as "import" or "use"?"""
    sentence = len(line.split()) > 4 and not any(mark in line for mark in ";{}()=\"'<>")
    return bool(_IMPORT.match(line)) and not sentence


def is_code(path: str) -> bool:
    """Is this the path of source code?"""
    return PurePosixPath(path).suffix.lower() in _CODE


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
