"""Local traces of real graphs: spans, the JSON Lines file, text and page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langsmith.utils import get_env_var, tracing_is_enabled

import artrag
from artrag import Subquestion
from artrag.errors import ModelCallError
from artrag.tracing import LocalTracer, Span, as_html, as_text, read_spans, roots
from artrag.tracing.page import headline
from artrag.tracing.spans import LONGEST_TEXT, children, plain

HOSTILE = "<script>alert(1)</script></pre></details><img src='http://evil.example/x' onerror=\"alert(2)\">&amp;"


def art(*script: Any, doubt: float = 0.9, text: str = "Nausea was common.") -> Any:
    asker, truster = (
        ScriptedAsker(doubt, subquestions=[Subquestion("How common?", False)]),
        ScriptedTruster({"Nausea": 0.9}),
    )
    retriever = ScriptedRetriever(found=[passage(text)])
    return artrag.build_art(chat=ScriptedChat(*script), asker=asker, truster=truster, retriever=retriever).compile()


def traced(graph: Any, question: str = "Which event?", path: Path | None = None) -> LocalTracer:
    tracer = LocalTracer(path)
    graph.invoke({"question": question}, {"callbacks": [tracer]})
    return tracer


def span(name: str = "step", **about: Any) -> Span:
    given = {"id": name, "parent": "", "kind": "chain", "started": 1.0, "seconds": 0.5}
    return Span(name=name, **(given | about))


def stages(spans: list[Span]) -> list[str]:
    (root,) = roots(spans)
    return [child.name for child in children(spans)[root.id]]


def test_every_stage_is_a_span_below_its_run() -> None:
    spans = traced(art("Cough.", "Nausea.")).spans
    assert stages(spans) == ["receive", "retrieve", "answer", "ask", "refine", "trust"]
    (root,) = roots(spans)
    assert root.outputs["answer"] == "Nausea [1]." and root.inputs["question"] == "Which event?"
    assert len({span.id for span in spans}) == len(spans)
    known = {span.id: span for span in spans}
    for one in spans:
        if one is not root:
            above = known[one.parent]
            assert above.started <= one.started and one.seconds <= above.seconds


def test_a_model_call_stands_below_the_stage_that_made_it() -> None:
    spans = traced(art("Cough.", "Nausea.")).spans
    known = {span.id: span for span in spans}
    calls = [span for span in spans if span.name == "ScriptedChat"]
    assert [known[call.parent].name for call in calls] == ["answer", "refine"]
    assert [call.tokens for call in calls] == [15, 15] and sum(span.tokens for span in spans) == 30
    assert calls[0].kind in ("llm", "chat_model") and "Nausea was common." in json.dumps(calls[0].inputs)
    assert [known[s.parent].name for s in spans if s.kind == "retriever"] == ["retrieve", "refine"]


async def test_awaited_runs_give_the_same_tree() -> None:
    tracer = LocalTracer()
    await art("Cough.", "Nausea.").ainvoke({"question": "Which event?"}, {"callbacks": [tracer]})
    blocking = traced(art("Cough.", "Nausea.")).spans
    assert re.sub(r"[\d.]+ s", "", as_text(tracer.spans)) == re.sub(r"[\d.]+ s", "", as_text(blocking))
    assert sum(span.tokens for span in tracer.spans) == 30


def test_several_runs_are_kept_apart() -> None:
    tracer = LocalTracer()
    for n in range(2):
        art(f"Nausea {n}.", doubt=0.1).invoke({"question": f"Q{n}?"}, {"callbacks": [tracer]})
    assert [root.inputs["question"] for root in roots(tracer.spans)] == ["Q0?", "Q1?"]


def test_errors_are_told_in_one_line_where_they_happened() -> None:
    tracer = LocalTracer()
    with pytest.raises(ModelCallError):
        art(*[ConnectionError("no\nroute")] * 3).invoke({"question": "Q?"}, {"callbacks": [tracer]})
    errors = {span.name: span.error for span in tracer.spans if span.error}
    assert set(errors) == {"LangGraph", "answer", "ScriptedChat"}
    assert errors["ScriptedChat"] == r"ConnectionError('no\nroute')"
    assert errors["answer"].startswith("ModelCallError(") and errors["answer"].endswith("name another one')")
    assert "ConnectionError" in as_text(tracer.spans)
    assert '<span class="error">ConnectionError(&#x27;no' in as_html(tracer.spans)


def test_steps_are_written_as_they_end(tmp_path: Path) -> None:
    path, seen = tmp_path / "runs" / "trace.jsonl", []

    def answer(_asked: str) -> str:
        seen.append([span.name for span in read_spans(path)])
        return "Nausea."

    tracer = traced(art(answer, doubt=0.1), path=path)
    assert seen == [["receive", "ScriptedRetriever", "retrieve"]]
    assert read_spans(path) == tracer.spans and len(roots(read_spans(path))) == 1
    assert all(json.loads(line)["id"] for line in path.read_text("utf-8").splitlines())


def test_a_second_run_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    first = traced(art("Nausea.", doubt=0.1), path=path).spans
    second = traced(art("Nausea.", doubt=0.1), path=path).spans
    assert read_spans(path) == first + second and len(roots(read_spans(path))) == 2


def test_a_file_cut_anywhere_in_its_last_line_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    spans = traced(art("咳嗽。Cough.", "恶心。Nausea.", text="恶心很常见。"), "哪种事件？", path).spans
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    middle_of_a_character = whole.index("恶".encode(), start) + 1
    for end in (start, start + 1, middle_of_a_character, len(whole) - 3):
        path.write_bytes(whole[:end])
        assert read_spans(path) == spans[:-1]


def test_texts_with_any_line_separator_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    spans = traced(art("Nausea.", doubt=0.1, text="one\u2028two\x85three\x0bfour\r\nfive"), path=path).spans
    assert read_spans(path) == spans


def test_a_missing_file_is_not_an_empty_trace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_spans(tmp_path / "none.jsonl")


def test_text_shows_the_tree_with_costs_and_decisions() -> None:
    lines = as_text(traced(art("Cough.", "Nausea.")).spans).splitlines()
    assert lines[0].startswith("LangGraph (") and lines[0].endswith(
        "trusts the refined answer (0.90 against initial 0.50)"
    )
    assert any(re.fullmatch(r"  ask \(\d+\.\d\d s\)  doubt 0\.9", line) for line in lines)
    assert any(re.fullmatch(r"  retrieve \(\d+\.\d\d s\)  1 passages", line) for line in lines)
    assert any(re.fullmatch(r"    ScriptedChat \(\d+\.\d\d s, 15 tokens\)", line) for line in lines)
    assert as_text([]) == ""


def test_a_headline_is_one_short_line() -> None:
    assert headline(span(outputs={"answer": "Nausea.\n\nIn short."})) == "Nausea. In short."
    assert len(headline(span(outputs={"draft": "word " * 100}))) == 160
    assert headline(span(outputs={"answer": " ", "passages": [1, 2]})) == "2 passages"
    assert headline(span()) == ""


def test_steps_whose_parent_is_not_there_are_roots_in_order() -> None:
    spans = [span("late", parent="gone", started=3), span("child", parent="early"), span("early", started=1)]
    assert [one.name for one in roots(spans)] == ["early", "late"]
    assert as_text(spans) == "early (0.50 s)\n  child (0.50 s)\nlate (0.50 s)"


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its nesting."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("page", [True, False])
def test_a_hostile_document_stays_text(page: bool) -> None:
    spans = traced(art(HOSTILE, HOSTILE, text=HOSTILE), HOSTILE).spans
    bad = span(HOSTILE, kind=HOSTILE, error=HOSTILE, inputs={HOSTILE: HOSTILE}, outputs={"answer": HOSTILE})
    made = as_html([*spans, bad, span("child", parent=HOSTILE, inputs={"x": HOSTILE})], page=page)
    found = Tags(made)
    assert found.open == []
    shell = {"html", "head", "meta", "title", "body"} if page else set()
    assert found.tags == {"style", "div", "details", "summary", "b", "span", "pre"} | shell
    assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "href", "style")}
    assert any("<script>alert(1)</script></pre>" in text for text in found.texts)
    assert "<script" not in made and "onerror=" in made and "&lt;script&gt;" in made


def test_the_page_fetches_nothing() -> None:
    page = as_html(traced(art("Nausea.", doubt=0.1)).spans)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy and policy[1] == "default-src 'none'; style-src 'unsafe-inline'"
    assert page.startswith("<!doctype html>") and '<meta charset="utf-8">' in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_the_page_shows_every_step_and_what_went_in_and_out() -> None:
    tracer = traced(art("Cough.", "Nausea."))
    page = as_html(tracer.spans)
    for one in tracer.spans:
        assert f"<b>{one.name}</b>" in page
    assert page.count("15 tokens") == 2 and "<summary>inputs</summary>" in page
    assert "trusts the refined answer" in page and "Nausea was common." in page


def test_a_notebook_shows_a_fragment() -> None:
    tracer = LocalTracer()
    assert "Nothing was traced yet." in tracer._repr_html_()
    art("Nausea.", doubt=0.1).invoke({"question": "Q?"}, {"callbacks": [tracer]})
    shown = tracer._repr_html_()
    assert shown == as_html(tracer.spans, page=False) and "<b>trust</b>" in shown
    assert "<html" not in shown and "<body" not in shown
    # nothing it styles lies outside of it
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", shown[shown.index("<style>") + 7 : shown.index("</style>")])
    for rule in rules:
        assert all(part.strip().startswith((".artrag-trace", "@media")) for part in rule.split(",")), rule


def test_long_texts_are_cut_and_say_so() -> None:
    text = "x" * (LONGEST_TEXT + 1)
    assert plain(text) == "x" * LONGEST_TEXT + f" ... ({LONGEST_TEXT + 1} characters)"
    assert plain("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    tracer = traced(art("Nausea.", doubt=0.1, text=text))
    assert max(len(line) for line in as_html(tracer.spans).splitlines()) < 2 * LONGEST_TEXT
    assert f"({LONGEST_TEXT + 1} characters)" in as_html(tracer.spans)


def test_any_value_becomes_plain_data() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "an odd one"

    document = Document("text", metadata={"n": 1, "odd": Odd()})
    assert plain([document]) == [{"text": "text", "metadata": {"n": 1, "odd": "an odd one"}}]
    assert plain([HumanMessage("Q?"), AIMessage([{"type": "text", "text": "A."}])]) == [
        {"role": "human", "content": "Q?"},
        {"role": "ai", "content": "A."},
    ]
    assert plain({1: (True, None, 2.5), "s": {3}, "f": frozenset("a")}) == {
        "1": [True, None, 2.5],
        "s": [3],
        "f": ["a"],
    }
    assert plain(Odd()) == "an odd one" and plain(ValueError("no")) == "ValueError('no')"
    assert plain(b"raw") == "b'raw'"


def test_a_traced_value_of_any_kind_is_written(tmp_path: Path) -> None:
    from langchain_core.runnables import RunnableLambda

    tracer = LocalTracer(tmp_path / "trace.jsonl")
    RunnableLambda(lambda _: {object}).invoke(3, {"callbacks": [tracer]})
    (found,) = read_spans(tmp_path / "trace.jsonl")
    assert found.inputs in ({"input": 3}, {"value": 3}) and "<class 'object'>" in json.dumps(found.outputs)


def test_no_trace_leaves_the_machine_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    get_env_var.cache_clear()  # it remembers what the environment was
    assert not tracing_is_enabled()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a LangSmith client was made")

    monkeypatch.setattr("langsmith.Client.__init__", refuse)
    assert traced(art("Nausea.", doubt=0.1)).spans
