"""Traces with LangSmith's own SDK: what arrives at a collector, what does not, and what it never holds up."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest
from langsmith_server import LangSmithServer
from openai_server import OpenAIServer

pytestmark = pytest.mark.server  # each run is a process of its own

TESTS = Path(__file__).parent
RUN = "01a20227-12af-768a-9304-8a1815b35406"
PERSON, KEY, NUMBER = "bob@example.com", "sk-abcdef1234567890", "4111 1111 1111 1111"
TEXT = f"Nausea was common. Ask {PERSON}, {KEY}, {NUMBER}."

# One run of `art` in a process of its own, as a user's script makes it; it says when the answer was there.
SCRIPT = """
import sys, time
import artrag
from artrag import Subquestion
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage

class Chat(ScriptedChat):
    def __repr__(self):
        return "a chat model"

{before}
asker = ScriptedAsker(0.9, subquestions=[Subquestion("How common?", False)])
found = ScriptedRetriever(found=[passage({text!r})])
truster = ScriptedTruster({{"was common": 0.5, "Nausea": 0.9}})
graph = artrag.build_art(chat=Chat({text!r}, "Nausea."), asker=asker, truster=truster, retriever=found)
art = graph.compile(name="art")
config = {{"run_id": {run!r}, "tags": ["mine"], "metadata": {{"thread_id": "t-1", "customer": {person!r}}}}}
began = time.perf_counter()
state = art.invoke({{"question": "Which event? " + {text!r}}}, config)
print(time.perf_counter() - began, flush=True)
{after}
print(time.time(), flush=True)
"""


def run(
    server_environment: dict[str, str], *, before: str = "", after: str = "", **settings: str
) -> tuple[float, float, str]:
    """Seconds until the answer, seconds from the last line of the script to the end of its process, and its errors."""
    script = SCRIPT.format(before=before, after=after, text=TEXT, run=RUN, person=PERSON)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LANGSMITH_", "LANGCHAIN_"))}
    environment |= {"PYTHONPATH": str(TESTS), **server_environment, **settings}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    ended = time.time()
    assert done.returncode == 0, done.stderr
    answered, said = done.stdout.split()
    return float(answered), ended - float(said), done.stderr


@pytest.fixture(scope="module")
def arrived() -> Iterator[LangSmithServer]:
    """What a run and feedback on it, given twice, leave at LangSmith."""
    after = f"""
