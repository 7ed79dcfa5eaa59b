"""Indexes on Qdrant: in the client's local mode, behind REST, and on a real server where QDRANT_URL names one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import HashedWords, ScriptedAsker, ScriptedChat, ScriptedTruster, json_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models
from qdrant_rest import QdrantRest
from rank_bm25 import BM25Okapi
from typer.testing import CliRunner

from artrag import build_art, build_contextual_rag
from artrag.errors import (
    EmbedderMismatchError,
    IndexLockedError,
    IndexNotFoundError,
    IndexServerError,
    IndexStoreError,
    IndexVersionError,
    MissingExtraError,
    RemoteRefusedError,
    UsageError,
)
from artrag.index import Index, IndexRetriever, QdrantIndex, qdrant_points, qdrant_publish, qdrant_server
from artrag.index.catalog import Catalog
from artrag.index.fusion import Fusion
from artrag.index.manifest import read_manifest
from artrag.index.qdrant_points import document_weights, query_weights, token_id
from artrag.index.qdrant_publish import Published, publish
from artrag.index.qdrant_server import IN_ENGINE, Address, Layout
from artrag.index.tokens import tokenize

Build = Callable[..., dict[str, Any]]
QUESTIONS = ("participants improved Betadrug", "PMP-417", "Which alarm means occlusion?", "phase 2 report")


@dataclass
class Place:
    """Somewhere to publish to; `client` is shared where the data lives in it."""

    url: str
    client: QdrantClient | None = None
    rest: QdrantRest | None = None

    def publish(self, path: Path, **options: Any) -> Published:
        return publish(path, self.url, client=self.client, **options)

    def open(self, embedder: Any = None, **options: Any) -> QdrantIndex:
        return QdrantIndex.open(self.url, embedder=embedder, client=self.client, **options)

    def look(self) -> QdrantClient:
        return self.client or Address.parse(self.url).connect()

    def collections(self) -> list[str]:
        client, name = self.look(), Address.parse(self.url).name
        found = [c.name for c in client.get_collections().collections if c.name.startswith(f"{name}--")]
        if client is not self.client:
            client.close()
        return found


@pytest.fixture(params=["memory", "disk", "rest", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        client = QdrantClient(":memory:")
        yield Place("qdrant+file::memory:/docs", client)
        client.close()
    elif request.param == "disk":
        yield Place(f"qdrant+file:{tmp_path}/qdrant/docs")
    elif request.param == "rest":
        with QdrantRest() as rest:
            yield Place(f"qdrant+{rest.url}/docs", rest=rest)
    else:
        server = os.environ.get("QDRANT_URL")
        if not server:
            pytest.skip("QDRANT_URL names no Qdrant server")
        made = Place(f"qdrant+{server.rstrip('/')}/artrag-test-{uuid.uuid4().hex[:8]}")
        yield made
        client = made.look()
        for name in made.collections():
            client.delete_collection(name)  # and its alias with it
        client.close()


@pytest.fixture
def memory() -> Iterator[Place]:
    client = QdrantClient(":memory:")
    yield Place("qdrant+file::memory:/docs", client)
    client.close()


@pytest.fixture
def rest() -> Iterator[Place]:
    with QdrantRest() as rest:
        yield Place(f"qdrant+{rest.url}/docs", rest=rest)


TRIAL = "# {name} trial, {phase}\n\nA report.\n\n## Results\n\nAfter treatment participants improved by {by} points.\n"


def fill(corpus: Path) -> None:
    """Documents in folders, other scripts, and rows with metadata."""
    (corpus / "trials").mkdir(parents=True, exist_ok=True)
    (corpus / "trials" / "alpha.md").write_text(TRIAL.format(name="Alphadrug", phase="phase 2, 2019", by=4.2), "utf-8")
    (corpus / "trials" / "beta.md").write_text(TRIAL.format(name="Betadrug", phase="phase 3, 2022", by=3.1), "utf-8")
    (corpus / "manual.md").write_text("# Pump manual\n\nAlarm PMP-417 means downstream occlusion.\n", "utf-8")
    (corpus / "words.txt").write_text("Ein Straßenmusikant spielt 空气滤网, naïve café.\n", "utf-8")
    about: list[dict[str, Any]] = [
        {"year": 2019, "tags": ["x", "y"], "ok": True},
        {"year": 2020.0, "ok": False},
        {"year": "2019", "note": None, 'q"e': 1},
    ]
    rows = [
        {"id": "r1", "text": "zebra one", "path": "src/a.py", "metadata": about[0]},
        {"id": "r2", "text": "zebra two", "path": "src/deep/b.tar.gz", "metadata": about[1]},
        {"id": "r3", "text": "zebra three", "title": "Third", "metadata": about[2]},
    ]
    json_lines(corpus / "rows.jsonl", rows)


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local index; nobody changes it."""
    from artrag import build_ingest

    folder = tmp_path_factory.mktemp("ledger")
    fill(folder / "corpus")
    inputs: Any = {"paths": [str(folder / "corpus")], "index": str(folder / "index")}
    build_ingest(embedder=HashedWords()).compile().invoke(inputs)
    return folder / "index"


