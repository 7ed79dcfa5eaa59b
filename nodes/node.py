"""What makes a generator a node: settings, progress, usage, and both `invoke` and `ainvoke` from one body."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs, var_child_runnable_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.runtime import Runtime, get_runtime

from artrag.errors import StateError
from artrag.settings import Settings
from artrag.state import StageUsage
from artrag.steps import Steps, arun, run


class Meter(BaseCallbackHandler):
    """Counts every model call made below a node, by whichever object makes it."""

    run_inline = True

    def __init__(self) -> None:
        self.calls = self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self._lock = threading.Lock()  # calls may be made side by side

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """One more call."""
        with self._lock:
            self.calls += 1

    def on_llm_start(self, *_: Any, **__: Any) -> None:
        """One more call."""
        with self._lock:
            self.calls += 1

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """Add the tokens that the model reports."""
        for generations in response.generations:
            for generation in generations:
                used = getattr(getattr(generation, "message", None), "usage_metadata", None) or {}
                with self._lock:
                    self.prompt_tokens += used.get("input_tokens", 0)
                    self.completion_tokens += used.get("output_tokens", 0)
                    self.cached_tokens += (used.get("input_token_details") or {}).get("cache_read", 0) or 0


@dataclass(slots=True)
class Run:
    """What a node's body is given beside the state."""

    stage: str
    settings: Settings
    writer: Callable[[Any], None] | None = None
    meter: Meter = field(default_factory=Meter)
    started: float = field(default_factory=time.perf_counter)

    def tell(self, message: str, **facts: Any) -> None:
        """Stream progress: `{"stage": ..., "message": ..., **facts}` on the graph's custom stream."""
        if self.writer:
            self.writer({"stage": self.stage, "message": message, **facts})

    def progress(self, message: str, done: int, total: int) -> None:
        """Stream how much of something long is done."""
        self.tell(message, done=done, total=total)

    def usage(self) -> dict[str, StageUsage]:
        """What this stage has cost so far."""
        spent = StageUsage(
            calls=self.meter.calls,
            prompt_tokens=self.meter.prompt_tokens,
            completion_tokens=self.meter.completion_tokens,
            seconds=round(time.perf_counter() - self.started, 4),
        )
        return {self.stage: spent}


Body = Callable[[Any, Run], Steps[dict[str, Any]] | dict[str, Any]]


class Node(Runnable[Any, dict[str, Any]]):
    """A body as a runnable; LangGraph makes the trace's step of it, so it makes none of its own."""

    def __init__(self, stage: str, body: Body, tags: tuple[str, ...] = ()) -> None:
        self.name = self._stage = stage
        self._body, self._tags = body, tags

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """The keys that the body writes, and `usage`."""
        this = _begin(self._stage)
        with _metered(ensure_config(config), this.meter, self._tags):
            made = self._body(_Given(self._stage, input), this)
            update = run(made) if isinstance(made, Generator) else made
        return update | {"usage": this.usage()}

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """As `invoke`, awaiting the calls of the body."""
        this = _begin(self._stage)
        with _metered(ensure_config(config), this.meter, self._tags):
            made = self._body(_Given(self._stage, input), this)
            update = await arun(made) if isinstance(made, Generator) else made
        return update | {"usage": this.usage()}


class _Given(dict[str, Any]):
    """The state that a node is given, whatever its schema is (a dict, a dataclass, a pydantic model)."""

    def __init__(self, stage: str, state: Any) -> None:
        super().__init__(state if isinstance(state, Mapping) else vars(state))
        self._stage = stage

    def __missing__(self, key: str) -> Any:
        raise StateError(
            f"{self._stage!r} reads {key!r}, and the state has none: put the node that writes it before this one; "
            "begin a new thread where this one was written by another version"
        )


def node(stage: str, body: Body, *, quiet: bool = False) -> Runnable[Any, dict[str, Any]]:
    """A node from `body(state, run)`, a generator of calls or a plain function, that returns the keys it writes.

    `usage` is added to them. What the models of a `quiet` node say is no part of an answer: LangGraph's stream of
    messages leaves it out.

    Raises:
        StateError: when it runs, the state lacks what the body reads.
    """
    return Node(stage, body, (TAG_NOSTREAM,) if quiet else ())


def _begin(stage: str) -> Run:
    runtime = _runtime()
    return Run(stage, Settings.of(runtime.context if runtime else None), runtime.stream_writer if runtime else None)


def _runtime() -> Runtime[Any] | None:
    try:
        runtime: Runtime[Any] | None = get_runtime()  # None where a runnable outside any graph calls the node
    except RuntimeError:
        return None
    return runtime


@contextmanager
def _metered(config: RunnableConfig, meter: Meter, tags: tuple[str, ...]) -> Iterator[None]:
    """Hand the meter to every call made below, in this thread or task and in those it starts."""
    token = var_child_runnable_config.set(merge_configs(config, {"callbacks": [meter], "tags": list(tags)}))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
