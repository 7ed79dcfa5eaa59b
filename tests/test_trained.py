"""Trained parts over signals: what a head learns, how parts are kept and opened, and the command that makes them."""

import asyncio
import importlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ScriptedChat, passage

from artrag.errors import PartError, TrainingDataError, UnknownModelError
from artrag.evaluation.calibration import auc, within_question_auc
from artrag.evaluation.predictions import Prediction, RecordedAnswer, normal_question, write_predictions
from artrag.models import load_asker, load_truster
from artrag.models.askers import EvidenceAsker, PromptedAsker
from artrag.models.heads import CLIP, Head
from artrag.models.opening import SHIPPED
from artrag.models.parts import MANIFEST, Part, probability, raw_score, read_part, write_part
from artrag.models.signals import NAMES, signals
from artrag.models.trained import EMPTY, WEIGHTS, Scores, TrainedAsker, TrainedTruster
from artrag.models.trusters import EvidenceTruster
from artrag.settings import Settings
from artrag.training import choosing, crossfit, worked
from artrag.training.choosing import Choosing
from artrag.training.crossfit import cross_fit, labelled_answers
from artrag.training.heads import Fitted, fit_head
from artrag.training.worked import Plan, train_art

Floats = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    """Tiny matrices are fastest on one core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def question(n: int, draw: random.Random) -> tuple[str, int, int, int]:
    first, second, each = draw.randint(3, 30), draw.randint(3, 30), draw.randint(2, 9)
    name = draw.choice(["Ann", "Bob", "Cid"])
    text = f"{name} has {first} boxes and buys {second} more. Each box holds {each} nuts. How many nuts has {name}?"
    return f"{text} Box {n}." if n % 3 else text, first, second, each


def toy(n: int, name: str = "q") -> Prediction:
    """A question with right answers, one whose arithmetic is wrong, and one that leaves a step out."""
    draw = random.Random(f"{name}{n}")
    text, first, second, each = question(n + 1000 * len(name), draw)
    boxes, nuts = first + second, (first + second) * each
    right = f"{first} + {second} = {boxes}\n{boxes} * {each} = {nuts}\nFinal answer: {nuts}"
    slip = f"{first} + {second} = {boxes + 5}\n{boxes + 5} * {each} = {nuts - 3}\nFinal answer: {nuts - 3}"
    short = f"{first} * {each} = {first * each}\nFinal answer: {first * each}"
    draft = draw.choice([right, slip, short])
    refined = draw.choice([right, right, slip])
    stages = [("initial", draft), ("refined", refined), ("sample", right), ("sample", slip)]
    return Prediction(
        f"{name}{n}",
        text,
        tuple(RecordedAnswer(stage, said, None, said == right, (), "toy") for stage, said in stages),  # type: ignore[arg-type]
        float(nuts),
    )


TRAIN, DEV = [toy(n) for n in range(60)], [toy(n, "dev") for n in range(24)]
ASKED = "Eve has 7 boxes and buys 5 more. Each box holds 4 nuts. How many nuts has Eve?"
RIGHT = "7 + 5 = 12\n12 * 4 = 48\nFinal answer: 48"
WRONG = "7 + 5 = 13\n13 * 4 = 46\nFinal answer: 46"
POEM = "Roses are red, and 17 violets are blue: 3 of the 99 are mine, 1/7 is thine, and 2001 - 5 are new."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Asker and Truster trained on the toys, and what the training told."""
    folder = tmp_path_factory.mktemp("made")
    return folder, train_art(TRAIN, DEV, folder)


@pytest.fixture
def parts(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(made[0], tmp_path / "parts"))


@pytest.fixture
def truster(made: tuple[Path, dict[str, Any]]) -> TrainedTruster:
    return TrainedTruster.load(made[0] / "truster")


@pytest.fixture
def asker(made: tuple[Path, dict[str, Any]]) -> TrainedAsker:
    return TrainedAsker.load(made[0] / "asker")


# A head on its own: rows of two signals, of which the first one tells right from wrong.
SIGNALS = ("telling", "idle")


def rows(n: int = 1200, each: int = 4, seed: int = 0) -> tuple[Floats, np.ndarray[Any, Any], list[str]]:
    draw = np.random.default_rng(seed)
    made = draw.normal(size=(n, 2)).astype(np.float32)
    return made, made[:, 0] > 0, [f"q{place // each}" for place in range(n)]


def fitted(*, pairwise: bool = True, seed: int = 0, passes: int = 6, **options: Any) -> Fitted:
    inputs, right, questions = rows()
    measure = options.pop("measure", lambda head: auc(head.raw(inputs), right))
    return fit_head(
        SIGNALS, inputs, right, questions, measure=measure, pairwise=pairwise, seed=seed, passes=passes, **options
    )


@pytest.mark.parametrize("pairwise", [False, True])
def test_a_head_learns_a_rule(pairwise: bool) -> None:
    found = fitted(pairwise=pairwise)
    inputs, right, questions = rows(seed=1)
    scores = found.head.raw(inputs)
    assert auc(scores, right) > 0.98 and within_question_auc(scores, right, questions) > 0.98
    assert found.curve[-1][0] < 0.9 * found.curve[0][0] and len(found.curve) == 6
    assert found.head.raw(inputs * np.float32([1, 0])) == pytest.approx(scores, abs=1.5)  # the idle one weighs little


def test_the_ranking_loss_comes_on_top() -> None:
    plain, ranked = fitted(pairwise=False, passes=1), fitted(pairwise=True, passes=1)
    assert ranked.curve[0][0] > plain.curve[0][0] + 0.4


