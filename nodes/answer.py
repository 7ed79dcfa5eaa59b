"""answer: let the chat model draft an answer, from the passages or by reasoning."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from artrag.errors import PromptTooLongError, QuestionError
from artrag.nodes.calling import messages_of, say
from artrag.nodes.node import Run, node
from artrag.passages import cite, numbered, own_words
from artrag.state import Candidate, QAState
from artrag.steps import Steps

NOTHING_FOUND = "The passages do not say."


def answer(chat: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A node that drafts the answer, step by step or by subquestions first (`Settings.initial`).

    Passages that do not fit the model's window are left out, last ones first.

    Reads `question`, `passages`; writes `draft`, `candidates`, `answer`, `citations` and, where some were left out,
    `passages`.

    Raises:
        QuestionError: the question alone does not fit the model's window.
        ModelCallError: the model gave no usable reply; without a draft there is nothing to fall back on.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        passages = state.get("passages")
        if passages == []:
            return _drafted(NOTHING_FOUND, passages)
        run.tell("drafting")
        while True:
            name, values = draft_prompt(state["question"], passages, run)
            messages = yield from messages_of(name, values, run.settings.answer_prompt)
            try:
                draft = yield from say(chat, messages, run)
                break
            except PromptTooLongError as error:
                if not passages or len(passages) == 1:
                    raise QuestionError(f"the question does not fit: {error}") from None
                passages = passages[:-1]
                run.tell("the passages do not all fit the model's window", passages=len(passages))
        # A chain of subquestions is full of the word "Question"; only a short answer ends where one begins.
        short = passages and run.settings.initial == "cot"
        return _drafted(own_words(draft) if short else draft, passages)

    return node("answer", body)


def draft_prompt(question: str, passages: list[Document] | None, run: Run) -> tuple[str, dict[str, str]]:
    """The prompt of a draft and its values: from passages or by reasoning, step by step or by subquestions."""
    kind = "answer" if passages else "solve"
    values = {"question": question} | ({"passages": numbered(passages)} if passages else {})
    return kind if run.settings.initial == "cot" else f"{kind}_decomposed", values


def _drafted(text: str, passages: Any) -> dict[str, Any]:
    cited, citations = cite(text, passages)
    return {
        "draft": cited,
        "candidates": [Candidate(stage="initial", text=cited)],
        "answer": cited,
        "citations": citations,
        "passages": passages,
    }
