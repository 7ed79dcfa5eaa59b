"""Train the Asker and the Truster for worked answers: recorded predictions in, folders of trained parts out."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from artrag.evaluation.calibration import Kind as Calibration
from artrag.evaluation.calibration import fit_calibration
from artrag.evaluation.predictions import Prediction, check_split
from artrag.evaluation.replay import replay_scored
from artrag.evaluation.report import write_report
from artrag.evaluation.scoring import score_rows
from artrag.models.opening import reader_folder
from artrag.models.parts import Kind, Part, probability, sha256, write_part
from artrag.models.signals import VERSION
from artrag.models.step_reader import NETWORK
from artrag.models.trained import WEIGHTS, TrainedAsker, TrainedTruster
from artrag.settings import REFINE_ABOVE, TRUST_MARGIN
from artrag.training.choosing import THRESHOLDS, Choosing, Key, Known, choose, sources
from artrag.training.crossfit import Answers, CrossFit, Progress, cross_fit, labelled_answers
from artrag.training.readings import Readings

CURVE = "curve.jsonl"
OF_THE_OTHER: dict[Kind, set[str]] = {
    "asker": {"auc", "ece_asker", "ask-only", "random", "random+trust", "gain_kept_at_half", "curve_above_random"},
    "truster": {"ece", "aurc", "accuracy_at_80", "gain_at_80", "within_question_auc", "trust-only", "weighted-vote"},
}
"""Figures that say nothing where that part was not trained."""


@dataclass(frozen=True, slots=True)
class Plan(Choosing):
    """How parts are trained, and what their thresholds are chosen for.

    Attributes:
        seed: of weights and draws.
        calibration: "platt" needs few rows; "isotonic" some hundreds.
    """

    seed: int = 0
    calibration: Calibration = "platt"


def train_art(
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    *,
    kinds: Sequence[Kind] = ("asker", "truster"),
    plan: Plan | None = None,
    reader: str | Path | None = None,
    tell: Progress | None = None,
) -> dict[str, Any]:
    """Predictions to Asker, Truster, calibration, thresholds and report, in one go.

    Args:
        train: recorded predictions to learn from.
        dev: recorded predictions of other questions; they choose the pass of the training and, together with
            out-of-fold scores of train, calibration and thresholds.
        out: folder; with both kinds the parts lie in `asker/` and `truster/`, with one kind in the folder itself.
        kinds: which parts to train.
        plan: how.
        reader: folder of a step reader whose readings join the signals; it must stay where it is relative to the parts.
        tell: is told (what, share done).

    Returns:
        Figures on dev with 95% intervals over questions, thresholds, calibrations, rows and seconds.

    Raises:
        TrainingDataError: nothing to learn from, one class only, or a question in both train and dev.
        MissingExtraError: the extra `train` is not installed.
    """
    started = time.perf_counter()
    plan = plan or Plan()
    check_split(train, dev)
    read = Readings(reader_folder(reader)) if reader else None
    learn, check = (labelled_answers(rows, tell, readings=read) for rows in (train, dev))
    fits = {kind: cross_fit(kind, learn, check, seed=plan.seed, tell=tell) for kind in kinds}
    truth = _truth(learn) | _truth(check)
    calibrations = {kind: _calibrated([*train, *dev], kind, fit, truth, plan) for kind, fit in fits.items()}
    thresholds = _thresholds([*train, *dev], fits, calibrations, plan)
    options = {"signals": VERSION, "seed": plan.seed, "refine_budget": plan.refine_budget}
    parts = {}
    for kind, fit in fits.items():
        folder = out if len(kinds) == 1 else out / kind
        there = {} if reader is None else _reader_of(folder, reader)
        parts[kind] = _save(folder, kind, fit, calibrations[kind], thresholds, sources(train), options | there)
    figures = _figures(dev, parts, thresholds, out)
    for folder, part in parts.values():
        write_part(folder, replace(part, figures=figures))
    return {
        **figures,
        "thresholds": thresholds,
        "calibration": calibrations,
        "answers": {"train": len(learn.keys), "dev": len(check.keys)},
        "questions": {"train": len(set(learn.questions)), "dev": len(set(check.questions))},
        "right": {"train": float(learn.right.mean()), "dev": float(check.right.mean())},
        "out": {kind: str(folder) for kind, (folder, _) in parts.items()},
        "seconds": time.perf_counter() - started,
    }


def _calibrated(
    rows: Sequence[Prediction], kind: Kind, fit: CrossFit, truth: Mapping[Key, bool], plan: Plan
) -> dict[str, Any]:
    keys = [key for key in _seen(rows, kind) if key in fit.raw] or list(fit.raw)
    return fit_calibration([fit.raw[key] for key in keys], [truth[key] for key in keys], plan.calibration).as_dict()


def _truth(answers: Answers) -> dict[Key, bool]:
    return dict(zip(answers.keys, map(bool, answers.right), strict=True))


def _seen(predictions: Sequence[Prediction], kind: Kind) -> list[Key]:
    """The answers a part will see: the Asker drafts, the Truster drafts and what came of them.

    Where no row can be replayed, all answers.
    """
    rows = [row for row in predictions if any(answer.stage == "initial" for answer in row.candidates)]
    rows = [row for row in rows if len(row.candidates) > 1] or rows or list(predictions)
    answers = [(row, answer) for row in rows for answer in row.candidates]
    drafts = [(row, answer) for row, answer in answers if answer.stage == "initial"]
    return [(row.question, answer.text) for row, answer in (drafts or answers if kind == "asker" else answers)]


def _known(fits: Mapping[Kind, CrossFit], calibrations: Mapping[Kind, Mapping[str, Any]]) -> Known:
    def sure(kind: Kind) -> dict[Key, float]:
        raw = fits[kind].raw if kind in fits else {}
        return {key: probability(calibrations[kind], value) for key, value in raw.items()}

    doubt = {key: 1 - right for key, right in sure("asker").items()}
    return Known(doubt, fits["truster"].raw if "truster" in fits else {}, sure("truster"))


def _thresholds(
    rows: Sequence[Prediction],
    fits: Mapping[Kind, CrossFit],
    calibrations: Mapping[Kind, Mapping[str, Any]],
    plan: Plan,
) -> dict[str, float]:
    """Threshold, margin and floor on the rows that can be replayed; empty where none can."""
    known = _known(fits, calibrations)
    fit = next(iter(fits.values()))
    scored = score_rows(rows, known, known)
    usable = [row for row in scored.rows if all((row.row.question, a.text) in fit.raw for a in row.answers)]
    return choose(list(fits), usable, plan)


def _reader_of(folder: Path, reader: str | Path) -> dict[str, Any]:
    """Where the step reader lies as seen from the part's folder, and which one it is."""
    found = reader_folder(reader)
    name = Path(os.path.relpath(found, folder.resolve())).as_posix()
    return {"reader": name, "reader_sha256": sha256(found / NETWORK)}


