"""What goes in: files of every kind, good and bad, how they are cut, and filters on what is known of them."""

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ROOT, HashedWords, json_lines
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artrag.errors import DocumentError, EmptyCorpusError, UsageError
from artrag.index import Index, chunking, loaders
from artrag.index.catalog import Catalog
from artrag.index.chunking import cut, headings
from artrag.index.definitions import Definitions
from artrag.index.loaders import files, read
from artrag.index.manifest import read_manifest
from artrag.index.verify import verify

Build = Callable[..., dict[str, Any]]


# Cutting.

LINES = st.sampled_from(
    [
        "# A",
        "## B",
        "Title",
        "=====",
        "---",
        "```",
        "~~~",
        "",
        " ",
        "some words here. And more; of them, too",
        "空気のフィルター。交換する",
        "def f(x):",
        "    return x",
        "@wrap",
        "class C:",
        "# a remark",
        "// a remark",
        "func (r *R) Name() {",
        "}",
        "\tpublic int name(int x) {",
        "x" * 90,
        "\r",
        "\u2028\x0c",
        "é\U0001f600",
    ]
)
PATHS = st.sampled_from(["a.md", "a.txt", "a.py", "a.go", "A.java", "a.yaml", "a.html", "", "Makefile"])


@given(st.lists(LINES, max_size=25).map("\n".join), PATHS, st.sampled_from([30, 200]), st.sampled_from([0, 12]))
@example("a\n\n\n   b", "a.py", 30, 12)
@settings(max_examples=300)
def test_chunks_stand_where_they_say_and_cover_every_character(text: str, path: str, size: int, overlap: int) -> None:
    before = chunking._BLOCK
    chunking._BLOCK = 120  # so that blocks are met
    try:
        chunks = cut(text, path, size=size, overlap=overlap)
    finally:
        chunking._BLOCK = before
    covered = bytearray(len(text))
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text and chunk.text.strip()
        covered[chunk.start : chunk.end] = b"x" * (chunk.end - chunk.start)
    assert all(text[at].isspace() for at, seen in enumerate(covered) if not seen)
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)


def test_headings_of_every_kind_and_none_that_is_no_heading() -> None:
    text = (
        "---\ntitle: x\n# a remark of the front matter\n---\nMain title\n==========\n\nWords.\n\nSub title\n---\n\n"
        "- item\n---\n\n| a |\n---\n\nA paragraph\nof two lines\n---\n\n~~~\n# code\n```\n# code\n~~~\n### Third ###\n"
    )
    found = headings(text)
    assert [(level, title) for _, level, title in found] == [(1, "Main title"), (2, "Sub title"), (3, "Third")]
    assert all(text[at:].startswith(("Main", "Sub", "###")) for at, *_ in found)


@pytest.mark.parametrize("name", ["values.yaml", "run.sh", "Dockerfile", "rows.csv"])
def test_remarks_are_no_headings(name: str) -> None:
    assert {chunk.section for chunk in cut("# a remark\nkey: 1\n\n# another\nkey: 2\n", name)} == {()}


def test_a_definition_keeps_its_remarks_its_indentation_and_its_place() -> None:
    body = "".join(f"        value_{n} = compute_something_long({n}) + another_name_{n}\n" for n in range(9))
    source = (
        f"import os\n\n\nclass Shop:\n    def open(self):\n{body}\n"
        f"    # Closes the shop.\n    @logged\n    def close(self):\n{body}"
        f"\n\n# Sells one thing.\n@logged\nasync def sell(thing):\n{body}\n\nclass Other:\n    pass\n"
    )
    chunks = cut(source, "shop.py", size=400, overlap=0)
    by_text = {next(line for line in chunk.text.split("\n") if line.strip()): chunk for chunk in chunks}
    assert by_text["    # Closes the shop."].section == ("Shop",)
    assert "def close" in by_text["    # Closes the shop."].text
    assert by_text["# Sells one thing."].section == ()
    inside = [chunk for chunk in chunks if chunk.text.startswith("        value_")]
    assert {chunk.section for chunk in inside} <= {("Shop", "open"), ("Shop", "close"), ("sell",)} and inside


