"""Train a causal Asker or Truster from recorded predictions, and measure it on the development questions."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from artrag.errors import TrainingDataError
from artrag.evaluation.calibration import fit_calibration
from artrag.evaluation.policies import ScoredRow
from artrag.evaluation.predictions import Prediction, check_split
from artrag.evaluation.scoring import score_rows
from artrag.models.causal import CausalAsker, CausalTruster, Kind, prompt_digest
from artrag.models.parts import Part, probability, sha256, write_part
from artrag.models.references import weights_folder
from artrag.models.weights import ADAPTER, base_weights
from artrag.models.wheels import Progress
from artrag.settings import EMBEDDED_BASE
from artrag.training.causal_data import Labelled, asker_rows, labelled, truster_pairs
from artrag.training.choosing import Choosing, Key, Known, choose, ranking_figures, sources, summary
from artrag.training.loop import CHECKPOINT, Plan, Trained
from artrag.training.lora import fine_rank, fine_tune

DEV_ROWS = 300
"""Rows of dev that choose the checkpoint, and drafts of dev that are measured: an Asker writes some seconds a draft."""
CONFIG = "adapter_config.json"

T = TypeVar("T")


def train_causal_asker(
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    *,
    base: str = EMBEDDED_BASE,
    epochs: int = 2,
    seed: int = 0,
    limit: int | None = None,
    choosing: Choosing | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the Asker of ART, Section 3.2, and leave it in `out`; a killed run goes on when it is called again.

    The figures are measured as the Asker will be used: it writes its own subquestions on the drafts of dev (at most
    300, or `limit`) and decides after them. The calibration is fitted on the same drafts.

    Args:
        train: recorded answers with labels.
        dev: of other questions; chooses the checkpoint and the calibration.
        out: folder of the part.
        base: reference of the base model.
        epochs: passes over the rows, at most.
        seed: of rows, weights and order.
        limit: use at most so many rows of train and dev. On 2 CPU cores the embedded model learns 270 tokens a second:
            a row takes about a second and a half, a Truster's pair three.
        choosing: what the thresholds are chosen for.
        progress: told how far it is.

    Returns:
        `auc` and `within_question_auc` of "the draft is wrong", with intervals over questions; `thresholds`, where dev
        holds drafts with their refinements; `losses`, `rows`, `steps`, `stopped`, `tokens`, `seconds` and
        `peak_memory_mb`.

    Raises:
        TrainingDataError: one class only, a question in both parts, or nothing that fits the window.
        MissingExtraError: the extra `train` is not installed.
    """
    check_split(train, dev)
    plan = Plan(epochs=epochs, seed=seed)
    rows = _sample(asker_rows(train, seed=seed), limit, seed)
    held = _sample(asker_rows(dev, seed=seed), min(DEV_ROWS, limit or DEV_ROWS), seed)
    begun = time.monotonic()
    trained = fine_tune(rows, held, out, base=base, plan=plan, progress=progress)
    part = _part("asker", out, base, plan, train)
    asker, drafts = CausalAsker.load(out), _measured(dev, limit, seed)
    if progress:
        progress(f"measuring {len(drafts)} drafts", 0.0)
    items = [one.item for one in drafts]
    raw = asker.log_odds(items, asker.subquestions(items))
    return _finished(part, out, dev, drafts, raw, trained, begun, choosing or Choosing())


def train_causal_truster(
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    *,
    base: str = EMBEDDED_BASE,
    epochs: int = 2,
    seed: int = 0,
    limit: int | None = None,
    choosing: Choosing | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the Truster of ART, Section 3.4, with the pairwise loss; arguments, figures and errors as for the Asker.

    Its figures are those of "the answer is right".
    """
    check_split(train, dev)
    plan = Plan(epochs=epochs, seed=seed)
    pairs = _sample(truster_pairs(train, seed=seed), limit, seed)
    held = _sample(truster_pairs(dev, seed=seed), min(DEV_ROWS, limit or DEV_ROWS), seed)
    begun = time.monotonic()
    trained = fine_rank(pairs, held, out, base=base, plan=plan, progress=progress)
    part = _part("truster", out, base, plan, train)
    answers = _measured(dev, limit, seed)
    raw = CausalTruster.load(out).scores([one.item for one in answers])
    return _finished(part, out, dev, answers, raw, trained, begun, choosing or Choosing())


def _measured(dev: Sequence[Prediction], limit: int | None, seed: int) -> list[Labelled]:
    """Whole questions of dev, drawn up to some hundred labelled answers."""
    groups = labelled(dev, most=4, seed=seed)
    random.Random(f"{seed} measured").shuffle(groups)  # noqa: S311
    chosen: list[Labelled] = []
    for group in groups:
        chosen += group if len(chosen) < min(DEV_ROWS, limit or DEV_ROWS) else []
    if len({one.correct for one in chosen}) < 2:
        raise TrainingDataError(
            f"the {len(chosen)} labelled answers of dev are all right or all wrong: give both, or raise the limit"
        )
    return chosen


def _sample(rows: list[T], limit: int | None, seed: int) -> list[T]:
    """At most `limit` rows, in their order."""
    if limit is None or len(rows) <= limit:
        return rows
    return [rows[i] for i in sorted(random.Random(f"{seed} rows").sample(range(len(rows)), limit))]  # noqa: S311


def _part(kind: Kind, out: Path, base: str, plan: Plan, train: Sequence[Prediction]) -> Part:
    """The manifest of the trained weights, still without calibration; written, so that the part can be loaded."""
    part = Part(
        kind=kind,
        variant="causal",
        base=base,
        base_sha256=sha256(base_weights(weights_folder(base))),
        files=dict.fromkeys((ADAPTER, CONFIG), ""),
        data=sources(train),
        options=asdict(plan) | {"prompt": prompt_digest(kind)},
    )
    write_part(out, part)
    return part


def _finished(
    part: Part,
    out: Path,
    dev: Sequence[Prediction],
    measured: Sequence[Labelled],
    raw: Sequence[float],
    trained: Trained,
    begun: float,
    choosing: Choosing,
) -> dict[str, Any]:
    """Calibrate, choose thresholds, measure, write the part again, and take the checkpoint away."""
    # An Asker's score is of "the draft is wrong", a Truster's of "the answer is right".
    labels = [one.correct is (part.kind == "truster") for one in measured]
    calibration = fit_calibration(raw, labels).as_dict()
    known = {one.item[:2]: value for one, value in zip(measured, raw, strict=True)}
    sure = {key: probability(calibration, value) for key, value in known.items()}
    both = Known(sure, {}, {}) if part.kind == "asker" else Known({}, known, sure)
    rows = [row for row in score_rows(dev, both, both).rows if _all_known(row, known)]
    part = replace(
        part,
        calibration=calibration,
        thresholds=choose(["asker"] if part.kind == "asker" else ["truster"], rows, choosing),
        figures=ranking_figures(raw, labels, [(one.key, one.answer.source, one.answer.text) for one in measured]),
    )
    write_part(out, part)
    (out / CHECKPOINT).unlink()
    return summary(part, trained, len(measured), begun)


def _all_known(row: ScoredRow, known: Mapping[Key, float]) -> bool:
    return all((row.row.question, answer.text) in known for answer in row.answers)
