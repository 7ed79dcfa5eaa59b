"""An Asker that is told subquestions: from the data set, from a chat model without the gold answer, or none at all.

    python benchmarks/subquestions.py --data ../shared/data --out runs/subquestions --part dev     # while choosing
    python benchmarks/subquestions.py --data ../shared/data --out runs/subquestions --part test    # once

The same questions, drafts and labels for all kinds. Questions are those of a re-split of GSM8K's *test* questions: no
official GSM8K figures. Drafts are ChatGPT's and LLaMA 13B's along weak questioners' subquestions, so "none" means none
besides the draft's own. Subquestions of the data set were written along its gold solutions; those of ChatGPT and of a
fine-tuned GPT-2 ("weak", never the one that the draft followed) from the question alone.

Two learners: the product's head over its signals, with signals of how subquestions and draft meet (all drafts, some
seeds), and its 22M encoder, which reads the subquestions behind the draft, each marked answered or open (some drafts,
one seed). Prints one JSON object. A killed training goes on when the command is given again.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from art_data import POOLED, STRONG, chains, read
from numpy.typing import NDArray

from artrag.evaluation.calibration import auc, pair_wins
from artrag.evaluation.intervals import clustered_ratios, clustered_statistic
from artrag.evaluation.predictions import Prediction, RecordedAnswer
from artrag.evaluation.replay import plain
from artrag.evidence import coverage
from artrag.final_answer import read_number
from artrag.models.causal import written
from artrag.models.encoder_model import EncoderModel
from artrag.models.heads import Head
from artrag.models.parts import MANIFEST
from artrag.models.references import weights_folder
from artrag.models.signals import given_numbers, signals
from artrag.protocols import Subquestion
from artrag.settings import EMBEDDED_ENCODER
from artrag.text import numbers, terms, words
from artrag.training.convert import convert
from artrag.training.encoder import train_encoder_asker
from artrag.training.heads import fit_head
from artrag.working import near, read_steps

WEAK = "gpt2-small/bc"
"""The weak generator; drafts that followed it are left out."""
DRAFTS = 3
"""Drafts of a question and answerer at most."""
COVERED = 0.8
"""Share of a subquestion's terms and numbers that a line must hold to answer it; chosen on train and dev."""
CHECKED = 60
"""Drafts of dev, one a question, that choose the encoder's checkpoint: it looks at them eight times."""
RUNS = {
    "none": ("none", "none"),
    "given": ("given", "given"),
    "generated": ("generated", "generated"),
    "weak": ("weak", "weak"),
    "given, then generated": ("given", "generated"),
    "another question's": ("another", "another"),
    "given, only how many": ("given #", "given #"),
    "generated, only how many": ("generated #", "generated #"),
}
"""Which subquestions a learner is trained with, and which it is asked with."""
READ = ("none", "given", "generated", "weak")
"""What the encoder is trained and asked with; `given` is asked with `generated`, too."""
DIFFERENCES = [(run, "none") for run in RUNS if run != "none"] + [("generated", "given"), ("weak", "generated")]

Scores = dict[str, NDArray[np.float64]]
"""For each run [seeds, drafts]: higher where the draft is more likely wrong."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A recorded draft with its label, and the subquestions of each kind."""

    id: str
    question: str
    source: str
    text: str
    right: bool
    asked: dict[str, list[str]]

    @property
    def lines(self) -> list[str]:
        """The lines of the working."""
        return [line for line in self.text.rpartition("\nFinal answer:")[0].split("\n") if line.strip()]

    def told(self, kind: str) -> list[Subquestion]:
        """The subquestions of a kind, each answered by a line of the draft or open; nothing gold is looked at."""
        return [Subquestion(asked, max(met(asked, self.lines)) >= COVERED) for asked in self.asked.get(kind, ())]


def met(asked: str, lines: Sequence[str]) -> list[float]:
    """The share of a subquestion that stands in each line; 0 where the line says no number besides what it asks."""
    return [coverage(asked, line) if any(c.isdigit() for c in line.split("?")[-1]) else 0.0 for line in lines] or [0.0]