@pytest.mark.parametrize(
    ("suffix", "source", "mark", "expected"),
    [
        (".go", "type R struct {\n\tx int\n}\n\nfunc (r *R) Name(a int) error {\n\tHERE\n}\n", "HERE", ("Name",)),
        (
            ".rs",
            "impl<T> Shop for Box<T> {\n    pub(crate) fn open(&self) -> u8\n    {\n        HERE\n    }\n}",
            "HERE",
            ("Box", "open"),
        ),
        (
            ".java",
            "public final class A {\n  private static int f(int a) {\n    HERE\n  }\n  int g;\n}",
            "HERE",
            ("A", "f"),
        ),
        (".java", "class A {\n  int f() {\n    if (x(1)) {\n      HERE\n    }\n  }\n}", "HERE", ("A", "f")),
        (".ts", "export default class A {\n  async run(x: T): Promise<U> {\n    HERE\n  }\n}", "HERE", ("A", "run")),
        (".js", "const go = async (a) => {\n  HERE\n}\n", "HERE", ("go",)),
        (".js", "const go = async (a) => {\n}\nHERE()\n", "HERE", ()),
        (".cpp", "namespace n {\nint C::f(int a) {\n  HERE\n}\n}", "HERE", ("C::f",)),
        (".c", "static int f(int a,\n             int b)\n{\n    HERE\n}\n", "HERE", ()),
        (".rb", "module A\n  class B\n    def c\n      HERE\n    end\n  end\nend", "HERE", ("A", "B", "c")),
        (".py", "def f():\n    '''\n    class names are text\n    '''\n    HERE\n", "HERE", ("f",)),
        (".py", "def f(\n    a,\n) -> int:\n    HERE\nx = 1\n", "HERE", ("f",)),
        (".py", "def f():\n    pass\nHERE\n", "HERE", ()),
    ],
)
def test_what_a_place_in_source_code_belongs_to(suffix: str, source: str, mark: str, expected: tuple[str, ...]) -> None:
    assert Definitions(source, suffix).enclosing(source.index(mark)) == expected


@pytest.mark.parametrize("line", ["a" * 300 + "(", "int " * 70 + "x", "<" * 200, "const a = " + "(" * 250, "@" * 299])
def test_odd_lines_of_code_take_no_time(line: str) -> None:
    started = time.process_time()
    Definitions(f"{line}\n" * 200, ".ts")
    assert time.process_time() - started < 5


# Big files. The embedder is an instant one; what is bounded is everything else.

