"""ART in one go: one generation gives the subquestions, the decision to refine, and the choice between two answers.

    python benchmarks/one_go.py --train train.jsonl --dev dev.jsonl --test test.jsonl --out runs/one_go

The files hold recorded predictions with an `initial` and a `refined` answer, of different questions. The paper's
end-to-end variant (ART, arXiv 2311.07961) reads its decision from the decoded text; here the same words, no token more,
are read twice: as text, and by the logits after "Refine:" and "Choose:", as they are and with thresholds from dev.

Prints one JSON object. A killed training goes on when the command is given again.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artrag.evaluation.calibration import auc
from artrag.evaluation.intervals import clustered
from artrag.evaluation.predictions import Prediction, check_split, read_predictions
from artrag.evaluation.replay import plain
from artrag.models.causal import DECISION, MOST_WORDS, NO, YES, checks, read, written
from artrag.models.causal_model import CausalModel, Message
from artrag.models.references import weights_folder
from artrag.models.weights import ADAPTER
from artrag.settings import EMBEDDED_BASE
from artrag.training.causal_data import Row, marked
from artrag.training.loop import Plan
from artrag.training.lora import fine_tune

CHOICE = "Choose:"
FIRST, SECOND = " first", " second"
_REFINE = re.compile(r"Refine: (Yes|No)\b")
_CHOOSE = re.compile(r"Choose: (first|second)\b")


@dataclass(frozen=True, slots=True)
class Case:
    """A question with its draft and the refined answer, which of them are right, and what to ask."""

    question: str
    texts: tuple[str, str]
    right: tuple[bool, bool]
    completion: str

    @property
    def prompt(self) -> list[Message]:
        """What the model reads."""
        parts = [f"Question: {self.question}"]
        for name, text in zip(("First", "Second"), self.texts, strict=True):
            parts.append(f"{name} answer: {text}\nChecks: {checks(self.question, text, None)}")
        told = (
            "Ask what a right answer must settle, each question marked (answered) or (open) by the first answer. "
            'Then write "Refine: Yes" if the first answer is wrong, or "Refine: No", and "Choose: first" or '
            '"Choose: second".'
        )
        return [{"role": "system", "content": told}, {"role": "user", "content": "\n\n".join(parts)}]


def cases(rows: Sequence[Prediction], limit: int | None, seed: int) -> list[Case]:
    """One case a row that has a labelled draft and a labelled refinement: all, or `limit` drawn from them."""
    found = []
    for row in rows:
        draft = next((a for a in row.candidates if a.stage == "initial" and a.correct is not None), None)
        better = next((a for a in row.candidates if a.stage == "refined" and a.correct is not None), None)
        if draft is None or better is None:
            continue
        choice = SECOND if better.correct and not draft.correct else FIRST
        asked = written(marked(better.subquestions or draft.subquestions, draft.text)[:6])
        said = f"{asked}{DECISION}{NO if draft.correct else YES}\n{CHOICE}{choice}"
        found.append(Case(row.question, (draft.text, better.text), (bool(draft.correct), bool(better.correct)), said))
    return found if limit is None else random.Random(seed).sample(found, min(limit, len(found)))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one generation says of each case: as text (None where unreadable), and as log-odds."""

    text: list[tuple[bool, bool] | None]
    refine: np.ndarray[Any, np.dtype[np.float64]]
    second: np.ndarray[Any, np.dtype[np.float64]]


def verdicts(model: CausalModel, given: Sequence[Case]) -> Verdicts:
    """Generate once, then read the same words both ways."""
    room = model.window - MOST_WORDS
    said = model.write([model.prompt(case.prompt, room) for case in given], most=MOST_WORDS)
    texts: list[tuple[bool, bool] | None] = []
    rows: list[list[int]] = []
    later: list[list[int]] = []
    for case, text in zip(given, said, strict=True):
        refine, choose = _REFINE.search(text), _CHOOSE.search(text)
        texts.append((refine[1] == "Yes", choose[1] == "second") if refine and choose else None)
        begun = written(read(text)) + DECISION
        rows.append(model.prompt(case.prompt, room) + model.tokens(begun))
        later.append(model.prompt(case.prompt, room) + model.tokens(f"{begun}{YES}\n{CHOICE}"))
    return Verdicts(texts, np.array(model.log_odds(rows, YES, NO)), np.array(model.log_odds(later, SECOND, FIRST)))


