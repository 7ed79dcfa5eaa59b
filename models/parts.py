"""Trained parts on disk: an Asker or a Truster is a folder with `part.json` and its weights.

`part.json` says what the weights are, which base model they belong to, their calibration and thresholds, what they were
trained on and how they did. Weights are safetensors or JSON, never a pickle.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from artrag.errors import PartError
from artrag.formats import refusal

Kind = Literal["asker", "truster"]
PartKind = Literal["asker", "truster", "reader", "retriever", "reranker", "answerer", "verifier"]
"""A reader is no part of the graph by itself; its readings join the signals of Asker and Truster. A retriever is LoRA
weights for an embedding model, a reranker an encoder that reads question and passage together, an answerer
LoRA weights for a chat model, a verifier such weights that say "Yes" or "No"."""

SHIPPED = Path(__file__).parent / "shipped"
FORMAT = 1
MANIFEST = "part.json"


@dataclass(frozen=True, slots=True)
class Part:
    """What `part.json` holds.

    Attributes:
        kind: what it does.
        variant: what it is made of: a small network over checkable signals, a small encoder with LoRA, or a causal
            language model with LoRA.
        base: reference of the base model, "" for none.
        base_sha256: checksum of the base model's weights, "" for none.
        files: weights beside the manifest, name -> SHA-256.
        calibration: how raw scores become probabilities (`artrag.evaluation.calibration`).
        thresholds: setting name -> value chosen on the development questions; they belong to these very weights.
        figures: metric -> {"value", "low", "high"} on the development questions.
        data: the sources trained on: name, licence, rows, who wrote the answers.
        options: what the training was run with, and what the weights need to be read.
    """

    kind: PartKind
    variant: Literal["signals", "encoder", "causal"]
    base: str = ""
    base_sha256: str = ""
    files: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    data: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def write_part(folder: Path, part: Part) -> None:
    """Write the manifest of the weights that already lie in `folder`, with their checksums; all or nothing."""
    whole = asdict(part) | {"files": {name: sha256(folder / name) for name in part.files}}
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".part-")
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(whole, out, ensure_ascii=False, indent=1)
    for made in (Path(temporary), *(folder / name for name in part.files)):
        made.chmod(0o644)  # those of mkstemp and of safetensors are for their owner alone
    os.replace(temporary, folder / MANIFEST)


def read_part(folder: Path, kind: PartKind, *or_kinds: PartKind) -> Part:
    """The manifest of a trained part of one of these kinds, its weights checked.

    Raises:
        PartError: there is none, it is damaged, of another format version, or of another kind.
    """
    place = folder / MANIFEST
    try:
        data = json.loads(place.read_text("utf-8"))
        if (found := data.get("format")) != FORMAT:  # first: what else stands there may be of another shape
            raise PartError(refusal(repr(str(place)), found, FORMAT, f"train it again, 'artrag train {kind}'"))
        known = {entry.name for entry in fields(Part)}
        part = Part(**{name: value for name, value in data.items() if name in known})
        _check(part)
    except FileNotFoundError:
        raise PartError(f"no trained {kind} in {str(folder)!r}: train one with 'artrag train {kind}'") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise PartError(f"{str(place)!r} is damaged ({error}): train the {kind} again") from None
    if part.kind not in (kind, *or_kinds):
        raise PartError(f"{str(folder)!r} holds the trained part {part.kind!r}: give the folder of a trained {kind}")
    for name, digest in part.files.items():
        if not (folder / name).is_file():
            raise PartError(f"{name!r} is missing in {str(folder)!r}: copy the whole folder, or train the {kind} again")
        if sha256(folder / name) != digest:
            raise PartError(f"{name!r} in {str(folder)!r} is not what {MANIFEST} was written for: train it again")
    return part


def base_of(folder: Path) -> str:
    """The reference of the model that a part was trained on.

    Raises:
        PartError: it names none.
    """
    try:
        base = json.loads((folder / MANIFEST).read_text("utf-8"))["base"]
    except (OSError, ValueError, TypeError, KeyError):
        base = ""
    if not isinstance(base, str) or not base:
        raise PartError(f"the trained part in {str(folder)!r} is no weights of a model: give a retriever's folder")
    return base


def _check(part: Part) -> None:
    """Raise ValueError where a field is not what it must be."""
    for name in ("files", "calibration", "thresholds", "figures", "options"):
        if not isinstance(getattr(part, name), dict):
            raise ValueError(f"{name!r} is no object")
    for name, value in part.thresholds.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the threshold {name!r} is {value!r}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_base(part: Part, weights: Path) -> None:
    """Refuse a base model that the part was not trained on.

    Raises:
        PartError: the checksum of the base's weights differs.
    """
    found = sha256(weights)
    if part.base_sha256 and found != part.base_sha256:
        raise PartError(
            f"this {part.kind} was trained on {part.base!r} with weights {part.base_sha256[:12]}, but {str(weights)!r} "
            f"has {found[:12]}: name the right base model, or train the {part.kind} again"
        )


def probability(calibration: Mapping[str, Any], raw: float) -> float:
    """The calibrated probability, 0 to 1, of a raw score.

    {"kind": "platt", "scale": a, "shift": b} is the logistic of `a * raw + b`, {"kind": "isotonic",
    "scores": [...], "probabilities": [...]} the line through these points, and {} the logistic of the score itself.

    Raises:
        PartError: the calibration is of another kind.
    """
    kind = calibration.get("kind", "platt")
    if kind == "isotonic":
        return _between(raw, calibration["scores"], calibration["probabilities"])
    if kind != "platt":
        raise PartError(f"no calibration {kind!r}: known are 'platt' and 'isotonic'; train the part again")
    logit = calibration.get("scale", 1.0) * raw + calibration.get("shift", 0.0)
    return 0.5 * (1 + math.tanh(logit / 2))  # the logistic, without an overflow


def raw_score(calibration: Mapping[str, Any], chance: float) -> float:
    """The raw score that `probability` makes this chance of: for an answer that is judged by other means."""
    if calibration.get("kind") == "isotonic":
        return _between(chance, calibration["probabilities"], calibration["scores"])
    chance = min(max(chance, 1e-6), 1 - 1e-6)
    logit = math.log(chance / (1 - chance))
    return float((logit - calibration.get("shift", 0.0)) / (calibration.get("scale", 1.0) or 1.0))


def _between(at: float, known: list[float], values: list[float]) -> float:
    import numpy as np  # model references read part.json, too, and are loaded with every graph

    return float(np.interp(at, known, values))
