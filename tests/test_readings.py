"""Asker and Truster with a step reader: its readings count, and without it they go on with the signals alone."""

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
from artrag.models.step_reader import NETWORK, READINGS
from artrag.models.trained import WEIGHTS, Looks, TrainedAsker, TrainedTruster
from artrag.settings import Settings
from artrag.training import worked
from artrag.training.heads import UNREAD, fit_head
from artrag.training.worked import train_art

ASKED = "Eve has 7 boxes and buys 5 more. How many boxes has Eve?"
FITTING = "7 + 5 = 12\nFinal answer: 12"
ODD = "7 * 5 = 35\nFinal answer: 35"


class Scripted:
    """A reader that knows which answers it likes, and what it was asked."""

    def __init__(self, liked: str = "+") -> None:
        self.liked, self.asked = liked, []  # type: ignore[var-annotated]

    def read(self, question: str, answers: Sequence[str]) -> Any:
        self.asked.append((question, list(answers)))
        return np.array([[4.0 if self.liked in answer else -4.0] * len(READINGS) for answer in answers], np.float32)

    of = read


def head(weight: float = 1.0) -> Head:
    """It looks at the first reading and at nothing else; its mean is 1."""
    d = len(NAMES) + len(READINGS)
    hidden = np.zeros((d, 2), np.float32)
    hidden[len(NAMES)] = weight, -weight
    mean = np.zeros(d, np.float32)
    mean[len(NAMES)] = 1
    wide = np.full(d, 1e9, np.float32)
    return Head(
        NAMES + READINGS, mean, np.ones(d, np.float32), -wide, wide, hidden,
        np.zeros(2, np.float32), np.array([1, -1], np.float32), 0.5,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both parts in their folders, and a reader's network beside them."""
    reader = tmp_path / "reader"
    reader.mkdir()
    (reader / NETWORK).write_bytes(b"network")
    options = {"signals": VERSION, "reader": "../reader", "reader_sha256": sha256(reader / NETWORK)}
    for kind in ("asker", "truster"):
        place = tmp_path / kind
        place.mkdir()
        head().save(place / WEIGHTS)
        calibration = {"kind": "platt", "scale": 1.0, "shift": 0.0}
        write_part(place, Part(kind, "signals", files={WEIGHTS: ""}, calibration=calibration, options=options))
    return tmp_path


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    monkeypatch.setattr(trained, "open_reader", lambda folder, digest: scripted)
    return scripted


def test_the_readings_join_the_signals(folder: Path, reader: Scripted) -> None:
    truster, asker = load_truster(folder / "truster"), load_asker(folder / "asker")
    assert truster.score(ASKED, [FITTING, ODD]) == pytest.approx([4 - 1 + 0.5, -4 - 0.0 + 0.5])  # clipped at 4
    assert truster.confidence(ASKED, FITTING) > 0.95 > 0.05 > truster.confidence(ASKED, ODD)
    assert asker.ask(ASKED, FITTING).refine_probability < 0.05 < 0.95 < asker.ask(ASKED, ODD).refine_probability
    assert reader.asked[0] == (ASKED, [FITTING, ODD])


def test_the_reader_is_asked_about_calculations_only(folder: Path, reader: Scripted) -> None:
    truster = load_truster(folder / "truster")
    truster.score(ASKED, ["", "I do not know.", ODD])
    assert reader.asked == [(ASKED, [ODD])]
    truster.score(ASKED, ["Twelve, I think."], [])
    truster.score(ASKED, [""])
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
    assert truster.score(ASKED, [FITTING, ODD]) == pytest.approx([0.5, 0.5])  # the mean, whatever it is
    assert truster.score(ASKED, [ODD]) == pytest.approx([0.5]) and tries == [(folder / "reader").resolve()]
    said = asker.ask(ASKED, FITTING)
    assert said.reason.endswith(f"; the Asker is without its step reader: {error}")
    assert said.refine_probability == pytest.approx(1 / (1 + math.exp(0.5)))


def test_another_reader_than_the_one_trained_with_is_refused(folder: Path) -> None:
    truster = TrainedTruster.load(folder / "truster")
    with pytest.raises(PartError, match="no trained reader in .*reader"):
        truster.score(ASKED, [FITTING])
    shutil.rmtree(folder / "reader")
    with pytest.raises(PartError, match="no trained reader in .*reader"):
        TrainedAsker.load(folder / "asker").ask(ASKED, FITTING)


def test_a_head_with_readings_is_none_without_them(folder: Path) -> None:
    part = Part("truster", "signals", files={WEIGHTS: ""}, options={"signals": VERSION})
    write_part(folder / "truster", part)
    with pytest.raises(PartError, match="trained on other signals"):
        TrainedTruster.load(folder / "truster")


def test_looks_without_a_reader_are_the_signals() -> None:
    assert set(Looks().at(ASKED, [FITTING])[0]) == set(NAMES)


def test_what_is_not_known_counts_as_the_mean() -> None:
    rows = np.zeros((3, len(NAMES) + len(READINGS)), np.float32)
    rows[:, len(NAMES)] = math.nan, 1, 3
    assert head().raw(rows) == pytest.approx([0.5, 0.5, 2.5])
    assert head().strangeness(rows) == pytest.approx([0, 0, 0])


def rows_of(n: int, seed: int) -> tuple[Any, Any, list[str]]:
    """The reading tells right from wrong, and one of the signals nearly as well."""
    draw = np.random.default_rng(seed)
    right = draw.random(n) < 0.5
    rows = draw.normal(size=(n, 2 + len(READINGS))).astype(np.float32)
    rows[:, 0] += 1.5 * right
    rows[:, 2] += 3 * right
    return rows, right, [f"q{place // 4}" for place in range(n)]


def test_a_head_learns_to_do_with_and_without_its_readings() -> None:
    rows, right, questions = rows_of(1200, 0)
    names = ("clear", "noise", *READINGS)
    turns = iter(range(99))
    found = fit_head(names, rows, right, questions, measure=lambda h: float(next(turns)), pairwise=True, passes=20).head
    test, true, _ = rows_of(600, 1)
    blind = test.copy()
    blind[:, 2:] = math.nan
    with_them, without = ((found.raw(each) > np.median(found.raw(each))) == true for each in (test, blind))
    assert with_them.mean() > 0.9 and without.mean() > 0.7 and 0 < UNREAD < 0.5


def test_rows_that_were_not_read_are_learned_from_all_the_same() -> None:
    rows, right, questions = rows_of(400, 2)
    rows[::3, 2:] = math.nan
    names = ("clear", "noise", *READINGS)
    found = fit_head(names, rows, right, questions, measure=lambda h: 0.0, pairwise=False, passes=2).head
    assert all(np.isfinite(getattr(found, name)).all() for name in ("mean", "deviation", "low", "high", "hidden"))


def toy(n: int) -> Prediction:
    """The sum is right, the product wrong; both are calculated without a mistake."""
    draw = random.Random(n)
    a, b = draw.randint(3, 40), draw.randint(3, 40)
    answers = [
        (f"{a} + {b} = {a + b}\nFinal answer: {a + b}", True),
        (f"{a} * {b} = {a * b}\nFinal answer: {a * b}", False),
    ]
    draw.shuffle(answers)
    stages = ("initial", "refined")
    recorded = tuple(
        RecordedAnswer(stage, text, None, right, (), "toy")  # type: ignore[arg-type]
        for stage, (text, right) in zip(stages, answers, strict=True)
    )
    return Prediction(
        f"{n}", f"Eve has {a} boxes and buys {b} more, says {n}. How many has she?", recorded, float(a + b)
    )


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
    moved = shutil.move(tmp_path / "made", tmp_path / "elsewhere")
    truster = TrainedTruster.load(Path(moved) / "truster")
    sums, products = truster.score(ASKED, [FITTING, ODD])
    assert sums > products
    assert opened == [((tmp_path / "elsewhere" / "reader").resolve(), sha256(Path(moved) / "reader" / NETWORK))]
    assert truster.part.options["reader"] == "../reader"


def test_the_models_say_that_a_reader_belongs_to_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(asker=str(folder / "asker"))
    (row,) = (row for row in list_models(settings) if row["role"] == "asker")
    assert row["title"] == "signals and a step reader"
    monkeypatch.setattr("artrag.interfaces.doctor.find_spec", lambda name: None)
    (row,) = (row for row in list_models(settings) if row["role"] == "asker")
    assert row["title"] == "signals (its step reader needs 'artrag[local]')"