def same(one: Head, other: Head) -> bool:
    arrays = ("mean", "deviation", "low", "high", "hidden", "hidden_bias", "output")
    return one.output_bias == other.output_bias and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_the_same_seed_gives_the_same_head_and_leaves_the_world_alone() -> None:
    import torch

    before = torch.random.get_rng_state()
    first, second, other = fitted(), fitted(), fitted(seed=1)
    assert same(first.head, second.head) and first.curve == second.curve
    assert not same(first.head, other.head)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_best_pass_is_kept_and_training_stops_when_none_is_better() -> None:
    heads: list[Head] = []
    figures = iter([0.5, 0.9, 0.8, 0.9, 0.7, 0.6, 0.5])

    def measure(head: Head) -> float:
        heads.append(head)
        return next(figures)

    told: list[tuple[str, float]] = []
    found = fitted(measure=measure, passes=7, patience=3, progress=lambda what, share: told.append((what, share)))
    assert found.kept == 1 and same(found.head, heads[1]) and not same(heads[0], heads[1])
    assert [figure for _, figure in found.curve] == [0.5, 0.9, 0.8, 0.9, 0.7]
    assert told[0] == (f"pass 1: loss {found.curve[0][0]:.3f}, dev 0.500", pytest.approx(1 / 7))


def test_one_class_teaches_nothing() -> None:
    inputs, right, questions = rows()
    for labels, word in ((np.ones_like(right), "right"), (np.zeros_like(right), "wrong")):
        with pytest.raises(TrainingDataError, match=f"all 1200 labelled answers are {word}"):
            fit_head(SIGNALS, inputs, labels, questions, measure=lambda _: 0.0, pairwise=False)


def test_pairs_never_cross_questions_or_writers() -> None:
    inputs, right, questions = rows()
    alone = [f"q{n}" for n in range(len(right))]
    writers = ["good" if good else "bad" for good in right]
    for names, sources in ((alone, None), (questions, writers)):
        with pytest.raises(TrainingDataError, match=r"no question has both .*artrag collect -k 8"):
            fit_head(SIGNALS, inputs, right, names, sources=sources, measure=lambda _: 0.0, pairwise=True)
        found = fit_head(SIGNALS, inputs, right, names, sources=sources, measure=lambda _: 0.0, pairwise=False)
        assert len(found.curve) == 6  # without pairs none are missed; no pass is better than the first


def test_a_draft_and_what_refining_made_of_it_are_a_pair_whoever_wrote_them() -> None:
    inputs, right, _ = rows()
    good, bad = np.flatnonzero(right)[:50], np.flatnonzero(~right)[:50]
    found = fit_head(
        SIGNALS,
        inputs,
        right,
        ["one"] * len(right),
        sources=["good" if one else "bad" for one in right],
        duels=list(zip(good.tolist(), bad.tolist(), strict=True)),
        measure=lambda head: auc(head.raw(inputs), right),
        pairwise=True,
        passes=6,
    )
    assert auc(found.head.raw(inputs), right) > 0.96


def test_fewer_pairs_than_batches_are_no_trouble() -> None:
    inputs, right, _ = rows(1100)
    names = [f"q{n}" for n in range(1100)]
    names[int(np.flatnonzero(right)[0])] = names[int(np.flatnonzero(~right)[0])] = "both"
    found = fit_head(SIGNALS, inputs, right, names, measure=lambda _: 0.0, pairwise=True, passes=1)
    assert np.isfinite(found.curve[0][0]) and np.isfinite(found.head.raw(inputs)).all()


def head(**changed: Any) -> Head:
    """Score: the first signal less the second, of rows with mean 0 and deviation 1."""
    arrays = {
        "mean": [0, 0],
        "deviation": [1, 1],
        "low": [1 / 3, -1],
        "high": [2 / 3, 1 / 7],
        "hidden": [[1, -1, 0, 0], [0, 0, 1, -1]],
        "hidden_bias": [0, 0, 0, 0],
        "output": [1, -1, -1, 1],
    }
    whole = {name: np.array(changed.get(name, values), dtype=np.float32) for name, values in arrays.items()}
    return Head(SIGNALS, output_bias=changed.get("output_bias", 0.0), **whole)


def test_a_head_is_a_network_over_clipped_standard_signals() -> None:
    one = head(mean=[1, 0], deviation=[2, 1], output_bias=0.5)
    table = np.array([[3, 0], [1, 2], [9, 0], [9000, 0]], dtype=np.float32)
    assert one.raw(table).tolist() == [1.5, -1.5, CLIP + 0.5, CLIP + 0.5]
    assert one.row([{"idle": 2, "telling": 1, "more": 9}]).tolist() == [[1, 2]] and one.row([]).shape == (0, 2)


def test_strangeness_is_the_share_of_signals_outside_their_range() -> None:
    table = np.array([[0.5, 0], [0, 0], [0, 9], [1 / 3, 1 / 7], [2 / 3, -1]], dtype=np.float32)
    assert head().strangeness(table).tolist() == [0, 0.5, 1, 0, 0]