def drafts(data: Path) -> dict[str, list[Draft]]:
    """The drafts of train, dev and test with their subquestions."""
    split = json.loads((data / "gsm8k" / "resplit_1319.json").read_text("utf-8"))
    questions = convert(read(data / "gsm8k" / "test.jsonl"))
    given = {row.id: row.metadata["subquestions"] for row in convert(read(data / "gsm8k" / "test_socratic.jsonl"))}
    found = read(data / "llm_predictions" / "gsm8k_chatgpt_subquestions.jsonl")
    kinds = {"given": given, "generated": {row["id"]: row["subquestions"] for row in found}, "weak": {}, "another": {}}
    pools: dict[str, list[Prediction]] = defaultdict(list)
    for row in (row for name in POOLED for row in chains(data, name, questions)):
        if row.metadata["questioner"] == WEAK:  # recorded once an answerer: the first one's
            kinds["weak"].setdefault(row.id, [one.text for one in row.candidates[0].subquestions])
        elif row.metadata["questioner"] != STRONG:
            pools[row.id].append(row)
    made = {}
    for part in ("train", "dev", "test"):
        ids = [name for name in split[part] if name in pools]
        kinds["another"] |= {a: kinds["generated"][b] for a, b in zip(ids, [*ids[1:], ids[0]], strict=True)}
        made[part] = [
            Draft(row.id, row.question, one.source, one.text, bool(one.correct), {k: kinds[k][row.id] for k in kinds})
            for name in ids
            for row in chosen(pools[name])
            for one in row.candidates
        ]
    return made


def chosen(pool: Sequence[Prediction]) -> list[Prediction]:
    """Different drafts of a question, at most three an answerer, by hash: the same ones whatever their order."""
    texts: dict[str, dict[str, Prediction]] = defaultdict(dict)
    for row in sorted(pool, key=lambda row: hashlib.sha256(f"{row.id} {row.metadata['questioner']}".encode()).digest()):
        answer, mine = row.candidates[0], texts[row.candidates[0].source]
        if answer.text.strip() and len(mine) < DRAFTS:
            mine.setdefault(answer.text, row)
    return [row for mine in texts.values() for row in mine.values()]


