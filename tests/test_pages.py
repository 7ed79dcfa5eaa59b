"""The Python of the pages about agent apps runs as it stands."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import langchain.agents
import pytest
from fakes import ROOT
from openai_server import OpenAIServer

import artrag.models

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "agent-apps.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(otherwise="3 * 4 = 12. Answer: 12") as running:
        yield running


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_it_runs(
    block: str,
    server: OpenAIServer,
    tiny_encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a scripted model: what a block names stands in for the embedded and the remote one."""
    live = artrag.models.load_chat(server.reference)
    monkeypatch.setattr(artrag.models, "load_chat", lambda *_: live)
    monkeypatch.setattr(sys.modules[langchain.agents.create_agent.__module__], "init_chat_model", lambda *_: live)
    monkeypatch.setenv("ARTRAG_CHAT", server.reference)
    monkeypatch.setenv("ARTRAG_EMBEDDER", str(tiny_encoder_folder))
    monkeypatch.setenv("ARTRAG_LATE", "false")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {}
    exec(compile(block, "docs/agent-apps.md", "exec"), names)  # noqa: S102
    if "agent" in names:
        assert "12" in names["agent"].invoke({"messages": [("user", "What is 3 * 4?")]})["messages"][-1].text
    if "message" in names:
        assert names["message"].additional_kwargs["confidence"] > 0 and len(names["state"]["messages"]) == 4
