"""Questions about source code, made by rule from its own documentation: what a retriever learns code from.

A definition with a comment that says what it does gives a question and the chunk that answers it. The question asks for
the definition by name, or by the comment's words; in the latter case the comment is mostly taken out of the chunk, so
that the code must be understood, not copied.
"""

import ast
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from artrag.index.chunking import Chunk, cut
from artrag.index.context import LONGEST_LEAD, lead_of, situate, title_of

SHORTEST, LONGEST = 20, 160
"""Characters of a comment's first sentence that can stand in a question."""
NAMED = 0.5
"""Share of questions that ask for a definition by its name."""
TAKEN_OUT = 0.7
"""Share of the other questions whose comment is taken out of the chunk."""

LEADS = (0, 120, LONGEST_LEAD)
"""Characters of the document's lead that a passage shows: an index has other leads, or none."""
BEFORE = 300
"""Characters of a chunk before the definition that are shown at most."""
SHORTEST_BODY = 40

SUFFIXES = (".py", ".js", ".ts", ".tsx", ".java", ".go", ".rs", ".c", ".h", ".cc", ".cpp", ".hpp")
TAKEN_OVER = frozenset(
    "vendor _vendor vendored third_party thirdparty thirdparty_files 3rdparty node_modules debian "
    "blib2to3 lib-rt _distutils".split()
)

_NAMED = (
    "What is the purpose of the `{name}` {kind}?",
    "What does the {name} {kind} do?",
    "How does the {name} {kind} work?",
    "What is {name} used for?",
    "What does {name} return?",
    "Where is {name} defined?",
)
_DESCRIBED = ("How can I {do}?", "Which {kind} {does}?", "How do you {do}?", "What {does}?")
_SLASHED = re.compile(r"/\*\*(.*?)\*/\s*((?:@[\w.]+(?:\([^)]*\))?\s*)*)([^\n;{]+)", re.DOTALL)
_LINES = re.compile(
    r"((?:^[ \t]*///?(?!/).*\n)+)[ \t]*((?:#\[[^\n]*\]\s*)*)((?:(?:pub|fn|struct|class|enum|trait|impl|func|type)\b|"
    r"(?!return\b|if\b|for\b|while\b|switch\b|else\b)[\w:<>,*&~][\w:<>,*&~ ]*\()[^\n;{]*)",
    re.MULTILINE,
)
_NAME = re.compile(
    r"\b(?:class|struct|interface|enum|trait|fn|type|function)\s+(\w+)|\bfunc\s+(?:\([^)]*\)\s*)?(\w+)|(\w+)\s*(?:<[^<>()]*>)?\("
)
_KINDS = ("class", "struct", "interface", "enum", "trait", "type")
_THIRD = re.compile(r"^([A-Z]\w+)s\b")


@dataclass(frozen=True, slots=True)
class Definition:
    """A documented definition: `text[start:at]` is its comment, `at` where its code begins."""

    name: str
    kind: str
    says: str
    start: int
    at: int


def definitions(text: str, path: str) -> Iterator[Definition]:
    """The documented definitions of a source file: Python by its syntax, other languages by their comments' form."""
    if PurePosixPath(path).suffix == ".py":
        yield from _python(text)
        return
    for found in _SLASHED.finditer(text):
        yield from _of(text, _plain(found[1]), found[3], found.start(), found.start(3))
    for found in _LINES.finditer(text):
        yield from _of(text, _plain(found[1]), found[3], found.start(), found.start(3))


def _python(text: str) -> Iterator[Definition]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("__"):
            continue
        said = ast.get_docstring(node)
        if said and (says := first_sentence(said)):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            doc = node.body[0]
            begin, end = lines[doc.lineno - 1], lines[min(doc.end_lineno or doc.lineno, len(lines) - 1)]
            yield Definition(node.name, kind, says, begin, end)


def _of(text: str, said: str, signature: str, start: int, at: int) -> Iterator[Definition]:
    found, says = _NAME.search(signature), first_sentence(said)
    if found and says:
        name = next(group for group in found.groups() if group)
        kind = next((word for word in _KINDS if re.search(rf"\b{word}\b", signature)), "method")
        if len(name) > 2 and name not in ("function", "return", "operator"):
            yield Definition(name, kind, says, start, at)


