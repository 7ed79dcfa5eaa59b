"""Where the threads of `langgraph dev` are kept: in an SQLite file, or in Postgres by URL.

In `langgraph.json`: `"checkpointer": {"path": "artrag.interfaces.checkpoints.checkpointer"}`. A graph of one's own is
compiled with LangGraph's `SqliteSaver` or `PostgresSaver` as it is.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from artrag.errors import MissingExtraError, SettingsError
from artrag.telling import without_keys

VARIABLE = "ARTRAG_THREADS"
DEFAULT = ".artrag/threads.sqlite"
_SCHEMES = ("postgres://", "postgresql://")


@asynccontextmanager
async def checkpointer() -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """Threads in the place that `ARTRAG_THREADS` names: a file (default `.artrag/threads.sqlite`), or `postgresql://...`.

    Raises:
        SettingsError: the place is neither a file nor a URL of Postgres.
        MissingExtraError: its package is not installed.
    """
    place = os.environ.get(VARIABLE) or DEFAULT
    async with await asyncio.to_thread(_saver, place) as saver:
        await saver.setup()
        yield saver


def _saver(place: str) -> AbstractAsyncContextManager[Any]:
    if place.startswith(_SCHEMES):
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        except ImportError as error:
            raise MissingExtraError(
                f"threads in Postgres need {error.name!r}: pip install 'artrag[postgres]'"
            ) from None
        return AsyncPostgresSaver.from_conn_string(place)
    if "://" in place:
        raise SettingsError(
            f"{VARIABLE} is {without_keys(place)!r}: give a file, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as error:
        raise MissingExtraError(f"threads in SQLite need {error.name!r}: pip install 'artrag[studio]'") from None
    if Path(place).is_dir():
        raise SettingsError(f"{VARIABLE} is {place!r}, a folder: give a file")
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return AsyncSqliteSaver.from_conn_string(place)
