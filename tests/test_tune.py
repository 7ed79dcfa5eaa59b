"""`artrag tune`: groups and folds, the cautious choice, a corpus where BM25 misleads, one where nothing is to gain."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import AnsweringChat, HashedWords, ScriptedChat, json_lines
from hypothesis import given
from hypothesis import strategies as st

from artrag.errors import ModelCallError, UsageError
from artrag.evaluation.queries import Query, read_queries
from artrag.evaluation.retrieval import judge
from artrag.evaluation.tuning import FEWEST_GROUPS, FOLDS, choose, cross_validate, folds_of, groups_of
from artrag.index import Index
from artrag.index.catalog import StoredChunk
from artrag.index.fusion import TUNED, Fusion, read_fusion, write_fusion
from artrag.index.tuning import CONSTANTS, candidates, distance
from artrag.interfaces import tuning
from artrag.interfaces.generating import fault, generate, sample
from artrag.models import references
from artrag.nodes import calling
from artrag.settings import Settings

Run = Callable[..., tuple[int, Any, str]]
LETTERS = "bcdfgklmnp"
WORDS = [f"{a}{b}a" for a in LETTERS for b in LETTERS][:40]


class Meaning(HashedWords):
    """Knows that pome-x means apple-x; sees nothing but the first of them."""

    fingerprint = "meaning"

    def _vector(self, text: str) -> list[float]:
        found = re.search(r"(?:apple|pome)(\w+)", text.lower())
        vector = [0.001] * (len(WORDS) + 1)
        vector[WORDS.index(found[1]) if found and found[1] in WORDS else len(WORDS)] = 1.0
        return vector


@pytest.fixture
def embedder() -> HashedWords:
    return Meaning()


@pytest.fixture
def chat() -> AnsweringChat:
    return AnsweringChat(lambda prompt: f"Where does fruit {asked_word(prompt)} grow in the orchard?")


def asked_word(prompt: str) -> str:
    return re.findall(r"apple(\w+)", prompt)[-1]


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch, embedder: HashedWords, chat: AnsweringChat) -> None:
    monkeypatch.setattr(references, "_folder", lambda reference, progress: reference.name)
    monkeypatch.setattr(references, "_local_embedder", lambda *_: embedder)
    monkeypatch.setattr(references, "_local_chat", lambda *_: chat)
    monkeypatch.setattr(calling, "FIRST_PAUSE", 0.0)


@pytest.fixture
def run(shell: Callable[..., tuple[int, str, str]]) -> Run:
    """The command as a shell runs it: exit code, standard output (as JSON where asked for), standard error."""

    def go(*words: Any) -> tuple[int, Any, str]:
        code, out, err = shell(*words)
        return code, json.loads(out) if "--json" in words else " ".join(out.split()), " ".join(err.split())

    return go


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """Forty documents of one chunk each, about one fruit each."""
    filler = "It grows slowly and is harvested late, when the nights turn cold and the first leaves have fallen. " * 3
    rows = [{"id": f"d{n:02}", "text": f"apple{word} is a fruit. {filler}"} for n, word in enumerate(WORDS)]
    documents = json_lines(tmp_path / "documents.jsonl", rows)
    assert run("ingest", documents, "--index", tmp_path / "index", "--context", "none", "--json")[0] == 0
    return tmp_path / "index"


@pytest.fixture
def misled(tmp_path: Path) -> Path:
    """Questions by another name: the words of each stand in eight wrong documents."""
    rows = []
    for n, word in enumerate(WORDS):
        decoys = " ".join(f"apple{WORDS[(n + 1 + step) % len(WORDS)]}" for step in range(8))
        rows.append({"id": f"q{n}", "question": f"pome{word} rather than {decoys}?", "relevant": [f"d{n:02}"]})
    return json_lines(tmp_path / "misled.jsonl", rows)


@pytest.fixture
def easy(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "question": f"apple{w}?", "relevant": [f"d{n:02}#0"]} for n, w in enumerate(WORDS)]
    return json_lines(tmp_path / "easy.jsonl", rows)


def test_where_bm25_misleads_tuning_finds_it_and_searches_use_it(run: Run, folder: Path, misled: Path) -> None:
    asked = read_queries(misled)

    def right() -> int:
        with_index = Index.open(folder, embedder=Meaning())
        found = sum(with_index.search(q.question, 1)[0].document == q.relevant[0] for q in asked)
        with_index.close()
        return found

    before = right()
    code, report, err = run("tune", "--index", folder, "--queries", misled, "-k", "1", "--json")
    assert code == 0 and err == ""
    assert report["pays"] and report["written"] and not report["generated"]
    assert (report["questions"], report["groups"], report["measure"]) == (40, 40, "mean of pass@1")
    assert report["now"]["value"] == before / 40 < 1 and report["then"]["value"] == 1
    assert report["gain"]["low"] > 0 and report["gains"]["pass@1"] == report["gain"]
    chosen = Fusion.model_validate(report["chosen"])
    assert chosen.weights["dense"] > chosen.weights["bm25"]
    assert read_fusion(folder) == chosen and right() == 40
    about = json.loads((folder / TUNED).read_text("utf-8"))["about"]
    assert about["queries"] == "misled.jsonl" and about["gain"] == report["gain"] and about["generated"] is False
    # Once more there is nothing left to gain, and what is there is kept.
    code, again, _ = run("tune", "--index", folder, "--queries", misled, "-k", "1", "--json")
    assert code == 0 and not again["written"] and again["current"] == report["chosen"]
    assert again["now"]["value"] == 1 and again["gain"]["value"] == 0
    assert read_fusion(folder) == chosen


def test_a_dry_run_writes_nothing(run: Run, folder: Path, misled: Path) -> None:
    code, said, _ = run("tune", "--index", folder, "--queries", misled, "-k", "1", "--dry-run")
    assert code == 0 and "a significant gain; nothing was written (--dry-run)" in said
    assert not (folder / TUNED).exists()
    code, said, _ = run("tune", "--index", folder, "--queries", misled, "-k", "1")
    assert "a significant gain: written" in said and (folder / TUNED).exists()


def test_where_nothing_is_to_gain_nothing_is_written(run: Run, folder: Path, easy: Path) -> None:
    code, report, _ = run("tune", "--index", folder, "--queries", easy, "--json")
    assert code == 0 and not report["pays"] and not report["written"]
    assert report["gain"] == {"value": 0, "low": 0, "high": 0}
    assert report["chosen"] == Fusion().model_dump() and not (folder / TUNED).exists()
    mine = Fusion(weights={"dense": 0.5}, rank_constant=3)
    write_fusion(folder, mine, {})
    code, said, _ = run("tune", "--index", folder, "--queries", easy)
    assert code == 0 and "no significant gain: the fusion stays as it is" in said
    assert read_fusion(folder) == mine


def test_too_few_documents_and_missing_ones(run: Run, folder: Path, tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "question": f"apple{w}?", "relevant": [f"d{n:02}"]} for n, w in enumerate(WORDS[:9])]
    few = json_lines(tmp_path / "few.jsonl", [*rows, {"id": "x", "question": "?", "relevant": ["gone"]}])
    code, said, err = run("tune", "--index", folder, "--queries", few, "--json")
    assert code == 2 and "9 questions about 9 separate documents are too few" in said["error"]
    assert "'gone' of 'x'" in err


def test_more_questions_than_needed_are_drawn(
    run: Run, folder: Path, easy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MOST_QUESTIONS", 20)
    code, report, err = run("tune", "--index", folder, "--queries", easy, "--json")
    assert code == 0 and report["questions"] == 20 and "20 of 40 questions are drawn" in err


CHUNKS = [(f"{name}#{n}", name, f"{name} {n}") for name in "abcdefghijklmnopqrst" for n in range(2)]


def test_questions_that_share_a_document_are_one_group() -> None:
    relevant = [("a",), ("a#1", "b#0"), ("b#1",), ("c",), ("d#0", "c#1"), ("e",)]
    judged = judge([Query(f"q{n}", "?", names) for n, names in enumerate(relevant)], CHUNKS)
    assert groups_of(judged) == [0, 0, 0, 1, 1, 2]


LINKS = st.lists(st.lists(st.sampled_from("abcdefghijklmnopqrst"), min_size=1, max_size=2), min_size=1, max_size=60)


@given(LINKS)
def test_no_document_is_in_two_folds(links: list[list[str]]) -> None:
    judged = judge([Query(f"q{n}", "?", tuple(names)) for n, names in enumerate(links)], CHUNKS)
    groups = groups_of(judged)
    if len(set(groups)) < FEWEST_GROUPS:
        with pytest.raises(UsageError, match="too few"):
            folds_of(groups)
        return
    folds = folds_of(groups)
    homes: dict[str, set[int]] = {}
    for fold, names in zip(folds, links, strict=True):
        for name in names:
            homes.setdefault(name, set()).add(fold)
    assert all(len(found) == 1 for found in homes.values())
    assert set(folds) == set(range(FOLDS))
    largest = max(groups.count(group) for group in groups)
    sizes = [folds.count(fold) for fold in range(FOLDS)]
    assert max(sizes) - min(sizes) <= largest


def test_what_differs_by_chance_is_left_alone() -> None:
    random = np.random.default_rng(0)
    default = random.random(200)
    noisy = np.clip(default + random.normal(0, 0.3, 200), 0, 1)
    noisy += default.mean() + 0.005 - noisy.mean()  # better by half a point, up and down by thirty
    better = default + 0.02 + random.normal(0, 0.01, 200)
    groups = list(range(200))
    assert choose(np.stack([default, noisy]), groups, [0, 1]) == 0
    assert choose(np.stack([default, better]), groups, [0, 1]) == 1
    assert choose(np.stack([better, default, better]), groups, [2, 0, 1]) == 2  # of equals the nearer one


def test_questions_of_one_document_are_one_witness() -> None:
    # Forty of eighty questions gain, but all of one document, and those of the others lose a little.
    gained = np.concatenate([np.full(40, 0.5), np.full(40, -0.2)])
    values = np.stack([np.zeros(80), gained])
    assert choose(values, list(range(80)), [0, 1]) == 1
    assert choose(values, [0] * 40 + [1] * 40, [0, 1]) == 0

    # Nor is it chosen within a fold, where twenty questions about one document gain, others lose.
    values = np.stack([np.zeros(120), np.concatenate([np.full(20, 0.5), np.full(100, -0.04)])])[:, :, None]
    found = cross_validate(values, [0] * 20 + list(range(1, 101)), [0.0, 1.0], current=0)
    assert found.by_fold == (0,) * FOLDS and found.chosen == 0


def test_the_gain_is_over_what_is_in_use() -> None:
    values = np.stack([np.full((40, 1), 0.2), np.full((40, 1), 0.6)])
    found = cross_validate(values, list(range(40)), [0.0, 1.0], current=1)
    assert found.chosen == 1 and not found.pays
    assert (found.now.value, found.gain.value, found.gains[0].value) == pytest.approx((0.6, 0, 0))


def test_the_gain_is_measured_where_it_was_not_chosen() -> None:
    # One hundred candidates of pure noise: the best of them looks good on all questions and is none on new ones.
    random = np.random.default_rng(3)
    values = random.random((100, 60, 1))
    groups = list(range(60))
    looks = values.mean(axis=(1, 2)).max() - values[0].mean()
    distances = [0.0] * 100  # nothing pulls to the default
    found = cross_validate(values, groups, distances, current=0)
    assert looks > 0.08 and found.gain.value < looks / 2 and not found.pays
    sure = np.concatenate([values[:1] * 0.5, values[:1] * 0.5 + 0.3])
    found = cross_validate(sure, groups, [0.0, 1.0], current=0)
    assert found.pays and found.chosen == 1 and found.by_fold == (1,) * FOLDS
    assert found.gain.value == pytest.approx(0.3) == found.gains[0].value
    assert found.then.value == pytest.approx(found.now.value + 0.3)


def test_candidates_are_every_division_once() -> None:
    default, mine = Fusion(), Fusion(weights={"a": 0.3}, rank_constant=7)
    made = candidates(("a", "b"), default, mine)
    assert made[:2] == [default, mine] and len(made) == 2 + 11 * len(CONSTANTS)
    assert len({json.dumps(one.model_dump(), sort_keys=True) for one in made}) == len(made)
    assert all(max(one.weights.values()) == 1 and min(one.weights.values()) >= 0 for one in made[2:])
    assert {"a": 0.0, "b": 1.0} in [one.weights for one in made]  # an arm may be left out
    assert len(candidates(("a", "b", "c"), default)) == 1 + 66 * len(CONSTANTS)
    assert len(candidates(("a", "b", "c", "d"), default)) == 1 + 56 * len(CONSTANTS)


def test_the_distance_is_none_for_the_same_ratio() -> None:
    default, arms = Fusion(weights={}, rank_constant=0), ("a", "b")
    assert distance(Fusion(weights={"a": 0.2, "b": 0.2}, rank_constant=0), default, arms) == 0
    near, far = (Fusion(weights={"a": a, "b": 1}, rank_constant=0) for a in (0.8, 0))
    assert 0 < distance(near, default, arms) < distance(far, default, arms) == 0.5
    assert distance(Fusion(weights={}, rank_constant=1), default, arms) == pytest.approx(0.1)
    assert distance(Fusion(weights={"a": 0, "b": 0}, rank_constant=0), default, arms) == 0.5


def test_generated_questions_are_kept_and_tuned_on(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "written.jsonl"
    code, said, err = run("tune", "--index", folder, "--queries", file, "--generate", "30")
    assert code == 0 and "flatters" not in said
    assert "written by a model that saw the passages" in said
    assert "30 questions written to" in err
    questions = read_queries(file)
    assert len(questions) == 30 == len({q.relevant for q in questions})
    for query in questions:
        (chunk,) = query.relevant
        assert query.question == f"Where does fruit {WORDS[int(chunk[1:3])]} grow in the orchard?"
    code, said, _ = run("tune", "--index", folder, "--queries", file, "--generate", "5", "--json")
    assert code == 2 and "is there already" in said["error"]
    code, said, _ = run("tune", "--index", folder, "--queries", file, "--json")  # what was paid for serves again
    assert code == 0 and said["questions"] == 30 and not said["generated"]


def test_what_was_written_before_the_model_failed_is_kept(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["Where does the first fruit grow?", *[ConnectionError("down")] * 3]
    monkeypatch.setattr(references, "_local_chat", lambda *_: ScriptedChat(*said))
    monkeypatch.setenv("ARTRAG_RETRIES", "0")
    file = tmp_path / "written.jsonl"
    code, found, _ = run("tune", "--index", folder, "--queries", file, "--generate", "9", "--json")
    assert code == 1 and found["type"] == "ModelCallError"
    assert [query.question for query in read_queries(file)] == said[:1]


def test_a_chat_model_without_work_is_wrong_usage(run: Run, folder: Path, easy: Path) -> None:
    code, said, _ = run("tune", "--index", folder, "--queries", easy, "--chat", "ollama:x", "--json")
    assert code == 2 and "--generate N" in said["error"]


def test_no_usable_question_is_an_error(run: Run, folder: Path, tmp_path: Path, chat: AnsweringChat) -> None:
    chat.script = ["I do not know."]
    file = tmp_path / "written.jsonl"
    code, said, _ = run("tune", "--index", folder, "--queries", file, "--generate", "4", "--json")
    assert code == 2 and "no usable question came of 4 chunks (4 dropped (not one question))" in said["error"]
    assert not file.exists()


def chunk(n: int, document: str, text: str = "Fruit grows. " * 20) -> StoredChunk:
    return StoredChunk(n, f"{document}#{n}", document, f"{text} {n}", "", 0, 10)


def test_every_document_is_asked_before_a_second_chunk_of_any() -> None:
    chunks = (
        [chunk(n, "long") for n in range(30)] + [chunk(n, f"d{n}") for n in range(5)] + [chunk(0, "tiny", "Short.")]
    )
    drawn = sample(chunks, 6)
    assert {one.document for one in drawn} == {"long", *(f"d{n}" for n in range(5))}
    assert len(sample(chunks, 100)) == 35
    assert sample(chunks, 10, seed=1) == sample(chunks, 10, seed=1) != sample(chunks, 10, seed=2)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("When do the apples ripen in the south?", ""),
        ("果实什么时候成熟，在哪里生长呢，请问是秋天吗？", ""),
        ("The apples ripen late.", "not one question"),
        ("Why?", "not one question"),
        ("What " + "very " * 70 + "long?", "not one question"),
        ("What does this passage say of apples?", "it points at the passage"),
        ("According to the text, when do apples ripen?", "it points at the passage"),
        ("the old apples of the valley ripen?", "it copies the passage"),
        ("Old apples of the valley ripen?", ""),
        ("Is it so that the old apples of the valley ripen late?", "it copies the passage"),
    ],
)
def test_unusable_questions(question: str, reason: str) -> None:
    assert fault(question, "We know: the old apples of the Valley, ripen late every year.") == reason


def test_duplicates_and_failures_are_dropped_and_counted() -> None:
    chunks = [chunk(n, f"d{n}") for n in range(5)]
    down = ConnectionError("down")
    said = ["When do apples ripen?", down, '"when do apples  ripen?"', "Where do pears grow well?", down]
    kept: list[Query] = []
    found, dropped = generate(chunks, ScriptedChat(*said), 5, Settings(retries=0), keep=kept.append)
    assert kept == found
    assert [query.question for query in found] == ["When do apples ripen?", "Where do pears grow well?"]
    assert dropped == {"the model failed": 2, "a duplicate": 1}


def test_a_model_that_is_down_is_given_up() -> None:
    chunks = [chunk(n, f"d{n}") for n in range(9)]
    chat = ScriptedChat(*[ConnectionError("down")] * 9)
    with pytest.raises(ModelCallError, match="down"):
        generate(chunks, chat, 9, Settings(retries=0))
    assert len(chat.asked) == 3
    with pytest.raises(UsageError, match="nothing to ask about"):
        generate([chunk(0, "d", "Short.")], chat, 1, Settings())
