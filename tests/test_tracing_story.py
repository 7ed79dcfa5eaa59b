"""What the page tells of a run: answer, candidates, subquestions, and the sentences that bear the answer out."""

import re
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langchain_core.documents import Document
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import END, START, StateGraph

import artrag
from artrag import Settings, Subquestion
from artrag.evidence import term_weights
from artrag.state import QAState
from artrag.tracing import LocalTracer, Span, as_html, as_text, roots
from artrag.tracing.story import Asked, evidence, story

TEXT = (
    "The trial ran for twelve weeks. Participants improved by 4.2 points on Lumoretin against 1.9 on placebo.\n"
    "The difference was 2.3 points. Headache was common."
)
DRAFT, REFINED = "It was 4.2 points.", "Participants improved by 4.2 points against 1.9, a difference of 2.3 points."


def art() -> Any:
    asked = [Subquestion("What did they gain?", True), Subquestion("What is 4.2 - 1.9?", False)]
    found = passage(TEXT, "trial.pdf", 3, "Lumoretin > Results")
    found.metadata |= {"page": 4, "arms": {"dense": {"rank": 1, "score": 0.71}, "bm25": {"rank": 2, "score": 14.25}}}
    return artrag.build_art(
        chat=ScriptedChat(DRAFT, REFINED),
        asker=ScriptedAsker(0.8, subquestions=asked),
        truster=ScriptedTruster({"difference": 0.9, "4.2": 0.4}),
        retriever=ScriptedRetriever(found=[found, passage("Tablets are round.", "leaflet.md")]),
    )


@pytest.fixture(scope="module")
def spans() -> list[Span]:
    tracer = LocalTracer()
    art().compile(name="art").invoke({"question": "What was the difference?"}, {"callbacks": [tracer]})
    return tracer.spans


@pytest.fixture(scope="module")
def page(spans: list[Span]) -> str:
    return as_html(spans)


def test_a_run_tells_its_story(spans: list[Span]) -> None:
    told = story(roots(spans)[0])
    assert told is not None and told.question == "What was the difference?" and told.answer.endswith("points [1].")
    assert (told.confidence, told.doubt, told.reason, told.refined) == (0.9, 0.8, "doubt 0.8", True)
    assert told.decision.startswith("trusts the refined") and told.stopped == "the budget of 1 rounds is used"
    assert [(one.stage, one.score, one.chosen) for one in told.answers] == [
        ("initial", 0.4, False),
        ("refined", 0.9, True),
    ]
    assert told.asked == (Asked("What did they gain?", True, ""), Asked("What is 4.2 - 1.9?", False, "2.3"))
    first, second = told.passages
    assert first.source == f"trial.pdf, page 4, characters 0 to {len(TEXT)}" and first.context == "Lumoretin > Results"
    assert first.scores == (("score", "1.000"), ("dense", "0.71 (#1)"), ("bm25", "14.25 (#2)"))
    assert first.cited and not second.cited and second.marks == ()


def test_the_sentences_that_bear_the_answer_out_are_marked(spans: list[Span], page: str) -> None:
    told = story(roots(spans)[0])
    assert told is not None
    marks = told.passages[0].marks
    assert [TEXT[mark.start : mark.end] for mark in marks] == [
        "Participants improved by 4.2 points on Lumoretin against 1.9 on placebo.",
        "The difference was 2.3 points.",
    ]
    assert all(mark.claim == REFINED and mark.share == 1.0 for mark in marks)
    assert re.findall(r"<mark[^>]*>([^<]*)</mark>", page) == [TEXT[mark.start : mark.end] for mark in marks]
    assert 'title="100% of &ldquo;Participants improved' in page and "cited, bears out 100% of the sentence" in page
    shown = re.search(r'<p class="text" dir="auto">(.*?)</p>', page, re.DOTALL)
    assert shown and re.sub(r"</?mark[^>]*>", "", shown[1]) == TEXT  # nothing is lost between the marks


def test_evidence_is_the_best_sentence_and_what_adds_to_it() -> None:
    text = "Alpha beta. Gamma delta. Alpha gamma epsilon zeta."
    weights = term_weights([Document(text)])

    def marked(*claims: str) -> list[str]:
        return [text[mark.start : mark.end] for mark in evidence(text, claims, weights)]

    assert marked("Gamma delta.") == ["Gamma delta."]
    assert marked("Alpha beta gamma delta.") == ["Alpha beta.", "Gamma delta."]
    assert marked("Unheard words.") == [] and marked() == []
    assert marked("Gamma delta.", "Alpha beta.", "Gamma delta.") == ["Alpha beta.", "Gamma delta."]
    assert evidence("", ["Alpha"], {}) == ()
    again = "Same words here. Same words here. Other."
    found = evidence(again, ["Same words here."], term_weights([Document(again)]))
    assert [(mark.start, mark.end) for mark in found] == [(0, 16)]


def test_candidates_stand_side_by_side_with_what_changed(page: str) -> None:
    assert '<div class="answers"><div><b>Draft</b>' in page and "<div class=chosen><b>Refined</b>" in page
    assert page.count("&check; chosen") == 1 and page.index("<b>Draft</b>") < page.index("&check; chosen")
    draft, refined = re.findall(r'<p class="said" dir="auto">(.*?)</p>', page)
    assert re.sub(r"</?del>", "", draft) == "It was 4.2 points [1]." and "<del>It was</del>" in draft
    assert re.sub(r"</?ins>", "", refined) == REFINED.replace("points.", "points [1].")
    assert "<ins>Participants improved by</ins>" in refined and "<ins>4.2" not in refined


