"""Feedback on traced runs becomes labels: from files of several layouts, and from LangSmith."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedTruster, json_lines
from langsmith.utils import get_env_var
from langsmith_server import LangSmithServer

import artrag
from artrag.errors import PredictionsError
from artrag.evaluation.predictions import read_predictions
from artrag.tracing import LocalTracer, read_spans, recorded_runs
from artrag.training.feedback import feedback_row, labelled_runs, read_feedback

Shell = Callable[..., tuple[int, str, str]]
RUNS = [str(uuid.UUID(int=n + 1)) for n in range(3)]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three runs, each with a draft and a refinement; the second is chosen."""
    path = tmp_path / "trace.jsonl"
    for n, run in enumerate(RUNS):
        chat, truster = ScriptedChat("Answer: 13", f"Answer: {12 + 100 * n}"), ScriptedTruster({"Answer: 13": 0.1})
        art = artrag.build_art(chat=chat, asker=ScriptedAsker(0.9), truster=truster).compile()
        config: Any = {"callbacks": [LocalTracer(path)], "run_id": run}
        art.invoke({"question": f"What is 3 * 4 + {100 * n}?"}, config)
    return path


def labels(trace: Path, rows: list[dict[str, Any]], tmp_path: Path, key: str = "correct") -> list[list[bool | None]]:
    said = read_feedback(json_lines(tmp_path / "feedback.jsonl", rows), key) if rows else []
    made = labelled_runs(recorded_runs(read_spans(trace)), said)
    return [[one.correct for one in row.candidates] for row in made]


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"run": RUNS[0], "correct": True}, [None, True]),
        ({"run": RUNS[0], "score": 1}, [None, True]),
        ({"run": RUNS[0], "score": 0.4}, [None, False]),
        ({"run": RUNS[0], "score": False}, [None, False]),
        ({"run_id": RUNS[0], "key": "correct", "score": 0.0, "comment": "no"}, [None, False]),
        ({"run_id": "a stage", "trace_id": RUNS[0], "key": "correct", "score": 0.5}, [None, True]),
        ({"run_id": RUNS[0], "key": "correct", "score": 0, "correction": {"answer": "13"}}, [True, False]),
        ({"run_id": RUNS[0], "key": "correct", "correction": "12"}, [False, True]),
        ({"question": "what is 3 * 4 + 0", "gold": 12}, [False, True]),
        ({"run": RUNS[0], "correct": False, "score": 1}, [None, False]),
    ],
)
def test_a_row_says_what_was_right(trace: Path, tmp_path: Path, row: dict[str, Any], label: list[bool | None]) -> None:
    assert labels(trace, [row], tmp_path) == [label, [None, None], [None, None]]


def test_what_was_said_last_counts_and_comments_are_kept(trace: Path, tmp_path: Path) -> None:
    rows = [{"run": RUNS[0], "correct": True, "comment": "as in the book"}, {"run": RUNS[0], "correct": False}]
    assert labels(trace, rows, tmp_path)[0] == [None, False]
    said = read_feedback(json_lines(tmp_path / "f.jsonl", rows))
    first, second, _ = labelled_runs(recorded_runs(read_spans(trace)), said)
    assert first.metadata["comment"] == "as in the book" and "comment" not in second.metadata


def test_other_keys_are_passed_over(trace: Path, tmp_path: Path) -> None:
    rows = [{"run_id": RUNS[0], "key": "stars", "score": 5}, {"run_id": RUNS[1], "key": "correct", "score": 1}]
    assert labels(trace, rows, tmp_path) == [[None, None], [None, True], [None, None]]
    rows[0]["score"] = 1
    assert labels(trace, rows, tmp_path, key="stars") == [[None, True], [None, None], [None, None]]


@pytest.mark.parametrize(
    "row",
    [
        {"run": "x"},
        {"correct": True},
        {"run": "x", "score": 3},
        {"run": "x", "score": "good"},
        {"run": "x", "correct": "yes"},
        {"question": 3, "gold": 1},
        {"run": "", "score": 1},
        {"run": "x", "comment": "nice"},
    ],
)
def test_rows_that_say_nothing_are_named(tmp_path: Path, row: dict[str, Any]) -> None:
    assert feedback_row(row) is None
    with pytest.raises(PredictionsError, match=r"f\.jsonl:1: feedback needs 'run' or 'question', and 'gold'"):
        read_feedback(json_lines(tmp_path / "f.jsonl", [row]))


def test_the_command_takes_a_file_of_feedback(shell: Shell, trace: Path, tmp_path: Path) -> None:
    said = json_lines(tmp_path / "said.jsonl", [{"run": RUNS[0], "score": 1}, {"run_id": RUNS[1], "score": 0}])
    words = ("traces", "export", trace, "--out", tmp_path / "rows.jsonl", "--json")
    code, out, _ = shell(*words, "--feedback", said)
    assert code == 0 and json.loads(out).items() >= {"rows": 3, "answers": 6, "labelled": 2, "right": 1}.items()
    assert [row.metadata["run"] for row in read_predictions(tmp_path / "rows.jsonl")] == RUNS
    json_lines(said, [{"run": "nobody", "score": 1}])
    code, out, _ = shell(*words, "--feedback", said)
    assert code == 2 and "about 'nobody', but no such run" in json.loads(out)["error"]


def test_the_command_asks_langsmith(shell: Shell, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("traces", "export", trace, "--out", tmp_path / "rows.jsonl", "--json", "--feedback", "langsmith")
    with LangSmithServer() as server:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2_test")
        get_env_var.cache_clear()
        for n, (run, score) in enumerate([(RUNS[0], 0), (RUNS[0], 1), (RUNS[1], 0), ("another", 1)]):
            made = {
                "id": str(uuid.UUID(int=100 + n)),
                "run_id": run,
                "trace_id": None,
                "key": "correct",
                "score": score,
            }
            about = {"created_at": f"2026-01-0{n + 1}T00:00:00Z", "modified_at": "2026-01-09T00:00:00Z"}
            server.feedback.insert(0, made | about)
        server.feedback.append(server.feedback[1] | {"run_id": RUNS[2], "key": "stars"})
        code, out, err = shell(*words)
        assert code == 0 and json.loads(out).items() >= {"labelled": 2, "right": 1}.items(), err
        first, *_ = read_predictions(tmp_path / "rows.jsonl")
        assert [one.correct for one in first.candidates] == [None, True]  # it was judged again
        assert json.loads(shell(*words, "--key", "stars")[1])["labelled"] == 1
        monkeypatch.setenv("ARTRAG_LOCAL_ONLY", "1")
        code, out, _ = shell(*words)
        assert code == 2 and json.loads(out)["type"] == "RemoteRefusedError"
        monkeypatch.delenv("ARTRAG_LOCAL_ONLY")
        server.status = 401
        code, out, _ = shell(*words)
    assert code == 1 and "LangSmith does not give the feedback" in json.loads(out)["error"]
    get_env_var.cache_clear()
