"""The page of a trace in a real Chromium: it shows what it should, asks for nothing, and runs nothing."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from chromium import BINARY, Chromium
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage

import artrag
from artrag import Subquestion
from artrag.tracing import LocalTracer, Span, as_html

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(BINARY is None, reason="no Chromium is here: install the package 'chromium'"),
]
TEXT = "The trial ran for weeks. The difference was 2.3 points. Headache was common."


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as one:
        yield one


def traced(*script: str, text: str = TEXT, question: str = "What was the difference?") -> list[Span]:
    asked = [Subquestion("What did they gain?", True), Subquestion(text, False)]
    art = artrag.build_art(
        chat=ScriptedChat(*script),
        asker=ScriptedAsker(0.9, subquestions=asked),
        truster=ScriptedTruster({"2.3": 0.9}),
        retriever=ScriptedRetriever(found=[passage(text, text[:60])]),
    )
    tracer = LocalTracer()
    art.compile(name="art").invoke({"question": question}, {"callbacks": [tracer]})
    return tracer.spans


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "trace.html"
    path.write_text(as_html(traced("It was 4.", "The difference was 2.3 points.")), "utf-8")
    return path


def is_quiet(browser: Chromium, page: Path) -> bool:
    """It asked for the file alone, and complained of nothing."""
    return browser.requests == [page.as_uri()] and browser.complaints == []


def test_the_page_is_there_in_light_and_dark(browser: Chromium, page: Path) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        shot = browser.picture()
        assert shot.shape == (1400, 1100, 3) and len(np.unique(shot.reshape(-1, 3), axis=0)) > 100
        brightness[scheme] = shot.mean()
        assert is_quiet(browser, page)
    assert brightness["light"] > 220 and brightness["dark"] < 60


def test_the_document_holds_what_the_run_told(browser: Chromium, page: Path) -> None:
    browser.open(page)

    def count(selector: str) -> Any:
        return browser.value(f"document.querySelectorAll({selector!r}).length")

    assert (count("details.run[open]"), count(".answers > div"), count(".chosen"), count(".asked li")) == (1, 2, 1, 2)
    assert (count("details.passage"), count(".route li"), count(".steps .name")) == (1, 7, 10)
    assert browser.value("document.querySelector('mark').textContent") == "The difference was 2.3 points."
    assert browser.value("document.querySelector('.answer').textContent") == "The difference was 2.3 points [1]."
    assert browser.value("document.querySelector('.answer a').getBoundingClientRect().width > 5")
    assert browser.value("getComputedStyle(document.querySelector('.run')).borderRadius") == "12px"


def test_it_is_read_by_keyboard_with_the_focus_in_sight(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.value("document.activeElement.tagName") == "SUMMARY"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for opened in (False, True):
        browser.press("Enter")
        assert browser.value("document.activeElement.parentElement.open") is opened
    for _ in range(4):
        browser.press("Tab")
    assert browser.value("document.activeElement.closest('.steps') !== null")
    browser.press("Enter")
    assert browser.value("document.activeElement.parentElement.querySelector('.data').checkVisibility()")


def test_a_link_to_a_passage_leads_there(browser: Chromium, page: Path) -> None:
    browser.open(page, height=300)
    assert browser.value("document.querySelector('.answer a').click(), location.hash") == "#passage-0-1"
    assert browser.value("document.querySelector('.passage').getBoundingClientRect().top < 300")
    assert browser.complaints == []


def test_hostile_text_runs_nothing_and_asks_for_nothing(browser: Chromium, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    away = f"http://127.0.0.1:{server.server_port}"
    hostile = (
        f"</p></pre></style><script>document.title='owned'</script>"
        f"<img src={away}/i onerror=\"document.title='owned'\">"
        f"<style>@import '{away}/s'</style><iframe src='{away}/f'></iframe><svg onload=\"document.title='owned'\">"
        f'<a href="javascript:document.title=\'owned\'">2.3</a>\'" onfocus=alert(1) autofocus x="\u202e\x1b[2J 2.3 [1]'
    )
    spans = traced(hostile, f"2.3 {hostile}", text=hostile, question=hostile)
    spans.append(Span("x", "", hostile, hostile, 1.0, 1.0, {hostile: hostile}, {hostile: [hostile]}, hostile))
    path = tmp_path / "hostile.html"
    path.write_text(as_html(spans).replace("<details", "<details open"), "utf-8")
    browser.open(path)
    time.sleep(0.3)
    assert browser.value("document.title") == "artrag trace" and is_quiet(browser, path) and asked == []
    assert browser.value("document.querySelectorAll('script, img, iframe, [onload], [onfocus], [onerror]').length") == 0
    assert browser.value("[...document.links].every(one => one.getAttribute('href').startsWith('#passage'))")
    assert browser.value("document.body.innerText.includes(\"<script>document.title='owned'</script>\")")
    assert browser.value("document.body.innerText.includes('\\u202e')") is False
    # The policy would hold even if something were not escaped.
    path.write_text(
        as_html(spans).replace("<main>", f"<main><script>document.title='owned'</script><img src={away}/i>")
    )
    browser.open(path)
    assert browser.value("document.title") == "artrag trace" and asked == []
    assert len([one for one in browser.complaints if "Content Security Policy" in one]) == 2
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("deep", [False, True])
def test_a_page_of_two_thousand_steps_opens(browser: Chromium, tmp_path: Path, deep: bool) -> None:
    long = {"inputs": {"text": "word " * 4000}, "outputs": {"answer": "word " * 4000}}
    spans = [Span("run", "", "art", "chain", 0.0, 2000.0, {"question": "Q?"}, {"question": "Q?", "answer": "A"})]
    for n in range(2000):
        above = f"s{n - 1}" if deep and n else "run"
        spans.append(Span(f"s{n}", above, f"step {n}", "chain", float(n), 1.0, **long))
    path = tmp_path / "large.html"
    path.write_text(as_html(spans), "utf-8")
    began = time.perf_counter()
    browser.open(path)
    assert browser.value("document.querySelectorAll('.steps .name').length") == 2000
    assert len(np.unique(browser.picture().reshape(-1, 3), axis=0)) > 50
    assert time.perf_counter() - began < 20 and is_quiet(browser, path)


def test_nothing_is_wider_than_a_telephone(browser: Chromium, tmp_path: Path) -> None:
    word = "x" * 3000
    spans = traced(f"2.3 {word}", word, text=word, question=word)
    path = tmp_path / "narrow.html"
    path.write_text(as_html(spans).replace("<details", "<details open"), "utf-8")
    browser.open(path, width=380)
    assert browser.value("document.documentElement.scrollWidth") <= 380


def test_a_cell_of_a_notebook_shows_the_same(browser: Chromium, page: Path, tmp_path: Path) -> None:
    path = tmp_path / "cell.html"
    spans = traced("It was 4.", "The difference was 2.3 points.")
    path.write_text(f"<!doctype html><meta charset=utf-8><p id=own>mine</p>{as_html(spans, page=False)}", "utf-8")
    texts = {}
    for name, one in (("page", page), ("cell", path)):
        browser.open(one)
        texts[name] = browser.value("document.querySelector('.run').innerText.replace(/[\\d.]+ s\\b/g, '')")
    assert texts["page"] == texts["cell"] and "Candidates" in texts["page"]
    assert browser.value("getComputedStyle(document.getElementById('own')).color") == "rgb(0, 0, 0)"
