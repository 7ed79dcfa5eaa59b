"""route: decide what the question needs."""

from typing import Any

from langchain_core.runnables import Runnable

from artrag.nodes.node import Run, node
from artrag.routing import route_of
from artrag.state import QAState


def route() -> Runnable[Any, Any]:
    """A node that decides whether passages, a calculation or the model's own knowledge will answer.

    Reads `question`, `passages`; writes `need`, `decision`, and `passages` (None where they are not needed).
    """

    def body(state: QAState, run: Run) -> dict[str, Any]:
        found = route_of(state["question"], state.get("passages"))
        run.tell(f"{found.need}: {found.reason}")
        kept = state.get("passages") if found.need == "retrieval" else None
        return {"need": found.need, "decision": f"{found.need}: {found.reason}", "passages": kept}

    return node("route", body)
