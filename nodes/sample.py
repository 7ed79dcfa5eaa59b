"""sample: draw further drafts of a doubted answer, so that the best of several can be trusted."""

from typing import Any

from langchain_core.runnables import Runnable

from artrag.errors import DeadlineError
from artrag.nodes.answer import draft_prompt
from artrag.nodes.calling import messages_of, say, unless_signal
from artrag.nodes.node import Run, node
from artrag.passages import cite, own_words
from artrag.state import Candidate, QAState
from artrag.steps import Call, Steps, arun
from artrag.steps import run as drive
from artrag.telling import told


def sample(sampler: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A node that adds `Settings.samples` further drafts to the candidates, once a question, side by side.

    A sample that fails or repeats a candidate word for word is left out.

    Reads `question`, `passages`, `candidates`, `rounds`; writes `candidates`.
    """

    def body(state: QAState, run: Run) -> Steps[dict[str, Any]]:
        wanted = 0 if state.get("rounds", 0) else run.settings.samples
        if not wanted:
            return {}
        passages = state.get("passages")
        name, values = draft_prompt(state["question"], passages, run)
        try:
            messages = yield from messages_of(name, values, run.settings.answer_prompt)
        except DeadlineError:
            return {}
        run.tell("sampling", samples=wanted)

        def once() -> str:
            return drive(attempt())

        async def aonce() -> str:
            return await arun(attempt())

        def attempt() -> Steps[str]:
            try:
                return (yield from say(sampler, messages, run))
            except Exception as error:  # degrade in the open: the draft and its refinement remain
                unless_signal(error)
                run.tell(f"a sample failed: {told(error)}")
                return ""

        try:
            texts = yield [Call(once, aonce) for _ in range(wanted)]
        except DeadlineError:
            return {}
        candidates = list(state["candidates"])
        short = passages and run.settings.initial == "cot"
        for text in texts:
            cited, _ = cite(own_words(text) if short else text, passages)
            if text and all(cited != seen["text"] for seen in candidates):
                candidates.append(Candidate(stage="sample", text=cited))
        return {"candidates": candidates}

    return node("sample", body, quiet=True)
