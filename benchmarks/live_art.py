"""ART live, on nobody's recordings: a small solver, its own mistakes, and parts trained on them.

    python benchmarks/live_art.py --data DATA --out runs/live              # the figure; under an hour on 2 cores
    python benchmarks/live_art.py --data DATA --out runs/trial --limit 24  # a trial of every stage

DATA holds `arithmetic/mawps_asdiva_train.jsonl` and `arithmetic/svamp.jsonl`. The former contains ASDiv-A (CC BY-NC
4.0): it is for measuring only, and nothing trained here is shipped.

Stages; each is kept in --out, so a killed run goes on where it was (`timeout 500 python ...`, again and again, works):

1. Two solvers: the embedded model with LoRA, each on one half of the training questions, writes solutions with
   equations ("56 * 9 = 504. Final answer: 504") and corrects drafts (of every second question, two in three spoilt),
   with the open questions that the calculator answers and without any.
2. Answers: each solver answers questions of the *other* half (cross-fitting: mistakes on unseen questions), and the
   first one answers the test questions: greedily, k times sampled, and twice more with its draft, once with the open
   questions and once without.
3. Self-refine: the chat model without any training says of each draft how likely it must be refined.
4. Parts: Asker and Truster learn from three quarters of the cross-fitted answers; the rest sets thresholds.
5. Report: every policy on the test answers with bootstrap intervals, calls and tokens for each right answer, refining
   with and without open questions, and what training costs. Replaying the answers gives what the graph would give,
   question by question; they are written beforehand because a batch decodes ten times as fast.

Trainings run in processes of their own, so that each one's highest memory is known. Training questions differ from each
other and from SVAMP's in more than their numbers; thresholds come from training questions only.

Subsampled for 2 cores: 1,600 of 2,461 training questions (135,000 tokens a solver, 270 a second on both cores: 17
minutes for the two), of which 800 are answered, and 500 of 1,000 test questions, six texts each (110 tokens a text, 250
to 450 a second and core, as busy as the machine is: 16 to 30 minutes); 700 drafts judged (155 tokens each: 3).

Prints one JSON object.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from art_questions import Readings
from live_report import DRAFT, Doubts, Report
from live_stages import Stages
from word_problems import Problem, problems_of, refine_prompt, solution, solve_prompt, solver_rows

from artrag.errors import TrainingDataError
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import (
    Prediction,
    RecordedAnswer,
    normal_question,
    read_predictions,
    write_predictions,
)
from artrag.models import EvidenceAsker, EvidenceTruster, load_asker, load_chat, load_truster
from artrag.models.causal_model import CausalModel
from artrag.models.references import weights_folder
from artrag.protocols import Asker, Truster
from artrag.settings import EMBEDDED_BASE
from artrag.training import worked
from artrag.training.causal import train_causal_asker, train_causal_truster
from artrag.training.loop import Plan
from artrag.training.lora import fine_tune
from artrag.training.ngrams import NgramBaseline

TEMPERATURE = 0.7
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
WINDOW = 320
"""Tokens of prompt and answer; the longest prompt here, a draft of 48 tokens with four notes, has some 250."""
PART_SEEDS = 3


def tuned(problems: Sequence[Problem], folder: Path, base: str, plan: Plan) -> float:
    """A solver's LoRA weights; the last twenty-fifth of its problems chooses the checkpoint. Returns the seconds."""
    held = max(2, len(problems) // 25)
    rows, dev = solver_rows(problems[:-held], plan.seed), solver_rows(problems[-held:], plan.seed)
    trained = fine_tune(
        rows,
        dev,
        folder,
        base=base,
        plan=plan,
        progress=lambda what, share: print(f"{folder.name}: {share:.0%}", flush=True, file=sys.stderr),
    )
    (folder / "trained.json").write_text(json.dumps(asdict(trained)), "utf-8")
    return trained.seconds


def answered(
    stages: Stages, name: str, problems: Sequence[Problem], model: Callable[[], CausalModel], samples: int, seed: int
) -> list[Prediction]:
    """The solver's answers to problems that it never saw, in the order of `live_report`'s places."""
    drafts = stages.write(f"{name}.drafts", model, [solve_prompt(problem.question) for problem in problems])
    columns = [("initial", drafts)]
    for file, asked in (("refined", True), ("bare", False)):
        corrections = [
            refine_prompt(problem.question, draft.text, asked=asked)
            for problem, draft in zip(problems, drafts, strict=True)
        ]
        columns.append(("refined", stages.write(f"{name}.{file}", model, corrections)))
    for n in range(samples):
        prompts = [solve_prompt(problem.question) for problem in problems]
        options = {"temperature": TEMPERATURE, "seed": seed + 10_000 * n}
        columns.append(("sample", stages.write(f"{name}.sample{n}", model, prompts, **options)))
    rows = []
    for place, problem in enumerate(problems):
        answers, tokens = [], []
        for stage, written in columns:
            one = written[place]
            said = label(one.text, problem.final)
            answers.append(RecordedAnswer(stage, one.text, said.predicted, said.correct, source=name))  # type: ignore[arg-type]
            tokens.append([one.read, one.wrote])
        rows.append(Prediction(problem.id, problem.question, tuple(answers), problem.final, None, {"tokens": tokens}))
    write_predictions(stages.out / f"{name}.predictions.jsonl", rows)
    return read_predictions(stages.out / f"{name}.predictions.jsonl")


def doubts(stages: Stages, rows: Sequence[Prediction], dev: Sequence[Prediction], base: str) -> Doubts:
    """Self-refine: the model without our training says of each draft how likely it must be refined."""
    read = Readings(stages.out / "readings.jsonl", base, partial(load_chat, base), stages.tell)
    with stages.timed("self_refine"):
        on_dev, on_test = (
            [read.ask(row.question, row.candidates[DRAFT].text).refine_probability for row in given]
            for given in (dev, rows)
        )
    return Doubts(on_dev, on_test, [read.tokens(row.question, row.candidates[DRAFT].text) for row in rows])


def fit_signals(train: list[Prediction], dev: list[Prediction], out: Path, base: str, seed: int) -> None:
    """The parts that are shipped, trained anew: heads over what a calculator finds."""
    worked.train_art(train, dev, out, plan=worked.Plan(seed=seed))


def fit_causal(train: list[Prediction], dev: list[Prediction], out: Path, base: str, seed: int) -> None:
    """The causal parts; a killed training goes on."""
    for name, trainer in (("asker", train_causal_asker), ("truster", train_causal_truster)):
        if not (out / name / "done").exists():
            trainer(train, dev, out / name, base=base, seed=seed)
            (out / name / "done").touch()


TRAINERS = {"signals": fit_signals, "causal": fit_causal}


def parts(
    stages: Stages, kind: str, train: list[Prediction], dev: list[Prediction], base: str, seed: int
) -> tuple[Asker, Truster]:
    """Asker and Truster; those that have weights are trained in a process of their own."""
    if kind == "evidence":
        return EvidenceAsker(), EvidenceTruster()
    if kind == "ngrams":  # the baseline: a logistic regression over n-grams and the calculator's findings
        model = NgramBaseline.fit(train)
        return model, model
    out = stages.out / "parts" / f"{kind}_{seed}"
    stages.train(f"parts_{kind}_{seed}", TRAINERS[kind], train, dev, out, base, seed)
    return load_asker(out / "asker"), load_truster(out / "truster")


def wording(question: str) -> str:
    """A question without its numbers: MAWPS asks many in the same words."""
    return _NUMBER.sub("#", normal_question(question))


def drawn(data: Path, questions: int, test: int, seed: int) -> tuple[list[Problem], list[Problem]]:
    """Training problems whose calculation comes to their answer, and test problems.

    No two training problems, and no training and test problem, are of the same wording: what a solver answers it has
    not seen with other numbers.
    """
    draw = random.Random(seed)  # noqa: S311
    tested = problems_of(data / "arithmetic/svamp.jsonl")
    asked_there = {wording(problem.question) for problem in tested}
    distinct = {
        wording(problem.question): problem
        for problem in problems_of(data / "arithmetic/mawps_asdiva_train.jsonl")
        if (made := solution(problem.prefix)) and abs(made[1] - problem.final) < 1e-6
    }
    known = [problem for words, problem in distinct.items() if words not in asked_there]
    return draw.sample(known, min(questions, len(known))), draw.sample(tested, min(test, len(tested)))


def main() -> None:
    """All stages, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds arithmetic/")
    parser.add_argument("--out", type=Path, required=True, help="where the stages are kept")
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--parts", choices=[*TRAINERS, "evidence", "ngrams"], default="signals")
    parser.add_argument("--questions", type=int, default=1600, help="training questions of both solvers together")
    parser.add_argument("--answered", type=int, default=800, help="of these, answered by the other half's solver")
    parser.add_argument("--test", type=int, default=500, help="questions of SVAMP")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="a trial with so many questions of each kind")
    options = parser.parse_args()
    if options.limit:
        options.questions, options.answered, options.test = (
            min(given, options.limit) for given in (options.questions, options.answered, options.test)
        )
    known, test = drawn(options.data, options.questions, options.test, options.seed)
    asked = {
        name: getattr(options, name)
        for name in ("base", "questions", "answered", "test", "samples", "epochs", "rate", "seed")
    }
    # Kept answers belong to these very questions.
    asked["drawn"] = hashlib.sha256(" ".join(problem.id for problem in [*known, *test]).encode()).hexdigest()[:12]
    stages = Stages(options.out, asked, lambda said: print(said, flush=True, file=sys.stderr))
    plan = Plan(epochs=options.epochs, rate=options.rate, window=WINDOW, evaluations=3, seed=options.seed)
    halves = {"a": known[::2], "b": known[1::2]}
    folders = {name: options.out / f"solver_{name}" for name in halves}
    for name, half in halves.items():
        stages.train(f"solver_{name}", tuned, half, folders[name], options.base, plan)
    loaded: dict[str, CausalModel] = {}

    def solver(name: str) -> CausalModel:
        if name not in loaded:
            loaded.clear()
            loaded[name] = CausalModel.load(weights_folder(options.base), adapter=folders[name], window=WINDOW)
        return loaded[name]

    each = options.answered // 2
    asking = {"samples": options.samples, "seed": options.seed}
    mistakes = [
        row
        for name, other in (("a", "b"), ("b", "a"))
        for row in answered(stages, f"half_{name}", halves[name][:each], partial(solver, other), **asking)
    ]
    rows = answered(stages, "test", test, partial(solver, "a"), **asking)
    dev, train = mistakes[::4], [row for place, row in enumerate(mistakes) if place % 4]
    report = Report(rows, dev, doubts(stages, rows, dev, options.base))
    found: dict[str, Any] = {}
    try:
        for seed in range(PART_SEEDS if options.parts == "signals" else 1):
            pair = parts(stages, options.parts, train, dev, options.base, seed)
            report.add_parts(*pair, f", parts of seed {seed}" if seed else "")
    except TrainingDataError as error:  # a solver that is never right teaches nothing: the report says so
        found["no parts"] = str(error)
    drafts_right = sum(bool(row.candidates[DRAFT].correct) for row in mistakes) / len(mistakes)
    whole = {
        "options": asked | {"parts": options.parts},
        "right on the other half": round(drafts_right, 3),
        **report.as_dict(),
        **found,
        "training": stages.training,
        "seconds": stages.seconds,
    }
    (options.out / f"report_{options.parts}.json").write_text(json.dumps(whole, indent=1), "utf-8")
    print(json.dumps(whole))


if __name__ == "__main__":
    main()
