"""Keys of the environment, of URLs and of headers: in no log, trace, message, report or index."""

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import AnsweringChat, HashedWords, ScriptedAsker, ScriptedRetriever, ScriptedTruster, json_lines, passage
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.runnables import RunnableLambda
from langsmith_server import LangSmithServer
from openai_server import OpenAIServer, Quote
from test_ladder import climb
from test_tracing_langsmith import PERSON, RUN, SCRIPT, TESTS, TEXT

import artrag
from artrag import Settings, System, build_ingest
from artrag.errors import ModelCallError, RetrievalError, SettingsError, UnknownModelError
from artrag.index import Index
from artrag.interfaces.checkpoints import checkpointer
from artrag.models import load_chat, load_embedder
from artrag.models.references import ModelReference, _server
from artrag.telling import told, without_keys
from artrag.tracing import LocalTracer, Privacy, as_html

MARK = "artragsecret"
KEYS = {
    "OPENAI_API_KEY": f"sk-{MARK}-openai-1",
    "LANGSMITH_API_KEY": f"lsv2_pt_{MARK}_2",
    "QDRANT_API_KEY": f"{MARK}-qdrant-3",
    "ARTRAG_SERVER_KEY": f"{MARK}-server-4",
    "SOME_PROXY_TOKEN": f"{MARK}-proxy-5",
}
POSTGRES = f"postgresql://me:{MARK}-postgres-6@127.0.0.1:1/threads"
WHICH: Any = {"question": "Which event?"}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    yield
    assert MARK not in caplog.text


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def written(folder: Path) -> bytes:
    """Everything in the files of a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def everything(error: BaseException) -> str:
    """The error as an uncaught one is printed, with all that it came from."""
    return "".join(traceback.format_exception(error))


def fail(*_: Any, **__: Any) -> Any:
    raise PermissionError(f"401 for https://me:{MARK}-url@host with {KEYS['SOME_PROXY_TOKEN']}")


class Quoting(BaseDocumentCompressor):
    """A reranker that quotes a key."""

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> Any:
        return fail()


def art(chat: Any, **parts: Any) -> Any:
    found = {"retriever": ScriptedRetriever(found=[passage("Nausea was common.")])} | parts
    asker, truster = ScriptedAsker(0.1), ScriptedTruster({"Nausea": 0.9})
    return artrag.build_art(chat=chat, asker=asker, truster=truster, **found).compile()


def test_an_ingest_a_run_and_an_evaluation_write_no_key(
    server: OpenAIServer, corpus: Path, embedder: HashedWords, tmp_path: Path
) -> None:
    chat = load_chat(server.reference)
    graph = build_ingest(embedder=embedder, chat=chat).compile()
    given: Any = {"paths": [str(corpus)], "index": str(tmp_path / "index")}
    report = graph.invoke(given, context=Settings(context="llm"))["report"]
    tracer = LocalTracer(tmp_path / "trace.jsonl")
    found = art(chat).invoke(WHICH, {"callbacks": [tracer]}, context=Settings(chat=server.reference))
    questions = json_lines(tmp_path / "questions.jsonl", [{"id": "q", "question": "Which?", "answers": ["Nausea"]}])
    system = System("bare", RunnableLambda(lambda asked: chat.invoke(asked["question"])))
    measured = climb([system], questions, tmp_path / "run")
    (tmp_path / "trace.html").write_text(as_html(tracer.spans), "utf-8")
    assert set(server.keys) == {KEYS["ARTRAG_SERVER_KEY"]} and len(server.keys) > 5
    assert found["answer"] == "Nausea [1]." and (tmp_path / "index" / "cache.sqlite").stat().st_size > 1000
    assert MARK not in repr((report, found, measured, tracer.spans, chat))
    assert MARK.encode() not in written(tmp_path)


@pytest.mark.parametrize("privacy", [Privacy(), Privacy(redact=True), Privacy(hide=True)], ids=str)
def test_a_server_that_quotes_the_key_is_not_quoted(server: OpenAIServer, tmp_path: Path, privacy: Privacy) -> None:
    server.otherwise = Quote()
    chat, tracer = load_chat(server.reference), LocalTracer(tmp_path / "trace.jsonl", privacy=privacy)
    with pytest.raises(ModelCallError) as failed:
        art(chat).invoke(WHICH, {"callbacks": [tracer]})
    assert "[secret] is not known" in str(failed.value) and MARK not in everything(failed.value)
    (tmp_path / "trace.html").write_text(as_html(tracer.spans), "utf-8")
    questions = json_lines(tmp_path / "questions.jsonl", [{"id": "q", "question": "Which?", "answers": ["Nausea"]}])
    systems = [System("bare", RunnableLambda(lambda asked: chat.invoke(asked["question"]))), System("art", art(chat))]
    report = climb(systems, questions, tmp_path / "run")
    kept = (tmp_path / "run" / "answers.jsonl").read_text("utf-8")
    assert kept.count("[secret] is not known") == 2 and MARK not in repr(report)
    assert MARK.encode() not in written(tmp_path)


def test_no_failing_part_quotes_a_key(embedder: HashedWords, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    failing: Any = RunnableLambda(fail)
    with pytest.raises(RetrievalError) as refused:
        art(AnsweringChat(lambda _: "Nausea."), retriever=failing).invoke(WHICH)
    assert "https://[secret]@host with [secret]" in str(refused.value) and MARK not in everything(refused.value)
    monkeypatch.setattr(HashedWords, "embed_query", fail)
    with pytest.raises(ModelCallError, match="with .secret.") as unasked:
        index.search("PMP-417", 1)
    assert MARK not in everything(unasked.value)
    for name in ("ask", "score", "confidence"):
        with monkeypatch.context() as patch:
            patch.setattr(ScriptedAsker if name == "ask" else ScriptedTruster, name, fail)
            said = [AnsweringChat(lambda _: "Nausea."), AnsweringChat(lambda _: "Cough.")]
            found = art(said[0], sampler=said[1]).invoke(WHICH, context=Settings(samples=1, refine_above=0.0))
            assert "[secret]" in repr(found) and MARK not in repr(found), name
    contextual = artrag.build_contextual_rag(
        chat=AnsweringChat(lambda _: "Nausea."), retriever=ScriptedRetriever(found=[passage("x")]), reranker=Quoting()
    )
    state = contextual.compile().invoke(WHICH)  # type: ignore[call-overload]
    assert "rerank failed" in state["decision"] and MARK not in repr(state)


def test_only_openai_is_told_openais_key(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, key in (
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://eu.api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com.evil.example/v1", "ARTRAG_SERVER_KEY"),
        ("https://evil-openai.com/v1", "ARTRAG_SERVER_KEY"),
        (server.url, "ARTRAG_SERVER_KEY"),
    ):
        assert _server(ModelReference.parse(f"openai:m@{url}"))["api_key"] == KEYS[key], url
    embedder: Any = load_embedder(f"openai:m@{server.url}")
    assert embedder.openai_api_key.get_secret_value() == KEYS["ARTRAG_SERVER_KEY"] and MARK not in repr(embedder)
    monkeypatch.delenv("ARTRAG_SERVER_KEY")
    load_chat(server.reference).invoke("Which?")
    assert server.keys == ["none"]


@pytest.mark.parametrize(
    "reference",
    [f"openai:m@http://me:{MARK}@127.0.0.1:1/v1", f"openai:m@http://127.0.0.1:1/v1?key={MARK}", f"openai:m@{MARK}@h"],
)
def test_a_key_in_a_reference_is_refused_and_not_repeated(
    reference: str, shell: Callable[..., tuple[int, str, str]], corpus: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    for load in (load_chat, load_embedder):
        with pytest.raises(
            UnknownModelError, match=r"no keys in the address.*openai:m@\.\.\..*ARTRAG_SERVER_KEY"
        ) as no:
            load(reference)
        assert MARK not in everything(no.value)
    place = tmp_path / "index"
    said = [shell("ask", "Which?", "--chat", reference, *more) for more in ([], ["--json"])]
    monkeypatch.setenv("ARTRAG_EMBEDDER", reference)
    said += [shell("ingest", corpus, "--index", place), shell("doctor", "--json")]
    assert [code for code, *_ in said[:3]] == [2, 2, 2] and MARK not in repr(said)
    assert not place.exists() or MARK.encode() not in written(place)


async def test_where_threads_are_kept_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_THREADS", POSTGRES.replace("postgresql", "mysql"))
    with pytest.raises(SettingsError, match=r"is 'mysql://\[secret\]@127.0.0.1:1/threads'"):
        async with checkpointer():
            pass
    monkeypatch.setenv("ARTRAG_THREADS", POSTGRES)
    with pytest.raises(Exception, match="onnect") as refused:
        async with checkpointer():
            pass
    assert MARK not in everything(refused.value)


def test_a_server_of_an_index_is_not_told_of(shell: Callable[..., tuple[int, str, str]]) -> None:
    said = [shell("search", "x", "--index", "qdrant+http://127.0.0.1:1/docs")]
    said.append(shell("search", "x", "--index", f"qdrant+http://me:{MARK}@127.0.0.1:1/docs"))
    assert [code for code, *_ in said] == [1, 2] and MARK not in repr(said)


def test_what_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "short")
    monkeypatch.setenv("KEYBOARD", "a-long-layout")
    monkeypatch.setenv("db_password", "hunter22")
    assert without_keys("short a-long-layout hunter22 http://h/p@q") == "short a-long-layout [secret] http://h/p@q"
    assert told(ValueError(f"a {KEYS['QDRANT_API_KEY']} b"), 9) == "ValueError: a [secret"
    assert told(KeyError()) == "KeyError: "


@pytest.mark.server
@pytest.mark.parametrize("settings", [{}, {"ARTRAG_TRACE_REDACT": "1"}, {"ARTRAG_TRACE_HIDE": "1"}])
def test_langsmith_gets_no_key_but_its_own(settings: dict[str, str]) -> None:
    before = f"""
class Chat(Chat):
    def _generate(self, *_, **__):
        raise ConnectionError("the key {KEYS["SOME_PROXY_TOKEN"]} is not known")
from artrag.nodes import calling
calling.FIRST_PAUSE = 0
"""
    script = SCRIPT.format(before=before, after="", text=TEXT, run=RUN, person=PERSON)
    with LangSmithServer() as server:
        environment = os.environ | {"PYTHONPATH": str(TESTS)} | server.environment() | KEYS | settings
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        sent = b"".join(server.bodies) + json.dumps(server.runs).encode()
    assert done.returncode == 1 and "ModelCallError" in done.stderr and len(server.runs) > 3
    assert MARK.encode() not in sent
    assert settings or b"the key [secret] is not known" in sent