def _plain(comment: str) -> str:
    return "\n".join(re.sub(r"^\s*(?:\*+|/{2,3}!?)\s?", "", line) for line in comment.splitlines()).strip()


def first_sentence(comment: str) -> str:
    """The first sentence of a comment; empty where it says too little or too much, or is no English prose."""
    bare = re.sub(r"<[^>]+>|\{@\w+\s+([^}]*)\}|[`*]|:\w+:", lambda found: found[1] or "", comment.split("\n\n")[0])
    bare = re.split(r"(?<=[a-z)])[.:](?:\s|$)|@param|@return|Args:|Parameters", " ".join(bare.split()))[0].strip()
    plain = sum(word.isalpha() for word in bare.replace(",", "").split())
    return bare if SHORTEST <= len(bare) <= LONGEST and plain >= 4 and plain >= 0.6 * len(bare.split()) else ""


def question(found: Definition, draw: random.Random) -> tuple[str, bool]:
    """A question that the definition answers, and whether it asks by name."""
    if draw.random() < NAMED:
        return draw.choice(_NAMED).format(name=found.name, kind=found.kind), True
    says = found.says[0].lower() + found.says[1:]
    if third := _THIRD.match(found.says):  # "Returns the size" -> "How can I return the size?"
        stem = third[1].lower()
        base = f"{stem[:-2]}y" if stem.endswith("ie") else stem[:-1] if stem.endswith(("sse", "she", "che")) else stem
        do = base + says[len(third[0]) :]
        return draw.choice(_DESCRIBED).format(do=do, does=says, kind=found.kind), False
    return draw.choice((f"How do I {says}?", found.says)) if draw.random() < 0.5 else found.says, False


def code_pairs(files: Iterable[tuple[str, str, str]], *, most: int = 8, seed: int = 0) -> Iterator[dict[str, str]]:
    """Rows `{question, passage, group, source}` from (package, path, text) of files, at most `most` a file.

    They are what `artrag.training.retriever.read_couples` reads.
    """
    for package, path, text in files:
        draw = random.Random(f"{seed} {package} {path}")  # noqa: S311
        known = list(definitions(text, path))
        draw.shuffle(known)
        chunks, title = cut(text, path), title_of(text, path)
        made = 0
        for found in known:
            inside = [chunk for chunk in chunks if chunk.start <= found.at < chunk.end]
            if not inside or made >= most:
                continue
            asked, by_name = question(found, draw)
            body, begin = _shown(text, inside[-1], found, draw)
            if not by_name and draw.random() < TAKEN_OUT:
                first, last = max(found.start - begin, 0), min(max(found.at - begin, 0), len(body))
                body = body[:first] + body[last:] if found.start < found.at else body
            if len(body.strip()) < SHORTEST_BODY:
                continue
            lead = lead_of(text, draw.choice(LEADS), path)
            context = situate(title, inside[-1].section, path, lead)
            made += 1
            yield {
                "question": asked,
                "passage": f"{context}\n{body}",
                "group": package,
                "source": f"{package}/{path}",
            }


def _shown(text: str, chunk: Chunk, found: Definition, draw: random.Random) -> tuple[str, int]:
    """The chunk from a line shortly before the definition, and where that is: training reads only so many tokens."""
    near = max(chunk.start, min(found.start, found.at) - draw.randint(0, BEFORE))
    begin = max(chunk.start, text.rfind("\n", chunk.start, near) + 1)
    return text[begin : chunk.end], begin


def source_files(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(package, path, text) of the source files below a folder that holds one folder a package.

    What a package took over from others lies under other licences and is left out.
    """
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.is_file() and path.suffix in SUFFIXES and len(below.parts) > 1 and not TAKEN_OVER & set(below.parts):
            try:
                yield below.parts[0], PurePosixPath(*below.parts[1:]).as_posix(), path.read_text("utf-8")
            except UnicodeDecodeError:
                continue