def _save(
    folder: Path,
    kind: Kind,
    fit: CrossFit,
    calibration: dict[str, Any],
    thresholds: Mapping[str, float],
    data: list[dict[str, Any]],
    options: dict[str, Any],
) -> tuple[Path, Part]:
    folder.mkdir(parents=True, exist_ok=True)
    fit.head.save(folder / WEIGHTS)
    lines = [{"pass": n + 1, "loss": loss, "dev": figure} for n, (loss, figure) in enumerate(fit.curve)]
    (folder / CURVE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    part = Part(
        kind=kind,
        variant="signals",
        files={WEIGHTS: ""},
        calibration=calibration,
        thresholds={name: thresholds[name] for name in THRESHOLDS[kind] if name in thresholds},
        data=data,
        options=options | {"passes": fit.kept + 1},
    )
    write_part(folder, part)
    return folder, part


def _figures(
    dev: Sequence[Prediction],
    parts: Mapping[Kind, tuple[Path, Part]],
    thresholds: Mapping[str, float],
    out: Path,
) -> dict[str, Any]:
    """Replay dev with the parts as they were saved, and write the report; empty where no row can be replayed."""
    asker = TrainedAsker.load(parts["asker"][0]) if "asker" in parts else Known({}, {}, {})
    truster = TrainedTruster.load(parts["truster"][0]) if "truster" in parts else Known({}, {}, {})
    scored = score_rows(dev, asker, truster)
    if not scored.rows:
        return {}
    # Alone, an Asker is measured with the refined answer always taken, a Truster with every draft refined.
    alone = {"refine_above": 0.0 if "asker" not in parts else REFINE_ABOVE}
    alone["trust_margin"] = -1.0 if "truster" not in parts else TRUST_MARGIN
    chosen = alone | {name: thresholds[name] for name in alone if name in thresholds}
    report = replay_scored(scored, **chosen)
    write_report(out, report, {"predictions": "dev", "parts": ", ".join(parts)})
    other = {"files", "thresholds"}.union(*(OF_THE_OTHER[kind] for kind in OF_THE_OTHER if kind not in parts))
    return {name: value for name, value in report.as_dict().items() if name not in other}
