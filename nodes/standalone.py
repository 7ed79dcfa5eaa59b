"""standalone: rewrite a follow-up question so that it can be understood without its conversation."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from artrag.errors import PromptTooLongError
from artrag.nodes.calling import messages_of, say, unless_signal
from artrag.nodes.node import Run, node
from artrag.state import ChatState
from artrag.steps import Steps
from artrag.telling import told
from artrag.text import codes, is_cjk, numbers

TURNS = 6
"""Messages before the question that are read."""
LONGEST = 600
"""Characters of each."""


def standalone(chat: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A node that rewrites the latest question of a conversation into a standalone one.

    Where the model fails, or what it says is no rewriting (nothing, no question, a code or number lost, another
    script, too long), the question stays as it was asked and `rewriting` says why. The first question of a conversation
    costs no call.

    Reads `messages`, `question`; writes `question`, `rewriting`.
    """

    def body(state: ChatState, run: Run) -> Steps[dict[str, Any]]:
        asked = state["question"]
        turns = [turn for turn in map(_turn, state["messages"][:-1]) if turn][-TURNS:]
        if not turns:
            return {"rewriting": "the first question: taken as asked"}
        while True:
            values = {"conversation": "\n".join(turns), "question": asked}
            messages = yield from messages_of("standalone", values, run.settings.standalone_prompt)
            try:
                said = _question(str((yield from say(chat, messages, run))))
                problem = _problem(said, asked, run)
                break
            except PromptTooLongError as error:
                turns = turns[1:]
                if not turns:
                    problem = told(error)
                    break
            except Exception as error:  # degrade in the open: the question as asked may do
                unless_signal(error)
                problem = told(error)
                break
        if problem:
            rewriting = f"rewriting failed: {problem}; the question is taken as asked"
            run.tell(rewriting, question=asked)
            return {"rewriting": rewriting}
        rewriting = "rewritten from the conversation" if said != asked else "understood as asked"
        run.tell(rewriting, question=said, asked=asked)
        return {"question": said, "rewriting": rewriting}

    return node("standalone", body, quiet=True)


def _turn(message: BaseMessage) -> str:
    """A message as a line of the prompt; nothing for tools, systems and empty ones."""
    text = " ".join(str(message.text).split())
    if message.type not in ("human", "ai") or not text:
        return ""
    return f"{'User' if message.type == 'human' else 'Assistant'}: {text[:LONGEST]}"


def _question(said: str) -> str:
    """The first line of a reply, without a label and quotation marks."""
    line = next((line.strip() for line in said.splitlines() if line.strip()), "")
    label, colon, rest = line.partition(":")
    if colon and rest.strip() and label.lower() in ("question", "rewritten question", "standalone question"):
        line = rest.strip()
    return line.strip('"“”').strip()


def _problem(said: str, asked: str, run: Run) -> str:
    """Why a reply is no rewriting of the question; empty where it is one."""
    if not said:
        return "the reply was empty"
    if len(said) > run.settings.max_question:
        return f"the reply has {len(said)} characters, more than max_question={run.settings.max_question}"
    if _asks(asked) and not _asks(said):
        return f"the reply is no question ({said[:80]!r})"
    if is_cjk(asked) != is_cjk(said):
        return f"the reply is in another script ({said[:80]!r})"
    lost = [word for find in (codes, numbers) for word in _lost(find(asked), find(said))]
    return f"the reply lost {', '.join(map(repr, lost))} ({said[:80]!r})" if lost else ""


def _asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "？", "؟"))


def _lost(asked: Sequence[Any], said: Sequence[Any]) -> list[Any]:
    return [word for word in asked if word not in said]
