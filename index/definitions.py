"""Where definitions stand in source code: what a chunk from the middle of a function belongs to."""

import re
from bisect import bisect_right

_PYTHON = re.compile(r"([ \t]*)(?:async[ \t]+)?(?:class|def)[ \t]+(\w+)[ \t]*[(:\[]")
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|override|virtual|inline|"
    r"const|pub(?:\([\w: ]+\))?|unsafe|extern|sealed|partial|data|open|case|implicit|suspend|typedef)[ \t]+)*"
)
_KEYWORD = re.compile(
    rf"([ \t]*){_MODIFIERS}(?:class|def|defp|fn|func|fun|function\*?|interface|struct|enum|union|trait|impl|mod|module|"
    r"namespace|object|protocol|extension|type|contract)\b[ \t]*(?:<[^>\n]*>[ \t]*)?(?:\([^)\n]*\)[ \t]*)?"
    r"(?:[\w:<>, ]+[ \t]for[ \t]+)?([A-Za-z_$][\w$.:]*)"
)
_ASSIGNED = re.compile(
    rf"([ \t]*){_MODIFIERS}(?:const|let|var)?[ \t]*([A-Za-z_$][\w$]*)[ \t]*=[ \t]*(?:async[ \t]*)?"
    r"(?:function\b|\([^\n]*=>|[\w$]+[ \t]*=>)[^\n]*[{(]$"
)
_CALLABLE = re.compile(r"([ \t]*)(?:[\w<>\[\],.:*&~?]+[ \t]+)*[*&]*([A-Za-z_~$][\w$:~]*)[ \t]*\([^;\n]*\{$")
_NO_NAME = re.compile(
    r"[ \t]*(?:\}[ \t]*)?(?:if|else|for|foreach|while|switch|catch|return|new|throw|do|try|using|lock|match|select|"
    r"await|synchronized|assert|defer|go|#|//|\*)\b"
)
_BRACES = {".js", ".jsx", ".ts", ".tsx", ".java", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".php", ".swift", ".kt"}
_REMARK = ("#", "//", "/*", "*")
_STILL_INSIDE = ("{", ")", "]", "where ", "then")
"""What a line of a definition's own depth may begin with without ending it: a brace, its signature's end."""


class Definitions:
    """The definitions of a source file, by indentation: the enclosing ones of any place, outermost first."""

    def __init__(self, text: str, suffix: str) -> None:
        self._at: list[int] = [0]
        self._trails: list[tuple[str, ...]] = [()]
        inside: list[tuple[int, str]] = []
        at, remark = 0, -1
        for line in text.split("\n"):
            start, at = at, at + len(line) + 1
            bare = line.strip()
            if not bare:
                continue
            found = _match(line, suffix)
            depth = len(line) - len(line.lstrip())
            if bare.startswith(_REMARK):
                remark = start if remark < 0 else remark
                continue
            if not bare.startswith(_STILL_INSIDE) and any(depth <= other for other, _ in inside):
                inside = [(other, name) for other, name in inside if other < depth]
                self._mark(start if remark < 0 else remark, inside)  # a remark belongs to what follows it
            remark = -1
            if found:
                inside.append((depth, found))
                self._mark(at, inside)

    def enclosing(self, place: int) -> tuple[str, ...]:
        """The names of the definitions around a place, outermost first; one that begins there is not around it."""
        return self._trails[bisect_right(self._at, place) - 1]

    def _mark(self, at: int, inside: list[tuple[int, str]]) -> None:
        self._at.append(at)
        self._trails.append(tuple(name for _, name in inside))


def _match(line: str, suffix: str) -> str:
    """The name that a line defines, or nothing."""
    if suffix == ".py":
        found = _PYTHON.match(line)
        return found[2] if found else ""
    if len(line) > 300 or _NO_NAME.match(line):
        return ""
    found = _KEYWORD.match(line)
    if not found and suffix in _BRACES:
        line = line.rstrip()
        found = _ASSIGNED.match(line) or _CALLABLE.match(line)
    return found[2].rstrip(":.") if found else ""
