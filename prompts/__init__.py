"""One Markdown file a prompt. `load` reads it; a folder of the user's own comes first.

A file is a list of messages, each opened by a line `# system`, `# human` or `# ai`. `{name}` is a variable,
`{{` and `}}` are braces.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artrag.errors import PromptError

if TYPE_CHECKING:
    from langchain_core.prompts import ChatPromptTemplate

_FOLDER = Path(__file__).parent
_ROLE = re.compile(r"^# (system|human|ai)[ \t]*$", re.MULTILINE)


def names() -> list[str]:
    """The names of all shipped prompts."""
    return sorted(path.stem for path in _FOLDER.glob("*.md"))


def load(name: str, folder: str | Path | None = None) -> "ChatPromptTemplate":
    """The prompt `name` from `folder` (default: the environment's `ARTRAG_PROMPTS`) or, failing that, the shipped one.

    Raises:
        PromptError: when there is no such prompt, or the file is malformed, or its variables are not the shipped ones.
    """
    shipped = _shipped(name)
    folder = folder or os.environ.get("ARTRAG_PROMPTS")
    own = Path(folder) / f"{name}.md" if folder else None
    if own is None or not own.exists():
        return shipped
    prompt, wanted = _read(own), set(shipped.input_variables)
    if set(prompt.input_variables) != wanted:
        raise PromptError(
            f"prompt {str(own)!r} uses the variables {sorted(prompt.input_variables)}: it must use {sorted(wanted)}"
        )
    return prompt


@cache
def _shipped(name: str) -> "ChatPromptTemplate":
    if name not in names():
        raise PromptError(f"no prompt is called {name!r}: there are {', '.join(names())}")
    return _read(_FOLDER / f"{name}.md")


def _read(path: Path) -> "ChatPromptTemplate":
    from langchain_core.prompts import ChatPromptTemplate  # a tenth of a second, paid by the first prompt

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"prompt {str(path)!r} cannot be read: {error}") from None
    before, *parts = _ROLE.split(text)
    if before.strip() or not parts:
        raise PromptError(f"prompt {str(path)!r} must begin with a line '# system', '# human' or '# ai'")
    messages: list[Any] = list(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))
    try:
        return ChatPromptTemplate.from_messages(messages)
    except ValueError as error:
        raise PromptError(f"prompt {str(path)!r} is malformed: {error}; write braces as '{{{{' and '}}}}'") from None
