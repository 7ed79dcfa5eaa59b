"""LangChain's own parts go in, and ours go out: the interfaces are theirs."""

import re
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, HashedWords, ScriptedAsker, ScriptedTruster
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.language_models import BaseChatModel, FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

import artrag
from artrag import Settings, prompts
from artrag.errors import SettingsError
from artrag.index import Index, IndexRetriever
from artrag.models import load_chat, load_embedder, load_reranker
from artrag.models.reranker import LocalReranker

QUESTION = "What does alarm PMP-417 mean?"
ANSWER = "Alarm PMP-417 means downstream occlusion."


class Backwards(BaseDocumentCompressor):
    """A reranker of theirs."""

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> list[Document]:
        return list(documents)[::-1]


def test_theirs_go_in(corpus: Path, tmp_path: Path) -> None:
    """Fake embeddings, a vector store's retriever, a fake chat model, a compressor of one's own."""
    embedder: Any = DeterministicFakeEmbedding(size=32)
    report = (
        artrag.build_ingest(embedder=embedder)
        .compile()
        .invoke({"paths": [str(corpus)], "index": str(tmp_path / "index")})["report"]
    )
    assert report["documents"] == 3
    index = Index.open(tmp_path / "index", embedder=embedder)
    texts = [passage.to_document() for passage in index.search("PMP-417", 5)]
    index.close()
    store = InMemoryVectorStore.from_documents(texts, embedder)
    theirs = store.as_retriever(search_kwargs={"k": 20})
    rag = artrag.build_contextual_rag(
        chat=FakeListChatModel(responses=[ANSWER]), retriever=theirs, reranker=Backwards()
    )
    found = rag.compile().invoke({"question": QUESTION}, context=Settings(k=20))
    assert found["answer"].startswith(ANSWER[:-1]) and found["citations"][0]["document"] == "manual.md"
    assert found["passages"] == theirs.invoke(QUESTION)[::-1] and len(found["passages"]) == len(texts)
    chat = GenericFakeChatModel(messages=iter([AIMessage("Upstream."), AIMessage(ANSWER)]))
    asker, truster = ScriptedAsker(0.9), ScriptedTruster({"downstream": 0.9})
    art = artrag.build_art(chat=chat, asker=asker, truster=truster, retriever=theirs).compile()
    state = art.invoke({"question": QUESTION})
    assert state["rounds"] == 1 and state["confidence"] == 0.9


def test_our_retriever_goes_out(index: Index) -> None:
    """Into a chain, and into LangChain's compression retriever with a reranker of theirs."""
    retriever = IndexRetriever(index=index, k=2)
    assert isinstance(retriever, BaseRetriever)
    chain = (
        {"passages": retriever | (lambda found: found[0].page_content), "question": lambda asked: asked}
        | ChatPromptTemplate.from_template("{passages} {question}")
        | FakeListChatModel(responses=[ANSWER])
        | StrOutputParser()
    )
    assert chain.invoke(QUESTION) == ANSWER
    compressed = ContextualCompressionRetriever(base_compressor=Backwards(), base_retriever=retriever)
    assert compressed.invoke(QUESTION) == retriever.invoke(QUESTION)[::-1]


def test_our_models_go_out(tiny_chat_folder: Path, tiny_encoder_folder: Path) -> None:
    chat, embedder = load_chat(str(tiny_chat_folder)), load_embedder(str(tiny_encoder_folder))
    assert isinstance(chat, BaseChatModel) and isinstance(embedder, Embeddings)
    chain = ChatPromptTemplate.from_template("Say {word}") | chat | StrOutputParser()
    assert isinstance(chain.invoke({"word": "hello"}), str)
    store = InMemoryVectorStore.from_texts(["downstream occlusion", "upstream occlusion"], embedder)
    assert store.similarity_search("downstream occlusion", k=1)[0].page_content == "downstream occlusion"
    assert issubclass(LocalReranker, BaseDocumentCompressor)


def test_live_ones_are_handed_back() -> None:
    chat, embedder, reranker = FakeListChatModel(responses=["x"]), HashedWords(), Backwards()
    assert load_chat(chat) is chat and load_embedder(embedder) is embedder and load_reranker(reranker) is reranker


def test_prompts_are_chat_prompt_templates() -> None:
    chain = prompts.load("solve") | FakeListChatModel(responses=["4"]) | StrOutputParser()
    assert chain.invoke({"question": "2 + 2?"}) == "4"
    assert all(isinstance(prompts.load(name), ChatPromptTemplate) for name in prompts.names())


@pytest.mark.parametrize(
    ("name", "right"),
    [("ARTRAG_ROUND", "ARTRAG_ROUNDS"), ("ARTRAG_WORKER", "ARTRAG_WORKERS"), ("artrag_rerank", "ARTRAG_RERANKER")],
)
def test_a_misspelt_setting_in_the_environment_is_named(name: str, right: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    for call in (Settings, lambda: Settings(k=3), lambda: Settings.of(None)):
        with pytest.raises(SettingsError, match=f"unknown setting '{name}' in the environment: did you mean '{right}'"):
            call()


def test_what_else_the_environment_names_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("README.md", "CONTRIBUTING.md", "docs/studio.md", "docs/agent-apps.md"):
        for word in set(re.findall(r"ARTRAG_[A-Z_]+", (ROOT / path).read_text("utf-8"))):
            if word[7:].lower() not in Settings.model_fields:
                monkeypatch.setenv(word, "x")
    for word in ("ARTRAG_CACHE", "ARTRAG_WHEELS", "ARTRAG_SHARED", "ARTRAG_PROMPTS", "ARTRAG_THREADS", "ARTRAG_MINE"):
        monkeypatch.setenv(word, "x")
    assert Settings().k == 4
