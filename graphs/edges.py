"""Conditional edges that are decided in the event loop: LangGraph hands a plain function to a thread of its pool."""

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables import Runnable, RunnableConfig


class Edge(Runnable[Any, str]):
    """A function of the state as the path of a conditional edge; a step of the trace, where somebody traces."""

    def __init__(self, decide: Callable[[Any], str]) -> None:
        self.name, self._decide = decide.__name__, decide

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> str:
        """What the function says of the state."""
        return self._decide(input) if _unheard(config) else self._call_with_config(self._decide, input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> str:
        """As `invoke`, in the event loop."""
        if _unheard(config):
            return self._decide(input)

        async def later(state: Any) -> str:
            return self._decide(state)

        return await self._acall_with_config(later, input, config)


def edge(decide: Callable[[Any], str]) -> Runnable[Any, str]:
    """Makes a function of the state the path of a conditional edge, for `invoke` and `ainvoke`."""
    return Edge(decide)


def _unheard(config: RunnableConfig | None) -> bool:
    """Does nobody listen? To tell nobody takes longer than to decide."""
    manager = (config or {}).get("callbacks")
    return isinstance(manager, BaseCallbackManager) and not manager.handlers
