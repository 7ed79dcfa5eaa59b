"""StrategyQA's questions: the facts and the subquestions they come with, and what is asked of a search for them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from langchain_core.documents import Document
from numpy.typing import NDArray

from artrag.evaluation.predictions import normal_question
from artrag.evidence import coverage, term_weights
from artrag.index.fusion import Fusion
from artrag.text import STOP_WORDS, terms, words

Way = Literal["dropped", "term", "found", "behind the question"]
"""What "#2" becomes: nothing, the term the question is about, the best fact for step 2, or nothing in a query that
begins with the question, which is how the `refine` node asks."""

_REFERENCE = re.compile(r"#(\d+)(?:'s)?")
_QUESTIONS = re.compile(r"(?<=\?)\s+")
_OPERATIONS = STOP_WORDS | frozenset(
    """absent among amount answer answers bigger close compare compared contain contained contains count differ
    difference different divided earlier element elements end equal equivalent exceed exclude excluded exist fall found
    great greater happen happened high higher identical include included includes item items large larger late later
    least less list listed located long longer low lower lot many match matches member members mentioned minus more most
    much multiplied near negative none number numbers occur occurred old older one outside overlap overlaps part plus
    positive present prior range related short shorter similar small smaller still subset sum take true two value values
    within yes zero""".split()
)
"""What a step may say of earlier answers without asking for a fact; read off the train questions."""

Search = Callable[[str], list[int]]
MOST = 10
"""Facts found for a question."""


@dataclass(frozen=True, slots=True)
class Case:
    """A question; `facts` are places in the pool."""

    id: str
    question: str
    answer: bool
    term: str
    steps: tuple[str, ...]
    facts: tuple[int, ...]


def pooled(*rows: dict[str, Any]) -> tuple[list[str], list[Case]]:
    """The facts of all rows, each once, and the questions, each once."""
    pool: dict[str, tuple[int, str]] = {}
    cases: dict[str, Case] = {}
    for row in rows:
        for fact in row["facts"]:
            pool.setdefault(normal_question(fact), (len(pool), fact.strip()))
        facts = dict.fromkeys(pool[normal_question(fact)][0] for fact in row["facts"])
        case = Case(row["id"], row["question"], row["answer"], row["term"], tuple(row["decomposition"]), tuple(facts))
        cases.setdefault(normal_question(case.question), case)
    return [fact for _, fact in pool.values()], list(cases.values())


def filled(step: str, said: Sequence[str]) -> str:
    """The step with what was said of earlier steps in the place of its references; a step unheard of leaves nothing."""

    def of(found: re.Match[str]) -> str:
        place = int(found[1]) - 1
        return said[place] if 0 <= place < len(said) else ""

    return " ".join(_REFERENCE.sub(of, step).split())


def split_steps(steps: Sequence[str]) -> list[str]:
    """Steps of which each asks one thing; BART sometimes writes two in a line."""
    return [part for step in steps for part in _QUESTIONS.split(step.strip()) if part]


def needs_fact(step: str) -> bool:
    """Does the step ask for more than what earlier answers say?"""
    left = [word for word in words(filled(step, ())) if word not in _OPERATIONS and not word.isdigit()]
    return bool(left) or (not _REFERENCE.search(step) and bool(words(step)))


def gathered(search: Search, facts: Sequence[str], case: Case, steps: Sequence[str], way: Way) -> list[int]:
    """The best facts for a question and its steps: the rankings of all queries, fused."""
    rankings, best = {"question": search(case.question)}, list[str]()
    for place, step in enumerate(steps, start=1):
        said = {"term": [case.term] * place, "found": best}.get(way, [])
        query = f"{case.question} {filled(step, said)}" if way == "behind the question" else filled(step, said)
        found = search(query) if needs_fact(step) else []
        rankings[f"step {place}"] = found
        best.append(facts[found[0]] if found else "")
    hits = {name: [(row, 0.0) for row in rows] for name, rows in rankings.items()}
    return [row for row, _ in Fusion(weights={}, rank_constant=0).fuse(hits)][:MOST]


def recall(found: Sequence[int], wanted: Sequence[int], k: int) -> float:
    """The share of the wanted facts among the first k found."""
    return len(set(found[:k]) & set(wanted)) / len(set(wanted))


def answers_of(steps: Sequence[str], filled_steps: Sequence[str]) -> dict[int, str]:
    """What was filled in for each reference, by step (from 0)."""
    found: dict[int, str] = {}
    for step, known in zip(steps, filled_steps, strict=True):
        texts = _REFERENCE.split(step)  # text, number, text, number, ..., text
        read = re.fullmatch("(.+?)".join(map(re.escape, texts[::2])), known)
        for number, answer in zip(texts[1::2], read.groups() if read else (), strict=False):
            found.setdefault(int(number) - 1, answer)
    return found


@dataclass(frozen=True, slots=True)
class Trial:
    """A subquestion with passages; is what answers it among them?"""

    id: str
    step: str
    passages: tuple[str, ...]
    answered: bool


def none_left(case: Case, facts: Sequence[str], found: Sequence[int]) -> list[Trial]:
    """Each step that needs a fact, twice: with all gold facts, and with as many of the best others instead."""
    others = [row for row in found if row not in case.facts][: len(case.facts)]
    return [
        Trial(case.id, step, tuple(facts[row] for row in rows), rows is case.facts)
        for step in case.steps
        if needs_fact(step)
        for rows in (case.facts, others)
    ]


def one_missing(case: Case, facts: Sequence[str], found: Sequence[int], answers: dict[int, str]) -> list[Trial]:
    """Each step whose answer stands in one gold fact alone, twice: with it, and with the best other in its place.

    The answer says which fact the step needs, so nothing favours a detector that compares steps with facts; steps that
    hold their own answer would, and are left out.
    """
    made = []
    for place, answer in sorted(answers.items()):
        wanted = set(terms(answer))

        def holds(text: str, wanted: set[str] = wanted) -> bool:
            return wanted <= set(terms(text))

        needed = [row for row in case.facts if holds(facts[row])]
        other = next((row for row in found if row not in case.facts and not holds(facts[row])), None)
        if place >= len(case.steps) or len(needed) != 1 or other is None or holds(case.steps[place]):
            continue
        for new in (needed[0], other):
            rows = [new if row == needed[0] else row for row in case.facts]
            made.append(Trial(case.id, case.steps[place], tuple(facts[row] for row in rows), new == needed[0]))
    return made


def signals(given: Sequence[Trial], encode: Callable[[list[str]], NDArray[np.float32]]) -> NDArray[np.float64]:
    """Columns: coverage by all passages (as the Asker marks), by the best one, greatest cosine, has a reference."""
    texts = sorted({text for trial in given for text in (filled(trial.step, ()), *trial.passages)})
    vectors = dict(zip(texts, encode(texts), strict=True))
    columns = []
    for trial in given:
        step = filled(trial.step, ())
        weights = term_weights([Document(text) for text in trial.passages])
        cosines = [float(vectors[step] @ vectors[text]) for text in trial.passages]
        each = [coverage(step, text, weights) for text in trial.passages]
        whole = coverage(step, "\n".join(trial.passages), weights)
        columns.append([whole, max(each), max(cosines), float(step != " ".join(trial.step.split()))])
    return np.asarray(columns)
