"""Conditional edges that are decided in the event loop: LangGraph hands a plain function to a thread of its pool."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda


def edge(decide: Callable[[Any], str]) -> Runnable[Any, str]:
    """Makes a function of the state the path of a conditional edge, for `invoke` and `ainvoke`."""

    @wraps(decide)
    async def later(state: Any) -> str:
        return decide(state)

    return RunnableLambda(decide, afunc=later)
