"""Fixtures: a small corpus and its index, and tiny real models with random weights."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import HashedWords, tiny_chat, tiny_tokenizer
from hypothesis import settings

from artrag.errors import ModelUnavailableError
from artrag.index import Index
from artrag.interfaces import cli
from artrag.models import step_reader, verifier
from artrag.nodes import calling

pytest_plugins = ["pytester"]

# A loaded machine is no failure: what must be fast has a test of its own.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own reaches a test, and no retry waits."""
    for name in list(os.environ):
        if name.startswith(("ARTRAG_", "LANGSMITH_", "LANGCHAIN_")) and name not in ("ARTRAG_CACHE", "ARTRAG_WHEELS"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(calling, "FIRST_PAUSE", 0.0)


@pytest.fixture(autouse=True)
def _no_embedded_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast tests fetch no model: shipped parts do without step reader and verifier; a reader over a tiny base opens."""
    if any(request.node.get_closest_marker(name) for name in ("local", "server")):
        return

    def own(model: str) -> Path:
        if not Path(model).is_dir():
            raise ModelUnavailableError(f"the fast tests do not fetch {model!r}")
        return Path(model)

    def none(model: str) -> Any:
        raise ModelUnavailableError(f"the fast tests do not fetch {model!r}")

    monkeypatch.setattr(step_reader, "weights_folder", own)
    monkeypatch.setattr(verifier, "_opened", none)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`artrag ...` as a wide shell runs it: exit code, standard output, standard error."""

    def go(*words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["artrag", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "220")
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return go


@pytest.fixture
def embedder() -> HashedWords:
    return HashedWords()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "trials").mkdir(parents=True)
    (folder / "trials" / "alpha.md").write_text(
        "# Alphadrug trial, phase 2, 2019\n\nA report.\n\n## Results\n\n"
        "After treatment participants improved by 4.2 points.\n",
        "utf-8",
    )
    (folder / "trials" / "beta.md").write_text(
        "# Betadrug trial, phase 3, 2022\n\nA report.\n\n## Results\n\n"
        "After treatment participants improved by 3.1 points.\n",
        "utf-8",
    )
    (folder / "manual.md").write_text("# Pump manual\n\nAlarm PMP-417 means downstream occlusion.\n", "utf-8")
    return folder


@pytest.fixture
def build(embedder: HashedWords, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Ingest paths into an index and give the report."""
    from artrag import build_ingest

    def go(*paths: Path, index: Path | None = None, **context: Any) -> dict[str, Any]:
        graph = build_ingest(embedder=embedder).compile()
        inputs = {"paths": [str(path) for path in paths], "index": str(index or tmp_path / "index")}
        return graph.invoke(inputs, context=context)["report"]  # type: ignore[no-any-return,arg-type]

    return go


@pytest.fixture
def index(build: Callable[..., dict[str, Any]], corpus: Path, embedder: HashedWords, tmp_path: Path) -> Iterator[Index]:
    build(corpus)
    opened = Index.open(tmp_path / "index", embedder=embedder)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def tiny_chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model of hidden size 16, random weights."""
    return tiny_chat(tmp_path_factory.mktemp("tiny-chat"), max_position_embeddings=512)


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of hidden size 16, random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=2,
    )
    folder = tmp_path_factory.mktemp("tiny-encoder")
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
