"""Measures of rankings against hand-computed values, what counts as found, reading questions, and verdicts."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import json_lines
from hypothesis import given
from hypothesis import strategies as st

from artrag.errors import PredictionsError, UsageError
from artrag.evaluation.intervals import bootstrap, paired
from artrag.evaluation.queries import Query, read_queries
from artrag.evaluation.retrieval import (
    Judged,
    differences,
    intervals,
    judge,
    missing_note,
    ndcg,
    ranks,
    scores,
    share,
    signed,
    table_of,
)
from artrag.evaluation.retrieval_figures import Searched, report_of

# Two documents share a licence chunk; e.md and f.md are copies of each other.
CHUNKS = [
    ("a.md#0", "a.md", "Licence: MIT."),
    ("a.md#1", "a.md", "Alpha opens the valve."),
    ("b.md#0", "b.md", "  Licence: MIT.\n"),
    ("b.md#1", "b.md", "Beta closes it."),
    ("e.md#0", "e.md", "Both"),
    ("e.md#1", "e.md", "parts"),
    ("f.md#0", "f.md", "Both"),
    ("f.md#1", "f.md", "parts "),
    ("g.md#0", "g.md", "Both"),
]


def one(*relevant: str) -> Judged:
    return judge([Query("q", "?", relevant)], CHUNKS)[0]


def test_measures_by_hand() -> None:
    found = scores(one("a.md#1", "b.md#1"), ["g.md#0", "b.md#1", "e.md#0", "a.md#1"], [1, 2, 4])
    ideal = 1 + 1 / math.log2(3)
    assert found == pytest.approx(
        {
            **{"recall@1": 0, "recall@2": 0.5, "recall@4": 1, "pass@1": 0, "pass@2": 0.5, "pass@4": 1},
            **{"hit@1": 0, "hit@2": 1, "hit@4": 1, "mrr": 0.5},
            **{"ndcg@1": 0, "ndcg@2": (1 / math.log2(3)) / ideal},
            **{
                "ndcg@4": (1 / math.log2(3) + 1 / math.log2(5)) / ideal,
                "ndcg": (1 / math.log2(3) + 1 / math.log2(5)) / ideal,
            },
        }
    )


def test_nothing_found_is_zero_and_what_lies_past_the_largest_k_is_not_seen() -> None:
    for ranking in ([], ["b.md#1"], ["b.md#1", "b.md#0", "a.md#1"]):
        found = scores(one("a.md#1"), ranking, [1, 2])
        assert set(found.values()) == {0.0}


def test_the_best_order_of_more_relevant_passages_than_k_is_one() -> None:
    assert ndcg([1, 2], 2, 5) == 1
    assert ndcg([1, 3], 2, 5) < 1


def test_a_twin_counts_for_pass_and_not_for_recall() -> None:
    found = scores(one("a.md#0"), ["b.md#0", "a.md#0"], [1, 2])
    assert (found["recall@1"], found["pass@1"], found["hit@1"], found["mrr"]) == (0, 1, 1, 1)
    assert (found["recall@2"], found["pass@2"]) == (1, 1)


def test_relevant_twins_are_found_at_once_and_gain_once() -> None:
    found = scores(one("a.md#0", "b.md#0"), ["a.md#0"], [1, 5])
    assert (found["recall@1"], found["pass@1"], found["ndcg@5"]) == (0.5, 1, 1)


def test_a_document_is_found_with_its_first_chunk_and_its_copy_is_a_twin() -> None:
    found = scores(one("a.md"), ["b.md#1", "a.md#1", "a.md#0"], [1, 2, 3])
    assert [found[f"recall@{k}"] for k in (1, 2, 3)] == [0, 1, 1]
    assert found["ndcg@3"] == pytest.approx(1 / math.log2(3))  # further chunks of it gain nothing
    copied = scores(one("e.md"), ["g.md#0", "f.md#1"], [1, 2])
    assert copied["pass@1"] == 0  # one equal chunk makes no equal document
    assert (copied["pass@2"], copied["recall@2"]) == (1, 0)
    assert one("a.md").by_text == one("a.md").by_id  # nor does a common licence


def test_what_is_missing_stays_in_the_denominators_and_is_named() -> None:
    judged = judge([Query("q1", "?", ("a.md#1", "a.md#9")), Query("q2", "?", ("gone.md",)), Query("q3", "?")], CHUNKS)
    assert [(j.query.id, j.missing, sorted(j.documents)) for j in judged] == [
        ("q1", ("a.md#9",), ["a.md"]),
        ("q2", ("gone.md",), []),
    ]
    found = scores(judged[0], ["a.md#1"], [5])
    assert (found["recall@5"], found["pass@5"], found["hit@5"], found["mrr"]) == (0.5, 0.5, 1, 1)
    assert found["ndcg@5"] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert set(scores(judged[1], ["a.md#1"], [5]).values()) == {0.0}
    note = missing_note(judged, "my/index")
    assert note.startswith("2 relevant ids are not in 'my/index' and count as not found: 'a.md#9' of 'q1', 'gone.md'")
    assert note.endswith("1 questions have none there: 'q2'")
    assert missing_note(judged[:1][:0], "x") == ""


def test_questions_of_another_corpus_are_an_error() -> None:
    with pytest.raises(UsageError, match="'gone.md' of 'q1'"):
        judge([Query("q1", "?", ("gone.md",))], CHUNKS)
    with pytest.raises(UsageError, match="none of 1 questions says what is relevant"):
        judge([Query("q1", "?")], CHUNKS)


@given(
    st.lists(st.sampled_from([c[0] for c in CHUNKS]), max_size=12), st.sets(st.integers(0, 8), min_size=1), st.data()
)
def test_measures_are_bounded_monotone_and_in_order(ranking: list[str], wanted: set[int], data: Any) -> None:
    judged = one(*[CHUNKS[n][0] for n in sorted(wanted)])
    ks = [1, 3, 9]
    found = scores(judged, ranking, ks)
    assert all(0 <= value <= 1 + 1e-12 for value in found.values())
    for name in ("recall", "pass", "hit"):
        values = [found[f"{name}@{k}"] for k in ks]
        assert values == sorted(values)
    assert all(found[f"recall@{k}"] <= found[f"pass@{k}"] <= found[f"hit@{k}"] for k in ks)
    perfect = scores(judged, list(judged.query.relevant), ks)
    assert perfect["mrr"] == perfect["hit@1"] == perfect["recall@9"] == 1
    distinct = list({names: name for name, names in zip(judged.query.relevant, judged.by_text, strict=True)}.values())
    assert scores(judged, distinct, ks)["ndcg"] == pytest.approx(1)


def test_a_passage_that_comes_twice_has_its_first_rank() -> None:
    assert ranks(["x", "y", "x", "z"], [{"x"}, {"z", "y"}, set()]) == [1, 2, math.inf]
    assert share([1, math.inf, 7], 7) == pytest.approx(2 / 3)


def test_intervals_are_those_of_the_house_and_differences_are_paired() -> None:
    random = np.random.default_rng(1)
    first, second = random.random(60).tolist(), random.random(60).tolist()
    made = intervals({"a": first, "b": second})
    assert made["a"].value == pytest.approx(np.mean(first)) and made["b"].value == pytest.approx(np.mean(second))
    plain = bootstrap(first)
    assert (made["a"].low, made["a"].high) == pytest.approx((plain.low, plain.high), abs=0.01)
    gain, wanted = differences({"a": first}, {"a": second})["a"], paired(first, second)
    assert (gain.value, gain.low, gain.high) == pytest.approx((wanted.value, wanted.low, wanted.high), abs=0.015)
    same = differences({"a": first}, {"a": first})["a"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert signed(same) == "+0.0 [+0.0, +0.0]"
    assert table_of([{"x": 1.0, "y": 2.0}, {"x": 3.0, "y": 4.0}]) == {"x": [1, 3], "y": [2, 4]}


def searched(name: str, context: str, hits: list[int], misses: list[int], arm: str = "hybrid") -> Searched:
    """An index that finds the questions of `hits` at rank 1 and those of `misses` never."""
    asked = sorted(hits + misses)
    judged = judge([Query(f"q{n}", "?", ("a.md#1",)) for n in asked], CHUNKS)
    rankings = [["a.md#1"] if n in hits else ["b.md#1"] for n in asked]
    worse = [["b.md#1"] for _ in asked]
    return Searched(name, context, judged, {"dense": worse, arm: rankings}, {}, {}, {"chunks": 9})


ALL = list(range(60))


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        (
            ("auto", ALL[:20]),
            ("llm", ALL[:50]),
            "gains +50.0 [+38.3, +63.3] points at pass@10 over deterministic context: worth it",
        ),
        (("auto", ALL[:20]), ("llm", ALL[:21]), "no significant gain: leave it off"),
        (("auto", ALL[:21]), ("llm", ALL[:20]), "no significant gain: leave it off"),
        (("auto", ALL[:50]), ("document", ALL[:20]), "does harm: leave it off"),
        (("none", ALL[:50]), ("auto", ALL[:51]), "no significant gain: it costs no model call, keep it"),
        (("none", ALL[:50]), ("auto", ALL[:20]), "does harm: leave it off"),
        (("auto", ALL[:50]), ("auto", ALL[:20]), "over 'one': does harm: keep the first"),
    ],
)
def test_the_verdict_on_a_context(first: Any, second: Any, ends: str) -> None:
    made = [
        searched(name, context, hits, [n for n in ALL if n not in hits])
        for name, (context, hits) in (("one", first), ("two", second))
    ]
    report = report_of(made, [5, 10, 20])
    (verdict,) = report.verdicts
    assert verdict.startswith("hybrid: ") and verdict.endswith(ends), verdict
    assert {one.arm for one in report.comparisons} == {"dense", "hybrid"}
    if first[0] != second[0]:  # whichever is named first, the cheaper context is the one to beat
        assert report_of(made[::-1], [5, 10, 20]).verdicts == [verdict]


def test_all_contexts_are_compared_with_the_deterministic_one() -> None:
    made = [searched(kind, kind, ALL[:30], ALL[30:]) for kind in ("llm", "none", "auto", "document")]
    pairs = [(one.first, one.second) for one in report_of(made, [3]).comparisons if one.arm == "hybrid"]
    assert pairs == [("auto", "llm"), ("none", "auto"), ("auto", "document")]
    assert all("at pass@3" in verdict for verdict in report_of(made, [3]).verdicts)


def test_arms_are_compared_with_the_best_single_one() -> None:
    report = report_of([searched("one", "auto", ALL[:40], ALL[40:], arm="bm25")], [5, 10])
    (index,) = report.indexes
    assert index.best_single == "bm25" and not index.arms["bm25"].over_best
    assert index.arms["dense"].over_best["pass@10"].value == pytest.approx(-40 / 60)
    assert index.arms["bm25"].curve == pytest.approx([40 / 60] * 10)
    assert report_of([searched("one", "auto", ALL[:40], ALL[40:])], [5]).indexes[0].best_single == "dense"


def test_questions_are_read_with_what_is_relevant(tmp_path: Path) -> None:
    rows = [
        {"id": "q1", "question": "Own?", "relevant": ["a#0", "a#0", "b"], "evidence_ids": ["x"], "other": 1},
        {"id": "q2", "question": "Judged?", "evidence_ids": ["x"]},
        {"_id": 3, "text": "Evidence?", "evidence_ids": ["y", 4]},
        {"id": "q4", "question": "Nothing?"},
        {"id": "q5", "question": "Emptied?", "relevant": [], "evidence_ids": ["x"]},
    ]
    file = json_lines(tmp_path / "test.jsonl", rows)
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\tz\t1\nq2\tc\t1\nq2\td\t2\nq2\te\t0\n\nq4\te\t0\n"
    )
    assert read_queries(file) == [
        Query("q1", "Own?", ("a#0", "b")),
        Query("q2", "Judged?", ("c", "d")),
        Query("3", "Evidence?", ("y", "4")),
        Query("q4", "Nothing?"),
        Query("q5", "Emptied?"),
    ]
    (tmp_path / "qrels.tsv").write_text("q2\tc\t1\n")  # a header is not needed
    assert read_queries(file)[1].relevant == ("c",)
    (tmp_path / "qrels.tsv").unlink()
    assert read_queries(file)[1].relevant == ("x",)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question": "?"}, "id ''"),
        ({"id": "q", "question": "  "}, "question '  '"),
        ({"id": "q", "question": 3}, "question 3"),
        ({"id": "q0", "question": "Again?"}, "'q0' comes twice"),
        ({"id": "q", "question": "?", "relevant": "a#0"}, "'relevant' is 'a#0'"),
        ({"id": "q", "question": "?", "evidence_ids": [{"a": 1}]}, "'evidence_ids' is"),
    ],
)
def test_a_bad_question_is_named_by_its_line(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    file = json_lines(tmp_path / "q.jsonl", [{"id": "q0", "question": "Good?"}, row])
    with pytest.raises(UsageError, match=f"q.jsonl:2: .*{told}"):
        read_queries(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="there is no file"):
        read_queries(tmp_path / "none.jsonl")
    file = json_lines(tmp_path / "q.jsonl", [{"id": "q0", "question": "Good?"}])
    for line in ("q0 a 1", "q0\ta", "q0\ta\tmuch"):
        (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
        with pytest.raises(UsageError, match=r"qrels.tsv:2: .* is no judgement"):
            read_queries(file)
    (tmp_path / "qrels.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_queries(file)
