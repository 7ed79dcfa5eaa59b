"""ART live, on nobody's recordings: a small solver, its own mistakes, and parts trained on them.

    python benchmarks/live_art.py --data DATA --out runs/live              # the figure; under an hour on 2 cores
    python benchmarks/live_art.py --data DATA --out runs/trial --limit 24  # a trial of every stage

DATA holds `arithmetic/mawps_asdiva_train.jsonl` and `arithmetic/svamp.jsonl`. The former contains ASDiv-A (CC BY-NC
4.0): it is for measuring only, and nothing trained here is shipped.

Stages; each is kept in --out, so a killed run goes on where it was (`timeout 500 python ...`, again and again, works):

1. Two solvers: the embedded model with LoRA, each on one half of the training questions, writes solutions with
   equations ("56 * 9 = 504. Final answer: 504") and corrects drafts (of every second question; every second draft is
   spoilt).
2. Answers: each solver answers questions of the *other* half (cross-fitting: mistakes on unseen questions), and the
   first one answers the test questions: greedily, k times sampled, and once more with its draft and the calculator's
   notes.
3. Parts: Asker and Truster learn from three quarters of the cross-fitted answers; the rest sets thresholds.
4. Report: every policy on the test answers with bootstrap intervals. Replaying the answers gives what the graph would
   give, question by question; they are written beforehand because a batch decodes ten times as fast.

Subsampled for 2 cores: 2,000 of 3,000 training questions (127 tokens each, 270 tokens a second: a quarter of an hour),
of which 800 are answered, and 500 of 1,000 test questions, five texts each (6 texts a second: as long again).

Prints one JSON object.
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from word_problems import Problem, problems_of, refine_prompt, solution, solve_prompt, solver_rows

from artrag.errors import TrainingDataError
from artrag.evaluation.intervals import bootstrap, paired
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import (
    Prediction,
    RecordedAnswer,
    normal_question,
    read_predictions,
    write_predictions,
)
from artrag.evaluation.replay import choose_settings, plain, replay_scored
from artrag.evaluation.scoring import score_rows
from artrag.models.askers import EvidenceAsker
from artrag.models.causal import CausalAsker, CausalTruster
from artrag.models.causal_model import ADAPTER, CausalModel, Message
from artrag.models.references import weights_folder
from artrag.models.trained import TrainedAsker, TrainedTruster
from artrag.models.trusters import EvidenceTruster
from artrag.protocols import Asker, Truster
from artrag.settings import EMBEDDED_CHAT
from artrag.training.causal import train_causal_asker, train_causal_truster
from artrag.training.lora import Plan, fine_tune
from artrag.training.ngrams import NgramBaseline
from artrag.training.worked import train_art

CHUNK = 64
MOST_TOKENS = 48
TEMPERATURE = 0.7

Parts = Callable[[list[Prediction], list[Prediction], Path, str], tuple[Asker, Truster]]


class Stages:
    """What is done is on disk; the seconds of each stage, too."""

    def __init__(self, out: Path, options: dict[str, Any], progress: Callable[[str], None]) -> None:
        self.out, self.tell = out, progress
        out.mkdir(parents=True, exist_ok=True)
        known = out / "options.json"
        if known.exists() and json.loads(known.read_text("utf-8")) != options:
            sys.exit(f"{str(out)!r} holds a run with {known.read_text('utf-8')}: name another folder for {options}")
        known.write_text(json.dumps(options), "utf-8")
        self._place = out / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self._place.read_text("utf-8")) if self._place.exists() else {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds spent inside."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - begun, 1)
            self._place.write_text(json.dumps(self.seconds), "utf-8")

    def write(
        self, name: str, model: Callable[[], CausalModel], prompts: Sequence[list[Message]], **options: Any
    ) -> list[str]:
        """What the model writes to each prompt; a chunk is kept as soon as it is there."""
        place = self.out / f"{name}.jsonl"
        lines = place.read_text("utf-8").split("\n")[:-1] if place.exists() else []  # a line cut by a kill has no end
        done = [str(json.loads(line)["text"]) for line in lines]
        place.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        with place.open("a", encoding="utf-8") as file:
            while len(done) < len(prompts):
                with self.timed(name.split(".")[0]):
                    solver = model()
                    rows = [
                        solver.prompt(prompt, solver.window - MOST_TOKENS) for prompt in prompts[len(done) :][:CHUNK]
                    ]
                    texts = solver.write(
                        rows, most=MOST_TOKENS, batch=CHUNK, **options | {"seed": options.get("seed", 0) + len(done)}
                    )
                file.write("".join(json.dumps({"text": text}) + "\n" for text in texts))
                file.flush()
                done += texts
                self.tell(f"{name}: {len(done)} of {len(prompts)}")
        return done[: len(prompts)]


def train_solver(stages: Stages, name: str, problems: Sequence[Problem], base: str, plan: Plan) -> Path:
    """A solver's LoRA weights; the last twenty-fifth of its problems chooses the checkpoint."""
    folder = stages.out / name
    if not (folder / ADAPTER).exists():
        held = max(2, len(problems) // 25)
        rows, dev = solver_rows(problems[:-held], plan.seed), solver_rows(problems[-held:], plan.seed)
        with stages.timed(name):
            trained = fine_tune(
                rows,
                dev,
                folder,
                base=base,
                plan=plan,
                progress=lambda what, share: stages.tell(f"{name}: {share:.0%}"),
            )
        (folder / "trained.json").write_text(json.dumps(asdict(trained)), "utf-8")
    return folder


def answered(
    stages: Stages, name: str, problems: Sequence[Problem], model: Callable[[], CausalModel], samples: int, seed: int
) -> list[Prediction]:
    """The solver's answers to problems that it never saw: a draft, samples, and a refinement of the draft."""
    prompts = [solve_prompt(problem.question) for problem in problems]
    drafts = stages.write(f"{name}.drafts", model, prompts)
    sampled = [
        stages.write(f"{name}.sample{n}", model, prompts, temperature=TEMPERATURE, seed=seed + 10_000 * n)
        for n in range(samples)
    ]
    corrections = [refine_prompt(problem.question, draft) for problem, draft in zip(problems, drafts, strict=True)]
    refined = stages.write(f"{name}.refined", model, corrections)
    rows = []
    for place, problem in enumerate(problems):
        texts = [
            ("initial", drafts[place]),
            ("refined", refined[place]),
            *(("sample", given[place]) for given in sampled),
        ]
        answers = []
        for stage, text in texts:
            said = label(text, problem.final)
            answers.append(RecordedAnswer(stage, text, said.predicted, said.correct, source=name))  # type: ignore[arg-type]
        rows.append(Prediction(problem.id, problem.question, tuple(answers), problem.final))
    write_predictions(stages.out / f"{name}.predictions.jsonl", rows)
    return read_predictions(stages.out / f"{name}.predictions.jsonl")


def judged_wrong(stages: Stages, rows: Sequence[Prediction], base: str) -> list[bool]:
    """Self-refine: the model without our training says of each draft whether it is right."""
    place = stages.out / "self_refine.json"
    if not place.exists():
        with stages.timed("self_refine"):
            model = CausalModel.load(weights_folder(base))
            asked = []
            for row in rows:
                text = f"Question: {row.question}\n\nAnswer: {row.candidates[0].text}\n\nIs it right? Say Yes or No."
                asked.append(model.prompt([{"role": "user", "content": text}], model.window - 2))
            place.write_text(json.dumps([odds < 0 for odds in model.log_odds(asked, "Yes", "No")]), "utf-8")
    return list(json.loads(place.read_text("utf-8")))


def untrained(train: list[Prediction], dev: list[Prediction], out: Path, base: str) -> tuple[Asker, Truster]:
    """The evidence-based parts that need no training."""
    return EvidenceAsker(), EvidenceTruster()


def signals(train: list[Prediction], dev: list[Prediction], out: Path, base: str) -> tuple[Asker, Truster]:
    """The parts that are shipped, trained anew: heads over what a calculator finds."""
    train_art(train, dev, out)
    return TrainedAsker.load(out / "asker"), TrainedTruster.load(out / "truster")


def ngrams(train: list[Prediction], dev: list[Prediction], out: Path, base: str) -> tuple[Asker, Truster]:
    """The baseline: a logistic regression over n-grams and the calculator's findings."""
    model = NgramBaseline.fit(train)
    return model, model


def causal(train: list[Prediction], dev: list[Prediction], out: Path, base: str) -> tuple[Asker, Truster]:
    """The causal parts; a killed training goes on."""
    for name, trainer in (("asker", train_causal_asker), ("truster", train_causal_truster)):
        if not (out / name / "done").exists():
            trainer(train, dev, out / name, base=base)
            (out / name / "done").touch()
    return CausalAsker.load(out / "asker"), CausalTruster.load(out / "truster")


PARTS: dict[str, Parts] = {"signals": signals, "evidence": untrained, "ngrams": ngrams, "causal": causal}


def without_parts(rows: list[Prediction], wrong: list[bool]) -> dict[str, Any]:
    """What needs no Asker and no Truster: how good the solver is, and what it makes of its own judgement."""
    right = [[bool(answer.correct) for answer in row.candidates] for row in rows]
    initial = [float(each[0]) for each in right]
    refined_by_itself = [float(each[1] if doubted else each[0]) for each, doubted in zip(right, wrong, strict=True)]
    return {
        "initial": plain(bootstrap(initial)),
        "oracle": plain(bootstrap([float(any(each)) for each in right])),
        "self-refine": plain(bootstrap(refined_by_itself)) | {"refine_rate": round(sum(wrong) / len(wrong), 3)},
        "self-refine minus initial": plain(paired(initial, refined_by_itself)),
        "refining": {
            f"{'right' if a else 'wrong'} to {'right' if b else 'wrong'}": sum(each[:2] == [a, b] for each in right)
            for a in (True, False)
            for b in (True, False)
        },
    }


def with_parts(rows: list[Prediction], dev: list[Prediction], asker: Asker, truster: Truster) -> dict[str, Any]:
    """Every policy: with the draft and its refinement alone, and with the samples beside them."""
    found = {}
    for name, taken in (("draft and refinement", 2), ("with samples", None)):
        cut = [replace(row, candidates=row.candidates[:taken]) for row in dev]
        settings = choose_settings(score_rows(cut, asker, truster), at_least=0.5)
        test = score_rows([replace(row, candidates=row.candidates[:taken]) for row in rows], asker, truster)
        found[name] = replay_scored(
            test, refine_above=settings["refine_above"], trust_margin=settings["trust_margin"]
        ).as_dict()
    return found


def main() -> None:
    """All stages, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds arithmetic/")
    parser.add_argument("--out", type=Path, required=True, help="where the stages are kept")
    parser.add_argument("--base", default=EMBEDDED_CHAT)
    parser.add_argument("--parts", choices=list(PARTS), default="signals")
    parser.add_argument("--questions", type=int, default=2000, help="training questions of both solvers together")
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
    draw = random.Random(options.seed)  # noqa: S311
    test = problems_of(options.data / "arithmetic/svamp.jsonl")
    asked_there = {normal_question(problem.question) for problem in test}
    distinct = {
        normal_question(problem.question): problem
        for problem in problems_of(options.data / "arithmetic/mawps_asdiva_train.jsonl")
        if (made := solution(problem.prefix)) and abs(made[1] - problem.final) < 1e-6
    }
    known = [problem for question, problem in distinct.items() if question not in asked_there]
    known = draw.sample(known, min(options.questions, len(known)))
    test = draw.sample(test, min(options.test, len(test)))
    asked = {
        name: getattr(options, name)
        for name in ("base", "questions", "answered", "test", "samples", "epochs", "rate", "seed")
    }
    # Kept answers belong to these very questions.
    asked["drawn"] = hashlib.sha256(" ".join(problem.id for problem in [*known, *test]).encode()).hexdigest()[:12]
    stages = Stages(options.out, asked, lambda said: print(said, flush=True, file=sys.stderr))
    plan = Plan(epochs=options.epochs, rate=options.rate, window=256, evaluations=3, seed=options.seed)
    halves = {"a": known[::2], "b": known[1::2]}
    folders = {name: train_solver(stages, f"solver_{name}", half, options.base, plan) for name, half in halves.items()}
    loaded: dict[str, CausalModel] = {}

    def solver(name: str) -> Callable[[], CausalModel]:
        def load() -> CausalModel:
            if name not in loaded:
                loaded.clear()
                loaded[name] = CausalModel.load(weights_folder(options.base), adapter=folders[name], window=256)
            return loaded[name]

        return load

    each = options.answered // 2
    mistakes = [
        row
        for name, other in (("a", "b"), ("b", "a"))
        for row in answered(stages, f"half_{name}", halves[name][:each], solver(other), options.samples, options.seed)
    ]
    rows = answered(stages, "test", test, solver("a"), options.samples, options.seed)
    wrong = judged_wrong(stages, rows, options.base)
    dev, train = mistakes[::4], [row for place, row in enumerate(mistakes) if place % 4]
    found = without_parts(rows, wrong)
    try:
        with stages.timed(f"parts_{options.parts}"):
            asker, truster = PARTS[options.parts](train, dev, options.out / "parts" / options.parts, options.base)
        with stages.timed(f"report_{options.parts}"):
            found |= with_parts(rows, dev, asker, truster)
    except TrainingDataError as error:  # a solver that is never right teaches nothing: the report says so
        found["no parts"] = str(error)
    drafts_right = sum(bool(row.candidates[0].correct) for row in mistakes) / len(mistakes)
    whole = {
        "options": asked | {"parts": options.parts},
        "right on the other half": round(drafts_right, 3),
        **found,
        "seconds": stages.seconds,
    }
    (options.out / f"report_{options.parts}.json").write_text(json.dumps(whole, indent=1), "utf-8")
    print(json.dumps(whole))


if __name__ == "__main__":
    main()
