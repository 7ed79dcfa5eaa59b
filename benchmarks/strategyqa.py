"""StrategyQA: which facts a search finds, what a small model makes of them, and whether a missing one is noticed.

    python benchmarks/strategyqa.py --data DATA --out runs/strategyqa --split held   # while developing
    python benchmarks/strategyqa.py --data DATA --out runs/strategyqa                # the figures: dev.jsonl, once

DATA holds `strategyqa/train.jsonl`, `dev.jsonl` (the test questions here: the official answers are hidden) and
`dev_model_decompositions.jsonl`. Everything is chosen on a held part of the train questions. What is done is kept in
--out, so a killed run goes on where it was.

1. Retrieval. The facts of all questions, train and test, are one pool, each fact a passage of an index. Queries are the
   question alone, or with its subquestions (the given ones, BART's, or the given ones with each "#k" filled by a reader
   of the gold paragraphs); their rankings are fused. A subquestion that only compares earlier answers asks nothing.
2. Answers, Yes or No, with no facts, retrieved ones, and the gold ones: the embedded model's log-odds of Yes against
   No, as it is and with LoRA, made into a probability on held questions.
3. Unanswered subquestions: is it noticed when all gold facts are replaced by the best others, and when only the one
   fact is that a subquestion needs? Which one that is, the answer says that the reader of the gold paragraphs gave.

Prints one JSON object; three numbers in a list are a mean and its 95% bootstrap interval over questions.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from live_stages import Stages
from numpy.typing import NDArray
from strategy_questions import (
    Case,
    Search,
    Trial,
    Way,
    answers_of,
    gathered,
    none_left,
    one_missing,
    pooled,
    recall,
    signals,
    split_steps,
)

from artrag.evaluation.calibration import auc, fit_calibration
from artrag.evaluation.intervals import Interval, bootstrap, clustered, clustered_statistic, paired
from artrag.graphs import build_ingest
from artrag.index.store import Index
from artrag.models.causal_model import CausalModel, Message
from artrag.models.references import load_embedder, weights_folder
from artrag.settings import EMBEDDED_BASE, EMBEDDED_EMBEDDER, Settings
from artrag.training.causal_data import Row
from artrag.training.loop import Plan
from artrag.training.lora import fine_tune

RETRIEVERS = {"BM25": ("bm25",), "dense": ("dense",), "hybrid": ("dense", "bm25")}
DEPTH = 50
"""Facts of each query that take part in the fusion."""
KS = (1, 3, 5, 10)
READ = 5
"""Retrieved facts that the model reads."""
HELD, STOPPING = 200, 60
"""Train questions that choose (queries, retriever, calibration), and those whose loss chooses LoRA's checkpoint."""
Given = Literal["no facts", "retrieved facts", "retrieved along BART's steps", "gold facts"]
BART = "BART's"
RETRIEVED: dict[Given, str] = {"retrieved facts": "given", "retrieved along BART's steps": BART}
"""What the model reads, by which queries it was found."""
LESSONS: tuple[tuple[Given, Given], ...] = (
    ("gold facts", "retrieved facts"),
    ("no facts", "gold facts"),
    ("retrieved facts", "no facts"),
)
"""Every question is learned twice, with two of the three kinds of facts."""
WAYS: dict[str, Way] = {"given, as refine asks": "behind the question"}
"""Kinds of queries that are not written in the chosen way."""
DETECTORS = {"coverage, fitted": [0], "best coverage": [1], "cosine": [2], "all together": [0, 1, 2, 3]}
"""The columns of `signals` that each reads."""
REFERS = 3
Found = dict[Given, list[list[int]]]
Floats = NDArray[np.float64]
Encoder = Callable[[list[str]], NDArray[np.float32]]


def reading(question: str, facts: Sequence[str]) -> list[Message]:
    """What the model reads; the last fact stands next to the question."""
    told = "".join(f"- {fact}\n" for fact in facts)
    return [
        {"role": "system", "content": "Answer the question with Yes or No."},
        {"role": "user", "content": (f"Facts:\n{told}\n" if told else "") + f"Question: {question}"},
    ]


def noticed(learn: list[Trial], tests: dict[str, list[Trial]], encode: Encoder) -> dict[str, Any]:
    """Who notices what is missing: over all steps, and over those that refer to no other.

    "coverage" is the Asker's own check at its own 0.5; the others learn on train.
    """
    known, tables = signals(learn, encode), {kind: signals(given, encode) for kind, given in tests.items()}
    target = np.asarray([trial.answered for trial in learn])
    report: dict[str, Any] = {}
    for kind, given in tests.items():
        for steps in ("all steps", "self-contained steps"):
            mine, taught = (
                np.flatnonzero((table[:, REFERS] == 0) | (steps == "all steps")) for table in (tables[kind], known)
            )
            rows = [given[row] for row in mine]
            report[f"{kind}, {steps}"] = compared(known[taught], target[taught], tables[kind][mine], rows)
    return report