from langsmith import run_trees
client = run_trees.get_cached_client()
about = {{"session_id": {RUN!r}}}
client.create_feedback(run_id={RUN!r}, key="correct", score=0, comment="it was vertigo", **about)
client.create_feedback(run_id={RUN!r}, trace_id={RUN!r}, key="stars", score=1, **about)
"""
    with LangSmithServer() as server:
        assert run(server.environment(), after=after)[2] == ""
        yield server


def test_a_run_arrives_as_one_whole_tree(arrived: LangSmithServer) -> None:
    assert arrived.asked[0] == "GET /info"
    assert {line.split("?")[0] for line in arrived.asked} == {"GET /info", "POST /runs/multipart", "POST /feedback"}
    root = arrived.root()
    assert (root["name"], root["id"], root["tags"]) == ("art", RUN, ["mine"])
    assert root["outputs"]["answer"] == "Nausea [1]." and root["end_time"] > root["start_time"]
    stages = arrived.below(root)
    assert [stage["name"] for stage in stages] == ["receive", "retrieve", "answer", "ask", "refine", "trust"]
    assert [one["run_type"] for one in arrived.below(stages[4])] == ["retriever", "llm"]
    for one in arrived.runs.values():
        assert one["trace_id"] == RUN and one["dotted_order"].startswith(root["dotted_order"]) and one["end_time"]
        assert "mine" in one["tags"] and one["extra"]["metadata"]["customer"] == PERSON


def test_scores_are_metadata_of_the_stages_and_of_the_run(arrived: LangSmithServer) -> None:
    root = arrived.root()
    about = {one["name"]: one["extra"]["metadata"] for one in [root, *arrived.below(root)]}
    assert about["retrieve"]["retrieval_scores"] == [1.0] and about["retrieve"]["passages"] == 1
    assert about["ask"]["refine_probability"] == 0.9 and about["ask"]["needs_refining"] is True
    trusted = {"confidence": 0.9, "truster_scores": [0.5, 0.9], "abstained": False}
    trusted["decision"] = "trusts the refined answer (0.90 against initial 0.50)"
    whole = trusted | {"refine_probability": 0.9, "retrieval_scores": [1.0], "rounds": 1}
    assert {key: about["trust"][key] for key in trusted} == trusted
    assert {key: about["art"][key] for key in whole} == whole
    assert not {"confidence", "refine_probability"} & {*about["receive"], *about["answer"]}


def test_feedback_arrives_with_its_run(arrived: LangSmithServer) -> None:
    said = {one["key"]: one for one in arrived.feedback}
    assert {one["run_id"] for one in arrived.feedback} == {RUN}
    assert (said["correct"]["score"], said["correct"]["comment"]) == (0, "it was vertigo")
    assert said["stars"]["score"] == 1


def test_hidden_traces_hold_steps_and_scores_but_no_text() -> None:
    with LangSmithServer() as server:
        run(server.environment(), ARTRAG_TRACE_HIDE="1")
    root = server.root()
    assert len(server.below(root)) == 6
    assert not any(one.get("inputs") or one.get("outputs") for one in server.runs.values())
    about = root["extra"]["metadata"]
    assert about["confidence"] == 0.9 and about["thread_id"] == "t-1" and "decision" not in about
    sent = b"".join(server.bodies)
    for secret in ("Nausea", "Which event", "How common", PERSON, KEY, NUMBER):
        assert secret.encode() not in sent, secret


def test_redacted_traces_hold_neither_mail_nor_keys_nor_numbers() -> None:
    with LangSmithServer() as server:
        run(server.environment(), ARTRAG_TRACE_REDACT="true")
    sent = b"".join(server.bodies)
    for secret in (PERSON, KEY, NUMBER, NUMBER[:9]):
        assert secret.encode() not in sent, secret
    root = server.root()
    assert root["inputs"]["question"] == "Which event? Nausea was common. Ask [email], [secret], [number]."
    assert root["outputs"]["answer"] == "Nausea [1]." and root["extra"]["metadata"]["thread_id"] == "t-1"


def test_privacy_may_be_set_in_code() -> None:
    before = "from artrag.tracing import Privacy, use_langsmith; use_langsmith(Privacy(hide=True))"
    with LangSmithServer() as server:
        assert run(server.environment(), before=before)[2] == ""
    assert len(server.below(server.root())) == 6 and b"Nausea" not in b"".join(server.bodies)


def test_local_only_builds_no_graph_that_would_be_traced() -> None:
    script = SCRIPT.format(before="", after="", text=TEXT, run=RUN, person=PERSON)
    with LangSmithServer() as server:
        environment = os.environ | {"PYTHONPATH": str(TESTS), "ARTRAG_LOCAL_ONLY": "1"} | server.environment()
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1 and "RemoteRefusedError: LangSmith tracing is on" in done.stderr and server.asked == []


@pytest.mark.parametrize("settings", [{"ARTRAG_TRACE_HIDE": "1"}, {"ARTRAG_TRACE_REDACT": "1"}])
def test_errors_leave_as_privately(settings: dict[str, str]) -> None:
    before = f"""
class Chat(Chat):
    def _generate(self, *_, **__):
        raise ConnectionError({TEXT!r})
