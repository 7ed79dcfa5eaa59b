"""One body of code for `invoke` and `ainvoke`.

A body is a generator: it yields a `Call` (or a list of them, to be made side by side) where it needs the outside world,
gets the result back, and returns its value. `run` drives it by blocking calls, `arun` by awaiting them, so that
many concurrent asynchronous runs against a remote model never queue behind a thread pool.

Both take a deadline: a call that has not ended by then is given up, and the body is told by a `DeadlineError`.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ContextThreadPoolExecutor

from artrag.errors import DeadlineError

OVER = "the time that this run may take is over: raise the setting 'deadline', or name a faster model"

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the outside world: a blocking function and, where there is one, its awaitable twin.

    Without a twin, the asynchronous driver makes the blocking call in a worker thread.
    """

    sync: Callable[..., Any]
    twin: Callable[..., Awaitable[Any]] | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def now(self) -> Any:
        """Make the blocking call."""
        return self.sync(*self.args, **self.kwargs)

    async def later(self) -> Any:
        """Await the call."""
        if self.twin is None:
            return await asyncio.to_thread(self.sync, *self.args, **self.kwargs)
        return await self.twin(*self.args, **self.kwargs)


Steps = Generator[Call | list[Call], Any, T]


def invoke(runnable: Runnable[Any, Any], value: Any) -> Call:
    """The call of a LangChain runnable: chat model, retriever, tool."""
    return Call(runnable.invoke, runnable.ainvoke, (value,))


def method(owner: object, name: str, *args: Any, **kwargs: Any) -> Call:
    """The call of `owner.name`, awaiting `owner.a<name>` where the owner has it."""
    return Call(getattr(owner, name), getattr(owner, f"a{name}", None), args, kwargs)


def pause(seconds: float) -> Call:
    """Wait."""
    return Call(time.sleep, asyncio.sleep, (seconds,))


def run(steps: Steps[T], until: float | None = None) -> T:
    """Drive `steps` with blocking calls; lists of calls are made one after another.

    Args:
        steps: the body.
        until: deadline on `time.monotonic`. A call given up goes on in a thread of its own; nobody reads its result.
    """
    make = Call.now if until is None else partial(_now, until=until)
    try:
        wanted = next(steps)
        while True:
            try:
                got = [make(call) for call in wanted] if isinstance(wanted, list) else make(wanted)
            except Exception as error:  # handed into the body, which decides
                wanted = steps.throw(error)
            else:
                wanted = steps.send(got)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        steps.close()  # after an interrupt, too: a body may hold a lock


def _now(call: Call, until: float) -> Any:
    """Make a blocking call, and wait for it until the deadline."""
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(call.now())
        except BaseException as error:  # raised again in the caller
            outcome.set_exception(error)

    left = until - time.monotonic()
    if left > 0:
        threading.Thread(target=copy_context().run, args=(work,), name="artrag-call", daemon=True).start()
        if outcome in wait([outcome], timeout=left).done:
            return outcome.result()
    raise DeadlineError(OVER)


async def _later(call: Call, until: float) -> Any:
    """Await a call until the deadline; then it is cancelled."""
    timer = asyncio.timeout(max(0.0, until - time.monotonic()))
    try:
        async with timer:
            return await call.later()
    except TimeoutError:
        if timer.expired():
            raise DeadlineError(OVER) from None
        raise


async def arun(steps: Steps[T], until: float | None = None) -> T:
    """Drive `steps` by awaiting, until the deadline (see `run`); lists of calls are awaited side by side."""
    make = Call.later if until is None else partial(_later, until=until)
    try:
        wanted = next(steps)
        while True:
            try:
                if isinstance(wanted, list):
                    got: Any = await asyncio.gather(*(make(call) for call in wanted))
                else:
                    got = await make(wanted)
            except Exception as error:  # handed into the body, which decides
                wanted = steps.throw(error)
            else:
                wanted = steps.send(got)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        steps.close()


def blocking(body: Callable[P, Steps[T]]) -> Callable[P, T]:
    """The blocking form of a body."""

    @wraps(body)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(body(*args, **kwargs))

    return call


def awaitable(body: Callable[P, Steps[T]]) -> Callable[P, Awaitable[T]]:
    """The asynchronous form of a body."""

    @wraps(body)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await arun(body(*args, **kwargs))

    return call


def side_by_side(bodies: Sequence[Callable[[], Steps[T]]], at_once: int) -> Steps[list[T]]:
    """Drive several bodies, at most `at_once` at a time: in threads, or as tasks; their values in order.

    When one fails, those not begun are dropped, and its error is raised.
    """

    def sync() -> list[T]:
        with ContextThreadPoolExecutor(max_workers=max(1, at_once)) as pool:
            futures = [pool.submit(lambda body=body: run(body())) for body in bodies]  # type: ignore[misc]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in futures if future.done() and future.exception()]
                return [future.result() for future in failed or futures]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    async def twin() -> list[T]:
        gate = asyncio.Semaphore(max(1, at_once))

        async def one(body: Callable[[], Steps[T]]) -> T:
            async with gate:
                return await arun(body())

        tasks = [asyncio.ensure_future(one(body)) for body in bodies]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    got: list[T] = yield Call(sync, twin)
    return got