def compared(known: Floats, target: NDArray[np.bool_], table: Floats, given: list[Trial]) -> dict[str, Any]:
    """The figures of every detector, fitted on the rows of `known`; `thresholds` are of a single signal."""
    from sklearn.linear_model import LogisticRegression

    scores, thresholds = {"coverage": table[:, 0]}, {}
    for name, columns in DETECTORS.items():
        model = LogisticRegression(C=100).fit(known[:, columns], target)
        scores[name] = model.predict_proba(table[:, columns])[:, 1]
        if len(columns) == 1:
            thresholds[name] = round(float(-model.intercept_[0] / model.coef_[0, 0]), 3)
    answered, ids = np.asarray([trial.answered for trial in given]), [trial.id for trial in given]
    report: dict[str, Any] = {"questions": len(set(ids)), "steps": len(ids) // 2, "thresholds": thresholds}
    aucs = {name: lambda rows, values=values: auc(values[rows], answered[rows]) for name, values in scores.items()}
    for name, values in scores.items():
        whole, missing = values[answered], values[~answered]  # a step's two trials follow each other
        gain = clustered_statistic(lambda rows, name=name: aucs[name](rows) - aucs["coverage"](rows), ids)  # type: ignore[misc]
        report[name] = {
            "auc": figures(clustered_statistic(aucs[name], ids)),
            "auc minus coverage": figures(gain),
            "told apart": figures(clustered((whole > missing) + 0.5 * (whole == missing), ids[::2])),
            "noticed": figures(clustered(missing < 0.5, ids[::2])),
            "false alarms": figures(clustered(whole < 0.5, ids[::2])),
        }
    return report


def figures(interval: Interval) -> list[float]:
    """Value, low, high."""
    return [round(x, 3) for x in (interval.value, interval.low, interval.high)]


class Study:
    """The pool, its index and what was found in it."""

    def __init__(self, stages: Stages, facts: list[str]) -> None:
        self.stages, self.facts = stages, facts
        self.embedder = load_embedder(EMBEDDED_EMBEDDER)
        folder, rows = stages.out / "index", stages.out / "facts.jsonl"
        if not (folder / "manifest.json").exists():
            rows.write_text("".join(json.dumps({"id": str(n), "text": f}) + "\n" for n, f in enumerate(facts)), "utf-8")
            with stages.timed("index"):
                graph = build_ingest(embedder=self.embedder, embedder_reference=EMBEDDED_EMBEDDER).compile()
                graph.invoke({"paths": [str(rows)], "index": str(folder)}, context=Settings(context="none"))
        self.index = Index.open(folder, embedder=self.embedder)
        self._seen: dict[tuple[str, str], list[int]] = {}

    def search(self, retriever: str) -> Search:
        """One of the retrievers."""

        def found(query: str) -> list[int]:
            if (query, retriever) not in self._seen:
                hits = self.index.search(query, DEPTH, arms=RETRIEVERS[retriever])
                self._seen[query, retriever] = list(dict.fromkeys(int(hit.document) for hit in hits))
            return self._seen[query, retriever]

        return found

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What a stage made, from the disk where it is done."""
        place = self.stages.out / f"{name}.json"
        if not place.exists():
            with self.stages.timed(name):
                made = make()
            begun = place.with_suffix(".part")
            begun.write_text(json.dumps(made), "utf-8")
            begun.replace(place)  # a kill leaves all of it or nothing
            self.stages.tell(f"{name}: done")
        return json.loads(place.read_text("utf-8"))

    def found(
        self, name: str, cases: Sequence[Case], retriever: str, way: Way, steps: Mapping[str, Sequence[str]]
    ) -> list[list[int]]:
        """The facts found for each question."""
        search = self.search(retriever)
        return self.kept(  # type: ignore[no-any-return]
            f"found.{name}.{retriever}.{way}",
            lambda: [gathered(search, self.facts, case, steps[case.id], way) for case in cases],
        )


def choose(study: Study, held: Sequence[Case]) -> tuple[str, Way, dict[str, float]]:
    """The retriever and the way to write steps with the best recall@5 on held questions."""
    steps, reached = {case.id: case.steps for case in held}, dict[tuple[str, Way], float]()
    for way in get_args(Way):
        for retriever in RETRIEVERS:
            hits = study.found("held.given", held, retriever, way, steps)
            found = [recall(each, case.facts, READ) for each, case in zip(hits, held, strict=True)]
            reached[retriever, way] = float(np.mean(found))
    retriever, way = max(reached, key=reached.__getitem__)
    return retriever, way, {f"{a}, {b}": round(value, 3) for (a, b), value in reached.items()}


def retrieval(
    study: Study,
    name: str,
    cases: Sequence[Case],
    kinds: Mapping[str, Mapping[str, Sequence[str]]],
    chosen: tuple[str, Way],
) -> dict[str, Any]:
    """recall@k of every kind of query and retriever, and what steps and fusion bring at k = 5."""
    report: dict[str, Any] = {}
    at_five: dict[tuple[str, str], list[float]] = {}
    for kind, steps in kinds.items():
        report[kind] = {}
        for retriever in RETRIEVERS:
            found = study.found(f"{name}.{kind}", cases, retriever, WAYS.get(kind, chosen[1]), steps)
            by = {k: [recall(hits, case.facts, k) for hits, case in zip(found, cases, strict=True)] for k in KS}
            report[kind][retriever] = {f"@{k}": figures(bootstrap(values)) for k, values in by.items()}
            at_five[kind, retriever] = by[READ]
    best = chosen[0]
    for kind in list(kinds)[1:]:
        gain = paired(at_five["question", best], at_five[kind, best])
        report[f"{kind} minus question, {best}, @5"] = figures(gain)
        if kind != "given":
            report[f"given minus {kind}, {best}, @5"] = figures(paired(at_five[kind, best], at_five["given", best]))
    for other in [name for name in RETRIEVERS if name != best]:
        report[f"{best} minus {other}, given, @5"] = figures(paired(at_five["given", other], at_five["given", best]))
    return report


def odds_of(
    study: Study, name: str, adapter: Path | None, cases: dict[str, list[Case]], facts: dict[str, Found]
) -> Any:
    """For each set of questions and kind of facts the model's log-odds of Yes against No."""
    model = cache(lambda: CausalModel.load(weights_folder(EMBEDDED_BASE), adapter=adapter))

    def read(asked: Sequence[Case], rows: list[list[int]]) -> list[float]:
        texts = [
            reading(case.question, [study.facts[row] for row in each]) for case, each in zip(asked, rows, strict=True)
        ]
        return model().log_odds([model().prompt(text, model().window - 2) for text in texts], "Yes", "No")

    return {
        part: {
            given: np.asarray(study.kept(f"odds.{name}.{part}.{given}", partial(read, cases[part], rows)))
            for given, rows in found.items()
        }
        for part, found in facts.items()
    }


def answers(odds: dict[str, Any], held: list[Case], test: list[Case], part: str) -> dict[str, Any]:
    """Accuracy of every model and kind of facts; held questions say at which odds a Yes is likelier than a No."""
    gold = np.asarray([case.answer for case in test])
    report: dict[str, Any] = {"share of no": round(1 - float(gold.mean()), 3)}
    right: dict[tuple[str, str], list[float]] = {}
    for name, sets in odds.items():
        for given, said in sets[part].items():
            alike = sets["held"].get(given, sets["held"]["retrieved facts"])
            yes = fit_calibration(alike, [case.answer for case in held])(said) >= 0.5
            right[name, given] = [float(each) for each in yes == gold]

            def ranked(places: NDArray[Any], said: NDArray[Any] = said) -> float:
                return auc(said[places], gold[places])

            report[f"{name}, {given}"] = {
                "right": figures(bootstrap(right[name, given])),
                "auc": figures(clustered_statistic(ranked, range(len(said)))),
                "says yes": round(float(yes.mean()), 3),
                "minus no facts": figures(paired(right[name, "no facts"], right[name, given])),
                "minus as it is": figures(paired(right["as it is", given], right[name, given])),
            }
    return report


def taught(study: Study, out: Path, lessons: list[Case], stop: list[Case], facts: dict[str, Found]) -> dict[str, Any]:
    """LoRA on question and facts -> Yes or No; every lesson twice, with two of the three kinds of facts."""
    done = out / "trained.json"
    if not done.exists():

        def row(case: Case, given: list[int]) -> Row:
            told = reading(case.question, [study.facts[place] for place in given])
            return Row(prompt=told, completion=[{"role": "assistant", "content": "Yes" if case.answer else "No"}])

        known, held = facts["lessons"], facts["stop"]
        rows = [row(case, known[given][n]) for n, case in enumerate(lessons) for given in LESSONS[n % len(LESSONS)]]
        dev = [row(case, given[n]) for given in held.values() for n, case in enumerate(stop)]
        plan = Plan(epochs=1, batch=8, window=512)
        tell = study.stages.tell
        trained = fine_tune(
            rows, dev, out, base=EMBEDDED_BASE, plan=plan, progress=lambda what, share: tell(f"{what}: {share:.0%}")
        )
        done.write_text(json.dumps({"plan": asdict(plan), **asdict(trained)}), "utf-8")
    return dict(json.loads(done.read_text("utf-8")))


def main() -> None:
    """All stages, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds strategyqa/")
    parser.add_argument("--out", type=Path, required=True, help="where the stages are kept")
    parser.add_argument("--split", choices=["held", "test"], default="test", help="what is reported")
    parser.add_argument("--lessons", type=int, default=1200, help="train questions to learn from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train, dev, decomposed = (
        [json.loads(line) for line in (options.data / f"strategyqa/{name}.jsonl").read_text("utf-8").splitlines()]
        for name in ("train", "dev", "dev_model_decompositions")
    )
    facts, cases = pooled(*train, *dev)
    closed = {row["id"] for row in dev}
    known = [case for case in cases if case.id not in closed]
    random.Random(options.seed).shuffle(known)  # noqa: S311
    held, stop, rest = known[:HELD], known[HELD : HELD + STOPPING], known[HELD + STOPPING :]
    reported = held if options.split == "held" else [case for case in cases if case.id in closed]
    stages = Stages(
        options.out,
        {"lessons": options.lessons, "seed": options.seed},
        lambda said: print(said, flush=True, file=sys.stderr),
    )
    study = Study(stages, facts)
    retriever, way, reached = choose(study, held)
    steps: dict[str, dict[str, Sequence[str]]] = {
        "question": dict.fromkeys((case.id for case in cases), ()),
        "given": {case.id: case.steps for case in cases},
        "given, as refine asks": {case.id: case.steps for case in cases},
    }
    if options.split == "test":
        steps[BART] = {row["id"]: split_steps(row["bart_decomposition"]) for row in decomposed}
        steps["given, filled"] = {row["id"]: row["gold_decomposition_filled"] for row in decomposed}

    def readable(part: str, asked: list[Case]) -> Found:
        found: Found = {"no facts": [[] for _ in asked]}
        for given, kind in RETRIEVED.items():
            if kind == "given" or (part == "test" and kind in steps):
                hits = study.found(f"{part}.{kind}", asked, retriever, way, steps[kind])
                found[given] = [each[:READ][::-1] for each in hits]
        return found | {"gold facts": [list(case.facts) for case in asked]}

    report: dict[str, Any] = {"split": options.split, "questions": len(reported), "facts": len(facts)}
    report["chosen"] = {"retriever": retriever, "way": way, f"held recall@{READ}": reached}
    report["retrieval"] = retrieval(study, options.split, reported, steps, (retriever, way))
    lessons, adapter = rest[: options.lessons], options.out / "reader"
    parts = {"lessons": readable("lessons", lessons), "stop": readable("stop", stop)}
    report["training"] = taught(study, adapter, lessons, stop, parts)
    read_by = {"held": held, options.split: reported}
    given = {part: readable(part, asked) for part, asked in read_by.items()}
    models = {"as it is": None, "LoRA": adapter}
    odds = {name: odds_of(study, name, weights, read_by, given) for name, weights in models.items()}
    report["answers"] = answers(odds, held, reported, options.split)

    def trials(part: str, asked: list[Case]) -> list[Trial]:
        hits = study.found(f"{part}.given", asked, retriever, way, steps["given"])
        return [trial for case, found in zip(asked, hits, strict=True) for trial in none_left(case, facts, found)]

    tests = {"all facts missing": trials(options.split, reported)}
    if options.split == "test":
        hits = study.found("test.given", reported, retriever, way, steps["given"])
        said = {
            row["id"]: answers_of(row["gold_decomposition"], row["gold_decomposition_filled"]) for row in decomposed
        }
        tests["one fact missing"] = [
            trial
            for case, found in zip(reported, hits, strict=True)
            for trial in one_missing(case, facts, found, said[case.id])
        ]
    with stages.timed("unanswered"):
        report["unanswered"] = noticed(trials("lessons", lessons), tests, study.embedder.encode)
    report["seconds"] = stages.seconds
    (options.out / f"report_{options.split}.json").write_text(json.dumps(report, indent=1), "utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
