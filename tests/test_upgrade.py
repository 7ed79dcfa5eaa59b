"""What an older or a later artrag has left: it is read, or refused by name with what mends it, and never changed."""

import json
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fakes import AnsweringChat, HashedWords, ScriptedChat, json_lines
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from test_chat import FIRST, FOLLOW_UP, REWRITTEN, THREAD, built
from test_ladder import climb, system

from artrag import Settings, build_ingest, build_simrag
from artrag.errors import ArtragError, FormatError, IndexVersionError, PartError
from artrag.formats import STATE_FORMAT, begin_run
from artrag.index import Index
from artrag.models.parts import MANIFEST, Part, read_part, write_part
from artrag.tracing import LocalTracer, read_spans

Open = Callable[[], Any]
UPDATE = "pip install -U artrag, or "


@pytest.fixture
def made(
    tmp_path: Path, build: Callable[..., dict[str, Any]], corpus: Path, embedder: HashedWords
) -> dict[str, tuple[Path, Open]]:
    """Each kind of thing that is kept: the file that tells its format, and what opens it."""
    build(corpus)
    part, evaluation, simrag = (tmp_path / name for name in ("part", "evaluation", "simrag"))
    part.mkdir()
    (part / "weights.json").write_text("{}")
    write_part(part, Part("asker", "signals", files={"weights.json": ""}))
    questions = json_lines(tmp_path / "questions.jsonl", [{"id": "q", "question": "1 + 1?", "answer": 2}])

    def evaluate() -> Any:
        return climb([system("a", lambda _: "Answer: 2")], questions, evaluation)

    long = tmp_path / "long.md"
    long.write_text("The old pump runs dry in the year of 1987, and Bob Hill keeps 4.5 kg of spare parts for it. " * 9)

    def learn() -> Any:
        graph = build_simrag(teacher=AnsweringChat(lambda _: "bla"), embedder=embedder).compile()
        return graph.invoke({"paths": [str(long)], "run": str(simrag)})  # type: ignore[arg-type]

    evaluate()
    begin_run(simrag, "simrag")
    trace = tmp_path / "trace.jsonl"
    built(ScriptedChat("Occlusion.")).compile().invoke({"messages": FIRST}, {"callbacks": [LocalTracer(trace)]})  # type: ignore[call-overload]
    return {
        "index": (tmp_path / "index" / "manifest.json", lambda: Index.open(tmp_path / "index")),
        "part": (part / MANIFEST, lambda: read_part(part, "asker")),
        "evaluation": (evaluation / "run.json", evaluate),
        "evaluation compared with": (
            evaluation / "run.json",
            lambda: climb([system("a", lambda _: "2")], questions, tmp_path / "new", against=str(evaluation)),
        ),
        "simrag": (simrag / "run.json", learn),
        "trace": (trace, lambda: read_spans(trace)),
    }


def rewrite(file: Path, version: object) -> None:
    """Give a file another format version; None takes it out."""
    lines = file.read_text("utf-8").splitlines() if file.suffix == ".jsonl" else [file.read_text("utf-8")]
    rows = [json.loads(line) for line in lines]
    for row in rows:
        assert isinstance(row.pop("format"), int)
    told = [row if version is None else {"format": version} | row for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in told), "utf-8")


def before(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OLDER, LATER = 0, 99
INGEST = "ingest its documents again into a new directory, 'artrag ingest DOCUMENTS --index NEW'"
REFUSED = [
    ("index", OLDER, IndexVersionError, INGEST),
    ("index", LATER, IndexVersionError, f"{UPDATE}{INGEST}"),
    ("index", None, IndexVersionError, INGEST),
    ("part", OLDER, PartError, "train it again, 'artrag train asker'"),
    ("part", LATER, PartError, f"{UPDATE}train it again"),
    ("part", None, PartError, "train it again, 'artrag train asker'"),
    ("evaluation", OLDER, FormatError, "give another folder"),
    ("evaluation", LATER, FormatError, f"{UPDATE}give another folder"),
    ("evaluation", None, FormatError, "give another folder"),
    ("evaluation compared with", LATER, FormatError, f"{UPDATE}give another folder"),
    ("simrag", OLDER, FormatError, "give another folder"),
    ("simrag", LATER, FormatError, f"{UPDATE}give another folder"),
    ("trace", LATER, FormatError, f"{UPDATE}record the run again"),
]


@pytest.mark.parametrize(("kind", "version", "error", "mend"), REFUSED)
def test_what_cannot_be_read_is_refused_by_name_and_left_as_it_is(
    made: dict[str, tuple[Path, Open]], kind: str, version: object, error: type[ArtragError], mend: str
) -> None:
    file, opening = made[kind]
    opening()
    reads = json.loads(file.read_text("utf-8").splitlines()[0] if kind == "trace" else file.read_text("utf-8"))
    rewrite(file, version)
    kept = before(file.parent if kind != "trace" else file)
    said = "no format version" if version is None else f"format {version}"
    told = f"{file}' has {said}, this artrag reads {reads['format']}: {mend}"
    with pytest.raises(error, match=re.escape(told)) as refused:
        opening()
    assert (UPDATE in str(refused.value)) == (version == LATER)
    assert before(file.parent if kind != "trace" else file) == kept


def test_what_else_a_later_version_changed_does_not_hide_that_it_is_later(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 2, "kind": ["asker"], "thresholds": []}))
    with pytest.raises(PartError, match="has format 2, this artrag reads 1"):
        read_part(tmp_path, "asker")
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"format": 2, "spans": []}\n')
    with pytest.raises(FormatError, match="line 1 of"):
        read_spans(trace)


