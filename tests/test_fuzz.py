"""Whatever comes in: files that were changed, texts that no model should say, settings that nobody meant.

None needs a fixture: `benchmarks/reliability/fuzz.py` searches for inputs on which they fail.
"""

import atexit
import json
import math
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artrag import Settings, prompts
from artrag.errors import ArtragError, IndexDamagedError, PromptError, SettingsError
from artrag.final_answer import final_answer, read_number
from artrag.index.arrays import map_arrays, save_arrays
from artrag.index.bm25 import BM25
from artrag.index.manifest import read_manifest
from artrag.index.tokens import tokenize
from artrag.models.askers import read_doubt
from artrag.models.trusters import read_grade
from artrag.models.writing import loop
from artrag.nodes.review import _understood
from artrag.passages import data
from artrag.text import readable, visible
from artrag.tracing import as_html, as_text, read_spans

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(max_size=200) | st.text("<>/|＜passage document chunk_im\u200b\u202e\U000e0041", max_size=60)


FOLDER = Path(mkdtemp(prefix="artrag-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@given(TEXT)
def test_tokens_are_never_empty_and_the_same_again(text: str) -> None:
    tokens = tokenize(text)
    assert tokens == tokenize(text) and all(token and token == token.strip() for token in tokens)


@given(TEXT)
@example("</pas\u200bsage>")
@example("<<passage>")
def test_data_closes_no_delimiter_and_is_the_same_twice(text: str) -> None:
    inert = data(text)
    assert (
        data(inert) == inert and visible(visible(text)) == visible(text) and readable(readable(text)) == readable(text)
    )
    assert not any(
        f"<{slash}{name}>" in inert.lower() for slash in ("", "/") for name in ("passage", "document", "chunk")
    )
    inert.encode("utf-8")


@given(st.text(max_size=300) | ANY_JSON.map(json.dumps))
@example('{"refine": true, "subquestions": 3}')
@example('{"refine": true, "subquestions": [{"question": null}], "reason": [1]}')
@example("{" * 5000)
def test_what_models_say_is_read_or_refused(text: str) -> None:
    doubt = read_doubt(text)
    assert doubt is None or (0 <= doubt.refine_probability <= 1 and all(q.text.strip() for q in doubt.subquestions))
    assert 0 <= read_grade(text) <= 1
    number = read_number(final_answer(text) or "")
    assert number is None or math.isfinite(number)


@given(st.lists(st.integers(0, 3), max_size=80))
def test_a_loop_is_a_part_of_the_end(tokens: list[int]) -> None:
    size = loop(tokens)
    assert 0 <= size < max(1, len(tokens)) and (not size or loop(tokens[: len(tokens) - size]) <= len(tokens))


@given(ANY_JSON)
def test_a_resume_is_understood_or_refused_in_words(said: Any) -> None:
    try:
        action, wish = _understood(said, 2)
    except ArtragError as error:
        assert "resume with" in str(error)
    else:
        assert action in ("accept", "edit", "refine") and (action != "accept" or wish in (None, 0, 1))


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "refine_abov", "index "]), ANY_JSON, max_size=3))
def test_settings_are_taken_or_refused_by_name(given_: dict[str, Any]) -> None:
    try:
        settings = Settings(**given_)
    except SettingsError as error:
        assert any(repr(name) in str(error) for name in given_)
    else:
        assert Settings.of(json.loads(settings.model_dump_json())) == settings


@given(st.text(max_size=200) | st.text("# systemhuman{}\nquestionpassages", max_size=120))
def test_a_prompt_file_loads_or_is_refused(text: str) -> None:
    (FOLDER / "answer.md").write_text(text, "utf-8")
    try:
        loaded = prompts.load("answer", FOLDER)
    except PromptError as error:
        assert "answer" in str(error)
    else:
        assert set(loaded.input_variables) == {"question", "passages"}


@given(st.lists(ANY_JSON.map(json.dumps) | st.text(max_size=40), max_size=6))
@example(['{"id": "1", "parent": "1", "name": "a", "kind": "chain", "started": 1, "seconds": 1}'])
@example(['{"id": "1", "parent": "", "name": "\\u001b[31m", "kind": "llm", "started": 1e400, "seconds": 1}'])
def test_a_trace_of_any_lines_is_shown(lines: list[str]) -> None:
    path = FOLDER / "trace.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
    spans = read_spans(path)
    assert "\x1b" not in as_text(spans) and as_html(spans).startswith("<!doctype html>")


@given(st.binary(max_size=300) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_a_manifest_of_any_bytes_is_refused_by_name(content: bytes) -> None:
    (FOLDER / "manifest.json").write_bytes(content)
    with pytest.raises(ArtragError, match="manifest|format"):
        read_manifest(FOLDER)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=16), st.booleans())
def test_changed_arrays_are_refused_or_harmless(at: int, bytes_: bytes, cut: bool) -> None:
    """Whatever stands in the file: no other error, no array beyond it."""
    path = FOLDER / "numbers.npz"
    save_arrays(path, {"numbers": np.arange(40, dtype=np.int64)})
    content = path.read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] if cut else content[:at] + bytes_ + content[at + len(bytes_) :])
    try:
        made = map_arrays(path, {"numbers": np.int64})["numbers"]
    except IndexDamagedError as error:
        assert "numbers.npz" in str(error)
    else:
        assert made.nbytes <= path.stat().st_size and made.dtype == np.int64
        made.sum()


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=16))
def test_a_changed_bm25_file_answers_or_is_refused(at: int, bytes_: bytes) -> None:
    path = FOLDER / "bm25.npz"
    BM25.build([["aphids", "may"], ["beds", "water"], ["aphids", "water", "water"]]).save(path)
    content = path.read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] + bytes_ + content[at + len(bytes_) :])
    try:
        found = BM25.load(path).top(["aphids", "water"], 3)
    except IndexDamagedError:
        return
    assert len(found) <= 3 and all(isinstance(score, float) for _, score in found)
