"""Local traces of real graphs: spans, the JSON Lines file, text and page."""

import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from itertools import accumulate
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
from artrag.tracing import LocalTracer, Span, as_html, as_text, read_spans, read_trace, roots
from artrag.tracing.page import MOST_STEPS, SHORTEST_SHARE
from artrag.tracing.spans import LONGEST_TEXT, children, plain
from artrag.tracing.style import STYLE
from artrag.tracing.tree import headline

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


def test_scores_are_noted_in_the_stage_and_in_its_run() -> None:
    spans = traced(art("Cough.", "Nausea.")).spans
    about = {span.name: span.metadata for span in spans}
    assert about["retrieve"] == {"passages": 1, "retrieval_scores": [1.0]} and about["receive"] == {}
    assert about["ask"] == {"refine_probability": 0.9, "needs_refining": True}
    assert about["trust"]["truster_scores"] == [0.5, 0.9] and about["trust"]["confidence"] == 0.9
    assert about["LangGraph"] == {**about["refine"], **about["ask"], **about["trust"]}


def test_scores_of_any_kind_break_no_run() -> None:
    found = [Document("Nausea.", metadata={"score": score}) for score in ("high", None, 0.5, float("nan"), True)]
    truster, retriever = ScriptedTruster({"Nausea": 0.9}), ScriptedRetriever(found=found)
    graph = artrag.build_art(
        chat=ScriptedChat("Nausea."), asker=ScriptedAsker(0.1), truster=truster, retriever=retriever
    ).compile()
    assert graph.invoke({"question": "Q?"})["confidence"] == 0.9
    tracer = LocalTracer()
    graph = artrag.build_art(
        chat=ScriptedChat("Nausea."), asker=ScriptedAsker(0.1), truster=truster, retriever=retriever
    ).compile()
    graph.invoke({"question": "Q?"}, {"callbacks": [tracer]})
    noted = next(span for span in tracer.spans if span.name == "retrieve").metadata
    assert noted == {"passages": 4, "retrieval_scores": [0.5, "nan"]}


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
    assert '<span class="bad">ConnectionError(&#x27;no' in as_html(tracer.spans)


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


def test_lines_that_are_no_span_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    good = span("good").to_json()
    row = json.loads(good)
    wrong = [{"seconds": "long"}, {"inputs": [1]}, {"id": 7}, {"id": ""}, {"started": None}, {"tokens": 1.5}]
    wrong += [{"seconds": float("nan")}, {"seconds": -1}, {"started": float("inf")}, {"unknown": 1}, {"metadata": "x"}]
    bad = [json.dumps(row | one) for one in wrong] + ["[]", "3", "null", "{", "[" * 100_000, '{"id": "x"}']
    path.write_text("\n".join([good, "", *bad, "  ", good.replace('"good"', '"again"'), good[:40]]), "utf-8")
    spans, left_out = read_trace(path)
    assert [one.id for one in spans] == ["good", "again"] and left_out == len(bad) + 1
    path.write_bytes(good.encode("utf-16") + b"\xff\x00")
    assert read_trace(path)[0] == []


def test_a_step_told_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(span("a", tokens=1).to_json() + "\n" + span("a", tokens=2).to_json() + "\n", "utf-8")
    assert [one.tokens for one in read_spans(path)] == [2]


