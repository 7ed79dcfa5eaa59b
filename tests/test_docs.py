"""The documentation is true: its code runs, its commands exist, its drawings and lists are the code's own."""

import ast
import functools
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from fakes import ROOT, AnsweringChat, HashedWords

import artrag.models
from artrag import build_ingest, errors
from artrag.interfaces import cli, wiring
from artrag.settings import Settings

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md"]
)
_FENCE = re.compile(r"^([ ]*)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_UNRUN = re.compile(r"<!-- not run: (.+) -->\s*$")
FOREIGN = {
    "accelerate": "needs several GPUs to mean anything",
    "curl": "talks to a Qdrant server",
    "docker": "needs a container engine",
    "ollama": "needs Ollama",
    "python3": "makes the environment that runs this test",
    "source": "enters the environment that runs this test",
    "vllm": "needs a GPU",
}
"""Commands of shell blocks that are not ours, and why they are read and not run."""
SHELL = {"cat", "cd", "export", "mkdir", "test", "set"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text, and why it is not run (empty where it is)."""

    page: str
    line: int
    language: str
    text: str
    unrun: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


@functools.cache
def blocks(page: Path) -> list[Block]:
    text, found = page.read_text("utf-8"), []
    for fence in _FENCE.finditer(text):
        before = _UNRUN.search(text[: fence.start()].rstrip("\n"))
        body = re.sub(rf"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(str(page.relative_to(ROOT)), line, fence[2], body, before[1] if before else ""))
    return found


def every(*languages: str) -> list[Any]:
    return [pytest.param(b, id=b.name) for page in PAGES for b in blocks(page) if b.language in languages]


def test_every_block_has_a_language_that_is_checked() -> None:
    known = {"python", "sh", "json", "jsonl", "toml", "yaml", "mermaid", "text"}
    assert [b.name for page in PAGES for b in blocks(page) if b.language not in known] == []
    assert len(every("python")) > 10 and len(every("sh")) > 20


def test_no_fence_is_missed() -> None:
    for page in PAGES:
        assert 2 * len(blocks(page)) == len(re.findall(r"^[ ]*```", page.read_text("utf-8"), re.MULTILINE)), page


# python


OWN_TEST = {ROOT / "docs/agent-apps.md": ROOT / "tests/test_pages.py"}
"""Pages whose Python another test runs."""
PYTHON = [
    page for page in PAGES if page not in OWN_TEST and any(b.language == "python" and not b.unrun for b in blocks(page))
]


def test_pages_that_are_left_out_have_a_test_of_their_own() -> None:
    for page, test in OWN_TEST.items():
        assert not of(page, unrun=False) or page.name in test.read_text("utf-8")


def of(page: Path, *, unrun: bool) -> list[Block]:
    return [b for b in blocks(page) if b.language == "python" and bool(b.unrun) is unrun]


def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that a reader stands in: the examples, some questions."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "questions.jsonl").write_text('{"id": "1", "question": "What is 1 + 1?", "answer": "2"}\n', "utf-8")
    monkeypatch.chdir(tmp_path)


def run(page: Path) -> None:
    """All blocks of a page one after another, as a reader would type them."""
    names: dict[str, Any] = {"__name__": page.stem}
    for block in of(page, unrun=False):
        exec(compile("\n" * block.line + block.text, block.page, "exec"), names)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index that the quickstart makes, with a stand-in for the embedder."""
    index = tmp_path_factory.mktemp("docs") / "index"
    paths = {"paths": [str(ROOT / "examples/corpus")], "index": str(index)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_ingest(embedder=HashedWords()).compile().invoke(paths)
    return index


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_python_runs(page: Path, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the embedded models; `test_the_quickstart_runs_as_it_stands` has the models themselves."""
    work(tmp_path, monkeypatch)
    embedder, real = HashedWords(), artrag.models.load_chat
    chat = AnsweringChat(lambda _: "It means downstream occlusion [1]. Answer: 4")
    monkeypatch.setattr(artrag.models, "load_chat", lambda *a, **k: real(*a, **k) if a else chat)
    monkeypatch.setattr(artrag.models, "load_embedder", lambda *_, **__: embedder)
    monkeypatch.setattr(wiring, "load_chat", lambda *_, **__: chat)
    monkeypatch.setattr(wiring, "load_embedder", lambda *_, **__: embedder)
    shutil.copytree(indexed, ".artrag/index")
    run(page)


@pytest.mark.parametrize("block", [b for b in every("python") if b.values[0].unrun])
def test_python_that_is_not_run_still_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "artrag":
            room = importlib.import_module(node.module)
            assert [a.name for a in node.names if not hasattr(room, a.name)] == []


# the shell


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell block as words: without comments, here-documents, operators."""
    text = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", text, flags=re.DOTALL | re.MULTILINE)
    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    before = ""
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|"):
            if words:
                yield words
            words = []
        elif not set(before) & set("<>") and not set(word) & set("<>"):  # where to is nobody's argument
            words.append(word)
        before = word


def without_comments(text: str) -> str:
    return re.sub(r"(^|\s)#[^\n]*", r"\1", text)


def parsed(words: list[str]) -> None:
    """Let the command line itself read the words of an `artrag` command; nothing is run."""
    context: Any = None
    command, rest = typer.main.get_command(cli.app), words[1:]
    while hasattr(command, "commands"):
        context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
        _, command, rest = command.resolve_command(context, rest)
        assert command is not None, words
    command.make_context(" ".join(words), list(rest), parent=context)


def check(words: list[str]) -> str:
    """What a command is; an assertion where it cannot work."""
    while re.match(r"^[A-Z_]+=", words[0]):
        name = words[0].partition("=")[0]
        assert not name.startswith("ARTRAG_") or known_variable(name), f"no setting is called {name}"
        words = words[1:]
        if not words:
            return "shell"
    program = words[0]
    if program == "artrag":
        parsed(words)
        return "artrag"
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert [w for w in words[1:] if "=" not in w and w not in targets] == []
        return "make"
    if program == "pip":
        for extra in re.findall(r"(?:artrag|^\.)\[([\w,]+)\]", " ".join(words[2:])):
            assert [name for name in extra.split(",") if name not in EXTRAS] == []
        return "pip"
    if program in ("pytest", "langgraph"):
        told = HELP[program]()
        assert [w for w in words[1:] if w.startswith("--") and w not in told] == []
        return program
    if program == "python":
        assert (ROOT / words[1]).is_file(), words
        return program
    if program == "export":
        return check([words[1], "true"]) and "shell"
    assert program in FOREIGN or program in SHELL or (ROOT / program).is_file() or program == "true", words
    return "shell" if program in SHELL else program


def known_variable(name: str) -> bool:
    return name in ("ARTRAG_CACHE", "ARTRAG_WHEELS", "ARTRAG_PROMPTS") or name[7:].lower() in Settings.model_fields


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@functools.cache
def pytest_help() -> str:
    return subprocess.run([sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True).stdout


@functools.cache
def langgraph_help() -> str:
    return subprocess.run(
        [sys.executable, "-m", "langgraph_cli", "dev", "--help"], capture_output=True, text=True, check=True
    ).stdout


HELP = {"pytest": pytest_help, "langgraph": langgraph_help}


@pytest.mark.parametrize("block", every("sh"))
def test_commands_exist(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `artrag` command is read by the command line itself; every other is one that a reader has."""
    work(tmp_path, monkeypatch)
    for folder in ("docs", "handbook", "reports"):
        Path(folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "src").mkdir()
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    found = [
        check([word.replace("~", str(tmp_path)) for word in words]) for words in commands(without_comments(block.text))
    ]
    assert found


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for words in (["artrag", "ask", "x", "--indexx", "y"], ["artrag", "ask", "x", "-k", "many"], ["artrag", "ask"]):
        with pytest.raises(Exception, match=r"(?i)no such|invalid|valid integer|missing"):
            check(words)
    for words in (
        ["artrag", "asks"],
        ["make", "nothing"],
        ["pip", "install", "artrag[nothing]"],
        ["ARTRAG_NOTHING=1", "artrag", "models"],
    ):
        with pytest.raises(AssertionError):
            check(words)
    with pytest.raises(AssertionError):
        check(["frobnicate"])


def test_commands_are_told_apart() -> None:
    text = without_comments("a b  # c\nX=1 d 'e f' || test $? -eq 3\ncat > f <<'END'\n# no\nEND\ng \\\n  h && i\n")
    assert list(commands(text)) == [
        ["a", "b"],
        ["X=1", "d", "e f"],
        ["test", "$?", "-eq", "3"],
        ["cat"],
        ["g", "h"],
        ["i"],
    ]


@pytest.mark.local
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_quickstart_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shell, then Python, in one folder, with the embedded models; lines that name other models are left out."""
    work(tmp_path, monkeypatch)
    (tmp_path / "bin").mkdir()
    artrag_ = tmp_path / "bin/artrag"
    artrag_.write_text(f"#!{sys.executable}\nfrom artrag.interfaces.cli import main\nmain()\n", "utf-8")
    artrag_.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    text = "\n".join(b.text for b in blocks(ROOT / "docs/quickstart.md") if b.language == "sh" and not b.unrun)
    lines = [line for line in text.splitlines() if "--chat" not in line]
    script = "\n".join(
        f"{line} || [ $? = 3 ]" if line.startswith("artrag ask") else line for line in lines
    )  # 3: abstained
    done = subprocess.run(["bash", "-e"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "229 chunks of 30 documents" in done.stdout and "Passages (* cited)" in done.stdout
    assert (tmp_path / ".artrag/trace/trace.html").is_file()
    run(ROOT / "docs/quickstart.md")


# data


@pytest.mark.parametrize("block", every("json", "jsonl", "toml", "yaml"))
def test_data_can_be_read(block: Block) -> None:
    if block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    else:
        lines = [line for line in block.text.splitlines() if line.strip()]
        try:
            json.loads(block.text)
        except ValueError:
            assert all(json.loads(line) for line in lines)


# what is the code's own


@functools.cache
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("artrag_docs_hooks", ROOT / "docs/hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["art", "contextual_rag", "evaluate", "ingest", "routed", "simrag"])
def test_each_graph_is_drawn_by_itself_on_one_concept_page(name: str) -> None:
    mark = f"<!-- generated: drawing-{name} -->"
    (page,) = [page for page in (ROOT / "docs/concepts").glob("*.md") if mark in page.read_text("utf-8")]
    built = hooks().on_page_markdown(page.read_text("utf-8"), at(f"concepts/{page.name}"))
    drawing = getattr(wiring, f"wired_{name}")().compile().get_graph().draw_mermaid().strip()
    assert f"```mermaid\n{drawing}\n```" in built


def at(page: str) -> Any:
    return SimpleNamespace(file=SimpleNamespace(src_uri=page))


def test_links_out_of_the_pages_become_words() -> None:
    text = "[a](../examples/README.md#x) [`b`](../README.md) [c](art.md) [d](../qdrant.md) [e](../nothing.md)"
    built = hooks().on_page_markdown(text, at("training.md"))
    assert built == "a `b` [c](art.md) [d](../qdrant.md) [e](../nothing.md)"
    assert hooks().on_page_markdown("[d](../qdrant.md)", at("concepts/art.md")) == "[d](../qdrant.md)"


def test_a_drawing_has_the_colours_of_the_page() -> None:
    pytest.importorskip("mmdr", reason="drawn with the extra docs")
    head = "---\nconfig:\n  flowchart:\n    curve: linear\n---\n"
    svg = hooks().drawing(f"{head}graph TD;\n\ta(a):::first --> b(b);\n\tclassDef first fill:#f00\n")
    assert svg.startswith('<div class="drawing"><svg') and "<style" not in svg and "#f00" not in svg
    assert "first" in svg and "merman" not in svg and 'marker-end="url(#drawing-' in svg


def test_every_error_is_explained() -> None:
    said = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    sections = dict(zip(*[iter(re.split(r"^#{2,3} (\w+)\n", said, flags=re.MULTILINE)[1:])] * 2, strict=True))
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.ArtragError):
            assert len(sections[name].strip()) > 40, name


def test_the_settings_table_has_every_setting() -> None:
    table = hooks().settings_table()
    for name, field in Settings.model_fields.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}`<br>`ARTRAG_{name.upper()}` |")]
        assert (field.description or "")[:20].replace("<", "&lt;") in row
    assert "whole number from 1 to 50; `4`" in table and '`none`, `auto`, `document`, `llm`; `"auto"`' in table


def test_the_command_line_page_has_every_option() -> None:
    page = hooks().command_line()
    for words, command in hooks().commands(typer.main.get_command(cli.app)):
        section = re.search(rf"^## {re.escape(' '.join(words))}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        assert section, words
        for parameter in command.params:
            if parameter.name != "help":
                assert parameter.opts[0] in section[1].lower() or parameter.opts[0] in section[1], (
                    words,
                    parameter.opts,
                )
    assert "`--context none/auto/document/llm`" in page and "artrag ingest PATHS... --index INDEX [OPTIONS]" in page


def test_every_generated_part_can_be_generated() -> None:
    wanted = {m for page in PAGES for m in re.findall(r"<!-- generated: (.+) -->", page.read_text("utf-8"))}
    assert wanted == set(hooks().GENERATED)
    for write in hooks().GENERATED.values():
        assert write().strip()


def test_the_reference_names_what_there_is() -> None:
    texts = [page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md")]
    texts += [write() for write in hooks().GENERATED.values()]
    named = sorted({name for text in texts for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)})
    assert len(named) > 50
    for name in named:
        module, _, attribute = name.rpartition(".")
        if name != "artrag" and not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(name)


def test_every_page_is_in_the_navigation() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)["nav"]
    listed = {page for part in nav for pages in part.values() for page in pages}
    written = {str(page.relative_to(ROOT / "docs")) for page in PAGES if ROOT / "docs" in page.parents}
    made = set(hooks().ELSEWHERE) | {f"notebooks/{path.stem}.md" for path in hooks().notebooks()}
    assert listed == written | made


def test_nothing_is_fetched_from_elsewhere() -> None:
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "http" not in config.replace("https://github", "") and "font: false" in config
    assert "url(" not in (ROOT / "docs/assets/site.css").read_text("utf-8")


# notebooks


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_from_a_clean_kernel(path: Path) -> None:
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    pictures = [o for o in outputs if {"image/svg+xml", "image/png", "text/html"} & set(o.get("data", {}))]
    assert len(pictures) >= 3, "pictures rather than walls of text"
    assert max(len("".join(output.get("text", ""))) for output in outputs) < 2500
    for cell in code:
        compile("".join(cell["source"]), path.name, "exec")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_tells_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    text = path.read_text("utf-8")
    told = re.findall(r"(?<![\w.<:/*+])/(?:home|root|tmp|usr|var|opt|Users|private|work)/[\w.-]+", text)
    assert told == [] and "site-packages" not in text
    assert not [cell for cell in cells(path, "code") if "execution" in cell["metadata"]]
    assert len(text) < 400_000


def test_the_samples_are_small_and_credited() -> None:
    folder = ROOT / "examples/data"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    credits = (folder / "README.md").read_text("utf-8")
    for path in files:
        named = path.relative_to(folder).parts[0]
        assert f"`{named}`" in credits or f"`{named}/`" in credits or named == "README.md", named


def test_notebooks_become_pages(tmp_path: Path) -> None:
    made = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "About it.\n", "\n", "More."]},
        {
            "cell_type": "code",
            "source": ["x = '<b>'"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["a < b\n", "\n", "c"]},
                {"output_type": "execute_result", "data": {"text/html": ['<style>p{}</style><p>"hi"</p>']}},
                {"output_type": "execute_result", "data": {"text/html": ["<table>\n\n</table>"]}},
                {"output_type": "execute_result", "data": {"image/svg+xml": ["<svg>\n", "\n", "</svg>"]}},
            ],
        },
    ]
    path = tmp_path / "07_x.ipynb"
    path.write_text(json.dumps({"cells": made}), "utf-8")
    page = hooks().as_page(path)
    assert page.startswith("# Title") and "```python\nx = '<b>'\n```" in page
    shown = page[page.index('<div class="notebook-output">') :]
    assert "a &lt; b&#10;&#10;c" in shown and "srcdoc" in shown and "&quot;hi&quot;" in shown
    assert "<table>" in shown and "<svg>" in shown
    assert "\n\n" not in shown.strip(), "a blank line would end the block"