@pytest.fixture
def own_ledger(build: Build, corpus: Path, tmp_path: Path) -> Path:
    """The same, of `corpus`; to be changed."""
    fill(corpus)
    build(corpus)
    return tmp_path / "index"


@pytest.fixture
def local(ledger: Path, embedder: HashedWords) -> Iterator[Index]:
    opened = Index.open(ledger, embedder=embedder)
    yield opened
    opened.close()


@pytest.fixture
def published(place: Place, ledger: Path, embedder: HashedWords) -> Iterator[QdrantIndex]:
    place.publish(ledger)
    opened = place.open(embedder)
    yield opened
    if place.client is None:
        opened.close()


def test_the_same_passages_as_the_local_index(published: QdrantIndex, local: Index) -> None:
    for question in QUESTIONS:
        same_passages(published, local, question)
    with pytest.raises(UsageError, match="magic"):
        published.search("x", arms=["magic"])
    with pytest.raises(UsageError, match="k=0"):
        published.search("x", 0)


def same_passages(published: QdrantIndex, local: Index, question: str) -> None:
    ours, theirs = published.search(question, 20, arms=["dense"]), local.search(question, 20, arms=["dense"])
    assert len(ours) == len(theirs) == local.manifest.chunks == published.manifest.chunks
    scores = {passage.id: passage.arms["dense"]["score"] for passage in theirs}
    for rank, passage in enumerate(ours, start=1):
        assert passage.arms == {"dense": {"rank": rank, "score": pytest.approx(scores[passage.id], abs=1e-5)}}
    words, expected = published.search(question, 20, arms=["bm25"]), local.search(question, 20, arms=["bm25"])
    assert words[0].id == expected[0].id and {p.id for p in words} == {p.id for p in expected}
    local.fusion = published.fusion
    best, theirs_best = published.search(question, 1)[0], local.search(question, 1, arms=["dense", "bm25"])[0]
    for name in ("id", "document", "text", "context", "start", "end", "metadata", "score"):
        assert getattr(best, name) == getattr(theirs_best, name)
    assert {arm: seen["rank"] for arm, seen in best.arms.items()} == {
        arm: seen["rank"] for arm, seen in theirs_best.arms.items()
    }
    json.dumps([best.arms, best.score, best.metadata])


FUSIONS: list[tuple[Fusion, models.Rrf | None]] = [
    (IN_ENGINE, models.Rrf(k=1, weights=[1.0, 1.0])),
    (Fusion(weights={"bm25": 3.0, "dense": 0.25}, rank_constant=0), models.Rrf(k=1, weights=[0.25, 3.0])),
    (Fusion(weights={}, rank_constant=60), models.Rrf(k=61)),
    (Fusion(weights={"bm25": 2.0, "dense": 2.0}, rank_constant=5), models.Rrf(k=6)),
    (Fusion(weights={"bm25": 2.0}, rank_constant=60), None),
    (Fusion(weights={}, rank_constant=0.5), None),
    (Fusion(weights={"dense": 0.0}, rank_constant=0), None),
    (Fusion(), None),
]


def test_fusion_is_the_local_one_wherever_it_is_done(published: QdrantIndex) -> None:
    for fusion, in_engine in FUSIONS:
        published.fusion = fusion
        query = published._together(["dense", "bm25"])
        assert (query.rrf if query else None) == in_engine
        same_fusion(published, fusion)


def same_fusion(published: QdrantIndex, fusion: Fusion) -> None:
    for question in QUESTIONS:
        found = published.search(question, 4)
        all_of_them = published.search(question, 20)
        for passage in all_of_them:
            wanted = sum(
                fusion.weights.get(arm, 1) / (fusion.rank_constant + s["rank"]) for arm, s in passage.arms.items()
            )
            assert passage.score == pytest.approx(wanted)
        assert len(found) == 4 and [p.score for p in found] == [p.score for p in all_of_them[:4]]
        assert [p.score for p in all_of_them] == sorted((p.score for p in all_of_them), reverse=True)
        assert {p.id for p in all_of_them} >= {p.id for p in published.search(question, 20, arms=["bm25"])}


