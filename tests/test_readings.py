"""Asker and Truster with a step reader: a share of its reading counts, and without it they go on with the signals."""

import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artrag.errors import MissingExtraError, ModelUnavailableError, PartError
from artrag.evaluation.predictions import Prediction, RecordedAnswer
from artrag.interfaces.doctor import list_models
from artrag.models import load_asker, load_truster, trained
from artrag.models.heads import Head
from artrag.models.parts import Part, sha256, write_part
from artrag.models.signals import NAMES, VERSION
from artrag.models.step_reader import NETWORK
from artrag.models.trained import WEIGHTS, Scores, TrainedAsker, TrainedTruster
from artrag.settings import Settings
from artrag.training import worked
from artrag.training.crossfit import cross_fit, labelled_answers
from artrag.training.worked import train_art

ASKED = "Eve has 7 boxes and buys 5 more. How many boxes has Eve?"
FITTING = "7 + 5 = 12\nFinal answer: 12"
ODD = "7 * 5 = 35\nFinal answer: 35"


class Scripted:
    """A reader that knows which answers it likes, and what it was asked."""

    def __init__(self, liked: str = "+") -> None:
        self.liked = liked
        self.asked: list[tuple[str, list[str]]] = []

    def read(self, question: str, answers: Sequence[str]) -> Any:
        self.asked.append((question, list(answers)))
        return np.array([4.0 if self.liked in answer else -4.0 for answer in answers], np.float32)

    of = read


def head(constant: float = 0.5) -> Head:
    """The same score for every answer."""
    nothing, wide = np.zeros(len(NAMES), np.float32), np.full(len(NAMES), 1e9, np.float32)
    hidden = nothing[:, None]
    return Head(NAMES, nothing, nothing + 1, -wide, wide, hidden, nothing[:1], nothing[:1], constant)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both parts in their folders, and a reader's network beside them."""
    reader = tmp_path / "reader"
    reader.mkdir()
    (reader / NETWORK).write_bytes(b"network")
    options = {
        "signals": VERSION,
        "reader": {"folder": "../reader", "sha256": sha256(reader / NETWORK), "weight": 0.25},
    }
    for kind in ("asker", "truster"):
        place = tmp_path / kind
        place.mkdir()
        head().save(place / WEIGHTS)
        calibration = {"kind": "platt", "scale": 2.0, "shift": 0.0}
        write_part(place, Part(kind, "signals", files={WEIGHTS: ""}, calibration=calibration, options=options))
    return tmp_path


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    monkeypatch.setattr(trained, "open_reader", lambda folder, digest: scripted)
    return scripted


def test_a_share_of_the_reading_is_added(folder: Path, reader: Scripted) -> None:
    truster, asker = load_truster(folder / "truster"), load_asker(folder / "asker")
    assert truster.score(ASKED, [FITTING, ODD]) == pytest.approx([0.5 + 1, 0.5 - 1])
    assert truster.confidence(ASKED, FITTING) == pytest.approx(1 / (1 + math.exp(-3)))
    assert asker.ask(ASKED, ODD).refine_probability == pytest.approx(1 - 1 / (1 + math.exp(1)))
    assert reader.asked[0] == (ASKED, [FITTING, ODD])


def test_the_reader_is_asked_about_calculations_only(folder: Path, reader: Scripted) -> None:
    truster = load_truster(folder / "truster")
    truster.score(ASKED, ["", "I do not know.", ODD])
    assert reader.asked == [(ASKED, [ODD])]
    truster.score(ASKED, ["Twelve, I think."], [])
    truster.score(ASKED, [""])
    truster.confidence(ASKED, ODD, [])
    load_asker(folder / "asker").ask(ASKED, FITTING, [])
    assert len(reader.asked) == 1


@pytest.mark.parametrize("error", [MissingExtraError("local models need 'torch'"), ModelUnavailableError("no encoder")])
def test_without_the_reader_the_signals_go_on_and_the_asker_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tries = []

    def missing(place: Path, digest: str) -> Any:
        tries.append(place)
        raise error

    monkeypatch.setattr(trained, "open_reader", missing)
    truster, asker = TrainedTruster.load(folder / "truster"), TrainedAsker.load(folder / "asker")
    assert truster.score(ASKED, [FITTING, ODD]) == pytest.approx([0.5, 0.5])
    assert truster.score(ASKED, [ODD]) == pytest.approx([0.5]) and tries == [(folder / "reader").resolve()]
    said = asker.ask(ASKED, FITTING)
    assert said.reason.endswith(f"; the Asker is without its step reader: {error}")
    assert said.refine_probability == pytest.approx(1 / (1 + math.exp(1)))