def test_subquestions_say_whether_they_are_answered(page: str) -> None:
    assert '<li dir="auto"><b class="good">answered</b> What did they gain?</li>' in page
    open_one = '<b class="warn">open</b> What is 4.2 - 1.9? <span class="dim">&rarr; 2.3</span></li>'
    assert open_one in page


def test_marks_in_the_answer_lead_to_passages_that_are_there(page: str) -> None:
    assert '<a href="#passage-0-1">[1]</a>' in page and 'id="passage-0-1" open' in page
    answer = {"question": "Q?", "answer": "See [1] and [7].", "passages": [{"text": "t"}]}
    made = as_html([Span("a", "", "run", "chain", 1.0, 1.0, outputs=answer)])
    assert '<a href="#passage-0-1">[1]</a> and [7].' in made


def test_two_cells_of_a_notebook_keep_their_links_apart(spans: list[Span]) -> None:
    answer: dict[str, Any] = {"question": "Q?", "answer": "See [1].", "passages": [{"text": "t"}]}
    cells = [as_html([Span(name, "", "run", "chain", 1.0, 1.0, outputs=answer)], page=False) for name in ("a", "b")]
    ids = [re.findall(r'id="(passage-[^"]+)"', cell) for cell in cells]
    assert ids[0] != ids[1] and all(f'href="#{found}"' in cell for cell, (found,) in zip(cells, ids, strict=True))


def test_the_route_is_told_with_its_reasons(spans: list[Span], page: str) -> None:
    route = re.search(r'<ol class="route">(.*?)</ol>', page)
    assert route
    told = re.sub(r"<[^>]+>", " ", route[1]).replace("&rarr;", ">")
    assert " ".join(told.split()) == "receive > retrieve > answer > ask doubted > refine > trust answered > end"
    assert '<dt>Doubt</dt><dd><svg class="meter"' in page and "0.80, refined: doubt 0.8</dd>" in page
    assert "<dt>Stopped</dt><dd>the budget of 1 rounds is used</dd>" in page


def test_an_abstention_a_failure_and_a_question_to_a_person_are_told_apart() -> None:
    def shown(**settings: Any) -> str:
        tracer, graph = LocalTracer(), art().compile(checkpointer=MemorySaver())
        config: Any = {"callbacks": [tracer], "configurable": {"thread_id": "t"}}
        graph.invoke({"question": "Q?"}, config, context=Settings(**settings))
        return as_html(tracer.spans)

    abstained = shown(abstain_below=0.99)
    assert '<span class="warn">abstained</span>' in abstained and "chosen</span>" not in abstained
    assert '<span class="warn">best, not trusted</span>' in abstained
    assert "<mark" in abstained and "cited, bears out 100%" in abstained  # the evidence of what it did not dare to say
    assert '<span class="good">answered</span>' in shown()
    waiting = shown(review=True, review_below=1.0)
    assert waiting.count("waits for a person") == 3 and 'class="bad"' not in waiting and "GraphInterrupt" not in waiting
    assert '<span class="warn">waits for a person</span>' in waiting


def test_a_graph_within_a_graph_tells_its_story_too() -> None:
    outer = StateGraph(QAState)
    outer.add_node("greet", lambda _: {})
    outer.add_node("art", art().compile())
    outer.add_edge(START, "greet")
    outer.add_edge("greet", "art")
    outer.add_edge("art", END)
    tracer = LocalTracer()
    outer.compile(name="agent").invoke({"question": "What was the difference?"}, {"callbacks": [tracer]})
    page = as_html(tracer.spans)
    assert page.count("<h2>Candidates</h2>") == 2 and page.count("<h2>Passages</h2>") == 2
    assert len(set(re.findall(r'id="(passage-[^"]+)"', page))) == 4
    assert as_text(tracer.spans).splitlines()[0].startswith("agent (")


@pytest.mark.parametrize("outputs", [{}, {"question": "Q?"}, {"answer": "A"}, {"question": 3, "answer": "A"}])
def test_other_runs_tell_none(outputs: dict[str, Any]) -> None:
    assert story(Span("a", "", "run", "chain", 1.0, 1.0, outputs=outputs)) is None
    assert "<h2>Answer</h2>" not in as_html([Span("a", "", "run", "chain", 1.0, 1.0, outputs=outputs)])


def test_nonsense_in_a_file_does_not_break_the_page() -> None:
    junk: list[Any] = [
        None,
        3,
        "x",
        [],
        [1],
        {},
        {"a": [None]},
        [{}],
        [{"text": 5}],
        [{"text": "t", "metadata": []}],
        True,
    ]
    keys = ("passages", "citations", "candidates", "subquestions", "confidence", "stop_reason", "rounds", "draft")
    for key in keys:
        for value in junk:
            outputs = {"question": "Q?", "answer": "A", "stop_reason": "s", "passages": [{"text": "t"}]} | {key: value}
            for name in ("confidence", "refine_probability", "decision"):
                one = Span("a", "", "run", "chain", 1.0, 1.0, outputs=outputs, metadata={name: value})
                assert "Q?" in as_html([one]) and as_text([one])