def test_bm25_is_the_written_formula(published: QdrantIndex, local: Index, ledger: Path) -> None:
    texts = {p.id: tokenize(f"{p.context}\n{p.text}") for p in local.search("x", 50, arms=["dense"])}
    average = sum(map(len, texts.values())) / len(texts)
    question = "alarm alarm PMP-417 report"
    expected: dict[str, float] = {}
    for name, tokens in texts.items():
        for token in tokenize(question):
            have = sum(token in other for other in texts.values())
            idf = math.log(1 + (len(texts) - have + 0.5) / (have + 0.5))
            count = tokens.count(token)
            if count:
                weight = count * 2.5 / (count + 1.5 * (0.25 + 0.75 * len(tokens) / average))
                expected[name] = expected.get(name, 0.0) + idf * weight
    found = {p.id: p.arms["bm25"]["score"] for p in published.search(question, 50, arms=["bm25"])}
    assert found == pytest.approx(expected, rel=1e-4) and len(found) > 1
    assert published.search("the of and", arms=["bm25"]) == []  # stop words alone


WORDS = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), min_size=1, max_size=8)


@given(WORDS, st.lists(st.sampled_from("abcdefghxyz"), max_size=6))
@settings(max_examples=60)
def test_term_weights_are_those_of_bm25okapi(documents: list[list[str]], query: list[str]) -> None:
    okapi = BM25Okapi(documents)
    asked = query_weights(query)
    for tokens, wanted in zip(documents, okapi.get_scores(query), strict=True):
        have = document_weights(tokens, okapi.avgdl)
        idf = {token_id(token): value for token, value in okapi.idf.items()}
        assert sum(have.get(t, 0) * n * idf.get(t, 0) for t, n in asked.items()) == pytest.approx(wanted, abs=1e-9)


def test_token_ids_are_the_same_everywhere() -> None:
    assert token_id("pump") == 746596696
    assert token_id("空气") == 2489977708
    assert all(0 <= token_id(str(n)) < 2**32 for n in range(1000))  # what the engine takes as a dimension
    assert all(0 <= qdrant_points._tag("k", n) < 2**63 for n in range(1000))  # and as a number


def test_tokens_that_share_an_id_count_as_one(
    memory: Place, ledger: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_points, "token_id", lambda token: len(token) % 3)
    memory.publish(ledger)
    assert memory.open(embedder).search("PMP-417", 3, arms=["bm25"])


FILTERS: list[dict[str, Any]] = [
    {},
    {"document": "manual.md"},
    {"document": ["r1", "r2", "nope"]},
    {"document": []},
    {"path": "trials/alpha.md"},
    {"path": "trials/*"},
    {"path": "src/*"},
    {"path": ["src/deep/*", "*.md"]},
    {"path": "*.gz"},
    {"path": "*.tar.gz"},
    {"path": "*"},
    {"title": "Third"},
    {"year": 2019},
    {"year": 2020},
    {"year": 2019.0},
    {"year": "2019"},
    {"year": [2019, "2019", 7]},
    {"year": True},
    {"ok": True},
    {"ok": 1},
    {"ok": [False, True]},
    {"tags": "y"},
    {"tags": ["x", "z"]},
    {"tags": "xy"},
    {"note": None},
    {"gone": None},
    {'q"e': 1},
    {"year": 2019, "tags": "x", "path": "*.py"},
    {"year": 2019, "tags": "z"},
]


def test_filters_let_through_what_the_local_catalogue_lets_through(published: QdrantIndex, ledger: Path) -> None:
    catalog = Catalog.open(ledger / read_manifest(ledger).generation / "catalog.sqlite")
    for arms in (["dense"], ["bm25"], ["dense", "bm25"]):
        everything = {p.id for p in published.search("zebra report", 20, arms=arms)}
        for where in FILTERS:
            allowed = {chunk.id for chunk in catalog.chunks() if catalog.rows_where(where)[chunk.row]}
            found = published.search("zebra report", 20, arms=arms, where=where)
            assert {p.id for p in found} == everything & allowed, (where, arms)
    catalog.close()