def test_a_trace_of_an_earlier_version_still_reads(tmp_path: Path) -> None:
    row = json.loads(span("a").to_json())
    del row["metadata"]
    (tmp_path / "trace.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    assert read_spans(tmp_path / "trace.jsonl") == [span("a")]


def test_texts_with_any_line_separator_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    spans = traced(art("Nausea.", doubt=0.1, text="one\u2028two\x85three\x0bfour\r\nfive"), path=path).spans
    assert read_spans(path) == spans


def test_a_missing_file_is_not_an_empty_trace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_spans(tmp_path / "none.jsonl")


def test_text_shows_the_tree_with_costs_and_decisions() -> None:
    lines = as_text(traced(art("Cough.", "Nausea.")).spans).splitlines()
    assert re.fullmatch(r"LangGraph \(\d+\.\d\d s, 30 tokens\)  trusts the refined answer \(0\.90 .*\)", lines[0])
    assert re.fullmatch(r"  retrieve \(\d+\.\d\d s\)  1 passage", lines[2])
    assert re.fullmatch(r"    ScriptedRetriever \(\d+\.\d\d s\)  1 passage", lines[3])
    assert re.fullmatch(r"  answer \(\d+\.\d\d s, 15 tokens\)  Cough\.", lines[4])
    assert re.fullmatch(r"    ScriptedChat \(\d+\.\d\d s, 15 tokens\)  Cough\.", lines[5])
    assert re.fullmatch(r"  ask \(\d+\.\d\d s\)  doubt 0\.9 \(doubt 0\.90\)  -> doubted", lines[6])
    assert re.fullmatch(r"  refine \(.*\)  Nausea \[1\]\.", lines[7])
    assert re.fullmatch(r"  trust \(.*\)  trusts the refined answer .*  -> answered", lines[10]) and len(lines) == 11
    assert as_text([]) == ""


def test_a_headline_is_one_short_line() -> None:
    assert headline(span(outputs={"answer": "Nausea.\n\nIn short."})) == "Nausea. In short."
    cut = headline(span(outputs={"draft": "word " * 100}))
    assert len(cut) == 160 and cut.endswith("word wo...")
    assert headline(span(outputs={"answer": " ", "passages": [1, 2]})) == "2 passages"
    assert headline(span(outputs={"candidates": [{"text": "first"}, {"text": "last"}], "passages": []})) == "last"
    assert headline(span(outputs={"candidates": ["nonsense"], "passages": "nonsense"})) == ""
    assert headline(span(outputs={"output": {"role": "ai", "content": "Hello\nthere"}})) == "Hello there"
    assert headline(span(outputs={"output": {"content": 3}})) == ""
    assert headline(span(metadata={"stop_reason": "confident enough"})) == "confident enough"
    assert headline(span()) == ""


def test_steps_of_a_run_that_never_ended_stand_together() -> None:
    spans = [
        span("late", parent="gone", started=3, outputs={"question": "Q?", "draft": "D"}),
        span("child", parent="early"),
        span("early", started=1),
        span("first", parent="gone", started=2, seconds=0.25, outputs={"question": "Q?"}),
    ]
    assert [one.name for one in roots(spans)] == ["early", "first", "late"]
    told = "unfinished run (1.50 s)  the run did not end, or its line was cut off"
    assert as_text(spans) == f"early (0.50 s)\n  child (0.50 s)\n{told}\n  first (0.25 s)\n  late (0.50 s)  D"
    assert '<span class="bad">not finished</span>' in as_html(spans)


def test_steps_in_a_circle_are_said_to_be_missing() -> None:
    spans = [span("a", parent="b"), span("b", parent="a"), span("c"), span("d", parent="d")]
    assert as_text(spans) == "c (0.50 s)"
    assert "3 steps are their own ancestors and are left out." in as_html(spans)
    assert "ancestors" not in as_html(spans[2:3])


def test_only_the_function_of_an_edge_is_told_as_one() -> None:
    stage = span("ask", outputs={"refine_reason": "why"})
    edge = span("after_ask", parent="ask", started=2, inputs={"a": 1, "b": 2}, outputs={"output": "doubted"})
    assert as_text([stage, edge]) == "ask (0.50 s)  why  -> doubted"
    for other in ({"inputs": {"input": 1}}, {"outputs": {"output": "x" * 81}}, {"kind": "tool"}, {"started": 0.5}):
        last = span("tool", parent="ask", started=1.5, kind="tool")
        spans = [stage, span("after_ask", **({"parent": "ask", "started": 2, **_EDGE} | other)), last]
        assert "\n  after_ask" in as_text(spans) and "->" not in as_text(spans), other


_EDGE: dict[str, Any] = {"inputs": {"a": 1, "b": 2}, "outputs": {"output": "doubted"}}


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its nesting."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("page", [True, False])
def test_a_hostile_document_stays_text(page: bool) -> None:
    spans = traced(art(HOSTILE, HOSTILE + " [1]", text=HOSTILE), HOSTILE).spans
    bad = span(HOSTILE, kind=HOSTILE, error=HOSTILE, inputs={HOSTILE: HOSTILE}, outputs={"answer": HOSTILE})
    edge = span("edge", parent=HOSTILE, inputs={"x": 1, "y": 2}, outputs={"output": HOSTILE[:80]}, started=2)
    told = {"question": HOSTILE, "answer": HOSTILE + " [1]", "stop_reason": HOSTILE, "decision": HOSTILE}
    told |= {"confidence": 7, "refine_reason": HOSTILE, "refine_probability": float("inf")}
    told |= {
        "candidates": [{"stage": HOSTILE, "text": HOSTILE, "score": -1}, 3],
        "subquestions": [{"text": HOSTILE}, 4],
    }
    told["passages"] = [{"text": HOSTILE, "metadata": {HOSTILE: 1, "context": HOSTILE, "arms": {HOSTILE: {"rank": 1}}}}]
    told["citations"] = [{"n": 1, "sentence": HOSTILE}]
    about = {"document": HOSTILE, "page": HOSTILE, "arms": {HOSTILE: {"rank": 1, "score": 2}, "x": 3}}
    told["passages"].append({"text": HOSTILE, "metadata": about})
    run = [span("run", outputs=told, metadata={HOSTILE: HOSTILE}), span(f"{HOSTILE}1", parent="run")]
    run += [span("run/2", parent="run", outputs=told), span("3", parent="run/2"), span("4", parent="run/2")]
    made = as_html([*spans, bad, edge, span("child", parent=HOSTILE, inputs={"x": HOSTILE}), *run], page=page)
    found = Tags(made)
    assert found.open == []
    shell = {"html", "head", "meta", "title", "body", "main"} if page else {"div"}
    flow = {"details", "summary", "b", "span", "pre", "h2", "p", "a", "dl", "dt", "dd", "div", "ol", "ul", "li"}
    assert found.tags <= {"style", "svg", "rect", "mark", "ins", "del"} | flow | shell
    known = {"class", "id", "href", "dir", "title", "open", "width", "height", "rx", "x", "viewbox", "aria-hidden"}
    assert found.attributes <= known | {"preserveaspectratio", "lang", "charset", "content", "name", "http-equiv"}
    assert all(re.fullmatch(r"#passage-[\da-f-]+", link) for link in found.links) and found.links
    assert any("<script>alert(1)</script></pre>" in text for text in found.texts)
    assert "<script" not in made and "onerror=" in made and "&lt;script&gt;" in made


BIDI, ANSI = "price \u202e321\u202c", "\x1b[2J\x1b]0;owned\x07\x9b31mred\r\x00"


def test_neither_page_nor_terminal_obeys_the_text() -> None:
    text = f"Nausea {BIDI} {ANSI} \ud800 \u2028\ufeff"
    spans = traced(art(text, doubt=0.1, text=text), text).spans
    spans.append(span(f"tool {ANSI}", error=text, inputs={text: text}))
    for made in (as_text(spans), as_html(spans), as_html(spans, page=False)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ufeff\ud800-\udfff]", made)
        assert r"\x1b[2J" in made and r"\u202e321" in made and r"\x9b31m" in made
        made.encode("utf-8")
    assert all(re.match(r" *[\w\\]", line) for line in as_text(spans).splitlines())


def test_text_of_any_script_stays_as_it_is() -> None:
    text = "Übelkeit 恶心 غثيان נבחר \U0001f468\u200d\U0001f469 می\u200cخواهم\tx"
    assert text in as_html([span("a", outputs={"question": "Q?", "answer": text})])


def test_the_page_fetches_nothing() -> None:
    page = as_html(traced(art("Nausea.", doubt=0.1)).spans)
    assert not re.search(r"https?://|<script|<link|@import|url\(|style=", page)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (
        policy and policy[1] == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert page.startswith("<!doctype html>") and '<meta charset="utf-8">' in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_the_page_shows_every_step_and_what_went_in_and_out() -> None:
    tracer = traced(art("Cough.", "Nausea."))
    page = as_html(tracer.spans)
    for one in tracer.spans:
        shown = page.count(f'<span class="name">{one.name}</span>')
        assert (
            shown == (0 if one.name in ("after_ask", "after_trust", "LangGraph") else 1) or one.name[:8] == "Scripted"
        )
    assert page.count('<span class="name">Scripted') == 4
    assert page.count("15 tokens") == 4 and page.count("30 tokens") == 1
    assert page.count('<summary class="dim">inputs</summary>') == 10
    assert '<span class="arrow">doubted &rarr;</span>' in page and '<span class="edge">&rarr; doubted</span>' in page
    assert "trusts the refined answer" in page and "Nausea was common." in page


def test_a_notebook_shows_a_fragment() -> None:
    tracer = LocalTracer()
    assert "Nothing was traced yet." in tracer._repr_html_()
    art("Nausea.", doubt=0.1).invoke({"question": "Q?"}, {"callbacks": [tracer]})
    shown = tracer._repr_html_()
    assert shown == as_html(tracer.spans, page=False) and '<span class="name">trust</span>' in shown
    assert "<html" not in shown and "<body" not in shown
    # nothing it styles lies outside of it
    style = shown[shown.index("<style>") + 7 : shown.index("</style>")]
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", re.sub(r"@media[^{]*\{", "", style))
    assert len(rules) > 40
    for rule in rules:
        assert all(part.strip().startswith(".artrag-trace") for part in rule.split(",")), rule


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_can_be_read(scheme: str) -> None:
    found = [dict(re.findall(r"--(\w+):(#\w+)", rule)) for rule in STYLE.split("@media")[:2]]
    colours = found[0] | (found[1] if scheme == "dark" else {})

    def light(name: str) -> float:
        code = colours[name][1:]
        parts = [int(code[n] * 2 if len(code) == 3 else code[2 * n : 2 * n + 2], 16) / 255 for n in range(3)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = [(ink, ground) for ink in ("ink", "dim", "accent", "good", "warn", "bad") for ground in ("card", "paper")]
    for ink, ground in [*pairs, ("ink", "mark"), ("ink", "soft"), ("ink", "old"), ("ink", "new")]:
        dark, bright = sorted((light(ink), light(ground)))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)  # WCAG 2, level AA


def test_the_newest_run_comes_first_and_is_open() -> None:
    spans = [span(f"run {n}", started=n, inputs={"question": f"Q{n}?"}) for n in range(3)]
    page = as_html(spans)
    assert re.findall(r"Q\d\?</span>", page) == ["Q2?</span>", "Q1?</span>", "Q0?</span>"]
    assert page.count('<details class="run" open>') == 1 and page.index(" open>") < page.index("Q2?")


def test_the_page_says_what_it_leaves_out() -> None:
    assert "left out" not in as_html([span()])
    assert "1 line was left out: cut off" in as_html([span()], left_out=1)
    assert "1,200 lines were left out: cut off" in as_html([], left_out=1200)
    many = [span(f"s{n}", started=n) for n in range(MOST_STEPS + 7)]
    assert "7 further steps are left out of this page" in as_html(many)
    one = [span("run"), *(span(f"s{n}", parent="run", started=n) for n in range(MOST_STEPS + 6))]
    page = as_html(one)
    assert "7 further steps are left out" in page and page.count('<span class="name">') == MOST_STEPS
    huge = {"question": "Q?", "answer": "<" * 10**6, "candidates": [{"text": "<" * 10**6}] * 30}
    page = as_html([span(f"s{n}", started=n, outputs=huge) for n in range(7)])
    assert len(page) < 16_000_000 and re.search(r"\d+ further steps are left out of this page", page)


@pytest.mark.parametrize("deep", [False, True])
def test_two_thousand_steps_with_long_texts_make_a_page_of_a_few_megabytes(deep: bool) -> None:
    parent = (lambda n: f"s{n - 1}" if n else "run") if deep else (lambda n: "run")
    long: dict[str, Any] = {"inputs": {"text": "y " * 10_000}, "outputs": {"answer": "z<" * 10_000}}
    spans = [span("run", seconds=2000.0, outputs={"question": "Q?", "answer": "A"})]
    spans += [span(f"s{n}", parent=parent(n), started=1.0 + n, seconds=0.5, **long) for n in range(2000)]
    began = time.perf_counter()
    page = as_html(spans)
    assert time.perf_counter() - began < 10 and len(page) < 8_000_000
    assert page.count('<span class="name">s') == 2000
    depths = list(accumulate(1 if tag == "<details" else -1 for tag in re.findall(r"</?details", page)))
    assert len(as_text(spans).splitlines()) == 2001
    share = re.search(r"\.\.\. ([\d,]+) more characters", page)
    assert share and 10_000 < int(share[1].replace(",", "")) < 20_000 - SHORTEST_SHARE
    assert depths[-1] == 0 and max(depths) < 40  # two elements each; browsers give up below five hundred


def test_long_texts_are_cut_and_say_so() -> None:
    text = "x" * (LONGEST_TEXT + 1)
    assert plain(text) == "x" * LONGEST_TEXT + f" ... ({LONGEST_TEXT + 1} characters)"
    assert plain("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    assert f"({LONGEST_TEXT + 1} characters)" in as_html(traced(art("Nausea.", doubt=0.1, text=text)).spans)


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