def test_another_reader_than_the_one_trained_with_is_refused(folder: Path) -> None:
    truster = TrainedTruster.load(folder / "truster")
    with pytest.raises(PartError, match="no trained reader in .*reader"):
        truster.score(ASKED, [FITTING])
    shutil.rmtree(folder / "reader")
    with pytest.raises(PartError, match="no trained reader in .*reader"):
        TrainedAsker.load(folder / "asker").ask(ASKED, FITTING)


def test_scores_without_a_reader_are_the_heads() -> None:
    ((named, raw),) = Scores(head(0.75)).of(ASKED, [FITTING])
    assert set(named) == set(NAMES) and raw == 0.75


def toy(n: int, liked: float = 1.0) -> Prediction:
    """The sum is right, the product wrong (the other way round where `draw` says so); neither has a mistake in it."""
    draw = random.Random(n)
    a, b = draw.randint(3, 40), draw.randint(3, 40)
    summed = draw.random() < liked
    answers = [
        (f"{a} + {b} = {a + b}\nFinal answer: {a + b}", summed),
        (f"{a} * {b} = {a * b}\nFinal answer: {a * b}", not summed),
    ]
    draw.shuffle(answers)
    recorded = tuple(
        RecordedAnswer(stage, text, None, right, (), "toy")  # type: ignore[arg-type]
        for stage, (text, right) in zip(("initial", "refined"), answers, strict=True)
    )
    question = f"Eve has {a} boxes and buys {b} more, says {n}. How many has she?"
    return Prediction(f"{n}", question, recorded, None)


@pytest.mark.parametrize("kind", ["asker", "truster"])
def test_the_weight_of_the_readings_is_the_one_that_ranks_best(kind: Any) -> None:
    """Half of the products are right here: signals tell nothing, what counts is the reading."""
    train, dev = (labelled_answers([toy(n, 0.5) for n in some]) for some in (range(40), range(100, 120)))
    truth = {key: bool(right) for each in (train, dev) for key, right in zip(each.keys, each.right, strict=True)}
    telling = {key: 20.0 if right else -20.0 for key, right in truth.items()}
    plain = cross_fit(kind, train, dev)
    assert plain.weight == 0
    read = cross_fit(kind, train, dev, readings=telling)
    assert read.weight > 0
    assert read.raw == pytest.approx({key: plain.raw[key] + read.weight * telling[key] for key in plain.raw}, abs=1e-5)
    against = cross_fit(kind, train, dev, readings={key: -value for key, value in telling.items()})
    assert against.weight == 0 and against.raw == pytest.approx(plain.raw)


def test_parts_are_trained_with_a_reader_and_find_it_again(
    tmp_path: Path, reader: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "made" / "reader"
    place.mkdir(parents=True)
    (place / NETWORK).write_bytes(b"network")
    monkeypatch.setattr(worked, "Readings", lambda given: reader if given == place.resolve() else None)
    found = train_art([toy(n) for n in range(60)], [toy(n) for n in range(100, 140)], tmp_path / "made", reader=place)
    assert found["within_question_auc"]["value"] == 1
    opened: list[tuple[Path, str]] = []

    def opening(folder: Path, digest: str) -> Scripted:
        opened.append((folder, digest))
        return reader

    monkeypatch.setattr(trained, "open_reader", opening)
    moved = Path(shutil.move(tmp_path / "made", tmp_path / "elsewhere"))
    truster = TrainedTruster.load(moved / "truster")
    sums, products = truster.score(ASKED, [FITTING, ODD])
    assert sums > products
    assert opened == [((moved / "reader").resolve(), sha256(moved / "reader" / NETWORK))]
    assert truster.part.options["reader"]["folder"] == "../reader"


def test_the_models_say_that_a_reader_belongs_to_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(asker=str(folder / "asker"))
    (row,) = (row for row in list_models(settings) if row["role"] == "asker")
    assert row["title"] == "signals and a step reader"
    monkeypatch.setattr("artrag.interfaces.doctor.find_spec", lambda name: None)
    (row,) = (row for row in list_models(settings) if row["role"] == "asker")
    assert row["title"] == "signals (its step reader needs 'artrag[local]')"