def test_filters_that_are_none_and_filters_that_the_engine_lacks(published: QdrantIndex) -> None:
    assert [p.id for p in published.search("zebra", 20, where={"year": 2019, "ok": True})] == ["r1#0"]
    for wrong in ({"year": {"from": 1}}, {"document": 3}, {3: "x"}):
        with pytest.raises(UsageError, match="cannot filter"):
            published.search("x", where=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'a\*b'.*docs/\*"):
        published.search("x", where={"path": "a*b"})


def test_long_values_are_filtered_by(memory: Place, build: Build, tmp_path: Path, embedder: HashedWords) -> None:
    rows = [{"id": str(n), "text": "word", "metadata": {"url": "http://x/" + "y" * 500 + str(n)}} for n in range(2)]
    build(json_lines(tmp_path / "long.jsonl", rows))
    memory.publish(tmp_path / "index")
    assert [p.document for p in memory.open(embedder).search("word", where={"url": rows[1]["metadata"]["url"]})] == [
        "1"
    ]


def test_the_second_time_nothing_is_sent(place: Place, ledger: Path, embedder: HashedWords) -> None:
    first = place.publish(ledger)
    assert (first.sent, first.unchanged, first.deleted, first.drift) == (first.chunks + first.documents, 0, 0, 0.0)
    again = place.publish(ledger)
    assert (again.sent, again.unchanged, again.deleted) == (0, first.sent, 0)
    assert again.collection == first.collection and place.collections() == [first.collection]
    if place.rest:
        place.rest.asked.clear()
        place.publish(ledger)
        assert not any(path.endswith("/points") for method, path, _ in place.rest.asked if method == "PUT")


def test_only_what_changed_is_sent_and_what_vanished_is_deleted(
    place: Place, own_ledger: Path, build: Build, corpus: Path, embedder: HashedWords
) -> None:
    before = place.publish(own_ledger)
    (corpus / "manual.md").write_text("# Pump manual\n\nAlarm PMP-417 means air in line.\n")
    (corpus / "trials" / "alpha.md").unlink()
    (corpus / "new.txt").write_text("A new page")
    build(corpus)
    after = place.publish(own_ledger)
    alpha = 3  # its two chunks and its text
    assert (after.sent, after.deleted) == (4, alpha) and after.unchanged == before.sent - alpha - 2
    index, local = place.open(embedder), Index.open(own_ledger, embedder=embedder)
    assert "air in line" in index.search("PMP-417", 1)[0].text
    assert {p.id for p in index.search("x", 50)} == {p.id for p in local.search("x", 50)}
    assert index.manifest.documents == local.manifest.documents and index.manifest.chunks == local.manifest.chunks
    with pytest.raises(IndexStoreError, match="no document 'trials/alpha.md'"):
        index.document("trials/alpha.md")
    local.close()
    if place.client is None:
        index.close()


def test_documents_come_back_whole(
    place: Place, ledger: Path, local: Index, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_points, "PIECE", 20)
    place.publish(ledger)
    index = place.open(embedder)
    for name in ("manual.md", "words.txt", "r1", "trials/beta.md"):
        assert index.document(name) == local.document(name)
    if place.client is None:
        index.close()


def test_a_stopped_publish_continues(
    place: Place, ledger: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_publish, "BATCH", 2)
    send, batches = qdrant_publish._upsert, []

    def interrupted(*args: Any) -> None:
        if len(batches) == 3:
            raise KeyboardInterrupt
        batches.append(args)
        send(*args)

    with monkeypatch.context() as patch:
        patch.setattr(qdrant_publish, "_upsert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            place.publish(ledger)
    with pytest.raises(IndexNotFoundError, match="artrag publish"):
        place.open(embedder)
    (half,) = place.collections()
    done = place.publish(ledger)
    assert (done.collection, done.unchanged) == (half, 6) and done.sent == done.chunks + done.documents - 6
    assert place.collections() == [half]


KILLED = """
import os, signal, sys
from artrag.index import qdrant_publish
qdrant_publish.BATCH = 2
send, batches = qdrant_publish._upsert, []
def dying(*args):
    send(*args)
    batches.append(1)
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
qdrant_publish._upsert = dying
from pathlib import Path
qdrant_publish.publish(Path(sys.argv[1]), sys.argv[2])
"""


def test_a_killed_publish_continues(ledger: Path, tmp_path: Path, embedder: HashedWords) -> None:
    url = f"qdrant+file:{tmp_path}/qdrant/docs"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(ledger), url], check=False)
    assert killed.returncode == -signal.SIGKILL
    done = publish(ledger, url)
    assert done.unchanged == 4 and done.sent == done.chunks + done.documents - 4
    index = QdrantIndex.open(url, embedder=embedder)
    assert index.search("PMP-417", 1)[0].document == "manual.md"
    index.close()


def test_a_rebuild_is_swapped_in_under_its_readers(
    memory: Place, rest: Place, own_ledger: Path, build: Build, corpus: Path, embedder: HashedWords
) -> None:
    for place in (memory, rest):
        first = place.publish(own_ledger)
        reader = place.open(embedder)
        seen = []

        def tell(*_: Any, reader: QdrantIndex = reader, seen: list[str] = seen) -> None:
            seen.append(reader.search("PMP-417", 1)[0].text)

        (corpus / "manual.md").write_text(f"# Pump manual\n\nAlarm PMP-417 means air in {place.url}.\n")
        build(corpus)
        second = place.publish(own_ledger, rebuild=True, tell=tell)
        assert seen and all("air in" not in text or place.url not in text for text in seen)
        assert second.collection != first.collection and place.collections() == [second.collection]
        assert second.unchanged == 0 and second.sent == second.chunks + second.documents
        assert place.url in reader.search("PMP-417", 1)[0].text
        reader.close()
        if place is memory:
            memory.client = QdrantClient(":memory:")