BIG = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from artrag.index.chunking import cut
from artrag.index.loaders import read
from pathlib import Path
path = Path(sys.argv[2])
(document,) = read(path, path.name)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
chunks = cut(document.page_content, path.name)
print(len(chunks), time.process_time() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("kind", ["lines", "one line", "no space", "cjk"])
def test_cutting_a_big_text_takes_time_and_memory_in_proportion(tmp_path: Path, kind: str) -> None:
    unit = {"lines": "A line of some words, and more.\n", "one line": "words and ", "no space": "x", "cjk": "空気"}[
        kind
    ]
    file = tmp_path / "big.txt"
    size = 2_000_000
    file.write_text(unit * (size // len(unit.encode())), "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BIG, str(ROOT / "tests"), str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, _, megabytes = map(float, done.stdout.split())
    assert count >= size / 3 / 800 and megabytes < 120


def pdf_of(path: Path, pages: int) -> None:
    """A PDF of short pages."""
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    for n in range(1, pages + 1):
        pdf.add_page()
        pdf.cell(text=f"Page {n} speaks of widget W-{n + 1000} and of its torque.")
    pdf.output(str(path))


def test_many_pages_keep_their_numbers(build: Build, tmp_path: Path, embedder: HashedWords) -> None:
    folder = tmp_path / "pdf"
    folder.mkdir()
    pdf_of(folder / "long.pdf", 400)
    build(folder)
    with closing(Index.open(tmp_path / "index", embedder=embedder)) as opened:
        for page in (7, 399, 400):  # the words of the first are the title, which stands in every context
            best = opened.search(f"W-{page + 1000}", 1, arms=["bm25"])[0]
            text = opened.document("long.pdf").text
            assert f"W-{page + 1000} " in best.text and text[best.start : best.end] == best.text
            pages = opened.document("long.pdf").metadata["pages"]
            assert len(pages) == 400 and text[pages[page - 1] :].startswith(f"Page {page} speaks")
            assert pages[best.metadata["page"] - 1] <= best.start
    assert not verify(tmp_path / "index").problems


# Bad input.


def only_document(path: Path) -> str:
    (document,) = read(path, path.name)
    return document.page_content


def test_encodings_are_declared_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("a\r\nb".encode("utf-8-sig"))
    assert only_document(file) == "a\nb"
    file.write_bytes("größer".encode("utf-16"))
    assert only_document(file) == "größer"
    file.write_bytes("größer".encode("utf-16")[:-1])
    with pytest.raises(DocumentError, match="not UTF-16"):
        only_document(file)
    file.write_bytes(b"one\ntwo caf\xe9\n")
    with pytest.raises(DocumentError, match=r"not UTF-8 \(byte 0xe9 at 11, line 2\).*iconv"):
        only_document(file)
    page = tmp_path / "a.html"
    page.write_bytes(b'<meta charset="iso-8859-1"><p>caf\xe9 \x93quoted\x94</p>')
    assert only_document(page) == "café “quoted”"
    page.write_bytes(b'<meta charset="klingon"><p>x</p>')
    with pytest.raises(DocumentError, match="klingon"):
        only_document(page)


def test_html_keeps_its_words_and_loses_its_furniture(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text(
        '<?xml version="1.0"?><html><body><h2>Setup<a class="headerlink" href="#s">¶</a></h2>'
        "<pre><code># no heading\nx = 1</code></pre><ul><li>one<ul><li>two</li></ul></li></ul><p>a<br>b &lt;T&gt;</p>"
        "<p>snake_case *star*</p><script>x</script></body></html>",
        "utf-8",
    )
    text = only_document(page)
    assert "## Setup\n" in text and "snake_case *star*" in text and "b <T>" in text and "script" not in text
    assert [title for *_, title in headings(text)] == ["Setup"]


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("deep.html", b"<div>" * 5_000 + b"x", "no readable HTML"),
        ("deep.jsonl", b'{"id": "a", "text": "x", "metadata": ' + b"[" * 100_000, "line 1"),
        ("latin.jsonl", b'{"id": "a", "text": "fine"}\n{"id": "b", "text": "caf\xe9"}\n', "line 2"),
        ("half.jsonl", rb'{"id": "a", "text": "half \ud800 of it"}', "half a character"),
        ("list.jsonl", b"[1, 2]\n", "line 1"),
        ("words.jsonl", b'{"id": "a", "text": "x", "chunks": 7, "metadata": 5}\n', "line 1"),
        (
            "cut.pdf",
            b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 1 0 R >>\nendobj\ntrailer << /Root 1 0 R >>\n",
            "cut.pdf",
        ),
    ],
)
def test_bad_files_are_skipped_by_name_and_stop_nothing(
    build: Build, corpus: Path, name: str, raw: bytes, reason: str
) -> None:
    (corpus / name).write_bytes(raw)
    for _ in range(2):
        report = build(corpus)
        (skipped,) = report["skipped"]
        assert reason in skipped["reason"] and name in skipped["reason"] and report["documents"] >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_a_file_name_that_is_no_text_is_skipped(build: Build, corpus: Path) -> None:
    try:
        (corpus / os.fsdecode(b"caf\xe9.txt")).write_text("words")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert "rename the file" in build(corpus)["skipped"][0]["reason"]


def test_one_word_documents_and_twins_and_languages_together(
    build: Build, tmp_path: Path, embedder: HashedWords
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, words in {
        "one.txt": "Occlusion",
        "one too.txt": "Occlusion",
        "letter.txt": "x",
        "dots.txt": "...",
        "mixed.md": "# 手册\n\n更换空气滤网。\n\n## Wartung\n\nDen Luftfilter wöchentlich prüfen.\n\n"
        "## Обслуживание\n\nПроверьте фильтр.\n",
        "rtl.txt": "استبدل مرشح الهواء كل أسبوع",
        "emoji.txt": "👩‍🔬 filter 🧪",
    }.items():
        (folder / name).write_text(words, "utf-8")
    report = build(folder)
    assert (report["documents"], report["skipped"]) == (7, [])
    with closing(Index.open(tmp_path / "index", embedder=embedder)) as opened:
        twins = opened.search("Occlusion", 2, arms=["bm25"])
        assert {found.document for found in twins} == {"one.txt", "one too.txt"}
        for question, section in [("空气滤网", "手册"), ("Luftfilter", "Wartung"), ("фильтр", "Обслуживание")]:
            found = opened.search(question, 3, arms=["bm25"])
            assert found[0].document == "mixed.md" and any(section in best.metadata["section"] for best in found)
        assert opened.search("مرشح", 1, arms=["bm25"])[0].document == "rtl.txt"
    assert not verify(tmp_path / "index", embedder).problems


def test_an_empty_corpus_says_so_and_leaves_nothing_half_built(build: Build, tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        with pytest.raises(EmptyCorpusError, match="no files were found"):
            build(tmp_path / "empty")
    assert not list((tmp_path / "index").glob("*-*"))
    build(corpus)
    for path in corpus.rglob("*.md"):
        path.unlink()
    with pytest.raises(EmptyCorpusError):
        build(corpus)
    assert read_manifest(tmp_path / "index").documents == 3  # the last documents do not go without a word


def test_documents_that_move_and_files_that_swap_their_rows(
    build: Build, tmp_path: Path, embedder: HashedWords
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    one, two = {"id": "1", "text": "first"}, {"id": "2", "text": "second"}
    json_lines(folder / "a.jsonl", [one])
    json_lines(folder / "b.jsonl", [two])
    assert build(folder)["added"] == 2
    json_lines(folder / "a.jsonl", [two])
    json_lines(folder / "b.jsonl", [one])
    assert (report := build(folder))["unchanged"] == 2 and report["removed"] == 0 and not report["skipped"]
    json_lines(folder / "a.jsonl", [one, two])
    assert "has the id '1'" in build(folder)["skipped"][0]["reason"]
    (folder / "b.jsonl").unlink()
    report = build(folder)
    assert (report["documents"], report["unchanged"], report["skipped"]) == (2, 2, [])
    os.truncate(folder / "a.jsonl", len(json.dumps(one)) + 1)
    assert (report := build(folder))["removed"] == 1 and report["documents"] == 1
    assert not verify(tmp_path / "index", embedder).problems


def test_two_folders_with_a_file_of_one_name_in_either_order(build: Build, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text(f"text of {folder}")
    for order in [("one", "two"), ("two", "one"), ("one", "two"), ("one", "two")]:
        report = build(*(tmp_path / name for name in order))
        assert report["documents"] == 1 and order[1] in report["skipped"][0]["path"]


def test_given_cuts_that_are_no_part_of_the_text_stand_nowhere(build: Build, tmp_path: Path) -> None:
    rows = [{"id": "d", "text": "first second", "chunks": ["first", "a summary of it", "second"]}]
    build(json_lines(tmp_path / "d.jsonl", rows))
    with Catalog.open(tmp_path / "index" / read_manifest(tmp_path / "index").generation / "catalog.sqlite") as catalog:
        assert [(chunk.start, chunk.end) for chunk in catalog.chunks()] == [(0, 5), (0, 0), (6, 12)]
    assert not verify(tmp_path / "index").problems


def test_only_files_that_can_be_documents_are_listed(tmp_path: Path) -> None:
    for name in (".git/x", "node_modules/x.js", "a/__pycache__/x", "b/c/d.txt", "b/.hidden", "a b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "b" / "inside.txt").symlink_to(tmp_path / "a b.txt")
    (tmp_path / "b" / "broken.txt").symlink_to(tmp_path / "nothing")
    assert [name for _, name in files(tmp_path)] == ["a b.txt", "b/c/d.txt", "b/inside.txt"]


def test_nothing_outside_a_folder_is_read_and_nothing_in_it_is_unpacked(
    build: Build, corpus: Path, embedder: HashedWords, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "secret.md").write_text("# Secret\n\nThe launch code is 4711.\n")
    for link, target in (("file.md", outside / "deep" / "secret.md"), ("folder", outside), ("zero.txt", "/dev/zero")):
        (corpus / link).symlink_to(target)
    (corpus / "up.md").symlink_to("../outside/deep/secret.md")
    with zipfile.ZipFile(corpus / "evil.zip", "w") as archive:
        archive.writestr("../../escaped.md", "# Escaped\n\nThe launch code is 4711.\n")
    with tarfile.open(corpus / "evil.tar", "w") as tar:
        tar.add(outside / "deep" / "secret.md", "../../escaped.md")
    with tarfile.open(corpus / "evil.tar.gz", "w:gz") as tar:
        tar.add(outside / "deep" / "secret.md", "/escaped.md")
    report = build(corpus)
    names = {Path(one["path"]).name for one in report["skipped"]}
    assert names == {"evil.zip", "evil.tar", "evil.tar.gz"} and report["documents"] == 3
    assert all("convert it" in one["reason"] for one in report["skipped"])
    with closing(Index.open(tmp_path / "index", embedder=embedder)) as opened:
        assert not any("4711" in chunk.text for chunk in opened.chunks())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "index", "outside"]


def test_paths_with_dots_lead_where_they_say(build: Build, corpus: Path) -> None:
    assert build(corpus / "trials" / ".." / "trials")["documents"] == 2
    assert build(corpus / ".." / "corpus" / "manual.md")["documents"] == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_pipes_and_devices_are_not_read(build: Build, corpus: Path) -> None:
    os.mkfifo(corpus / "pipe.md")
    (corpus / "linked.md").symlink_to(corpus / "pipe.md")
    report = build(corpus)
    assert report["documents"] == 3 and report["skipped"] == []
    report = build(corpus, corpus / "pipe.md", Path("/dev/zero"))
    assert ["is a pipe or a device" in one["reason"] for one in report["skipped"]] == [True, True]
    for path in (corpus / "pipe.md", Path("/dev/zero")):
        with pytest.raises(DocumentError, match="is a pipe or a device"):
            next(read(path, path.name))


def test_files_that_no_memory_holds_are_skipped_unread(
    build: Build, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("huge.txt", "huge.pdf", "huge.html"):
        (corpus / name).touch()
        os.truncate(corpus / name, 1 << 40)  # a file of holes
    report = build(corpus)
    assert report["documents"] == 3 and len(report["skipped"]) == 3
    assert all(f"has {1 << 40} bytes, more than {loaders.LARGEST}" in one["reason"] for one in report["skipped"])
    for path in corpus.glob("huge.*"):
        path.unlink()
    monkeypatch.setattr(loaders, "LARGEST", 60)
    lines = [{"id": "a", "text": "short"}, {"id": "b", "text": "short, too"}]
    report = build(json_lines(corpus / "rows.jsonl", lines))
    assert report["added"] == 2 and (corpus / "rows.jsonl").stat().st_size > 60
    json_lines(corpus / "rows.jsonl", [*lines, {"id": "c", "text": "x" * 60}])
    assert "line 3 of" in build(corpus / "rows.jsonl")["skipped"][0]["reason"]


def test_truncated_texts_are_counted_for_this_run_alone(build: Build, corpus: Path, embedder: HashedWords) -> None:
    class Narrow(HashedWords):
        cut = 100  # of runs before

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            self.cut += sum(len(text) > 90 for text in texts)
            return super().embed_documents(texts)

    from artrag import build_ingest

    narrow, told = Narrow(), []
    graph = build_ingest(embedder=narrow).compile()
    inputs: Any = {"paths": [str(corpus)], "index": str(corpus.parent / "narrow")}
    for mode, event in graph.stream(inputs, stream_mode=["custom", "values"]):
        if mode == "custom":
            told.append(event["message"])  # type: ignore[index]
        else:
            report = event
    assert report["report"]["truncated"] == sum(len(text) > 90 for text in narrow.embedded) > 0  # type: ignore[index]
    assert any("longer than the embedder's window" in message for message in told)
    assert graph.invoke(inputs)["report"]["truncated"] == 0


# Filters.


@pytest.fixture
def catalog(build: Build, tmp_path: Path) -> Any:
    rows = [
        {
            "id": "a",
            "text": "alpha",
            "path": "docs/2019/a.md",
            "title": "A",
            "metadata": {"year": 2019, "tags": ["x", "y"]},
        },
        {"id": "b", "text": "beta", "path": "docs/b[1].md", "title": "B", "metadata": {"year": 2020.5, "draft": True}},
        {"id": "c", "text": "gamma", "path": "src/c.py", "title": "C'; --", "metadata": {"year": "2019", "draft": 1}},
        {
            "id": "d",
            "text": "# One\n\nx\n\n# Two\n\ny",
            "path": "d.md",
            "title": "D",
            "metadata": {'k"ey': None, "é": "ü"},
        },
    ]
    build(json_lines(tmp_path / "rows.jsonl", rows))
    with Catalog.open(tmp_path / "index" / read_manifest(tmp_path / "index").generation / "catalog.sqlite") as opened:
        yield opened


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, "abcdd"),
        ({"document": "a"}, "a"),
        ({"document": ["a", "c", "nope"]}, "ac"),
        ({"document": []}, ""),
        ({"path": "docs/*"}, "ab"),
        ({"path": ["src/?.py", "d.md"]}, "cdd"),
        ({"path": "docs/b[1].md"}, "b"),
        ({"path": "docs"}, ""),
        ({"title": "C'; --"}, "c"),
        ({"year": 2019}, "a"),
        ({"year": 2019.0}, "a"),
        ({"year": "2019"}, "c"),
        ({"year": [2019, 2020.5]}, "ab"),
        ({"draft": True}, "b"),
        ({"draft": 1}, "c"),
        ({"draft": [True, 1]}, "bc"),
        ({"tags": "x"}, "a"),
        ({"tags": ["q", "y"]}, "a"),
        ({'k"ey': None}, "dd"),
        ({"é": "ü"}, "dd"),
        ({"section": "Two"}, "d"),
        ({"section": "Two", "document": "a"}, ""),
        ({"year": [2019, "2019"], "path": "docs/*"}, "a"),
        ({"nothing": "x"}, ""),
        ({"format": "row"}, "abcdd"),
    ],
)
def test_filters_let_through_what_they_say(catalog: Catalog, where: dict[str, Any], expected: str) -> None:
    for _ in range(2):  # the second time from memory
        mask = catalog.rows_where(where)
        assert mask.dtype == np.bool_ and mask.shape == (5,)
        assert "".join(chunk.document for chunk in catalog.chunks() if mask[chunk.row]) == expected


NASTY = st.text(max_size=30) | st.sampled_from(
    [
        "'",
        '"',
        "') OR 1=1 --",
        "year' OR '1'='1",
        "$.year",
        "a\0b",
        "*",
        "[",
        "[a-",
        "%",
        "\\",
        "?",
        ":x",
        "{}",
        "\ud800",
    ]
)
VALUES = NASTY | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(NASTY | st.integers(), max_size=3)


@given(st.dictionaries(NASTY | st.sampled_from(["document", "path", "title", "year"]), VALUES, max_size=3))
@settings(max_examples=150)
def test_no_filter_is_read_as_sql(where: dict[str, Any]) -> None:
    catalog = test_no_filter_is_read_as_sql.catalog  # type: ignore[attr-defined]
    try:
        mask = catalog.rows_where(where)
    except UsageError:
        return
    # Nothing in the catalogue is called any of this but "year", "document", "path" and "title".
    known = {"year", "document", "path", "title"}
    assert mask.all() if not where else (not mask.any() or set(where) <= known)


@pytest.fixture(autouse=True)
def _catalog_of_the_property(request: pytest.FixtureRequest) -> None:
    if request.node.name == "test_no_filter_is_read_as_sql":
        test_no_filter_is_read_as_sql.catalog = request.getfixturevalue("catalog")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "where",
    [
        {"year": {"gt": 1}},
        {"year": [[1]]},
        {1: "x"},
        {"document": 5},
        {"path": [None]},
        {"x": float("nan")},
        {"x": 2**64},
    ],
)
def test_a_filter_that_is_none_is_named(catalog: Catalog, where: dict[Any, Any]) -> None:
    with pytest.raises(UsageError, match="cannot filter by"):
        catalog.rows_where(where)
