"""One Markdown file a prompt. `load` reads it; a folder of the user's own comes first.

A file is a list of messages, each opened by a line `# system`, `# human` or `# ai`. `{name}` is a variable,
`{{` and `}}` are braces.

What `load` gives is a `ChatPromptTemplate`, so a prompt hub takes it; `save` writes one that was pulled to where `load`
finds it (`ARTRAG_PROMPTS=prompts.d`):

    langsmith.Client().push_prompt("my-answer", object=prompts.load("answer"))
    prompts.save("answer", langsmith.Client().pull_prompt("my-answer"), "prompts.d")
"""

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artrag.errors import PromptError

if TYPE_CHECKING:
    from langchain_core.prompts import ChatPromptTemplate

_FOLDER = Path(__file__).parent
_SHIPPED: dict[str, "ChatPromptTemplate"] = {}
_ROLE = re.compile(r"^# (system|human|ai)[ \t]*$", re.MULTILINE)


def names() -> list[str]:
    """The names of all shipped prompts."""
    return sorted(path.stem for path in _FOLDER.glob("*.md"))


def load(name: str, folder: str | Path | None = None) -> "ChatPromptTemplate":
    """The prompt `name` from `folder` (default: the environment's `ARTRAG_PROMPTS`) or, failing that, the shipped one.

    Raises:
        PromptError: when there is no such prompt or folder, or the file is malformed, or its variables are not the
            shipped ones.
    """
    shipped = _shipped(name)
    folder = folder or os.environ.get("ARTRAG_PROMPTS")
    if not folder:
        return shipped
    own = Path(folder) / f"{name}.md"
    if own.exists():
        return _fitting(_parsed(_text(own), str(own)), str(own), shipped)
    if not Path(folder).is_dir():
        raise PromptError(f"no folder of prompts at {str(folder)!r}: make it, or unset ARTRAG_PROMPTS")
    return shipped


async def aload(name: str, folder: str | Path | None = None) -> "ChatPromptTemplate":
    """As `load`; what has to read a file does so in a thread."""
    if name in _SHIPPED and not (folder or os.environ.get("ARTRAG_PROMPTS")):
        return _SHIPPED[name]
    return await asyncio.to_thread(load, name, folder)


def save(name: str, prompt: "ChatPromptTemplate", folder: str | Path) -> Path:
    """Write a prompt, such as one pulled from a hub, as the file that `load(name, folder)` reads.

    Raises:
        PromptError: when there is no prompt of this name, or this one cannot take its place: it has other variables,
            or something else than texts of system, human and AI with variables in braces.
    """
    shipped, path = _shipped(name), Path(folder) / f"{name}.md"
    text = "\n".join(f"# {role}\n{body.strip()}\n" for role, body in map(_written, prompt.messages))
    again = _fitting(_parsed(text, str(path)), str(path), shipped)
    if len(again.messages) != len(prompt.messages):
        raise PromptError(f"prompt {name!r} holds a line such as '# human' inside a message: take it out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _written(message: Any) -> tuple[str, str]:
    """Role and text of a message or its template, with variables and braces as a file has them."""
    from langchain_core.messages import BaseMessage
    from langchain_core.prompts import chat

    roles: dict[type, str] = {
        chat.SystemMessagePromptTemplate: "system",
        chat.HumanMessagePromptTemplate: "human",
        chat.AIMessagePromptTemplate: "ai",
    }
    if isinstance(message, BaseMessage) and message.type in roles.values():
        return message.type, str(message.text).replace("{", "{{").replace("}", "}}")
    inner: Any = getattr(message, "prompt", None)
    if type(message) in roles and getattr(inner, "template_format", "") == "f-string":
        return roles[type(message)], str(inner.template)
    raise PromptError(
        f"a message of the kind {type(message).__name__!r} cannot be kept in a file: use texts of system, human "
        "and AI, with variables in braces"
    )


def _fitting(prompt: "ChatPromptTemplate", name: str, shipped: "ChatPromptTemplate") -> "ChatPromptTemplate":
    wanted = set(shipped.input_variables)
    if set(prompt.input_variables) != wanted:
        raise PromptError(
            f"prompt {name!r} uses the variables {sorted(prompt.input_variables)}: it must use {sorted(wanted)}"
        )
    return prompt


def _shipped(name: str) -> "ChatPromptTemplate":
    if name not in _SHIPPED:
        if name not in names():
            raise PromptError(f"no prompt is called {name!r}: there are {', '.join(names())}")
        path = _FOLDER / f"{name}.md"
        _SHIPPED[name] = _parsed(_text(path), str(path))
    return _SHIPPED[name]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"prompt {str(path)!r} cannot be read: {error}") from None


def _parsed(text: str, name: str) -> "ChatPromptTemplate":
    from langchain_core.prompts import ChatPromptTemplate  # a tenth of a second, paid by the first prompt

    before, *parts = _ROLE.split(text)
    if before.strip() or not parts:
        raise PromptError(f"prompt {name!r} must begin with a line '# system', '# human' or '# ai'")
    messages: list[Any] = list(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))
    try:
        return ChatPromptTemplate.from_messages(messages)
    except ValueError as error:
        raise PromptError(f"prompt {name!r} is malformed: {error}; write braces as '{{{{' and '}}}}'") from None