def relations(draft: Draft, kind: str) -> dict[str, float]:
    """How the subquestions of a kind and the draft meet; empty for "none", their number alone for "<kind> #"."""
    if kind == "none":
        return {}
    told = draft.asked[kind.removesuffix(" #")]
    count = {"asked": float(min(len(told), 12))}
    if kind.endswith(" #"):
        return count
    lines, final = draft.lines, read_number(draft.text)
    shares = [met(one, lines) for one in told]
    best = [max(row) for row in shares] or [0.0]
    places = [row.index(max(row)) for row in shares if max(row) >= COVERED]
    last = best[-1] >= COVERED
    ends = last and final is not None and any(near(n, final) for n in numbers(lines[places[-1]]))
    own = " ".join(words(draft.text))
    asked = [term for one in told for term in terms(one)]
    known, mine = set(terms(draft.question)), set(terms(draft.text))
    return count | {
        "asked_answered": _share(len(places), len(told)),
        "asked_open": float(min(len(told) - len(places), 8)),
        "asked_last_answered": float(last),
        "asked_mean": float(np.mean(best)),
        "asked_least": min(best),
        "asked_last": best[-1],
        "asked_in_order": _share(sum(a <= b for a, b in zip(places, places[1:], strict=False)), len(places) - 1),
        "asked_lines": _share(len(set(places)), len(lines)),
        "asked_ends": float(ends),
        "asked_verbatim": _share(sum(" ".join(words(one)) in own for one in told), len(told)),
        "asked_new": _share(sum(term not in known for term in asked), len(asked)),
        "asked_missed": _share(sum(term not in mine for term in asked), len(asked)),
        "steps_less_asked": float(max(-8, min(len(read_steps(draft.text)) - len(told), 8))),
        "lines_less_asked": float(max(-8, min(len(lines) - len(told), 8))),
        "asked_less_given": float(max(-8, min(len(told) - len(given_numbers(draft.question)), 8))),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def by_numbers(parts: dict[str, list[Draft]], part: str, seeds: int) -> Scores:
    """Scores of the drafts of `part` by heads over signals; dev chooses the pass of the training."""
    bare = {name: [signals(one.question, one.text) for one in parts[name]] for name in {"train", "dev", part}}
    right = {name: np.array([one.right for one in parts[name]]) for name in bare}

    @lru_cache
    def table(name: str, kind: str) -> tuple[list[str], NDArray[np.float32]]:
        rows = [base | relations(one, kind) for base, one in zip(bare[name], parts[name], strict=True)]
        return list(rows[0]), np.array([list(row.values()) for row in rows], dtype=np.float32)

    def on_dev(kind: str, head: Head) -> float:
        return auc(head.raw(table("dev", kind)[1]), right["dev"])

    questions, sources = [one.id for one in parts["train"]], [one.source for one in parts["train"]]
    scores: Scores = {}
    for run, (learned, asked) in RUNS.items():
        fit = partial(fit_head, *table("train", learned), right["train"], questions, sources=sources, pairwise=False)
        heads = [fit(measure=partial(on_dev, learned), seed=seed).head for seed in range(seeds)]
        scores[run] = np.array([-head.raw(table(part, asked)[1]) for head in heads], dtype=np.float64)
    return scores


def joined(draft: Draft, kind: str) -> str:
    """What the encoder reads as the answer: the draft, and behind it the subquestions with their marks."""
    told = written(draft.told(kind))
    return f"{draft.text}\nSubquestions:\n{told}" if told else draft.text


def by_encoder(parts: dict[str, list[Draft]], part: str, out: Path, couples: int, kinds: Sequence[str]) -> Scores:
    """Scores of the drafts of `part` by the encoder Asker, trained on so many couples of a right and a wrong draft."""

    def rows(given: Sequence[Draft], kind: str) -> list[Prediction]:
        answers = [RecordedAnswer("initial", joined(one, kind), correct=one.right) for one in given]
        return [Prediction(one.id, one.question, (answer,)) for one, answer in zip(given, answers, strict=True)]

    def tell(what: str, share: float) -> None:
        print(f"{what} {share:.0%}", file=sys.stderr)

    check = list({one.id: one for one in parts["dev"]}.values())[:CHECKED]
    scores: Scores = {}
    for kind in kinds:
        folder = out / f"encoder-{kind}-{couples}"
        if not (folder / MANIFEST).exists():
            train = rows(parts["train"], kind)
            found = train_encoder_asker(train, rows(check, kind), folder, limit=couples, progress=tell)
            (folder / "trained.json").write_text(json.dumps(found), "utf-8")
        model = EncoderModel.load(weights_folder(EMBEDDED_ENCODER), folder)
        for run, (learned, asked) in RUNS.items():
            kept = folder / f"scores.{part}.{asked}.json"
            if learned != kind or asked not in READ:
                continue
            if not kept.exists():
                raw = model.scores([(one.question, joined(one, asked), None) for one in parts[part]])
                kept.write_text(json.dumps(raw), "utf-8")
            scores[run] = -np.array([json.loads(kept.read_text("utf-8"))])
    return scores


def figures(scores: Scores, given: Sequence[Draft]) -> dict[str, Any]:
    """AUC of "the draft is wrong" over all drafts, and within a question and answerer; several seeds by their mean."""
    wrong = np.array([not one.right for one in given])
    groups = [(one.id, one.source) for one in given]
    asked = [name for name, _ in dict.fromkeys(groups)]
    pairs = pair_wins(np.zeros(len(given)), wrong, groups)[1]
    wins = {run: np.mean([pair_wins(row, wrong, groups)[0] for row in rows], axis=0) for run, rows in scores.items()}

    def over_all(run: str, other: str | None, at: NDArray[Any]) -> float:
        value = float(np.mean([auc(row[at], wrong[at]) for row in scores[run]]))
        return value - over_all(other, None, at) if other else value

    def told(run: str, other: str | None) -> dict[str, Any]:
        top = wins[run] - (wins[other] if other else 0.0)
        return {
            "auc": plain(clustered_statistic(partial(over_all, run, other), [one.id for one in given])),
            "within a question": plain(clustered_ratios(top[None], pairs[None], asked)[0]),
        }

    found = {run: told(run, None) | {"seeds": [auc(row, wrong) for row in rows]} for run, rows in scores.items()}
    return found | {f"{a} minus {b}": told(a, b) for a, b in DIFFERENCES if {a, b} <= set(scores)}


def untrained(given: Sequence[Draft], kind: str) -> dict[str, float]:
    """How many subquestions a question has, the share that drafts answer, and AUCs of that share and their number."""
    wrong, told = [not one.right for one in given], [one.told(kind) for one in given]
    left = [_share(sum(not one.answered for one in row), len(row)) for row in told]
    return {
        "a question": float(np.mean([len(row) for row in told])),
        "answered": float(np.mean([one.answered for row in told for one in row])),
        "auc of the share open": auc(left, wrong),
        "auc of their number": auc([len(row) for row in told], wrong),
    }


def main() -> None:
    """Train, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    parser.add_argument("--seeds", type=int, default=3, help="of the head over signals")
    parser.add_argument("--couples", type=int, default=500, help="that the encoder learns from")
    parser.add_argument("--encoder", nargs="*", choices=READ, default=READ, help="the kinds that it learns")
    options = parser.parse_args()
    parts = drafts(options.data)
    given = parts[options.part]
    learners = {"numbers": by_numbers(parts, options.part, options.seeds)}
    if options.encoder:
        learners["encoder"] = by_encoder(parts, options.part, options.out, options.couples, options.encoder)
    told = {
        "part": options.part,
        "questions": {name: len({one.id for one in rows}) for name, rows in parts.items()},
        "drafts": {name: len(rows) for name, rows in parts.items()},
        "wrong": float(np.mean([not one.right for one in given])),
        "subquestions": {kind: untrained(given, kind) for kind in ("given", "generated", "weak", "another")},
    }
    print(json.dumps(told | {name: figures(scores, given) for name, scores in learners.items()}))


if __name__ == "__main__":
    main()