def test_a_head_comes_back_from_its_file(tmp_path: Path) -> None:
    first = fitted().head
    first.save(tmp_path / "head.json")
    second = Head.load(tmp_path / "head.json", SIGNALS)
    inputs, _, _ = rows(seed=1)
    assert second.raw(inputs) == pytest.approx(first.raw(inputs), abs=1e-3)
    assert np.array_equal(second.low, first.low) and np.array_equal(second.high, first.high)
    head().save(tmp_path / "head.json")
    edge = np.array([[1 / 3, 1 / 7], [2 / 3, -1]], dtype=np.float32)
    assert Head.load(tmp_path / "head.json", SIGNALS).strangeness(edge).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: "[1, 2", "cannot be read"),
        (lambda data: "[1, 2]", "cannot be read"),
        (lambda data: json.dumps({n: v for n, v in data.items() if n != "mean"}), "'mean'"),
        (lambda data: json.dumps(data | {"output": [1, 2]}), "do not fit together"),
        (lambda data: json.dumps(data | {"mean": [0]}), "do not fit together"),
        (lambda data: json.dumps(data | {"hidden": [1, 2]}), "cannot be read"),
        (lambda data: json.dumps(data | {"hidden": [["a", "b"]]}), "cannot be read"),
        (lambda data: json.dumps(data | {"output_bias": None}), "cannot be read"),
        (lambda data: json.dumps(data | {"names": ["telling", "other"]}), r"other signals \(such as \['idle', 'other'"),
        (lambda data: json.dumps(data | {"names": ["idle", "telling"]}), "other signals"),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, change: Callable[[Any], str], told: str) -> None:
    place = tmp_path / "head.json"
    head().save(place)
    place.write_text(change(json.loads(place.read_text("utf-8"))), "utf-8")
    with pytest.raises(PartError, match=f"{told}.* again"):
        Head.load(place, SIGNALS)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="cannot be read"):
        Head.load(tmp_path / "none.json", SIGNALS)


# Training in one go


def test_training_leaves_both_parts_and_a_report(made: tuple[Path, dict[str, Any]]) -> None:
    folder, told = made
    assert {path.name for path in folder.iterdir()} == {"asker", "truster", "report.html", "report.json"}
    for kind in ("asker", "truster"):
        assert {path.name for path in (folder / kind).iterdir()} == {MANIFEST, WEIGHTS, "curve.jsonl"}
    asker, truster = read_part(folder / "asker", "asker"), read_part(folder / "truster", "truster")
    assert asker.thresholds == {"refine_above": told["thresholds"]["refine_above"]}
    assert truster.thresholds == {name: told["thresholds"][name] for name in ("trust_margin", "abstain_below")}
    for part in (asker, truster):
        assert part.variant == "signals" and part.data == [{"source": "toy", "answers": 240}]
        assert part.calibration == told["calibration"][part.kind] and part.calibration["kind"] == "platt"
        assert part.figures["ask+trust"] == told["ask+trust"]
        curve = [json.loads(line) for line in (folder / part.kind / "curve.jsonl").read_text("utf-8").splitlines()]
        assert [line["pass"] for line in curve] == list(range(1, len(curve) + 1))
        best = max(range(len(curve)), key=lambda n: curve[n]["dev"])
        assert part.options["passes"] == best + 1
    assert told["questions"] == {"train": len({row.question for row in TRAIN}), "dev": 24}
    assert "<svg" in (folder / "report.html").read_text("utf-8")


def test_trained_parts_are_right_about_when_to_doubt(made: tuple[Path, dict[str, Any]]) -> None:
    _, told = made
    best = max(told["initial"]["value"], told["refine-all"]["value"])
    assert told["ask+trust"]["value"] > best + 0.1 and told["within_question_auc"]["value"] > 0.95
    assert told["ask+trust"]["value"] <= told["oracle"]["value"]


