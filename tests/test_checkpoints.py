"""Where the server keeps its threads."""

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from test_chat import FIRST, FOLLOW_UP, REWRITTEN, THREAD, ScriptedChat, built

from artrag.errors import MissingExtraError, SettingsError
from artrag.interfaces.checkpoints import checkpointer


@pytest.mark.parametrize("place", ["", "deep/threads.db"])
async def test_threads_go_into_a_file(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTRAG_THREADS", place)
    for chat, question in ((["Occlusion."], FIRST), ([REWRITTEN, "Open it."], FOLLOW_UP)):
        async with checkpointer() as saver:
            graph = built(ScriptedChat(*chat)).compile(checkpointer=saver)
            found = await graph.ainvoke({"messages": question}, THREAD)
    assert len(found["messages"]) == 4
    assert (tmp_path / (place or ".artrag/threads.sqlite")).is_file()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_a_url_names_postgres(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    class Saver:
        async def setup(self) -> None:
            did.append("set up")

    @asynccontextmanager
    async def opened(url: str) -> Any:
        did.append(url)
        yield Saver()

    monkeypatch.setattr(AsyncPostgresSaver, "from_conn_string", opened)
    monkeypatch.setenv("ARTRAG_THREADS", url := f"{scheme}://me:secret@127.0.0.1:5432/threads")
    async with checkpointer() as saver:
        assert isinstance(saver, Saver)
    assert did == [url, "set up"]


@pytest.mark.parametrize("place", ["redis://127.0.0.1", "mysql://127.0.0.1/threads", "."])
async def test_other_places_are_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_THREADS", place)
    with pytest.raises(SettingsError, match=f"ARTRAG_THREADS is '{place}'.*give a file"):
        async with checkpointer():
            pass


@pytest.mark.parametrize(
    ("place", "module", "extra"),
    [
        ("threads.db", "langgraph.checkpoint.sqlite.aio", "studio"),
        ("postgres://h/d", "langgraph.checkpoint.postgres.aio", "postgres"),
    ],
)
async def test_a_missing_package_is_named(place: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_THREADS", place)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'artrag\[{extra}\]'"):
        async with checkpointer():
            pass
