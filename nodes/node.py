"""What makes a generator a node: settings, progress, usage, and both `invoke` and `ainvoke` from one body."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.runtime import Runtime, get_runtime

from artrag.errors import FormatError, StateError
from artrag.formats import STATE_FORMAT, refusal
from artrag.nodes.pacing import begin_apart
from artrag.settings import Settings
from artrag.state import FIRST_STAGES, StageUsage
from artrag.steps import Steps, arun, run
from artrag.tracing.remote import use_langsmith
from artrag.tracing.scores import note_scores


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
    until: float | None = None
    """Where the run has a deadline: when this stage must be over, on `time.monotonic`."""

    def tell(self, message: str, **facts: Any) -> None:
        """Stream progress: `{"stage": ..., "message": ..., **facts}` on the graph's custom stream."""
        if self.writer:
            self.writer({"stage": self.stage, "message": message, **facts})

    @property
    def late(self) -> bool:
        """Is there no time for another stage before the last?"""
        return self.until is not None and time.monotonic() >= self.until - LAST * (self.settings.deadline or 0.0)

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


LAST = 0.1
"""Share of a run's time that is kept for its last stage."""

Body = Callable[[Any, Run], Steps[dict[str, Any]] | dict[str, Any]]


class Node(Runnable[Any, dict[str, Any]]):
    """A body as a runnable; LangGraph makes the trace's step of it, so it makes none of its own."""

    def __init__(self, stage: str, body: Body, *, quiet: bool, last: bool) -> None:
        self.name = self._stage = stage
        self._body, self._tags, self._last = body, (TAG_NOSTREAM,) if quiet else (), last
        use_langsmith()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """The keys that the body writes, and `usage`."""
        given, config = _Given(self._stage, input), ensure_config(config)
        self._check_format(given, config)
        this = self._begin(given)
        with _metered(config, this.meter, self._tags):
            made = self._body(given, this)
            update = run(made, this.until) if isinstance(made, Generator) else made
        return self._told(update, config, this)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """As `invoke`, awaiting the calls of the body."""
        if self._stage in FIRST_STAGES:
            await begin_apart()
        given, config = _Given(self._stage, input), ensure_config(config)
        self._check_format(given, config)
        this = self._begin(given)
        with _metered(config, this.meter, self._tags):
            made = self._body(given, this)
            update = await arun(made, this.until) if isinstance(made, Generator) else made
        return self._told(update, config, this)

    def _check_format(self, given: "_Given", config: RunnableConfig) -> None:
        """Refuse a state that another version has left on the thread; the first stage begins anew over an older one."""
        found = given.get("state_format", STATE_FORMAT)
        older = isinstance(found, int) and found < STATE_FORMAT
        if found == STATE_FORMAT or (older and self._stage in FIRST_STAGES):
            return
        thread = (config.get("configurable") or {}).get("thread_id")
        raise FormatError(
            refusal(f"the state of the thread {thread!r}", found, STATE_FORMAT, "ask again on a new thread")
        )

    def _told(self, update: dict[str, Any], config: RunnableConfig, this: Run) -> dict[str, Any]:
        if self._stage not in FIRST_STAGES:  # it only forgets what was before
            note_scores(config, update)
        return update | {"usage": this.usage()}

    def _begin(self, state: Any) -> Run:
        runtime = _runtime()
        settings = Settings.of(runtime.context if runtime else None)
        this = Run(self._stage, settings, runtime.stream_writer if runtime else None)
        due = state.get("due") if isinstance(state, Mapping) else None
        if due:  # of the wall clock: it survives a checkpoint
            early = 0.0 if self._last else LAST * (settings.deadline or 0.0)
            this.until = time.monotonic() + due - early - time.time()
        return this


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


def node(stage: str, body: Body, *, quiet: bool = False, last: bool = False) -> Runnable[Any, dict[str, Any]]:
    """A node from `body(state, run)`, a generator of calls or a plain function, that returns the keys it writes.

    `usage` is added to them. What the models of a `quiet` node say is no part of an answer: LangGraph's stream of
    messages leaves it out. Where the state says when the run is `due`, calls that last longer are given up; the `last`
    stage has a tenth of the time for itself.

    Raises:
        StateError: when it runs, the state lacks what the body reads.
        FormatError: the state on the thread has another format version.
    """
    return Node(stage, body, quiet=quiet, last=last)


def _runtime() -> Runtime[Any] | None:
    try:
        runtime: Runtime[Any] | None = get_runtime()  # None where a runnable outside any graph calls the node
    except RuntimeError:
        return None
    return runtime


@contextmanager
def _metered(config: RunnableConfig, meter: Meter, tags: tuple[str, ...]) -> Iterator[None]:
    """Hand the meter to every call made below, in this thread or task and in those it starts."""
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        callbacks.add_handler(meter, inherit=True)
    else:
        callbacks = [*(callbacks or ()), meter]
    below = RunnableConfig({**config, "callbacks": callbacks, "tags": [*(config.get("tags") or ()), *tags]})
    token = var_child_runnable_config.set(below)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
