"""`artrag trace`: the tree on the terminal, the page beside the file, and files that are not whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedTruster

import artrag
from artrag.tracing import LocalTracer, as_html, as_text, read_spans

Shell = Callable[..., tuple[int, str, str]]
BAD = "4 \x1b[2J\u202e"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A trace of two runs."""
    tracer = LocalTracer(tmp_path / "run" / "trace.jsonl")
    for answer in ("Answer: 4", f"Answer: {BAD}"):
        art = artrag.build_art(
            chat=ScriptedChat(answer), asker=ScriptedAsker(0.1), truster=ScriptedTruster({"4": 0.9})
        ).compile(name="art")
        art.invoke({"question": "What is 2 + 2?"}, {"callbacks": [tracer]})
    return tmp_path / "run" / "trace.jsonl"


def test_it_prints_the_tree_and_writes_the_page(shell: Shell, file: Path) -> None:
    code, out, err = shell("trace", file)
    spans = read_spans(file)
    assert code == 0 and out == as_text(spans) + "\n" and out.count("\nart (") == 1 and out.startswith("art (")
    assert "\x1b" not in out and "\u202e" not in out and r"\x1b[2J\u202e" in out
    assert err == f"page: {file.with_suffix('.html')}\n"
    assert file.with_suffix(".html").read_text("utf-8") == as_html(spans)


def test_the_folder_of_a_trace_and_another_page_may_be_named(shell: Shell, file: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    assert shell("trace", file.parent, "--html", page)[0] == 0
    assert page.read_text("utf-8") == as_html(read_spans(file)) and not file.with_suffix(".html").exists()


def test_as_json_it_names_the_runs(shell: Shell, file: Path) -> None:
    code, out, err = shell("trace", file, "--json")
    told = json.loads(out)
    assert code == 0 and err == "" and (told["steps"], told["left_out"], len(told["runs"])) == (12, 0, 2)
    first = told["runs"][0]
    assert first.items() >= {"name": "art", "question": "What is 2 + 2?", "answer": "Answer: 4", "tokens": 15}.items()
    assert first["confidence"] == 0.9 and first["run"] in file.read_text("utf-8") and Path(told["page"]).is_file()


def test_a_file_cut_in_the_middle_is_shown_with_the_rest(shell: Shell, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - 100] + b"\nnot a step\n")
    code, out, err = shell("trace", file)
    assert code == 0 and "unfinished run" in out and out.startswith("art (")
    assert err.startswith("2 lines were left out: cut off, or not a step of a trace\n")
    assert "2 lines were left out" in file.with_suffix(".html").read_text("utf-8")
    assert json.loads(shell("trace", file, "--json")[1])["left_out"] == 2


def test_what_is_no_trace_is_wrong_usage(shell: Shell, file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("one\ntwo\n", "utf-8")
    (tmp_path / "empty.jsonl").touch()

    def refused(*words: Any) -> str:
        code, _, err = shell("trace", *words)
        assert code == 2 and err.startswith("UsageError: ")
        return err

    assert "'artrag ask --trace'" in refused(tmp_path / "notes.txt") and "2 lines" in refused(tmp_path / "notes.txt")
    assert "0 lines" in refused(tmp_path / "empty.jsonl")
    assert "cannot be read" in refused(tmp_path / "none.jsonl") and "cannot be read" in refused(tmp_path)
    assert "would overwrite" in refused(file, "--html", file) and read_spans(file)
    assert "cannot be written" in refused(file, "--html", tmp_path / "notes.txt" / "page.html")
    assert not (tmp_path / "notes.html").exists()
