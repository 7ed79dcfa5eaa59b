"""The real `langgraph dev` on 127.0.0.1, driven as Studio drives it: schemas, drawings, streams, reviews, threads."""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import ROOT, json_lines
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from openai_server import OpenAIServer

from artrag import build_ingest
from artrag.models import load_embedder

pytestmark = pytest.mark.server

GRAPHS = {"art", "chat", "contextual_rag", "evaluate", "ingest", "routed", "simrag"}
EVALUATE = {"questions", "run", "systems", "indexes", "tuned", "at_once", "price", "against", "traces"}
SIMRAG = {"paths", "run", "questions", "mix", "mix_share", "passages", "kinds", "rounds"}
ANSWER = "After treatment participants improved by 4.2 points."
QUESTION = {"question": "By how many points did participants of the Alphadrug trial improve?"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def chat() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for name, points in (("Alphadrug", 4.2), ("Betadrug", 3.1)):
        text = f"# {name} trial\n\nAfter treatment participants improved by {points} points.\n"
        (folder / f"{name.lower()}.md").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def index(documents: Path, tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose manifest names the tiny encoder's folder, so that the server opens it by itself."""
    folder = tmp_path_factory.mktemp("index")
    embedder = load_embedder(str(tiny_encoder_folder))
    inputs: Any = {"paths": [str(documents)], "index": str(folder)}
    build_ingest(embedder=embedder).compile().invoke(inputs)
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("langgraph") / "server.log"


@pytest.fixture(scope="module")
def own_environment(chat: OpenAIServer, index: Path, tiny_encoder_folder: Path) -> dict[str, str]:
    hidden = ("ARTRAG_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | {
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "ARTRAG_CHAT": chat.reference,
        "ARTRAG_EMBEDDER": str(tiny_encoder_folder),
        "ARTRAG_INDEX": str(index),
        "ARTRAG_LOCAL_ONLY": "true",
    }


@pytest.fixture(scope="module")
def address(own_environment: dict[str, str], log: Path) -> Iterator[str]:
    with serving(log, own_environment) as url:
        yield url


@contextmanager
def serving(log: Path, environment: dict[str, str], **more: Any) -> Iterator[str]:
    """`langgraph dev` beside a copy of langgraph.json: what it writes stays out of the repository."""
    config = json.loads((ROOT / "langgraph.json").read_text("utf-8")) | more
    (log.parent / "langgraph.json").write_text(json.dumps(config), "utf-8")
    port = free_port()
    command = [str(Path(sys.executable).parent / "langgraph"), "dev", "--no-browser", "--no-reload"]
    with log.open("a") as file:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=log.parent,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 120
        while not answers(f"{url}/ok"):
            assert server.poll() is None and time.monotonic() < until, f"no server:\n{log.read_text()}"
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(autouse=True)
def _log_of_this_test(address: str, log: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """What the server wrote during a test; pytest shows it where the test fails."""
    start = log.stat().st_size
    yield
    with log.open() as file:
        file.seek(start)
        request.node.add_report_section("teardown", "langgraph dev", written := file.read())
    assert "BlockingError" not in written and "Blocking call" not in written


@pytest.fixture
async def client(address: str) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=address) as client:
        yield client


@pytest.fixture
def said(chat: OpenAIServer) -> Iterator[OpenAIServer]:
    """The chat model: it says `ANSWER` unless the test says otherwise."""
    chat.script, chat.otherwise, chat.bodies = [], ANSWER, []
    yield chat


async def assistant(client: LangGraphClient, graph: str) -> str:
    """The UUID of a graph's default assistant: schemas and drawings are not found by name."""
    (found,) = await client.assistants.search(graph_id=graph)
    return found["assistant_id"]


async def run(client: LangGraphClient, thread: str | None, graph: str = "art", **given: Any) -> dict[str, Any]:
    """The final values of a run; an error of the run is in `__error__`."""
    values = await client.runs.wait(thread, graph, raise_error=False, **given)
    assert isinstance(values, dict)
    return values


async def new_thread(client: LangGraphClient) -> str:
    return (await client.threads.create())["thread_id"]


async def test_all_graphs_are_served(client: LangGraphClient) -> None:
    found = await client.assistants.search()
    assert {entry["graph_id"] for entry in found} == GRAPHS
    assert all(entry["description"] for entry in found)


@pytest.mark.parametrize("graph", sorted(GRAPHS))
async def test_forms_are_described(client: LangGraphClient, graph: str) -> None:
    schemas: Any = await client.assistants.get_schemas(await assistant(client, graph))
    inputs, settings = schemas["input_schema"]["properties"], schemas["context_schema"]["properties"]
    wanted = {"ingest": {"paths", "index"}, "simrag": SIMRAG, "evaluate": EVALUATE, "chat": {"messages"}}
    assert set(inputs) == wanted.get(graph, {"question"})
    assert all(field["description"] and field["examples"] for field in inputs.values())
    assert {"chat", "index", "k", "rounds", "review", "abstain_below"} <= set(settings)
    assert all(field["description"] for field in settings.values())
    assert settings["chat"]["langgraph_type"] == "model"
    prompted = {name: field["langgraph_nodes"] for name, field in settings.items() if "prompt" in name}
    assert {name: nodes[0] for name, nodes in prompted.items()} == {
        "answer_prompt": "answer",
        "refine_prompt": "refine",
        "standalone_prompt": "standalone",
    }
    assert all(settings[name]["langgraph_type"] == "prompt" and settings[name]["type"] == "string" for name in prompted)
    assert settings["k"]["maximum"] == 50 and settings["initial"]["enum"] == ["cot", "decomposition"]


async def test_the_drawing_has_the_conditional_edges(client: LangGraphClient) -> None:
    drawn: Any = await client.assistants.get_graph(await assistant(client, "art"))
    conditional = {(edge["source"], edge["target"]) for edge in drawn["edges"] if edge.get("conditional")}
    assert conditional == {
        ("ask", "sample"),
        ("ask", "trust"),
        ("trust", "ask"),
        ("trust", "review"),
        ("trust", "__end__"),
        ("review", "refine"),
        ("review", "__end__"),
    }
    assert "doubted" in {edge.get("data") for edge in drawn["edges"]}


async def test_a_run_streams_its_stages_and_ends_in_a_cited_answer(client: LangGraphClient, said: OpenAIServer) -> None:
    events: dict[str, list[Any]] = {"custom": [], "values": [], "updates": [], "metadata": []}
    async for part in client.runs.stream(None, "art", input=QUESTION, stream_mode=["custom", "values", "updates"]):
        events[part.event].append(part.data)
    stages = [event["stage"] for event in events["custom"] if isinstance(event, dict)]
    assert stages[:4] == ["retrieve", "answer", "ask", "trust"]
    assert [node for update in events["updates"] for node in update] == ["receive", *stages[:4]]
    final = events["values"][-1]
    assert final["answer"] == f"{ANSWER[:-1]} [1]."
    assert final["citations"][0]["document"] == "alphadrug.md" and 0 < final["confidence"] < 1
    assert final["passages"][0]["metadata"]["arms"] and final["usage"]["answer"]["calls"] == 1
    assert "Alphadrug trial" in said.asked[0]


async def test_tokens_are_streamed(client: LangGraphClient, said: OpenAIServer) -> None:
    chunks = [
        part.data[0]["content"]
        async for part in client.runs.stream(None, "contextual_rag", input=QUESTION, stream_mode="messages-tuple")
        if part.event == "messages"
    ]
    assert "".join(chunks) == ANSWER and len(chunks) >= 5


REWRITTEN = "By how many points did participants of the Betadrug trial improve?"
TURN = {"messages": [{"type": "human", "content": QUESTION["question"]}]}
FOLLOW_UP = {"messages": [{"role": "user", "content": [{"type": "text", "text": "And of the Betadrug trial?"}]}]}


async def test_a_conversation(client: LangGraphClient, said: OpenAIServer) -> None:
    thread = await new_thread(client)
    first = (await run(client, thread, "chat", input=TURN))["messages"]
    assert [turn["type"] for turn in first] == ["human", "ai"] and first[1]["content"] == f"{ANSWER[:-1]} [1]."
    about = first[1]["additional_kwargs"]
    assert about["sources"][0]["document"] == "alphadrug.md" and 0 < about["confidence"] < 1
    said.script = [REWRITTEN, "After treatment participants improved by 3.1 points."]
    streamed: dict[str, list[str]] = {}
    modes: Any = ["messages-tuple", "values"]
    async for part in client.runs.stream(thread, "chat", input=FOLLOW_UP, stream_mode=modes):
        if part.event == "messages":
            message, about = part.data
            streamed.setdefault(about["langgraph_node"], []).append(message["content"])
        elif part.event == "values":
            state = part.data
    assert "".join(streamed["answer"]) == "After treatment participants improved by 3.1 points."
    assert len(streamed["answer"]) >= 5 and set(streamed) == {"answer", "reply"} and len(streamed["reply"]) == 1
    assert state["question"] == REWRITTEN and len(state["messages"]) == 4
    answer = state["messages"][-1]
    assert answer["additional_kwargs"]["sources"][0]["document"] == "betadrug.md"
    assert answer["additional_kwargs"]["rewriting"] == "rewritten from the conversation"
    found = await run(client, thread, "chat", input={"messages": [{"role": "assistant", "content": "Hm."}]})
    assert found["__error__"]["error"] == "QuestionError" and "type 'ai'" in found["__error__"]["message"]


@pytest.mark.parametrize("kept", ["default", "sqlite"])
async def test_threads_outlive_the_server(
    said: OpenAIServer, own_environment: dict[str, str], tmp_path: Path, kept: str
) -> None:
    log, more = tmp_path / "server.log", {}
    if kept == "sqlite":
        more = {"checkpointer": {"path": "artrag.interfaces.checkpoints.checkpointer"}}
    context = {"review": True, "review_below": 1.0}
    with serving(log, own_environment, **more) as url:
        async with get_client(url=url) as client:
            talk, waiting = await new_thread(client), await new_thread(client)
            await run(client, talk, "chat", input=TURN)
            await run(client, waiting, "chat", input=TURN, context=context)
    said.script = [REWRITTEN, "After treatment participants improved by 3.1 points."]
    with serving(log, own_environment, **more) as url:
        async with get_client(url=url) as client:
            found = await run(client, talk, "chat", input=FOLLOW_UP)
            assert [turn["type"] for turn in found["messages"]] == ["human", "ai"] * 2, found
            found = await run(client, waiting, "chat", command={"resume": "accept"}, context=context)
            assert found["messages"][-1]["additional_kwargs"]["decision"] == "a person accepted the answer"
            assert len(await client.threads.get_history(talk)) > 4
            await client.threads.delete(talk)
    assert (tmp_path / ".artrag" / "threads.sqlite").exists() is (kept == "sqlite")
    assert "BlockingError" not in log.read_text() and "Blocking call" not in log.read_text()


async def test_the_graphs_are_tools_of_mcp(address: str, said: OpenAIServer) -> None:
    asked = QUESTION["question"]
    async with (
        streamable_http_client(f"{address}/mcp") as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == GRAPHS
        assert all(len(str(tool.description)) > 50 and str(tool.description).endswith(".") for tool in tools.values())
        assert tools["art"].input_schema["required"] == ["question"]
        assert tools["art"].input_schema["properties"]["question"]["description"] == "The question to answer."
        assert tools["chat"].input_schema["properties"]["messages"]["type"] == "string"  # the endpoint makes it one
        for name, given in (("contextual_rag", QUESTION), ("art", QUESTION), ("chat", {"messages": asked})):
            found: Any = await session.call_tool(name, given)
            state = ast.literal_eval(found.content[0].text)  # the endpoint writes a state as Python does
            assert not found.is_error and state["answer"] == f"{ANSWER[:-1]} [1]."
            assert (state["confidence"] > 0) is (name != "contextual_rag")
        found = await session.call_tool("art", {"question": " "})
        assert found.is_error and found.content[0].text == "QuestionError"


async def test_a_person_reviews(client: LangGraphClient, said: OpenAIServer) -> None:
    thread = await new_thread(client)
    context = {"review": True, "review_below": 1.0}
    await run(client, thread, input=QUESTION, context=context)
    state: Any = await client.threads.get_state(thread)
    (stopped,) = (interrupt for task in state["tasks"] for interrupt in task["interrupts"])
    assert state["next"] == ["review"] and (await client.threads.get(thread))["status"] == "interrupted"
    assert stopped["value"]["candidates"][0]["stage"] == "initial" and "accept" in stopped["value"]["actions"]
    found = await run(client, thread, command={"resume": "accept"}, context=context)
    assert (found["stop_reason"], found["confidence"]) == ("reviewed", 1.0)
    assert found["answer"].startswith("After treatment") and not (await client.threads.get_state(thread))["next"]


async def test_prompts_are_edited_in_the_form(client: LangGraphClient, said: OpenAIServer) -> None:
    context = {"answer_prompt": "Speak like a {pirate}.", "refine_prompt": "Mend it.", "standalone_prompt": "Say it."}
    said.script = ["They improved by 99 points."]
    thread = await new_thread(client)
    await run(client, thread, "chat", input=TURN, context=context)
    said.script = [REWRITTEN]
    await run(client, thread, "chat", input=FOLLOW_UP, context=context)
    told = [body["messages"][0] for body in said.bodies]
    assert [turn["role"] for turn in told] == ["system"] * 4
    assert [turn["content"] for turn in told] == [
        "Speak like a {pirate}.",
        "Mend it.",
        "Say it.",
        "Speak like a {pirate}.",
    ]
    assert "<passage>" in said.asked[0] and "Draft answer: They improved by 99 points" in said.asked[1]


async def test_a_second_question_starts_anew(client: LangGraphClient, said: OpenAIServer) -> None:
    thread = await new_thread(client)
    said.script = ["They improved by 99 points.", ANSWER]
    first = await run(client, thread, input=QUESTION)
    assert first["rounds"] == 1 and len(first["candidates"]) == 2 and first["usage"]["refine"]["calls"] == 1
    second = await run(client, thread, input=QUESTION)
    assert second["rounds"] == 0 and len(second["candidates"]) == 1
    assert second["usage"]["answer"]["calls"] == 1 and "refine" not in second["usage"]


WRONG: list[tuple[Any, str]] = [
    ({"round": 3}, "unknown setting 'round': did you mean 'rounds'?"),
    ({"k": 0}, "setting 'k' cannot be 0: Input should be greater than or equal to 1"),
]


async def test_wrong_settings_and_questions_are_named(client: LangGraphClient, said: OpenAIServer) -> None:
    for context, message in WRONG:
        found = await run(client, None, input=QUESTION, context=context)
        assert found["__error__"] == {"error": "SettingsError", "message": message}
    found = await run(client, None, input={"question": " "})
    assert found["__error__"]["error"] == "QuestionError" and "the question is blank" in found["__error__"]["message"]
    assert not said.asked


async def test_the_model_asked_about_itself(client: LangGraphClient, said: OpenAIServer) -> None:
    said.script = [ANSWER, '{"refine": false, "reason": "fine"}', "90", "80"]
    found = await run(client, None, input=QUESTION, context={"asker": "prompted", "truster": "prompted"})
    assert found["refine_reason"] == "fine" and found["confidence"] == 0.8
    assert [found["usage"][stage]["calls"] for stage in ("answer", "ask", "trust")] == [1, 1, 2]


async def test_documents_are_ingested_and_asked_about(
    client: LangGraphClient, said: OpenAIServer, documents: Path, tmp_path: Path
) -> None:
    inputs = {"paths": [str(documents)], "index": str(tmp_path / "new")}
    events: dict[str, list[Any]] = {"custom": [], "values": [], "metadata": []}
    async for part in client.runs.stream(None, "ingest", input=inputs, stream_mode=["custom", "values"]):
        events[part.event].append(part.data)
    progress = {(event["stage"], event["message"]) for event in events["custom"] if "done" in event}
    assert {("load", "reading"), ("chunk", "cutting"), ("contextualize", "situating")} <= progress
    assert ("build_index", "embedding") in progress
    report = events["values"][-1]["report"]
    assert (report["documents"], report["added"], report["skipped"]) == (2, 2, [])
    found = await run(client, None, "contextual_rag", input=QUESTION, context={"index": inputs["index"]})
    assert found["citations"][0]["document"] == "alphadrug.md"


async def test_systems_are_put_to_questions(client: LangGraphClient, said: OpenAIServer, tmp_path: Path) -> None:
    rows = [{"id": "a", "question": QUESTION["question"], "answer": "4.2 points"}]
    path = json_lines(tmp_path / "questions.jsonl", rows)
    said.script = ["I do not know.", ANSWER]
    inputs = {"questions": str(path), "run": str(tmp_path / "run"), "systems": ["direct", "hybrid"]}
    found = await run(client, None, "evaluate", input=inputs)
    assert "__error__" not in found, found
    systems = found["report"]["systems"]
    assert systems["direct"]["quality"]["value"] == 0 and systems["hybrid"]["gives_answer"]["value"] == 1
    assert Path(found["report"]["page"]).is_file() and "too few" in found["report"]["verdict"][0]


async def test_documents_that_a_teacher_makes_nothing_of(
    client: LangGraphClient, said: OpenAIServer, tmp_path: Path
) -> None:
    said.script = ["bla bla"] * 12
    text = "The Alphadrug trial of 2019 ran in Basel. " + "It enrolled 40 adults with a cough, in two groups. " * 6
    (tmp_path / "trial.md").write_text(f"# Alphadrug\n\n{text}\n", "utf-8")
    inputs = {"paths": [str(tmp_path / "trial.md")], "run": str(tmp_path / "run"), "kinds": {"short": 1.0}, "rounds": 1}
    found = await run(client, None, "simrag", input=inputs)
    assert "__error__" not in found, found
    assert (found["decision"], found["kept"]) == ("reject", 0) and found["proposed"] > 0
    assert "nothing to learn from" in found["outcome"]["why"] and Path(found["outcome"]["report"]).is_file()


async def test_the_page_on_the_server_talks(address: str, said: OpenAIServer) -> None:
    page = (ROOT / "docs" / "studio.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/studio.md", "exec"), names)  # noqa: S102
    said.otherwise = lambda prompt: "How is PMP-417 cleared?" if "Last question: And how" in prompt else ANSWER
    assert await names["talk"](address)
    assert any("Question: How is PMP-417 cleared?" in asked for asked in said.asked)