def outcome(given: Sequence[Case], taken: Sequence[bool]) -> list[float]:
    """1 where the answer taken (the second, or the first) is right."""
    return [float(case.right[int(second)]) for case, second in zip(given, taken, strict=True)]


def best_thresholds(given: Sequence[Case], found: Verdicts) -> tuple[float, float]:
    """The pair of thresholds with the best accuracy."""
    first, second = (np.array([case.right[i] for case in given], dtype=float) for i in (0, 1))
    best, chosen = -1.0, (0.0, 0.0)
    levels = [np.quantile(odds, np.linspace(0, 1, 21)) for odds in (found.refine, found.second)]
    for a in (*levels[0], np.inf):
        for b in levels[1]:
            accuracy = float(np.where((found.refine >= a) & (found.second >= b), second, first).mean())
            if accuracy > best:
                best, chosen = accuracy, (float(a), float(b))
    return chosen


def main() -> None:
    """Train, write, read twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "dev", "test"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help="recorded predictions")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="so many rows, drawn from each file set")
    options = parser.parse_args()
    sets = {name: read_predictions(*getattr(options, name)) for name in ("train", "dev", "test")}
    check_split(sets["train"], sets["dev"] + sets["test"])
    check_split(sets["dev"], sets["test"])
    train, dev, test = (cases(rows, options.limit, options.seed) for rows in sets.values())
    plan = Plan(epochs=options.epochs, seed=options.seed)
    if not (options.out / ADAPTER).exists():
        rows, held = (
            [Row(prompt=c.prompt, completion=[{"role": "assistant", "content": c.completion}]) for c in given]
            for given in (train, dev[:100])
        )
        trained = fine_tune(
            rows,
            held,
            options.out,
            base=options.base,
            plan=plan,
            progress=lambda what, share: print(f"{what}: {share:.0%}", file=sys.stderr),
        )
        (options.out / "trained.json").write_text(json.dumps(asdict(trained)), "utf-8")
    model = CausalModel.load(weights_folder(options.base), adapter=options.out, window=plan.window)
    on_dev, on_test = verdicts(model, dev), verdicts(model, test)
    a, b = best_thresholds(dev, on_dev)
    wrong = [not case.right[0] for case in test]
    first = outcome(test, [False] * len(test))
    by = {
        "initial": first,
        "refine-all": outcome(test, [True] * len(test)),
        "by text": outcome(test, [bool(said and said[0] and said[1]) for said in on_test.text]),
        "by logit": outcome(test, list((on_test.refine >= 0) & (on_test.second >= 0))),
        "by logit, thresholds of dev": outcome(test, list((on_test.refine >= a) & (on_test.second >= b))),
        "oracle": [float(any(case.right)) for case in test],
    }
    questions = [case.question for case in test]
    gained = np.subtract(by["by logit, thresholds of dev"], by["by text"])
    said_refine = [float(bool(said and said[0])) for said in on_test.text]
    print(
        json.dumps(
            {
                **{name: plain(clustered(values, questions)) for name, values in by.items()},
                "by logit minus by text": plain(clustered(gained, questions)),
                "auc of refine": {"by text": auc(said_refine, wrong), "by logit": auc(on_test.refine, wrong)},
                "unreadable": sum(said is None for said in on_test.text),
                "thresholds": [a, b] if np.isfinite(a) else None,
                "rows": {"train": len(train), "dev": len(dev), "test": len(test)},
                "training": json.loads((options.out / "trained.json").read_text("utf-8")),
            }
        )
    )


if __name__ == "__main__":
    main()
