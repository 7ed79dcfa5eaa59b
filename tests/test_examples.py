"""Every example runs as it stands: on a scripted model here, on the embedded one where it is at hand."""

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import ROOT
from openai_server import Calls, OpenAIServer

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
ALARM = "PMP-417 means downstream occlusion [1]."
SUM = "12 * 3 = 36. 36 - 5 = 31. Answer: 31"

Runs = Callable[..., str]


def said(prompt: str) -> str:
    return SUM if "Tom has" in prompt else ALARM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(otherwise=said) as running:
        yield running


@pytest.fixture
def runs(
    folder: Path,
    server: OpenAIServer,
    tiny_encoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Runs:
    """What an example prints; all share one index, made with a tiny encoder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ARTRAG_CHAT", server.reference)
    monkeypatch.setenv("ARTRAG_EMBEDDER", str(tiny_encoder_folder))
    monkeypatch.setenv("ARTRAG_LATE", "false")

    def go(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return go


def test_every_example_is_short_and_says_how_to_run_it() -> None:
    assert len(EXAMPLES) == 5
    for name in EXAMPLES:
        text = (ROOT / "examples" / name).read_text("utf-8")
        assert f"python examples/{name}" in text.split('"""')[1] and len(text.splitlines()) < 60


def test_plain_functions(runs: Runs, server: OpenAIServer) -> None:
    told = runs("plain_functions.py", "What", "does alarm PMP-417 mean?")
    assert "30 documents in .artrag/examples" in told and ALARM in told and "confidence 0." in told
    assert "\n[1] manuals/velmora-p3" in told and ", characters " in told
    assert "What does alarm PMP-417 mean?" in server.asked[0]


def test_as_a_subgraph(runs: Runs) -> None:
    told = runs("subgraph.py")
    assert told.startswith(f"Dear Ms Arendt,\n{ALARM}\n(0.")


def test_as_a_subgraph_that_is_not_sure(runs: Runs, server: OpenAIServer) -> None:
    server.otherwise = "It means that Basel lies in 1789."
    assert "a colleague will look into it" in runs("subgraph.py")


def test_as_a_tool(runs: Runs) -> None:
    told = runs("agent_tool.py")
    assert told.startswith("As the documents say.\nthe agent read:\n" + ALARM + "\n[1] manuals/velmora-p3")
    assert "Confidence: 0." in told and "the app knows: 0." in told


def test_as_a_tool_of_a_real_client(runs: Runs, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT", server.reference)
    server.script = [Calls("ask_documents", {"question": "What does alarm PMP-417 mean?"})]
    told = runs("agent_tool.py")
    assert told.startswith(ALARM) and "Confidence: 0." in told and len(server.asked) == 3
    assert server.bodies[0]["tools"][0]["function"]["name"] == "ask_documents"
    read = server.bodies[2]["messages"][-1]
    assert read["role"] == "tool" and read["content"].startswith(ALARM) and "sources" not in read["content"]


def test_as_middleware(runs: Runs, server: OpenAIServer) -> None:
    server.script = ["12 * 3 = 36. 36 - 5 = 41. Answer: 41"]
    told = runs("agent_middleware.py")
    assert told.startswith(SUM) and "refined: True, abstained: False" in told
    assert "doubt: wrong arithmetic: 36 - 5 = 41 (it is 31)" in told and "decision: trusts the refined" in told


def test_single_nodes(runs: Runs) -> None:
    told = runs("single_nodes.py")
    assert told.startswith(f"{ALARM} (confidence 0.") and "only one answer to trust" in told
    assert told.count("manuals/") >= 1 and told.strip().endswith("]")


@pytest.mark.local
@pytest.mark.parametrize("name", EXAMPLES)
def test_on_the_embedded_model(name: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "onfidence" in done.stdout or "(0." in done.stdout