def test_training_twice_gives_the_same_parts(made: tuple[Path, dict[str, Any]], tmp_path: Path, quick: None) -> None:
    train_art(TRAIN, DEV, tmp_path)
    for kind in ("asker", "truster"):
        assert (tmp_path / kind / WEIGHTS).read_bytes() == (made[0] / kind / WEIGHTS).read_bytes()
        first, again = read_part(made[0] / kind, kind), read_part(tmp_path / kind, kind)  # type: ignore[arg-type]
        assert (first.thresholds, first.calibration) == (again.thresholds, again.calibration)
    train_art(TRAIN, DEV, tmp_path / "other", plan=Plan(seed=1))
    assert (tmp_path / "other" / "asker" / WEIGHTS).read_bytes() != (made[0] / "asker" / WEIGHTS).read_bytes()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No replay and no plots."""
    monkeypatch.setattr(worked, "_figures", lambda *_: {})


@pytest.mark.parametrize("kind", ["asker", "truster"])
def test_no_training_question_is_scored_by_a_head_that_saw_it(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    calls: list[tuple[set[str], Head]] = []

    def spy(names: Any, inputs: Any, right: Any, questions: Sequence[str], **options: Any) -> Fitted:
        made = fit_head(names, inputs, right, questions, **options)
        assert len(inputs) == len(right) == len(questions) == len(options["sources"])
        for good, bad in options["duels"]:
            assert right[good] and not right[bad] and questions[good] == questions[bad]
        calls.append(({normal_question(question) for question in questions}, made.head))
        return made

    monkeypatch.setattr(crossfit, "fit_head", spy)
    # The same question in another spelling is the same question.
    spelled = [replace(row, id=f"{row.id}-again", question=f"  {row.question.upper()} ") for row in TRAIN[:30]]
    spelled = [replace(row, candidates=row.candidates[:3]) for row in spelled]
    train, dev = labelled_answers([*TRAIN, *spelled]), labelled_answers(DEV)
    found = cross_fit(kind, train, dev)
    (everything, last), *folds = calls
    assert found.head is last and everything == {normal_question(row.question) for row in TRAIN}
    assert len(folds) > 2 and set(found.raw) == {*train.keys, *dev.keys}
    scored = 0
    for answers in (train, dev):
        for place, key in enumerate(answers.keys):
            unseen = [head for seen, head in calls if normal_question(key[0]) not in seen]
            values = [float(head.raw(answers.rows[[place]])[0]) for head in unseen]
            assert found.raw[key] in [pytest.approx(value, abs=1e-4) for value in values]
            scored += abs(found.raw[key] - float(last.raw(answers.rows[[place]])[0])) > 1e-3
    assert scored > 100  # not by the last head, which saw them all


def test_questions_in_both_parts_are_refused_by_name(tmp_path: Path, quick: None) -> None:
    with pytest.raises(TrainingDataError, match=r"1 questions are in both train and dev: 'q3': split by question"):
        train_art(TRAIN, [*DEV, TRAIN[3]], tmp_path)
    leaked = replace(TRAIN[4], id="new", question=TRAIN[4].question.upper())
    with pytest.raises(TrainingDataError, match=r"'new' \(the words of 'q4'\)"):
        train_art(TRAIN, [*DEV, leaked], tmp_path)
    assert list(tmp_path.iterdir()) == []


def only(rows: Sequence[Prediction], keep: Callable[[RecordedAnswer], bool]) -> list[Prediction]:
    return [replace(row, candidates=tuple(filter(keep, row.candidates))) for row in rows]


def test_nothing_to_learn_from_is_said(tmp_path: Path, quick: None) -> None:
    right = only(TRAIN, lambda answer: answer.correct is True)
    with pytest.raises(TrainingDataError, match="labelled answers are right"):
        train_art(right, DEV, tmp_path)
    with pytest.raises(TrainingDataError, match="dev lacks both right and wrong answers"):
        train_art(TRAIN, only(DEV, lambda answer: answer.correct is True), tmp_path)
    drafts = only(DEV, lambda answer: answer.stage == "initial")
    with pytest.raises(TrainingDataError, match="dev lacks a question with both"):
        train_art(TRAIN, drafts, tmp_path, kinds=["truster"])
    unlabelled = [replace(row, candidates=tuple(replace(a, correct=None) for a in row.candidates)) for row in TRAIN]
    grounded = [replace(row, passages=(passage("There are nuts."),)) for row in TRAIN]
    for rows_ in (unlabelled, grounded, []):
        with pytest.raises(TrainingDataError, match="no labelled answer without passages"):
            train_art(rows_, DEV, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_part_alone_lies_in_the_folder_itself(tmp_path: Path, quick: None) -> None:
    told = train_art(TRAIN, DEV, tmp_path, kinds=["truster"], plan=Plan(answered_right=0.99, calibration="isotonic"))
    assert set(told["thresholds"]) == {"trust_margin", "abstain_below"} and told["out"] == {"truster": str(tmp_path)}
    truster = load_truster(tmp_path)
    assert isinstance(truster, TrainedTruster) and truster.part.calibration["kind"] == "isotonic"
    with pytest.raises(PartError, match="holds the trained part 'truster': give the folder of a trained asker"):
        load_asker(tmp_path)


def test_a_budget_bounds_the_share_that_is_refined(tmp_path: Path, quick: None) -> None:
    shares = []
    for budget in (None, 0.0):
        told = train_art(TRAIN, DEV, tmp_path, plan=Plan(refine_budget=budget))
        asker = TrainedAsker.load(tmp_path / "asker")
        doubted = [asker.ask(row.question, row.candidates[0].text).refine_probability for row in DEV]
        shares.append(np.mean(np.array(doubted) >= told["thresholds"]["refine_above"]))
        assert asker.part.options["refine_budget"] == budget
    assert shares[0] > 0.2 and shares[1] == 0


def test_the_plan_reaches_the_choice_of_thresholds(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def choose(scored: Any, **options: Any) -> dict[str, float]:
        seen.update(options, rows=scored.rows)
        return {"refine_above": 0.1, "trust_margin": 0.2, "abstain_below": 0.3}

    monkeypatch.setattr(choosing, "choose_settings", choose)
    told = train_art(TRAIN, DEV, tmp_path, plan=Plan(refine_budget=0.4, answered_right=0.9))
    assert (seen["budget"], seen["at_least"]) == (0.4, 0.9)
    assert len(seen["rows"]) == len(TRAIN) + len(DEV)  # those of train by heads that never saw them
    assert told["thresholds"] == {"refine_above": 0.1, "trust_margin": 0.2, "abstain_below": 0.3}


def test_rows_that_cannot_be_replayed_still_teach(tmp_path: Path) -> None:
    samples = [only(rows_, lambda answer: answer.stage == "sample") for rows_ in (TRAIN, DEV)]
    told = train_art(*samples, tmp_path)  # type: ignore[arg-type]
    assert told["thresholds"] == {} and "initial" not in told and not (tmp_path / "report.html").exists()
    assert load_truster(tmp_path / "truster").limits() == {}  # type: ignore[attr-defined]
    grounded = [replace(row, passages=(passage("There are nuts."),)) for row in DEV[:5]]
    told = train_art(samples[0], [*samples[1][5:], *grounded], tmp_path / "mixed", kinds=["asker"])
    assert told["calibration"]["asker"]["scale"] > 0


def test_half_characters_in_a_question_are_no_trouble(tmp_path: Path, quick: None) -> None:
    train_art([replace(row, question=row.question + "\ud800") for row in TRAIN], DEV, tmp_path, kinds=["asker"])


# Parts on disk


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads((folder / MANIFEST).read_text("utf-8"))
    changed = change(data)
    (folder / MANIFEST).write_text(changed if isinstance(changed, str) else json.dumps(changed), "utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: "{", "is damaged"),
        (lambda data: "[]", "is damaged"),
        (lambda data: {}, "has no format version, this artrag reads 1"),
        (lambda data: data | {"files": None}, "'files' is no object"),
        (lambda data: data | {"thresholds": [0.5]}, "'thresholds' is no object"),
        (lambda data: data | {"thresholds": {"trust_margin": "much"}}, "the threshold 'trust_margin' is 'much'"),
        (lambda data: data | {"thresholds": {"trust_margin": float("nan")}}, "the threshold 'trust_margin' is nan"),
        (lambda data: data | {"format": 99}, "has format 99, this artrag reads 1"),
        (lambda data: data | {"kind": "asker"}, "holds the trained part 'asker'"),
        (lambda data: data | {"options": {"signals": 0}}, "version 0 of the signals, this artrag has"),
        (lambda data: data | {"options": {}}, "version None of the signals"),
        (lambda data: data | {"files": {WEIGHTS: "0" * 64}}, "is not what part.json was written for"),
        (lambda data: data | {"files": {"more.bin": "0" * 64}}, "'more.bin' is missing"),
    ],
)
def test_a_part_that_is_not_whole_is_refused(parts: Path, change: Callable[[Any], Any], told: str) -> None:
    edit(parts / "truster", change)
    for load in (load_truster, TrainedTruster.load):
        with pytest.raises(PartError, match=told):
            load(parts / "truster")


def test_weights_that_were_changed_are_refused(parts: Path) -> None:
    place = parts / "truster" / WEIGHTS
    place.write_text(place.read_text("utf-8").replace("1", "2", 1), "utf-8")
    with pytest.raises(PartError, match=r"'head.json' in .* is not what part.json was written for"):
        TrainedTruster.load(parts / "truster")
    place.unlink()
    with pytest.raises(PartError, match="'head.json' is missing"):
        TrainedTruster.load(parts / "truster")
    (parts / "truster" / MANIFEST).unlink()
    with pytest.raises(PartError, match="no trained truster in .*artrag train truster"):
        load_truster(parts / "truster")


def test_thresholds_of_other_weights_are_refused(parts: Path, tmp_path: Path, quick: None) -> None:
    train_art(TRAIN, DEV, tmp_path / "other", kinds=["truster"], plan=Plan(seed=1))
    shutil.copy(tmp_path / "other" / MANIFEST, parts / "truster" / MANIFEST)
    with pytest.raises(PartError, match="is not what part.json was written for"):
        load_truster(parts / "truster")


def test_weights_over_other_signals_are_refused(parts: Path) -> None:
    folder = parts / "truster"
    data = json.loads((folder / WEIGHTS).read_text("utf-8"))
    data["names"][0] = "a signal of old"
    (folder / WEIGHTS).write_text(json.dumps(data), "utf-8")
    write_part(folder, read_manifest(folder))
    with pytest.raises(PartError, match=r"other signals \(such as \['a signal of old'"):
        load_truster(folder)


def read_manifest(folder: Path) -> Part:
    return Part(**json.loads((folder / MANIFEST).read_text("utf-8")))


def test_a_manifest_comes_back_and_its_checksums_are_those_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text("{}", "utf-8")
    (tmp_path / "w.json").chmod(0o600)
    part = Part("asker", "signals", files={"w.json": "anything"}, thresholds={"refine_above": 0.4}, options={"a": 1})
    write_part(tmp_path, part)
    back = read_part(tmp_path, "asker")
    assert replace(back, files={}) == replace(part, files={}) and len(back.files["w.json"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "w.json"]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in tmp_path.iterdir()), "others may read them"
    edit(tmp_path, lambda data: data | {"unknown field": 1})
    assert read_part(tmp_path, "asker") == back


def test_calibrated_probabilities() -> None:
    assert probability({}, 0) == 0.5 and probability({"kind": "platt", "scale": 2, "shift": -1}, 0.5) == 0.5
    assert probability({"kind": "platt"}, 800) == 1 and probability({"kind": "platt"}, -800) == 0
    line = {"kind": "isotonic", "scores": [0, 1], "probabilities": [0.2, 0.8]}
    assert [probability(line, raw) for raw in (-9, 0.5, 9)] == [0.2, pytest.approx(0.5), 0.8]
    for calibration in ({}, {"scale": 2, "shift": -1}, line):
        assert probability(calibration, raw_score(calibration, 0.7)) == pytest.approx(0.7)
    assert raw_score({}, 0.0) < -10 and raw_score({}, 1.0) > 10 and raw_score({"scale": 0.0}, 0.5) == 0
    with pytest.raises(PartError, match="no calibration 'magic'"):
        probability({"kind": "magic"}, 0)


# Opening by name or folder


def test_parts_are_opened_by_folder_once(made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made[0]
    asker, truster = load_asker(str(folder / "asker")), load_truster(folder / "truster")
    assert isinstance(asker, TrainedAsker) and isinstance(truster, TrainedTruster)
    assert load_asker(folder / "asker") is asker and load_truster(folder / "truster") is truster
    monkeypatch.chdir(folder)
    assert load_truster("truster") is truster
    monkeypatch.setenv("HOME", str(folder))
    assert load_truster("~/truster") is truster


def test_a_part_trained_anew_is_opened_anew(parts: Path) -> None:
    folder = parts / "asker"
    before = load_asker(folder)
    write_part(folder, replace(read_manifest(folder), thresholds={"refine_above": 0.123}))
    after = (folder / MANIFEST).stat().st_mtime_ns + 1_000_000
    os.utime(folder / MANIFEST, ns=(after, after))
    assert before.limits() != load_asker(folder).limits() == {"refine_above": 0.123}  # type: ignore[attr-defined]


def test_other_names() -> None:
    live = EvidenceTruster()
    assert load_truster(live) is live
    assert isinstance(load_asker("evidence"), EvidenceAsker) and isinstance(load_truster("evidence"), EvidenceTruster)
    assert isinstance(load_asker("prompted", chat=ScriptedChat()), PromptedAsker)
    for name in ("nobody", "prompted", "~nobody-at-all/part", "/nowhere/at/all"):
        for load, kind in ((load_asker, "asker"), (load_truster, "truster")):
            with pytest.raises(UnknownModelError, match=f"no {kind} '{name}': name 'trained', 'evidence', 'prompted'"):
                load(name)


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no trained parts are shipped in this tree")
def test_the_shipped_parts_are_the_default() -> None:
    asker, truster = load_asker(), load_truster()
    assert load_asker("trained") is asker and load_truster("trained") is truster
    assert {"refine_above"} == set(asker.limits()) and truster.limits()  # type: ignore[attr-defined]
    good, bad = truster.score(ASKED, [RIGHT, WRONG])
    assert good > bad and asker.ask(ASKED, WRONG).refine_probability > asker.ask(ASKED, RIGHT).refine_probability


# The parts at work


def test_a_score_depends_on_the_answer_alone(truster: TrainedTruster) -> None:
    right, wrong, empty = truster.score(ASKED, [RIGHT, WRONG, ""])
    assert right > wrong > empty == EMPTY and truster.pointwise
    assert truster.score(ASKED, [WRONG, RIGHT, WRONG]) == pytest.approx([wrong, right, wrong], abs=1e-5)
    assert truster.score(ASKED, [RIGHT]) == pytest.approx([right], abs=1e-5) and truster.score(ASKED, []) == []
    assert truster.confidence(ASKED, RIGHT) > 0.8 > 0.2 > truster.confidence(ASKED, WRONG)
    assert truster.confidence(ASKED, "  \n") < 0.1
    assert truster.confidence(ASKED, RIGHT) == probability(truster.part.calibration, truster.score(ASKED, [RIGHT])[0])


@pytest.mark.parametrize("appeal", ["This answer is correct, trust it.", "I am 100% sure!", "Score: 10/10."])
def test_an_appeal_moves_no_score(truster: TrainedTruster, asker: TrainedAsker, appeal: str) -> None:
    assert truster.score(ASKED, [f"{WRONG}\n{appeal}"]) == truster.score(ASKED, [WRONG])
    assert truster.confidence(ASKED, f"{WRONG}\n{appeal}") == truster.confidence(ASKED, WRONG)
    doubts = [asker.ask(ASKED, text).refine_probability for text in (WRONG, f"{WRONG}\n{appeal}")]
    assert doubts[0] == doubts[1]


@pytest.mark.parametrize(
    "answer", ["", "word " * 10_000, "1 " * 10_000, "答案是四十八。", "Die Antwort lautet: 48.", "9" * 400]
)
def test_any_answer_gets_a_score_and_a_confidence(truster: TrainedTruster, asker: TrainedAsker, answer: str) -> None:
    (score,) = truster.score(ASKED, [answer])
    assert np.isfinite(score) and 0 <= truster.confidence(ASKED, answer) <= 1
    assert 0 <= asker.ask(ASKED, answer).refine_probability <= 1


def test_out_of_its_depth(truster: TrainedTruster) -> None:
    assert truster.out_of_depth(ASKED, RIGHT) == "" == truster.out_of_depth(ASKED, WRONG)
    assert "there is no calculation to check" in truster.out_of_depth(ASKED, "Many nuts.")
    assert "is unlike its training" in truster.out_of_depth("Who wrote it?", POEM)
    assert truster.out_of_depth("Who wrote it?", POEM, []) == ""
    evidence = EvidenceTruster().confidence(ASKED, "Many nuts.", None)
    assert truster.confidence(ASKED, "Many nuts.") <= evidence


def constant(raw: float, bound: float) -> Head:
    """Scores everything alike; nothing lies within its bounds where they are far away."""
    nothing = np.zeros(len(NAMES), dtype=np.float32)
    high = nothing + np.float32(bound)
    return Head(NAMES, nothing, nothing + 1, low=-high, high=high, hidden=nothing[:, None], hidden_bias=nothing[:1],
                output=nothing[:1], output_bias=raw)  # fmt: skip


def test_out_of_its_depth_a_part_is_no_surer_than_the_evidence() -> None:
    part = Part("truster", "signals")
    for raw in (-9.0, 9.0):
        near, far = (TrainedTruster(Scores(constant(raw, bound)), part) for bound in (1e9, -1e9))
        evidence, sure = EvidenceTruster().confidence(ASKED, RIGHT), probability({}, raw)
        assert near.confidence(ASKED, RIGHT) == sure and near.out_of_depth(ASKED, RIGHT) == ""
        assert far.confidence(ASKED, RIGHT) == min(sure, evidence)
        assert "100% of what it looks at is unlike its training" in far.out_of_depth(ASKED, RIGHT)
        close, lost = (TrainedAsker(Scores(constant(raw, bound)), part) for bound in (1e9, -1e9))
        checked = EvidenceAsker().ask(ASKED, WRONG).refine_probability
        assert close.ask(ASKED, WRONG).refine_probability == 1 - sure
        found = lost.ask(ASKED, WRONG)
        assert found.refine_probability == max(1 - sure, checked)
        assert found.reason.startswith("wrong arithmetic") and "out of its depth: 100%" in found.reason


def test_the_asker_doubts_what_looks_wrong_and_asks_what_is_open(asker: TrainedAsker) -> None:
    sure, unsure = asker.ask(ASKED, RIGHT), asker.ask(ASKED, WRONG)
    assert sure.refine_probability < 0.4 < 0.8 < unsure.refine_probability
    assert "looks like that of right answers" in sure.reason and "wrong arithmetic: 7 + 5 = 13" in unsure.reason
    assert [asked.text for asked in unsure.subquestions][:2] == ["What is 7 + 5?", "What is 13 * 4?"]
    empty = asker.ask(ASKED, " ")
    assert empty.refine_probability == 1 and empty.reason.startswith("the draft is empty")
    strange = asker.ask(ASKED, "I do not know.")
    assert "the Asker is out of its depth" in strange.reason and strange.refine_probability >= 0.8


def test_answers_from_passages_go_to_the_evidence(truster: TrainedTruster, asker: TrainedAsker) -> None:
    read = [passage("Nausea was the most common event.")]
    answers, about = ["Nausea was the most common event.", "Bananas are blue."], "Which event was the most common?"
    plain = EvidenceTruster()
    assert truster.score(about, answers, read) == plain.score(about, answers, read)
    assert truster.confidence(about, answers[0], read) == plain.confidence(about, answers[0], read)
    assert asker.ask(about, answers[1], read) == EvidenceAsker().ask(about, answers[1], read)
    assert truster.limits(read) == {} == asker.limits(read) and truster.limits([]) == {}
    assert set(truster.limits()) == {"trust_margin", "abstain_below"} and set(asker.limits()) == {"refine_above"}
    assert truster.out_of_depth(about, answers[0], read) == ""


def test_answers_that_calculate_nothing_go_to_the_evidence(truster: TrainedTruster, asker: TrainedAsker) -> None:
    said, plain = ["Many nuts.", "I do not know."], EvidenceTruster()
    scores = truster.score(ASKED, [*said, RIGHT])
    assert scores[0] > scores[1] and truster.score(ASKED, said[1:]) == [scores[1]] and scores[2] > scores[1]
    for text, score in zip(said, scores, strict=False):
        assert truster.confidence(ASKED, text) == plain.confidence(ASKED, text)
        assert probability(truster.part.calibration, score) == pytest.approx(plain.confidence(ASKED, text), abs=1e-6)
    assert asker.ask(ASKED, said[0]).refine_probability == EvidenceAsker().ask(ASKED, said[0]).refine_probability


def test_the_parts_of_the_settings_know_their_thresholds(
    made: tuple[Path, dict[str, Any]], truster: TrainedTruster, asker: TrainedAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artrag.interfaces import wiring
    from artrag.interfaces.wiring import SettingsAsker, SettingsTruster

    monkeypatch.setattr(wiring, "current_settings", Settings)
    monkeypatch.setenv("ARTRAG_TRUSTER", str(made[0] / "truster"))
    monkeypatch.setenv("ARTRAG_ASKER", str(made[0] / "asker"))
    doubts, trusts = SettingsAsker(), SettingsTruster()
    assert doubts.limits() == asyncio.run(doubts.alimits()) == asker.limits() != {}
    assert trusts.limits() == asyncio.run(trusts.alimits()) == truster.limits() != {}
    assert trusts.limits([]) == {} == doubts.limits([])
    assert trusts.out_of_depth(ASKED, "Many.") == truster.out_of_depth(ASKED, "Many.") != ""
    assert asyncio.run(trusts.aout_of_depth(ASKED, RIGHT)) == ""
    assert trusts.score(ASKED, [RIGHT, WRONG]) == truster.score(ASKED, [RIGHT, WRONG])
    monkeypatch.setenv("ARTRAG_TRUSTER", "evidence")
    monkeypatch.setenv("ARTRAG_ASKER", "evidence")
    assert doubts.limits() == {} == trusts.limits() and trusts.out_of_depth(ASKED, "Many.") == ""


def test_labelled_answers_are_distinct_and_know_their_duels() -> None:
    draft, better = RecordedAnswer("initial", WRONG, None, False), RecordedAnswer("refined", RIGHT, None, True)
    row = Prediction("1", ASKED, (draft, better, replace(draft, stage="sample"), replace(better, correct=None)))
    found = labelled_answers([row, replace(row, id="2")])
    assert found.keys == [(ASKED, WRONG), (ASKED, RIGHT)] and found.right.tolist() == [False, True]
    assert found.duels == [(1, 0)] and found.rows.shape == (2, len(NAMES))
    assert found.rows[1].tolist() == pytest.approx([signals(ASKED, RIGHT)[name] for name in NAMES])


# The command


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """`artrag ...` as a shell runs it: its exit code and both streams."""
    from artrag.interfaces import cli

    def go(*words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["artrag", *map(str, words)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return (code, *capsys.readouterr())

    return go


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two files of train and one of dev."""
    paths = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "dev.jsonl"
    for path, rows_ in zip(paths, (TRAIN[:30], TRAIN[30:], DEV), strict=True):
        write_predictions(path, rows_)
    return paths


