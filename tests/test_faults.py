"""Seeded runs of the graphs on parts that fail: each ends with an answer, an abstention or a typed error."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    ROOT,
    AnsweringChat,
    HashedWords,
    ScriptedAsker,
    ScriptedChat,
    ScriptedRetriever,
    ScriptedTruster,
    passage,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda

import artrag
from artrag.errors import IndexNotFoundError, ModelCallError, RetrievalError
from artrag.index import Index
from artrag.index.verify import verify
from artrag.text import readable

WHICH: Any = {"question": "Which event?"}


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "reliability")
    return importlib.import_module("faults")


async def test_every_run_ends_well(faults: Any) -> None:
    found = await faults.suite(48)
    assert found["lost"] == [] and found["survived"] == 48
    assert len(found["faults"]) > 15 and sum(ends.get("answered", 0) for ends in found["ended"].values()) > 15


def test_every_long_run_ends_well(faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = importlib.import_module("faults_at_work")
    for module, name, value in ((at_work.faulty, "HANG", 0.01), (at_work.calling, "LONGEST_ASKED", 0.0)):
        monkeypatch.setattr(module, name, value)
    ends, drawn = set(), set()
    for seed in (0, 7, 9, 12, 16):
        (folder := tmp_path / str(seed)).mkdir()
        kind, ended, faulted = at_work.once(seed, "", folder)
        assert not ended.startswith("lost"), (seed, kind, ended)
        ends.add((kind, ended))
        drawn |= set(faulted)
    assert {("ingest", "report"), ("evaluate", "report"), ("ingest", "ModelCallError")} <= ends and len(drawn) > 12


def test_the_long_suite_sees_what_is_lost(faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = importlib.import_module("faults_at_work")
    monkeypatch.setattr(at_work, "run", lambda *_, **__: (_ for _ in ()).throw(KeyError("untyped")))
    (tmp_path / "a").mkdir()
    assert at_work.once(0, "", tmp_path / "a")[1] == "lost: KeyError: 'untyped'"
    monkeypatch.setattr(at_work, "run", lambda *_, **__: {"report": {"documents": 1}})
    (tmp_path / "b").mkdir()
    assert at_work.once(0, "", tmp_path / "b")[1].startswith("lost: the report says")


def test_the_suite_sees_what_is_lost(faults: Any) -> None:
    good = {"answer": "a", "confidence": 0.5, "abstained": False, "decision": "", "rounds": 0, "draft": "a"}
    good["candidates"] = [{"text": "a"}]
    assert faults.judge("art", [good]) == "answered"
    for broken, named in (
        ({"answer": " "}, "no answer"),
        ({"answer": None}, "answer is None"),
        ({"confidence": float("nan")}, "not JSON"),
        ({"confidence": 1.5}, "confidence 1.5"),
        ({"candidates": [{"text": "b"}]}, "the draft is not"),
    ):
        assert faults.judge("art", [good, good | broken]).startswith(f"lost: {named}")


def rag(retriever: Any, *said: str, reranker: Any = None) -> dict[str, Any]:
    graph = artrag.build_contextual_rag(chat=ScriptedChat(*said), retriever=retriever, reranker=reranker).compile()
    return graph.invoke(WHICH, context={"retries": 1})  # type: ignore[no-any-return,arg-type]


def failing(*script: Any) -> RunnableLambda[Any, Any]:
    left = list(script)

    def find(_: str) -> Any:
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    return RunnableLambda(find)


def test_a_failing_retriever_is_tried_again_and_then_a_typed_error() -> None:
    nausea = [passage("Nausea was common.")]
    assert rag(failing(ConnectionError("reset"), nausea), "Nausea [1]")["answer"] == "Nausea [1]"
    with pytest.raises(RetrievalError, match=r"failed, 2 times over \(ConnectionError: reset\)"):
        rag(failing(*[ConnectionError("reset")] * 3))
    with pytest.raises(RetrievalError, match="instead of a list of documents"):
        rag(failing(["Nausea was common."]))
    with pytest.raises(IndexNotFoundError, match="there is none"):
        rag(failing(IndexNotFoundError("there is none"), nausea))


def test_a_refinement_takes_only_passages() -> None:
    asker = ScriptedAsker(0.9, subquestions=[artrag.Subquestion("How common was it?", False)])
    retriever = failing([passage("Nausea was common.")], ["Nausea was common."])
    parts: Any = {"asker": asker, "truster": ScriptedTruster({"Nausea": 0.8}), "retriever": retriever}
    found = artrag.build_art(chat=ScriptedChat("Cough.", "Nausea [1]."), **parts).compile().invoke(WHICH)
    assert found["answer"] == "Nausea [1]." and found["rounds"] == 1
    assert found["subquestions"][0]["found"] == "(retrieval failed: RetrievalError)"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (ConnectionError("reset"), r"the embedder 'hashed-words:64' failed \(ConnectionError: reset\)"),
        ([1.0], r"no vector of 64 numbers for a question, but of shape \(1,\)"),
        ([float("nan")] * 64, "no vector of 64 numbers"),
        (["a"] * 64, r"failed \(ValueError"),
        (None, "no vector of 64 numbers"),
    ],
)
def test_an_embedder_that_fails_at_a_question_is_named(
    index: Index, made: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(_: HashedWords, text: str) -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    monkeypatch.setattr(HashedWords, "embed_query", embed)
    with pytest.raises(ModelCallError, match=told):
        index.search("PMP-417", 1)


def test_an_embedder_that_fails_leaves_the_index_as_it_was(
    build: Any, corpus: Path, index: Index, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(*_: Any) -> Any:
        raise ConnectionError("reset")

    (corpus / "manual.md").write_text("# Another\n\nAnother text.\n")
    monkeypatch.setattr(HashedWords, "embed_documents", embed)
    with pytest.raises(ModelCallError, match="'hashed-words:64' failed.*reset.*run it again"):
        build(corpus)
    assert index.search("PMP-417", 1, arms=["bm25"])[0].document == "manual.md"
    assert "failed (ConnectionError" in str(verify(index.path, embedder).problems)


def test_a_failing_reranker_leaves_the_order() -> None:
    class Broken(BaseDocumentCompressor):
        def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> Any:
            return ["Nausea"]

    found = rag(ScriptedRetriever(found=[passage("Nausea was common.")]), "Nausea [1]", reranker=Broken())
    assert [p.page_content for p in found["passages"]] == ["Nausea was common."]
    assert found["decision"].startswith("rerank failed: TypeError: the reranker gave ['Nausea']")


@pytest.mark.parametrize("doubt", ["Yes", None, artrag.Doubt([], float("nan"), "?")])
def test_what_is_no_doubt_leaves_the_draft(doubt: Any) -> None:
    class Odd:
        def ask(self, *_: Any) -> Any:
            return doubt

    graph = artrag.build_art(chat=ScriptedChat("Nausea."), asker=Odd(), truster=ScriptedTruster({"Nausea": 0.8}))
    found = graph.compile().invoke(WHICH)  # type: ignore[call-overload]
    assert found["answer"] == "Nausea." and found["refine_reason"].startswith("ask failed: TypeError")


def test_a_confidence_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedTruster, "confidence", lambda *_: float("nan"))
    monkeypatch.setattr(ScriptedTruster, "score", lambda *_: [0.5])
    graph = artrag.build_art(chat=ScriptedChat("Nausea."), asker=ScriptedAsker(0.0), truster=ScriptedTruster({}))
    found = graph.compile().invoke(WHICH)  # type: ignore[call-overload]
    assert found["confidence"] == 0.5 and "trust failed: ValueError: the confidence is nan" in found["decision"]


def test_a_reply_that_runs_away_is_cut_and_cleaned() -> None:
    chat = AnsweringChat(lambda _: "\x1b[31mNausea\x00 \ud83d. " + "word " * 100_000)
    found = (
        artrag.build_contextual_rag(chat=chat, retriever=ScriptedRetriever(found=[Document("Nausea was common.")]))
        .compile()
        .invoke(WHICH)
    )  # type: ignore[call-overload]
    assert found["answer"].startswith("[31mNausea ?.") and len(found["answer"]) <= 20_000
    assert readable("a\tb\nc\x85\x07d") == "a\tb\ncd"
