"""`artrag evaluate retrieval` on small indexes: what it counts, what it costs, what it says."""

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, HashedWords, json_lines
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document

from artrag.evaluation.queries import read_queries
from artrag.evaluation.retrieval import judge
from artrag.evaluation.retrieval_figures import HYBRID, RERANKED, report_of
from artrag.index import Index
from artrag.index.store import ARMS
from artrag.interfaces import searching
from artrag.interfaces.searching import Remembering, keyed, open_indexes, search_all
from artrag.models import references
from artrag.models.reranker import LocalReranker

HAS = ARMS[:-1]
"""The arms of an index whose embedder has no token vectors."""

Build = Callable[..., dict[str, Any]]
Run = Callable[..., tuple[int, Any, str]]
ROWS = [
    {"id": "q1", "question": "What does alarm PMP-417 mean?", "relevant": ["manual.md"]},
    {"id": "q2", "question": "How much did Alphadrug improve participants?", "relevant": ["trials/alpha.md#0"]},
    {"id": "q3", "question": "How much did Betadrug improve participants?", "relevant": ["trials/beta.md"]},
]


class Counting(HashedWords):
    """Remembers the questions it embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return super().embed_query(text)


@pytest.fixture
def embedder() -> HashedWords:
    return Counting()


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch, embedder: HashedWords) -> None:
    monkeypatch.setattr(references, "_folder", lambda reference, progress: reference.name)
    monkeypatch.setattr(references, "_local_embedder", lambda *_: embedder)


@pytest.fixture
def run(shell: Callable[..., tuple[int, str, str]]) -> Run:
    """The command as a shell runs it: exit code, standard output (as JSON where asked for), standard error."""

    def go(*words: Any) -> tuple[int, Any, str]:
        code, out, err = shell(*words)
        return code, json.loads(out) if "--json" in words else out, err

    return go


@pytest.fixture
def folders(run: Run, corpus: Path, tmp_path: Path) -> dict[str, Path]:
    """Indexes of the corpus with and without context, made by the command line."""
    made = {kind: tmp_path / kind for kind in ("none", "auto")}
    for kind, folder in made.items():
        assert run("ingest", corpus, "--index", folder, "--context", kind, "--json")[0] == 0
    return made


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return json_lines(tmp_path / "queries.jsonl", ROWS)


def test_every_arm_with_intervals_and_times(run: Run, folders: dict[str, Path], queries: Path) -> None:
    code, found, err = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, "-k", "2,1", "--json")
    )
    assert (code, err) == (0, "")
    assert (found["k"], found["questions"], found["queries"]) == ([1, 2], 3, "queries.jsonl")
    (name,) = found["indexes"]
    index = found["indexes"][name]
    assert Path(name) == folders["auto"] and index["context"] == "auto" and index["missing"] == {}
    assert list(index["arms"]) == [*HAS, HYBRID]
    for arm in index["arms"].values():
        wanted = {f"{m}@{k}" for m in ("recall", "pass", "hit", "ndcg") for k in (1, 2)} | {"mrr", "ndcg"}
        assert wanted <= set(arm)
        assert all(0 <= arm[m]["low"] <= arm[m]["value"] <= arm[m]["high"] <= 1 for m in wanted)
        assert 0 <= arm["search_p50_ms"] <= arm["p50_ms"] <= arm["p95_ms"]
        assert len(arm["pass_curve"]) == 2 and arm["pass_curve"][1] == pytest.approx(arm["pass@2"]["value"])
    assert index["arms"]["bm25"]["pass@2"]["value"] > 0.5
    assert index["best_single"] in HAS and not index["arms"][index["best_single"]]["over_best_single"]
    assert set(index["arms"][HYBRID]["over_best_single"]) >= {"pass@1", "recall@2", "mrr"}
    assert found["comparisons"] == [] == found["verdicts"]


def test_contexts_are_compared_and_a_question_is_embedded_once(
    run: Run, folders: dict[str, Path], queries: Path, embedder: Counting
) -> None:
    embedder.asked.clear()
    code, found, _ = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--index", folders["none"]),
        *("--queries", queries, "-k", "1", "--json"),
    )
    assert code == 0
    assert sorted(set(embedder.asked) - {"warm"}) == sorted(row["question"] for row in ROWS)
    assert len(embedder.asked) == len(ROWS) + 1
    (verdict,) = found["verdicts"]
    assert verdict.startswith("hybrid: deterministic context gains ") and "pass@1 over no context" in verdict
    (hybrid,) = [one for one in found["comparisons"] if one["arm"] == HYBRID]
    assert (Path(hybrid["first"]), Path(hybrid["second"])) == (folders["none"], folders["auto"])
    values = [found["indexes"][str(folders[kind])]["arms"][HYBRID]["pass@1"]["value"] for kind in ("none", "auto")]
    assert hybrid["pass@1"]["value"] == pytest.approx(values[1] - values[0])


def test_the_rankings_are_those_of_a_search_from_one_call(
    folders: dict[str, Path], queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "TIMED", 1)
    calls: list[list[str]] = []
    plain = Index.rankings

    def counted(self: Index, *given: Any, **options: Any) -> Any:
        calls.append(list(options["arms"]))
        return plain(self, *given, **options)

    ((index, embedder),) = open_indexes([folders["auto"]])
    chunks, names = keyed(index)
    judged = judge(read_queries(queries), chunks)
    monkeypatch.setattr(Index, "rankings", counted)
    found = search_all(index, embedder, judged, names, arms=[*HAS, HYBRID], k=3)
    # One call a question gives every ranking; single arms are searched again for the first question, to be timed.
    assert calls == [list(HAS), *([arm] for arm in HAS), list(HAS), list(HAS)]
    monkeypatch.undo()
    for n, row in enumerate(ROWS):
        for arm in (*HAS, HYBRID):
            wanted = index.search(str(row["question"]), 3, arms=HAS if arm == HYBRID else (arm,))
            assert found.rankings[arm][n] == [passage.id for passage in wanted]
    assert [len(found.search_ms[arm]) for arm in (*HAS, HYBRID)] == [1] * len(HAS) + [3]
    index.close()


class Backwards(BaseDocumentCompressor):
    """Turns the passages round."""

    def compress_documents(self, documents: Any, query: str, callbacks: Callbacks | None = None) -> list[Document]:
        return list(documents)[::-1]


def test_a_reranker_is_one_more_arm(folders: dict[str, Path], queries: Path) -> None:
    ((index, embedder),) = open_indexes([folders["auto"]])
    chunks, names = keyed(index)
    judged = judge(read_queries(queries), chunks)
    found = search_all(index, embedder, judged, names, arms=[*HAS, HYBRID, "of another index"], k=9)
    assert list(found.rankings) == [*HAS, HYBRID]
    whole, arms = found.rankings[HYBRID], [*HAS, HYBRID, RERANKED]
    found = search_all(index, embedder, judged, names, arms=[*HAS, HYBRID], k=9, reranker=Backwards())
    assert found.rankings[RERANKED] == [ranking[::-1] for ranking in whole]
    report = report_of([found], [1, 3])
    assert report.indexes[0].best_single in HAS
    assert set(report.indexes[0].arms) == set(arms)
    # It reads more than is wanted of it.
    found = search_all(index, embedder, judged, names, arms=[HYBRID], k=1, reranker=Backwards())
    assert found.rankings[RERANKED] == [ranking[-1:] for ranking in whole]
    index.close()


def test_a_reranker_is_named_on_the_command_line(
    run: Run, folders: dict[str, Path], queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = []

    def opened(model: str, *, local_only: bool) -> LocalReranker:
        named.append((model, local_only))
        return LocalReranker(lambda question, passages: [float(len(passage.page_content)) for passage in passages])

    monkeypatch.setattr("artrag.models.references.load_reranker", opened)
    code, found, _ = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, "--reranker", "./mine"),
        *("--local-only", "--json"),
    )
    (index,) = found["indexes"].values()
    assert code == 0 and named == [("./mine", True)] and list(index["arms"])[-1] == "reranked"


def test_only_the_arms_asked_for_and_no_embedding_where_none_needs_it(
    run: Run, folders: dict[str, Path], queries: Path, embedder: Counting
) -> None:
    embedder.asked.clear()
    code, found, _ = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, "--arm", "bm25", "--json")
    )
    (index,) = found["indexes"].values()
    assert code == 0 and list(index["arms"]) == ["bm25"] and embedder.asked == []
    assert index["arms"]["bm25"]["p50_ms"] == index["arms"]["bm25"]["search_p50_ms"]
    _, found, _ = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, "--arm", "hybrid,bm25", "--json")
    )
    assert list(*(one["arms"] for one in found["indexes"].values())) == ["bm25", "hybrid"]


def test_time_with_and_without_the_embedding() -> None:
    class Slow(HashedWords):
        def embed_query(self, text: str) -> list[float]:
            time.sleep(0.02)
            return super().embed_query(text)

    embedder = Remembering("slow", Slow)
    embedder.embed_query("q")
    first = embedder.spent, embedder.used
    assert first[0] >= first[1] >= 0.02  # opening it is spent, but is no part of a question's time
    embedder.spent = embedder.used = 0.0
    embedder.embed_query("q")
    assert embedder.spent == 0 and embedder.used == first[1]
    assert embedder.embedded == []  # what it does not have, the embedder has


def test_the_time_of_a_search_leaves_the_embedding_out(
    run: Run, folders: dict[str, Path], queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Counting.embed_query

    def slow(self: Counting, text: str) -> list[float]:
        time.sleep(0.2)
        return plain(self, text)

    monkeypatch.setattr(Counting, "embed_query", slow)
    _, found, _ = run("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, "--json")
    (index,) = found["indexes"].values()
    for arm in ("dense", HYBRID):
        assert index["arms"][arm]["search_p50_ms"] < 200 <= index["arms"][arm]["p50_ms"]
    assert index["arms"]["bm25"]["p50_ms"] < 200


def test_missing_ids_are_told_and_counted(run: Run, folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [*ROWS, {"id": "q4", "question": "Gone?", "relevant": ["gone.md#3"]}, {"id": "q5", "question": "Who knows?"}]
    queries = json_lines(tmp_path / "more.jsonl", rows)
    code, found, err = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, "-k", "5", "--json")
    )
    assert code == 0 and found["questions"] == 4
    (index,) = found["indexes"].values()
    assert index["missing"] == {"q4": ["gone.md#3"]}
    assert index["arms"]["bm25"]["pass@5"]["value"] == 0.75
    said = " ".join(err.split())
    assert "'gone.md#3' of 'q4'" in said and "1 questions do not say what is relevant: left out" in said


def test_the_table_names_arms_verdicts_and_the_best_arm(
    run: Run, folders: dict[str, Path], queries: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        *("evaluate", "retrieval", "--index", folders["auto"], "--index", folders["none"], "--queries", queries),
        *("-k", "1,2", "--out", tmp_path / "report"),
    )
    said = " ".join(out.split())
    assert code == 0 and "context auto" in said and "context none" in said
    for part in ("pass@1", "recall@2", "mrr", "p95 ms", "the best single arm is", "deterministic context gains"):
        assert part in said
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "<svg" in page and "deterministic context gains" in page and "script" not in page
    assert str(tmp_path / "report" / "report.html") in " ".join(err.split())
    data: Mapping[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert data["about"] == {"queries": "queries.jsonl"} and len(data["indexes"]) == 2


def test_names_on_the_page_are_escaped(tmp_path: Path, corpus: Path, run: Run, queries: Path) -> None:
    folder = tmp_path / "<b>$x$ é"
    assert run("ingest", corpus, "--index", folder, "--json")[0] == 0
    assert (
        run("evaluate", "retrieval", "--index", folder, "--queries", queries, "--out", tmp_path / "r", "--json")[0] == 0
    )
    page = (tmp_path / "r" / "report.html").read_text("utf-8")
    assert "<b>$x$" not in page and "&lt;b&gt;$x$" in page


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (["-k", "5,x"], "UsageError", "'5,x'"),
        (["-k", "0"], "UsageError", "from 1 to 1000"),
        (["-k", ","], "UsageError", "-k is ','"),
        (["-k", "1001"], "UsageError", "'1001'"),
        (["--arm", "sparse"], "UsageError", "no arm 'sparse'"),
        (["--index", "AUTO"], "UsageError", "twice"),
        (["--index", "qdrant+http://localhost:6333/x"], "UsageError", "no directory"),
        (["--index", "nowhere"], "IndexNotFoundError", "nowhere"),
        (["--queries", "nowhere.jsonl"], "PredictionsError", "nowhere.jsonl"),
    ],
)
def test_wrong_usage(run: Run, folders: dict[str, Path], queries: Path, words: list[str], kind: str, told: str) -> None:
    words = [str(folders["auto"]) if word == "AUTO" else word for word in words]
    code, found, _ = run(*("evaluate", "retrieval", "--index", folders["auto"], "--queries", queries, *words, "--json"))
    assert code == (1 if kind == "IndexNotFoundError" else 2)
    assert found["type"] == kind and told in found["error"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A script of the benchmarks as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name: str) -> Any:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def test_the_benchmark_reports_limits_parts_and_the_best_arm(
    bench: Callable[[str], Any], folders: dict[str, Path], queries: Path
) -> None:
    script = bench("retrieval")
    one = script.Set("", "", {"pass@5": 0.5, "hit@10": 1.1}, "repo")
    part_of = {"q1": "pump", "q2": "trial", "q3": "trial"}
    lines = list(script.figures("tiny", one, script.searched(folders["auto"], queries), part_of))
    told = {line["figure"]: line for line in lines if "figure" in line}
    assert (told["hybrid pass@5"]["ok"], told["hybrid hit@10"]["ok"]) == (True, False)
    assert told["hybrid pass@5"]["best_single"] in HAS and told["hybrid pass@5"]["no_worse"]
    parts = [line for line in lines if "repo" in line and line["measure"] == "pass@5" and line["arm"] == "bm25"]
    assert [(line["repo"], line["questions"]) for line in parts] == [("pump", 1), ("trial", 2)]
    whole = [line for line in lines if "search_p50_ms" in line and line["measure"] == "pass@5"]
    assert [line["arm"] for line in whole] == [*HAS, HYBRID]
    json.dumps(lines)


def test_langchains_parts_are_measured_on_the_same_texts(
    bench: Callable[[str], Any], folders: dict[str, Path], queries: Path, tmp_path: Path, embedder: Counting
) -> None:
    script = bench("langchain_retrieval")
    ((index, remembering),) = open_indexes([folders["auto"]])
    embedder.embedded.clear()
    for _ in range(2):  # the second time its vectors are there
        lines = list(script.side_by_side(index, remembering, queries, tmp_path))
    assert len(embedder.embedded) == index.manifest.chunks
    index.close()
    by_name = {line["system"]: line for line in lines}
    assert len(by_name) == 7 and {line["questions"] for line in lines} == {3}
    assert by_name["artrag"]["pass@5"][0] == 1 and "artrag_minus_it" not in by_name["artrag"]
    ensemble = by_name["langchain ensemble, our tokens"]
    assert ensemble["pass@20"][0] == 1 and ensemble["artrag_minus_it"]["pass@20"] == [0, 0, 0]
    assert all(line["p50_ms"] > 0 for line in lines)