def test_a_stopped_rebuild_continues_and_left_overs_go(
    place: Place, ledger: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.publish(ledger)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    for layout in (Layout(), Layout(replicas=2)):
        with monkeypatch.context() as patch:
            patch.setattr(qdrant_publish, "_swap", stop)
            with pytest.raises(KeyboardInterrupt):
                place.publish(ledger, rebuild=True, layout=layout)
        assert len(place.collections()) == 2  # the second run drops the first one's, which is laid out otherwise
    done = place.publish(ledger, rebuild=True, layout=Layout(replicas=2))
    assert (done.sent, done.unchanged) == (0, first.sent) and place.collections() == [done.collection]


def test_a_wrong_embedder_is_refused(place: Place, ledger: Path, build: Build, corpus: Path, tmp_path: Path) -> None:
    from artrag import build_ingest

    place.publish(ledger)
    right, other = HashedWords(), HashedWords()
    other.fingerprint = "other:1"
    with pytest.raises(EmbedderMismatchError, match="'hashed-words:64', not with 'other:1'"):
        place.open(other)
    reader = place.open()
    with pytest.raises(EmbedderMismatchError, match="embedder="):
        reader.search("x")
    if place.client is None:
        reader.close()
    inputs: Any = {"paths": [str(corpus)], "index": str(tmp_path / "other")}
    build_ingest(embedder=other).compile().invoke(inputs)
    with pytest.raises(EmbedderMismatchError, match="--rebuild"):
        place.publish(tmp_path / "other")
    if place.rest or place.client:  # a folder has one user at a time
        reader = place.open(right)
        place.publish(tmp_path / "other", rebuild=True)
        with pytest.raises(EmbedderMismatchError, match="'other:1', not with 'hashed-words:64'"):
            reader.search("x")
        assert place.open(other).search("PMP-417", 1)[0].document == "manual.md"


def test_a_reader_opens_the_embedder_that_the_collection_names_now(
    memory: Place, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artrag import build_ingest, models

    known = {"first": HashedWords(), "second": HashedWords()}
    for name, model in known.items():
        model.fingerprint = f"fingerprint of {name}"
        inputs: Any = {"paths": [str(corpus)], "index": str(tmp_path / name)}
        build_ingest(embedder=model, embedder_reference=name).compile().invoke(inputs)
    opened: list[tuple[str, bool]] = []

    def load(reference: str, *, local_only: bool) -> HashedWords:
        opened.append((reference, local_only))
        return known[reference]

    monkeypatch.setattr(models, "load_embedder", load, raising=False)
    memory.publish(tmp_path / "first")
    reader = memory.open(local_only=True)
    assert not opened  # until somebody asks
    for _ in range(2):
        assert reader.search("PMP-417", 1)[0].document == "manual.md"
    memory.publish(tmp_path / "second", rebuild=True)
    assert reader.search("PMP-417", 1)[0].document == "manual.md"
    assert opened == [("first", True), ("second", True)]
    assert reader.embedder() is known["second"]
    known["second"].fingerprint = "other weights"
    with pytest.raises(EmbedderMismatchError, match="is now 'other weights'.*: ingest and publish again"):
        memory.open().search("x")


def test_other_vectors_are_sent_even_where_no_word_changed(
    memory: Place, build: Build, corpus: Path, tmp_path: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(corpus)
    memory.publish(tmp_path / "index")
    plain = embedder._vector
    monkeypatch.setattr(embedder, "_vector", lambda text: plain(text)[::-1])
    build(corpus, index=tmp_path / "again")
    done = memory.publish(tmp_path / "again")
    assert (done.sent, done.unchanged) == (done.chunks, done.documents)


def test_parts_share_a_collection_and_leave_each_other_alone(
    place: Place, build: Build, tmp_path: Path, embedder: HashedWords
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text(f"# Guide {name}\n\nzebra {name}\n")
        (tmp_path / name / f"{name}.md").write_text(f"# Page {name}\n\nzebra page of {name}\n")
        build(tmp_path / name, index=tmp_path / f"i-{name}")
        place.publish(tmp_path / f"i-{name}", part=name)
    (tmp_path / "one" / "one.md").unlink()
    build(tmp_path / "one", index=tmp_path / "i-one")
    assert place.publish(tmp_path / "i-one", part="one").deleted == 2
    assert place.publish(tmp_path / "i-two", part="two").sent == 0
    index = place.open(embedder)
    assert (index.manifest.documents, index.manifest.chunks) == (3, 3)
    assert sorted(p.document for p in index.search("zebra", 9)) == ["a.md", "a.md", "two.md"]
    assert "one" in index.document("a.md").text and "two" in index.document("two.md").text
    if place.client is None:
        index.close()
    with pytest.raises(UsageError, match="other parts.*'one'"):
        place.publish(tmp_path / "i-two", part="two", rebuild=True)


def test_a_tuned_fusion_goes_along(memory: Place, own_ledger: Path, embedder: HashedWords) -> None:
    from artrag.index.fusion import write_fusion

    memory.publish(own_ledger)
    reader = memory.open(embedder)
    generation = reader.manifest.generation
    assert reader.fusion == IN_ENGINE
    write_fusion(own_ledger, Fusion(weights={"bm25": 0.5}), {})
    assert memory.publish(own_ledger).sent == 0
    reader.refresh()
    assert reader.fusion == Fusion(weights={"bm25": 0.5}) and reader.manifest.generation == generation


def test_longer_chunks_are_told(memory: Place, build: Build, corpus: Path, tmp_path: Path) -> None:
    build(corpus)
    assert memory.publish(tmp_path / "index").drift == 0
    (corpus / "long.txt").write_text("Many more words of one and the same document. " * 200)
    build(corpus)
    assert memory.publish(tmp_path / "index").drift > qdrant_publish.DRIFT
    assert memory.publish(tmp_path / "index", rebuild=True).drift == 0


def test_texts_of_every_script_and_of_none(place: Place, build: Build, tmp_path: Path, embedder: HashedWords) -> None:
    texts = ["空气滤网需要更换", "Ünïcödé \u202eright-to-left\u202c", "👩‍🔬 emoji", "...", "a\x00b", "و هذا نص"]
    build(
        json_lines(tmp_path / "d.jsonl", [{"id": f"d/{n} é", "text": text} for n, text in enumerate(texts)]),
        context="none",
    )
    local = Index.open(tmp_path / "index", embedder=embedder)
    place.publish(tmp_path / "index")
    index = place.open(embedder)
    assert {p.text for p in index.search("x", 50)} == {p.text for p in local.search("x", 50)}
    assert index.search("空气滤网", 1, arms=["bm25"])[0].text == texts[0]
    assert [p.text for p in index.search("و هذا نص", 1)] == [texts[5]]
    for question in ("", "...", "👩‍🔬"):
        assert len(index.search(question, 3)) == 3 and index.search(question, 3, arms=["bm25"]) == []
    local.close()
    if place.client is None:
        index.close()


def test_the_graphs_answer_from_it(published: QdrantIndex) -> None:
    retriever = IndexRetriever(index=published)
    said = "Alarm PMP-417 means downstream occlusion [1]."
    rag = build_contextual_rag(chat=ScriptedChat(said), retriever=retriever).compile()
    state: Any = rag.invoke({"question": "What does PMP-417 mean?"})
    assert state["passages"][0].metadata["document"] == "manual.md" and state["citations"][0]["document"] == "manual.md"
    art = build_art(
        chat=ScriptedChat(said),
        asker=ScriptedAsker(0.1),
        truster=ScriptedTruster({"occlusion": 0.9}),
        retriever=retriever,
    ).compile()
    state = art.invoke({"question": "What does PMP-417 mean?"})
    assert "occlusion" in state["answer"] and state["confidence"] == 0.9
    assert state["passages"][0].metadata["arms"]["bm25"]["rank"] == 1


def test_unknown_names_and_foreign_collections_are_named(place: Place, ledger: Path, embedder: HashedWords) -> None:
    with pytest.raises(IndexNotFoundError, match=r"artrag publish --index DIR --to qdrant\+"):
        place.open(embedder)
    if not place.client and not place.rest:
        return
    client = place.look()
    vectors = models.VectorParams(size=3, distance=models.Distance.DOT)
    client.create_collection("docs", vectors)
    with pytest.raises(IndexVersionError, match="none of this artrag's"):
        place.open(embedder)
    with pytest.raises(IndexVersionError, match="another name"):
        place.publish(ledger)
    with pytest.raises(IndexVersionError, match="another name"):
        place.publish(ledger, rebuild=True)
    client.delete_collection("docs")
    client.create_collection("docs--mine", vectors)
    place.publish(ledger)
    assert "docs--mine" in place.collections()  # only what artrag made is cleared away
    told = client.get_collection("docs").config.metadata
    assert told
    client.update_collection("docs", metadata={"artrag": told["artrag"] | {"format": 99}})
    with pytest.raises(IndexVersionError, match="format 99"):
        place.open(embedder)
    assert place.publish(ledger, rebuild=True).sent and place.open(embedder).search("PMP-417", 1)
    if client is not place.client:
        client.close()


@pytest.mark.parametrize(
    "wrong",
    ["qdrant+ftp://x/y", "qdrant+http://h:1/", "qdrant+http://h:1/a/b", "qdrant+http:///docs", "qdrant+file:docs", "x"],
)
def test_what_is_no_address_is_named(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"no index on Qdrant.*qdrant\+http://"):
        QdrantIndex.open(wrong)


def test_keys_stay_out_of_addresses_and_out_of_messages() -> None:
    for wrong in ("qdrant+http://:sesame@h:1/docs", "qdrant+http://h:1/docs?api_key=sesame"):
        with pytest.raises(UsageError, match="QDRANT_API_KEY") as caught:
            QdrantIndex.open(wrong)
        assert "sesame" not in str(caught.value)


def test_local_only_refuses_a_server_elsewhere(rest: Place, ledger: Path, embedder: HashedWords) -> None:
    for url in ("qdrant+https://qdrant.example.com:6333/docs", "qdrant+http://10.0.0.7:6333/docs"):
        with pytest.raises(RemoteRefusedError, match="another machine"):
            QdrantIndex.open(url, local_only=True)
        with pytest.raises(RemoteRefusedError, match="another machine"):
            publish(ledger, url, local_only=True)
    rest.publish(ledger, local_only=True)
    index = rest.open(embedder, local_only=True)
    assert index.search("PMP-417", 1)
    index.close()


def test_a_server_that_is_down_slow_closed_or_old(
    rest: Place, ledger: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rest.rest
    assert server
    started = time.monotonic()
    with pytest.raises(IndexServerError, match=r"no answer from 'qdrant\+http://127.0.0.1:9/docs'.*start the server"):
        QdrantIndex.open("qdrant+http://127.0.0.1:9/docs")
    with pytest.raises(IndexServerError, match="start the server"):
        publish(ledger, "qdrant+http://127.0.0.1:9/docs")
    monkeypatch.setattr(qdrant_server, "PATIENCE", 1)
    server.delay = 1.5
    with pytest.raises(IndexServerError, match="no answer"):
        rest.open(embedder)
    assert time.monotonic() - started < 10
    server.delay = 0
    for status, word in ((503, "answers 503"), (400, "as the test wants it"), (429, "429|later")):
        server.fail = status
        with pytest.raises(IndexServerError, match=word):
            rest.open(embedder)
    server.fail, server.version = 0, "1.16.3"
    with pytest.raises(IndexVersionError, match="'1.16.3'.*1.17"):
        rest.publish(ledger)
    server.version, server.key = "1.20.1-dev", "sesame"
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    with pytest.raises(IndexServerError, match="QDRANT_API_KEY"):
        rest.publish(ledger)
    monkeypatch.setenv("QDRANT_API_KEY", "sesame")
    rest.publish(ledger)
    index = rest.open(embedder)
    assert index.search("PMP-417", 1)
    server.fail = 500
    with pytest.raises(IndexServerError, match="answers 500"):
        index.search("PMP-417", 1)
    index.close()


def test_one_request_a_question_and_the_layout_asked_for(rest: Place, ledger: Path, embedder: HashedWords) -> None:
    server = rest.rest
    assert server
    rest.publish(ledger, layout=Layout(shards=3, quantization="int8", on_disk=True))
    (made,) = [body for method, path, body in server.asked if method == "PUT" and path.count("/") == 2]
    assert (made["shard_number"], made["replication_factor"], made["on_disk_payload"]) == (3, 1, True)
    assert made["vectors"]["dense"] == {"size": 64, "distance": "Dot", "on_disk": True}
    assert made["sparse_vectors"]["bm25"] == {"index": {"on_disk": True}, "modifier": "idf"}
    assert made["quantization_config"] == {"scalar": {"type": "int8", "always_ram": True}}
    indexed = [body["field_name"] for _, path, body in server.asked if path.endswith("/index")]
    assert indexed == ["tags", "part"]
    index = rest.open(embedder)
    server.asked.clear()
    index.search("PMP-417", 3, where={"document": "manual.md"})
    ((_, path, body),) = server.asked
    dense, words, fused = body["searches"]
    assert path.endswith("/points/query/batch")
    assert [query["limit"] for query in (dense, words, *fused["prefetch"])] == [150] * 4
    assert fused["query"] == {"rrf": {"k": 1, "weights": [1.0, 1.0]}} and fused["with_payload"]
    for query in (dense, fused["prefetch"][0]):
        assert query["params"]["quantization"] == {"rescore": True, "oversampling": 1.5}
    for query in (dense, words, *fused["prefetch"]):
        assert query["filter"]["must"][0]["match"] == {"any": [qdrant_points._tag("document", "manual.md")]}
    index.close()
    with pytest.raises(UsageError, match="--rebuild"):
        rest.publish(ledger, layout=Layout(shards=4))
    rest.publish(ledger, layout=Layout(replicas=2), rebuild=True)  # the rest of the layout stays
    made = [body for method, path, body in server.asked if method == "PUT" and path.count("/") == 2][-1]
    assert (made["shard_number"], made["replication_factor"]) == (3, 2) and made["quantization_config"]


@pytest.mark.filterwarnings("ignore:unclosed file .*.lock:ResourceWarning")  # the client's own
@pytest.mark.filterwarnings("ignore:Exception ignored in.*.lock:pytest.PytestUnraisableExceptionWarning")
def test_a_folder_in_use_and_a_missing_package_are_named(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: HashedWords
) -> None:
    url = f"qdrant+file:{tmp_path}/qdrant/docs"
    publish(ledger, url)
    index = QdrantIndex.open(url, embedder=embedder)
    with pytest.raises(IndexLockedError, match="another process"):
        publish(ledger, url)
    index.close()
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"artrag\[qdrant\]"):
        publish(ledger, url)


def test_a_reader_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="artrag publish"):
        QdrantIndex.open(f"qdrant+file:{tmp_path}/none/docs")
    assert not (tmp_path / "none").exists()


def command(*words: str) -> Any:
    from artrag.interfaces.cli import app

    return CliRunner().invoke(app, list(words))


def test_the_command_line(
    rest: Place, ledger: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from artrag.interfaces import wiring

    monkeypatch.setattr(QdrantIndex, "_embedder", lambda *_: embedder)
    done = command("publish", "--index", str(ledger), "--to", rest.url, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["sent"] == report["chunks"] + report["documents"] and report["to"] == rest.url
    told = command("publish", "--index", str(ledger), "--to", rest.url).stdout
    assert "0 points sent" in " ".join(told.split())
    found = json.loads(command("search", "PMP-417", "--index", rest.url, "-k", "2", "--json").stdout)
    assert found["passages"][0]["document"] == "manual.md" and set(found["passages"][0]["arms"]) == {"dense", "bm25"}
    doctor = json.loads(command("doctor", "--index", rest.url, "--json").stdout)
    row = next(check for check in doctor["checks"] if check["name"] == "index")
    assert row["ok"] and f"{report['chunks']} chunks of {report['documents']} documents" in row["found"]
    first = wiring.open_index(rest.url)
    assert wiring.open_index(rest.url) is first
    missing = command("search", "x", "--index", rest.url + "-nope")
    assert isinstance(missing.exception, IndexNotFoundError)
    refused = command("ingest", str(tmp_path), "--index", rest.url)
    assert isinstance(refused.exception, UsageError) and "artrag publish" in str(refused.exception)
    first.close()
    wiring._connected.cache_clear()


def test_the_engine_itself_weighs_and_fuses_as_written(tmp_path: Path) -> None:
    """Qdrant's own engine, which qdrant-edge-py carries: its idf, and its fusion with k = 1."""
    edge = pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py runs Qdrant's engine in this process")
    config = edge.EdgeConfig(
        vectors={"dense": edge.EdgeVectorParams(size=2, distance=edge.Distance.Dot)},
        sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
    )
    (tmp_path / "shard").mkdir()
    shard = edge.EdgeShard.create(str(tmp_path / "shard"), config)

    def vector(weights: dict[int, float]) -> Any:
        return edge.SparseVector(list(weights), list(weights.values()))

    texts = {1: ["pump", "alarm", "alarm"], 2: ["pump"], 3: ["valve", "空气"]}
    vectors = {1: [1.0, 0.0], 2: [0.6, 0.8], 3: [0.0, 1.0]}
    points = [edge.Point(n, {"dense": vectors[n], "bm25": vector(document_weights(texts[n], 2.0))}, {}) for n in texts]
    shard.update(edge.UpdateOperation.upsert_points([*points, edge.Point(9, {}, {"kind": "document"})]))
    words = edge.Query.Nearest(vector(query_weights(["pump", "空气"])), using="bm25")
    found = {p.id: p.score for p in shard.query(edge.QueryRequest(limit=9, query=words))}
    idf = {"pump": math.log(1 + 1.5 / 2.5), "空气": math.log(1 + 2.5 / 1.5)}  # of three: the document has no words
    weight = {n: document_weights(texts[n], 2.0) for n in texts}
    assert found == pytest.approx(
        {n: idf["pump"] * weight[n][token_id("pump")] for n in (1, 2)} | {3: idf["空气"] * weight[3][token_id("空气")]}
    )
    dense = edge.Query.Nearest([1.0, 0.0], using="dense")
    ranking = [p.id for p in shard.query(edge.QueryRequest(limit=9, query=words))]
    sources = [edge.Prefetch(limit=150, query=dense), edge.Prefetch(limit=150, query=words)]
    for weights in ([1.0, 1.0], [0.5, 3.0]):
        how = edge.Fusion.Rrf(k=1, weights=weights)
        fused = {p.id: p.score for p in shard.query(edge.QueryRequest(limit=9, prefetches=sources, query=how))}
        expected = {n: weights[0] / n + weights[1] / (ranking.index(n) + 1) for n in texts}
        assert fused == pytest.approx(expected)
    shard.close()