from artrag.nodes import calling
calling.FIRST_PAUSE = 0
"""
    script = SCRIPT.format(before=before, after="", text=TEXT, run=RUN, person=PERSON)
    with LangSmithServer() as server:
        environment = os.environ | {"PYTHONPATH": str(TESTS)} | server.environment() | settings
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1 and "ModelCallError" in done.stderr
    errors = {one["name"]: one["error"] for one in server.runs.values() if one.get("error")}
    assert errors["art"].startswith("ModelCallError") and errors["Chat"].startswith("ConnectionError")
    assert not any(secret in json.dumps(errors) for secret in (PERSON, KEY, NUMBER))
    if "ARTRAG_TRACE_HIDE" in settings:
        assert set(errors.values()) == {"ModelCallError", "ConnectionError"}


def test_a_client_of_somebody_else_is_kept_but_not_trusted_with_what_is_private() -> None:
    before = "import langsmith; own = langsmith.Client(); langsmith.configure(client=own)"
    after = "assert langsmith.run_trees.get_cached_client() is own"
    with LangSmithServer() as server:
        run(server.environment(), before=before, after=after)
        assert server.root()["name"] == "art"
    script = SCRIPT.format(before=before, after="", text=TEXT, run=RUN, person=PERSON)
    with LangSmithServer() as server:
        environment = os.environ | {"PYTHONPATH": str(TESTS), "ARTRAG_TRACE_HIDE": "1"} | server.environment()
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1 and not server.runs
    assert "SettingsError: traces are to be kept private" in done.stderr and "use_langsmith()" in done.stderr


def test_an_endpoint_that_does_not_answer_holds_up_nothing() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with LangSmithServer(silent=True) as server:
        for url in (server.url, nobody):
            answered, leaving, errors = run(server.environment() | {"LANGSMITH_ENDPOINT": url})
            assert answered < 1.5, url
            assert leaving < 2.0, url
            told = errors.strip().splitlines()[-1]
            assert told.startswith(f"LangSmith at {url} did not take the whole trace: ")
        assert server.asked[0] == "GET /info"


def test_what_langsmith_refuses_is_told_at_the_end() -> None:
    with LangSmithServer(status=401) as server:
        _, leaving, errors = run(server.environment())
    told = errors.strip().splitlines()[-1]
    assert leaving < 2.0 and "Authentication failed" in told and RUN not in told
    assert told.startswith(f"LangSmith at {server.url} did not take the whole trace: ")


def environment(server: LangSmithServer, chat: OpenAIServer, **settings: str) -> dict[str, str]:
    """Of a program that asks a chat model on loopback and doubts it by evidence."""
    own = ("ARTRAG_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    parts = {"ARTRAG_CHAT": chat.reference, "ARTRAG_ASKER": "evidence", "ARTRAG_TRUSTER": "evidence"}
    return kept | parts | server.environment() | settings


def test_the_command_line_is_as_quick_and_as_private() -> None:
    command = [
        sys.executable,
        "-c",
        "from artrag.interfaces.cli import main; main()",
        "ask",
        "What is 3 * 4?",
        "--json",
    ]
    for silent in (False, True):
        with LangSmithServer(silent=silent) as server, OpenAIServer(otherwise="3 * 4 = 12. Final answer: 12") as chat:
            about = environment(server, chat, ARTRAG_TRACE_HIDE="1")
            with subprocess.Popen(command, env=about, stdout=PIPE, stderr=PIPE, text=True) as process:
                assert process.stdout and process.stderr
                assert "12" in json.loads(process.stdout.readline())["answer"]
                said = time.monotonic()
                errors = process.stderr.read()
                assert process.wait(30) == 0 and time.monotonic() - said < 2.0
            if silent:
                (told,) = errors.strip().splitlines()
                assert told.startswith(f"LangSmith at {server.url} did not take the whole trace")
            else:
                assert errors == "" and len(server.below(server.root())) == 5
                assert b"3 * 4" not in b"".join(server.bodies)


def test_studio_sends_its_runs_as_privately(tmp_path: Path) -> None:
    shutil.copy(TESTS.parent / "langgraph.json", tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    with (
        LangSmithServer() as server,
        OpenAIServer(otherwise="3 * 4 = 12. Final answer: 12") as chat,
        ExitStack() as end,
    ):
        about = environment(server, chat, LANGGRAPH_CLI_NO_ANALYTICS="1", ARTRAG_TRACE_HIDE="1")
        log = end.enter_context((tmp_path / "log").open("w"))
        studio = end.enter_context(
            subprocess.Popen(command, cwd=tmp_path, env=about, stdout=log, stderr=log, start_new_session=True)
        )
        end.callback(os.killpg, studio.pid, signal.SIGTERM)
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not answers(f"{url}/ok"):
            assert studio.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        given = {"assistant_id": "art", "input": {"question": "What is 3 * 4?"}}
        state = httpx.post(f"{url}/runs/wait", json=given, timeout=60).json()
        assert "12" in state["answer"]
        while not any(run.get("end_time") and not run.get("parent_run_id") for run in list(server.runs.values())):
            assert time.monotonic() < until
            time.sleep(0.1)
    root = server.root()
    assert root["name"] == "art" and root["extra"]["metadata"]["confidence"] == state["confidence"]
    assert [one["name"] for one in server.below(root)] == ["receive", "retrieve", "answer", "ask", "trust"]
    assert b"3 * 4" not in b"".join(server.bodies) and "Blocking" not in (tmp_path / "log").read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_nothing_is_made_where_tracing_is_off() -> None:
    after = "import threading; from langsmith import run_trees; assert run_trees._CLIENT is None"
    after += "\nassert all(one.daemon or one is threading.main_thread() for one in threading.enumerate())"
    assert run({}, after=after)[2] == ""
