"""Runs of one event loop begin one after another.

A loop goes round its tasks: a hundred runs that begin at once compute in step, and then wait in step for their models,
while nothing is computed. A little apart, some compute while others wait.
"""

import asyncio
from weakref import WeakKeyDictionary

APART = 0.0005
"""Seconds between two beginnings: about what a run computes before its model is asked."""

_next: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


async def begin_apart() -> None:
    """Wait for this run's turn to begin; alone there is nothing to wait for."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    turn = max(now, _next.get(loop, 0.0))
    _next[loop] = turn + APART
    if turn > now:
        await asyncio.sleep(turn - now)