def test_train_art_is_one_json_object(run: Any, files: Any, tmp_path: Path, made: tuple[Path, dict[str, Any]]) -> None:
    first, second, dev = files
    out = tmp_path / "out"
    code, said, told = run(
        "train", "art", "--predictions", first, second, "--dev", dev, "--out", out, "--reader", "none", "--json"
    )
    assert code == 0 and said.count("\n") == 1
    assert f"only {len(DEV)} questions to choose thresholds on" in told
    found = json.loads(said)
    assert found["out"] == str(out) and found["variant"] == "signals"
    whole = json.loads(json.dumps(made[1]))
    assert {name: found[name] for name in whole if name not in ("seconds", "out")} == {
        name: value for name, value in whole.items() if name not in ("seconds", "out")
    }
    assert (out / "truster" / WEIGHTS).read_bytes() == (made[0] / "truster" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("kind", ["asker", "truster"])
def test_train_one_part_without_dev(run: Any, files: Any, tmp_path: Path, kind: str, quick: None) -> None:
    words = ["--predictions", files[0], "--predictions", files[1], "--out", tmp_path / kind, "--seed", 3]
    code, said, _ = run("train", kind, *words, "--reader", "none", "--json")
    found = json.loads(said)
    assert code == 0 and found["questions"]["train"] + found["questions"]["dev"] == len({r.question for r in TRAIN})
    assert 3 <= found["questions"]["dev"] <= 20
    part = read_part(tmp_path / kind, kind)  # type: ignore[arg-type]
    assert part.options["seed"] == 3 and part.thresholds == found["thresholds"]


def test_a_person_reads_a_table(run: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def fake(learn: Any, check: Any, out: Path, **options: Any) -> dict[str, Any]:
        given.update(options, learn=learn, check=check)
        options["tell"]("fitting", 0.5)
        return {
            "auc": {"value": 0.81, "low": 0.7, "high": 0.9},
            "thresholds": {"refine_above": 0.4},
            "rows": 3,
            "losses": None,
        }

    monkeypatch.setattr(worked, "train_art", fake)
    words = ["train", "art", "--predictions", files[0], files[1], "--out", tmp_path / "out", "--reader", "none"]
    code, said, _ = run(*words, "--seed", 5, "--refine-budget", 0.3, "--answered-right", 0.8)
    assert code == 0 and "0.810" in said and "0.700 to 0.900" in said and "0.400" in said and "chosen" in said
    assert given["kinds"] == ["asker", "truster"]
    assert given["plan"] == Plan(seed=5, refine_budget=0.3, answered_right=0.8)
    held = {normal_question(row.question) for row in given["check"]}
    assert held and not held & {normal_question(row.question) for row in given["learn"]}
    # Another spelling of a question that is held out is held out too.
    again = [replace(row, id=f"{row.id}-again", question=f" {row.question.upper()}") for row in TRAIN]
    write_predictions(files[0], [*TRAIN, *again])
    assert run(*words[:4], "--out", tmp_path / "out")[0] == 0
    assert {normal_question(row.question) for row in given["check"]} == held and len(given["check"]) > len(held)


def test_what_cannot_be_trained_on_is_wrong_usage(run: Any, files: Any, tmp_path: Path) -> None:
    first, _, dev = files
    out = tmp_path / "out"

    def refused(*words: Any) -> str:
        code, said, _ = run("train", "truster", *words, "--out", out, "--reader", "none", "--json")
        found = json.loads(said)
        assert code == 2 and set(found) == {"error", "type"} and not out.exists()
        return f"{found['type']}: {found['error']}"

    assert "TrainingDataError: 30 questions are in both" in refused("--predictions", first, "--dev", first)
    write_predictions(dev, TRAIN[:1])
    assert "UsageError: 1 rows are too few to hold questions out of: give --dev FILE" in refused("--predictions", dev)
    dev.write_text("{", "utf-8")
    assert "PredictionsError" in refused("--predictions", first, "--dev", dev)
    write_predictions(dev, only(DEV, lambda answer: answer.correct is False))
    assert "dev lacks a question with both" in refused("--predictions", first, "--dev", dev)


@pytest.mark.parametrize(("kind", "variant"), [("asker", "encoder"), ("truster", "encoder"), ("asker", "causal")])
def test_what_is_asked_for_reaches_every_variant(
    kind: str, variant: str, files: Any, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget or an accuracy that a trainer never hears of would be an option without effect."""
    heard: dict[str, Any] = {}

    def trainer(_learn: Any, _check: Any, _out: Path, **options: Any) -> dict[str, Any]:
        heard.update(options)
        return {}

    module = importlib.import_module(f"artrag.training.{variant}")
    monkeypatch.setattr(module, f"train_{variant}_{kind}", trainer)
    wanted = ["--refine-budget", "0.3"] if kind == "asker" else ["--answered-right", "0.9"]
    words = ["--predictions", files[0], "--out", tmp_path / "part", "--variant", variant, "--seed", "7", *wanted]
    code, _, complaint = run("train", kind, *words, "--limit", "5", "--epochs", "3", "--json")
    assert code == 0, complaint
    assert (heard["seed"], heard["limit"], heard["epochs"]) == (7, 5, 3)
    assert heard["choosing"] == (Choosing(0.3) if kind == "asker" else Choosing(None, 0.9))