def test_traces_and_runs_from_before_there_were_versions_are_read(made: dict[str, tuple[Path, Open]]) -> None:
    trace, spans = made["trace"]
    known = spans()
    rewrite(trace, None)
    assert spans() == known and known
    rewritten = trace.read_text("utf-8").replace('{"id"', '{"format": "odd", "id"', 1)
    trace.write_text(rewritten, "utf-8")
    assert spans() == known[1:]
    run, evaluate = made["evaluation"]
    answers = (run.parent / "answers.jsonl").read_bytes()
    run.unlink()
    evaluate()
    assert (run.parent / "answers.jsonl").read_bytes() == answers and json.loads(run.read_text())["format"] == 1


def test_a_folder_is_of_one_kind_of_run(made: dict[str, tuple[Path, Open]]) -> None:
    for kind, other in (("evaluation", "simrag"), ("simrag", "evaluate")):
        run, go = made[kind]
        run.write_text(json.dumps({"format": 1, "kind": other}))
        with pytest.raises(
            FormatError, match=f"holds a run of '{other}', not of '{'evaluate' if other != 'evaluate' else 'simrag'}'"
        ):
            go()
        run.write_text("[]")
        with pytest.raises(FormatError, match="run.json' cannot be read"):
            go()


def test_questions_that_are_none_leave_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(ArtragError):
        climb([system("a", lambda _: "2")], json_lines(tmp_path / "q.jsonl", [{"id": "q"}]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_contexts_that_were_paid_for_serve_the_index_that_takes_an_older_ones_place(
    tmp_path: Path, corpus: Path, embedder: HashedWords
) -> None:
    def ingest(index: str, chat: ScriptedChat) -> dict[str, Any]:
        graph = build_ingest(embedder=embedder, chat=chat).compile()
        given: Any = {"paths": [str(corpus)], "index": str(tmp_path / index)}
        return graph.invoke(given, context=Settings(context="llm"))["report"]  # type: ignore[no-any-return]

    ingest("old", AnsweringChat(lambda _: "Of a report on pumps and of the trials of two drugs."))
    rewrite(tmp_path / "old" / "manifest.json", 1)
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "old" / "cache.sqlite", tmp_path / "new")
    assert ingest("new", ScriptedChat())["chunks"] == 5


# Threads.


def asking(chat: ScriptedChat, saver: InMemorySaver, given: Any, **context: Any) -> dict[str, Any]:
    graph = built(chat, scores={"Occlusion": 0.4, "Open": 0.9}).compile(checkpointer=saver)
    return graph.invoke(given, THREAD, context=Settings(**context))  # type: ignore[no-any-return]


@pytest.fixture
def left_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], InMemorySaver]:
    """A thread on which that version waits for a person's word."""

    def go(version: int) -> InMemorySaver:
        saver = InMemorySaver()
        with monkeypatch.context() as patch:
            for stage in ("receive", "node"):
                patch.setattr(import_module(f"artrag.nodes.{stage}"), "STATE_FORMAT", version)
            assert asking(ScriptedChat("Occlusion."), saver, {"messages": FIRST}, review=True)["__interrupt__"]
        return saver

    return go


@pytest.mark.parametrize(("version", "mend"), [(OLDER, "ask again on a new thread"), (LATER, UPDATE)])
def test_a_run_that_another_version_left_waiting_is_refused(
    left_by: Callable[[int], InMemorySaver], version: int, mend: str
) -> None:
    told = f"the state of the thread '1' has format {version}, this artrag reads {STATE_FORMAT}: {mend}"
    with pytest.raises(FormatError, match=re.escape(told)):
        asking(ScriptedChat(), left_by(version), Command(resume="accept"), review=True)


def test_the_next_question_goes_on_with_an_older_conversation_and_not_with_a_later_one(
    left_by: Callable[[int], InMemorySaver],
) -> None:
    found = asking(ScriptedChat(REWRITTEN, "Open the clamp."), left_by(OLDER), {"messages": FOLLOW_UP})
    assert [one.text for one in found["messages"]] == [FIRST, FOLLOW_UP, "Open the clamp."]
    assert found["state_format"] == STATE_FORMAT
    with pytest.raises(FormatError, match=f"thread '1' has format {LATER}.*{UPDATE}ask again on a new thread"):
        asking(ScriptedChat(), left_by(LATER), {"messages": FOLLOW_UP})


def test_a_state_that_does_not_say_is_gone_on_with() -> None:
    saver = InMemorySaver()
    graph = built(ScriptedChat(), scores={"Open": 0.9}).compile(checkpointer=saver)
    state = {"question": FIRST, "passages": [], "draft": "Open.", "candidates": [{"stage": "initial", "text": "Open."}]}
    graph.update_state(THREAD, {"messages": [HumanMessage(FIRST)], "rounds": 0, **state}, as_node="answer")
    assert "state_format" not in graph.get_state(THREAD).values
    assert graph.invoke(None, THREAD)["messages"][-1].text == "Open."
