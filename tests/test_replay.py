"""Replay of recorded answers: every policy and measure by hand, the clustered bootstrap, the command, the page."""

import asyncio
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import json_lines, passage
from hypothesis import given
from hypothesis import strategies as st

from artrag.errors import MissingExtraError, ModelCallError, PredictionsError
from artrag.evaluation import bootstrap, intervals, scoring
from artrag.evaluation.intervals import Interval, clustered, clustered_ratios, clustered_statistic
from artrag.evaluation.policies import ScoredRow, policies
from artrag.evaluation.predictions import Prediction, RecordedAnswer
from artrag.evaluation.replay import (
    Report,
    choose_settings,
    gain_kept,
    replay,
    replay_scored,
    share_curve,
)
from artrag.evaluation.report import as_html, write_report
from artrag.evaluation.scoring import ascore_rows, score_rows
from artrag.interfaces import cli
from artrag.protocols import Doubt

near = pytest.approx


class Said:
    """An Asker and Truster in one that reads its numbers off the text: "doubt 0.7, score 0.4, sure 0.9"."""

    def __init__(self, **attributes: Any) -> None:
        self.calls: list[Any] = []
        self.__dict__.update(attributes)

    def _of(self, name: str, text: str) -> float:
        found = re.search(rf"{name} (-?[\d.]+|nan)", text)
        return float(found[1]) if found else 0.5

    def ask(self, question: str, draft: str, passages: Any = None) -> Doubt:
        self.calls.append(("ask", question, draft, passages))
        return Doubt([], self._of("doubt", draft), "said so")

    def score(self, question: str, answers: Sequence[str], passages: Any = None) -> list[float]:
        self.calls.append(("score", question, tuple(answers), passages))
        return [self._of("score", answer) for answer in answers]

    def confidence(self, question: str, answer: str, passages: Any = None) -> float:
        self.calls.append(("confidence", question, answer, passages))
        return self._of("sure", answer)

    def made(self, kind: str) -> list[Any]:
        return [call for call in self.calls if call[0] == kind]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a test; where the bounds themselves matter it sets more."""
    monkeypatch.setattr(intervals, "STATISTIC_RESAMPLES", 40)


def answer(text: str, correct: bool | None, stage: Any = "refined", predicted: Any = None) -> RecordedAnswer:
    return RecordedAnswer(stage, text, predicted, correct, (), "m")


def row(
    name: str, draft: str, draft_right: bool, later: str, later_right: bool, question: str | None = None
) -> Prediction:
    return Prediction(
        name, question or f"What is {name}?", (answer(draft, draft_right, "initial"), answer(later, later_right))
    )


# doubt, right? | the Truster prefers the later one by, right?
ROWS = [
    row("a", "doubt 0.9 score 0.1 sure 0.2", False, "score 0.6 sure 0.8", True),  # doubted, mended
    row("b", "doubt 0.8 score 0.4 sure 0.6", True, "score 0.3 sure 0.4", False),  # doubted, rightly kept
    row("c", "doubt 0.5 score 0.2 sure 0.3", False, "score 0.25 sure 0.35", True),  # just doubted, within the margin
    row("d", "doubt 0.2 score 0.3 sure 0.7", True, "score 0.9 sure 0.9", False),  # not doubted, would break
    row("e", "doubt 0.1 score 0.1 sure 0.1", False, "score 0.8 sure 0.8", True),  # not doubted, would mend
]
EXPECTED = {
    "initial": [0, 1, 0, 1, 0],
    "refine-all": [1, 0, 1, 0, 1],
    "ask-only": [1, 0, 1, 1, 0],
    "trust-only": [1, 1, 0, 0, 1],
    "ask+trust": [1, 1, 0, 1, 0],
    "oracle": [1, 1, 1, 1, 1],
}


def scored_row(
    *answers: RecordedAnswer, scores: Sequence[float] = (), sure: Sequence[float] = (), doubt: float = 0.5
) -> ScoredRow:
    given = tuple(scores) or (0.5,) * len(answers)
    return ScoredRow(Prediction("q", "Q?", answers), answers, "q", doubt, given, tuple(sure) or given)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_policy_answers_as_the_hand_does(name: Any) -> None:
    choose = policies(0.5, 0.1)[name]
    rows = score_rows(ROWS, Said(), Said()).rows
    assert [int(row.correct[choose(row).index]) for row in rows] == EXPECTED[name]


def test_only_what_is_doubted_counts_as_refined() -> None:
    rows = score_rows(ROWS, Said(), Said()).rows
    refined = {name: [choose(row).refined for row in rows] for name, choose in policies(0.5, 0.1).items()}
    assert refined["initial"] == [False] * 5 and refined["refine-all"] == refined["trust-only"] == [True] * 5
    assert refined["ask+trust"] == refined["ask-only"] == [True, True, True, False, False]


def test_the_threshold_is_inclusive_and_the_margin_exclusive() -> None:
    drafts = answer("x", False, "initial"), answer("y", True)
    row = scored_row(*drafts, scores=[0.25, 0.5], doubt=0.5)
    assert policies(0.5, 0.0)["ask+trust"](row).index == 1 and policies(0.5001, 0.0)["ask+trust"](row).index == 0
    assert policies(0.5, 0.25)["ask+trust"](row).index == 0 and policies(0.5, 0.2499)["ask+trust"](row).index == 1
    assert policies(0.5, 0.25)["ask-only"](row).index == 1
    assert policies(0.0, -0.3)["trust-only"](scored_row(*drafts, scores=[0.5, 0.25])).index == 1


def test_scores_choose_and_confidences_vote() -> None:
    two = answer("x", False, "initial", 1), answer("y", True, "refined", 2)
    row = scored_row(*two, scores=[-3.0, 2.0], sure=[0.8, 0.3])
    assert policies(0.5, 0)["trust-only"](row).index == 1 and policies(0.5, 0)["weighted-vote"](row).index == 0


def test_refining_takes_the_latest_refined_answer_and_no_sample() -> None:
    row = scored_row(
        answer("i", False, "initial"), answer("r1", False), answer("r2", True), answer("s", False, "sample")
    )
    assert policies(0.5, 0)["refine-all"](row).index == policies(0.5, 0)["ask-only"](row).index == 2
    assert policies(0.5, 0)["refine-all"](scored_row(answer("i", True, "initial"), answer("s", False, "sample"))) == (
        policies(0.5, 0)["refine-all"](scored_row(answer("i", True, "initial")))
    )


def votes(*predicted: Any, scores: Sequence[float] = ()) -> ScoredRow:
    stages = ["initial"] + ["sample"] * (len(predicted) - 1)
    answers = [
        answer(f"{n}", False, stage, said) for n, (stage, said) in enumerate(zip(stages, predicted, strict=True))
    ]
    return scored_row(*answers, scores=scores)


@pytest.mark.parametrize(
    ("predicted", "index"),
    [
        ((1, 2, 2), 1),
        ((1, 2), 0),  # a tie goes to the earliest
        ((3, 1, 2, 2, 1), 1),  # of equals the one that came first
        ((60, "60", 60.0, 5, 5), 0),  # numbers are one however they are written
        (("A", "B", " b"), 1),
        ((7, "1,200", 1200), 1),
        ((None, 5), 1),  # who says nothing does not vote
        ((None, "", None), 0),
        ((None, None, 5, 6, 6), 3),
        (("nan", "nan", 1), 0),
    ],
)
def test_the_majority_of_the_final_answers_wins(predicted: Sequence[Any], index: int) -> None:
    assert policies(0.5, 0)["majority"](votes(*predicted)).index == index


def test_votes_are_weighted_by_confidence() -> None:
    weigh = policies(0.5, 0)["weighted-vote"]
    assert weigh(votes(1, 2, 2, scores=[0.9, 0.3, 0.4])).index == 0
    assert weigh(votes(1, 2, 2, scores=[0.6, 0.3, 0.4])).index == 2  # 0.7 in all, and the better of the two
    assert weigh(votes(1, 2, scores=[0.4, 0.4])).index == 0
    assert weigh(votes(None, None, scores=[0.1, 0.4])).index == 1  # nobody votes: the best scored


def test_every_policy_in_the_report_has_its_accuracy_and_its_difference() -> None:
    report = replay(ROWS, Said(), Said(), refine_above=0.5, trust_margin=0.1)
    whole = report.comparison
    for name, right in EXPECTED.items():
        assert whole.policies[name].value == near(np.mean(right))
        assert whole.differences[name].value == near(np.mean(right) - 0.6)
    assert whole.better == "refine-all" and whole.differences["refine-all"] == Interval(0, 0, 0)
    assert whole.refine_rate.value == near(0.6)
    # In expectation over which three of the five rows are refined: 0.4 of the drafts, 0.6 of the others.
    assert whole.policies["random"].value == near(0.4 * 0.4 + 0.6 * 0.6)
    assert whole.policies["random+trust"].value == near(0.4 * 0.4 + 0.6 * 0.6)
    assert (whole.rows, whole.questions) == (5, 5)
    never = replay(ROWS, Said(), Said(), refine_above=0.5, trust_margin=9).comparison.policies
    assert never["random+trust"].value == near(0.4) and never["random"].value == near(0.52)
    harmful = replay(ROWS[1:4], Said(), Said(), refine_above=0.5, trust_margin=0.1)
    assert harmful.comparison.better == "initial"
    assert harmful.comparison.policies["random+trust"].value == near(2 / 3 * 1 / 3 + 1 / 3 * 2 / 3)


def test_the_measures_are_those_of_the_final_answers() -> None:
    report = replay(ROWS, Said(), Said(), refine_above=0.5, trust_margin=0.1)
    # Wrong drafts: doubts .9, .5, .1; right ones: .8, .2. Pairs won: .9 twice, .5 once.
    assert report.measures["auc"].value == near(3 / 6)
    # Final answers: a .8 right, b .6 right, c .3 wrong, d .7 right, e .1 wrong; one row a bin.
    assert report.measures["ece"].value == near((0.2 + 0.4 + 0.3 + 0.3 + 0.1) / 5)
    assert report.measures["ece_asker"].value == near((0.1 + 0.8 + 0.5 + 0.2 + 0.9) / 5)
    assert report.measures["accuracy_at_80"].value == near(3 / 4)
    assert report.measures["gain_at_80"].value == near(3 / 4 - 3 / 5)
    # a: .6 > .1; b: .4 > .3; c: .25 > .2; d: .3 < .9; e: .8 > .1.
    assert report.measures["within_question_auc"].value == near(4 / 5)
    # With the Truster choosing, the order a b c d e of doubt gains 1 0 0 -1 1 of one whole.
    assert list(report.curve) == near([0.4, 0.6, 0.6, 0.6, 0.4, 0.6])
    assert report.measures["gain_kept_at_half"].value == near(1.0)
    assert report.measures["curve_above_random"].value == near(np.mean(report.curve) - 0.5)
    assert report.margins["mends"] == near([0.5, 0.05, 0.7]) and report.margins["breaks"] == near([-0.1, 0.6])
    assert [miss.id for miss in report.misses] == ["c", "e"]  # c: by -.05, e: by -.7
    assert report.misses[0].chosen.startswith("doubt 0.5") and report.misses[0].missed.startswith("score 0.25")
    assert report.misses[0].score_gap == near(-0.05)
    twice = replay([*ROWS, *ROWS], Said(), Said(), refine_above=0.5, trust_margin=0.1)
    assert [miss.id for miss in twice.misses] == ["c", "e"]  # one a question


def test_answers_are_ranked_within_question_and_source_each_once() -> None:
    def two(source: str, *scored: tuple[float, bool]) -> Prediction:
        first, *others = (
            RecordedAnswer("initial", f"score {score}", None, right, (), source) for score, right in scored
        )
        return Prediction("q", "Q?", (first, *(replace(other, stage="refined") for other in others)))

    # m: .9 right beats .1 wrong but not .95 wrong, which is recorded twice; n: one pair ranked wrongly.
    rows = [two("m", (0.1, False), (0.9, True)), *[two("m", (0.95, False), (0.9, True))] * 2]
    rows.append(two("n", (0.3, True), (0.5, False)))
    report = replay(rows, Said(), Said(), refine_above=0.5, trust_margin=0.1)
    assert report.measures["within_question_auc"].value == near(1 / 3)


def test_the_curve_refines_the_most_doubted_first() -> None:
    doubt, kept, refined = np.array([0.1, 0.9, 0.5]), np.array([1, 0, 0]), np.array([0, 1, 0])
    curve = share_curve(doubt, kept, refined)
    assert list(curve) == near([1 / 3, 2 / 3, 2 / 3, 1 / 3])
    assert np.isnan(gain_kept(curve))  # refining all gains nothing
    tied = share_curve(np.full(4, 0.5), np.array([0, 0, 1, 1]), np.array([1, 1, 1, 1]))
    assert list(tied) == near([0.5, 0.625, 0.75, 0.875, 1.0])  # no order: a straight line
    assert gain_kept(tied) == near(0.5)
    assert gain_kept(np.array([0.2, 0.5, 0.6])) == near(0.75) and gain_kept(np.array([0.0, 0.4, 0.3, 1.0])) == near(
        0.35
    )


def test_rows_of_one_question_are_drawn_together() -> None:
    # The same question in several rows: by its id, or by its words.
    rows = [*ROWS, row("a", "doubt 0.9 score 0.1", False, "score 0.6", True)]
    rows.append(row("z", "doubt 0.9 score 0.2", False, "score 0.6", True, question="what is  B?"))
    found = score_rows(rows, Said(), Said()).rows
    assert [row.question for row in found] == ["a", "b", "c", "d", "e", "a", "b"]
    assert replay(rows, Said(), Said(), refine_above=0.5, trust_margin=0.1).comparison.questions == 5


def test_copies_of_a_question_narrow_no_interval() -> None:
    once = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0] * 3
    questions = [f"q{n}" for n in range(24)]
    alone, copied = clustered(once, questions), clustered(once * 12, questions * 12)
    assert (copied.low, copied.high) == (near(alone.low), near(alone.high))
    rows = bootstrap(once * 12)
    assert (copied.high - copied.low) > 3 * (rows.high - rows.low)
    assert (alone.low, alone.high) == (near(bootstrap(once).low, abs=0.03), near(bootstrap(once).high, abs=0.03))


def test_large_questions_weigh_by_their_rows() -> None:
    found = clustered([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert (found.value, found.low, found.high) == (0.75, 0.0, 1.0)
    half = clustered_ratios([[1, 0, 3]], [[2, 0, 4]], ["a", "b", "c"])[0]
    assert half.value == near(4 / 6) and half.low == near(0.5) and half.high == near(0.75)
    nothing = clustered_ratios([[0.0]], [[0.0]], ["a"])[0]
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_any_statistic_has_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "STATISTIC_RESAMPLES", 1000)
    random = np.random.default_rng(3)
    values, questions = random.random(90), [n // 3 for n in range(90)]
    mean, any_mean = clustered(values, questions), clustered_statistic(lambda at: values[at].mean(), questions)
    assert any_mean.value == near(mean.value)
    assert (any_mean.low, any_mean.high) == (near(mean.low, abs=0.02), near(mean.high, abs=0.02))
    sizes: set[int] = set()
    clustered_statistic(lambda at: float(sizes.add(len(at)) or 0), [1, 1, 1, 2, 2, 2])
    assert sizes == {6}
    unknown = clustered_statistic(lambda _: float("nan"), questions)
    assert np.isnan(unknown.value) and np.isnan(unknown.low)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=12))
def test_clustered_intervals_hold_the_mean(rows: list[tuple[int, float]]) -> None:
    values = [value for _, value in rows]
    found = clustered(values, [question for question, _ in rows])
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.value == near(np.mean(values), abs=1e-9)


def test_intervals_need_a_question_for_every_row() -> None:
    for values, questions in (([], []), ([1.0], []), ([1.0, 2.0], ["a"])):
        with pytest.raises(ValueError, match="one value and one question a row|one row"):
            clustered(values, questions)
    with pytest.raises(ValueError, match="at least one row"):
        clustered_statistic(lambda _: 0.0, [])


def test_what_cannot_be_replayed_is_left_out_and_counted() -> None:
    short = Prediction("s", "S?", (answer("x", True, "initial"),))
    headless = Prediction("h", "H?", (answer("x", True), answer("y", True)))
    blank = Prediction("u", "U?", (answer("x", True, "initial"), answer("y", None)))
    found = score_rows([*ROWS, short, headless, blank, blank], Said(), Said())
    assert len(found.rows) == 5
    assert found.left_out == {"only one answer": 1, "no initial answer": 1, "an answer without a label": 2}
    report = replay_scored(found, refine_above=0.5, trust_margin=0.1)
    assert report.as_dict()["left_out"] == found.left_out and report.as_dict()["rows"] == 5
    with pytest.raises(PredictionsError, match="no row can be replayed .1 with only one answer.: give rows with an"):
        replay([short], Said(), Said(), refine_above=0.5, trust_margin=0.1)
    with pytest.raises(PredictionsError, match="there are none"):
        replay([], Said(), Said(), refine_above=0.5, trust_margin=0.1)


def test_the_draft_comes_first_wherever_it_is_recorded() -> None:
    late = Prediction("q", "Q?", (answer("later score 0.9", True), answer("draft score 0.1", False, "initial")))
    (found,) = score_rows([late], Said(), Said()).rows
    assert [a.text for a in found.answers] == ["draft score 0.1", "later score 0.9"]
    assert found.correct == (False, True) and found.scores == (0.1, 0.9)


def test_each_distinct_answer_is_scored_once() -> None:
    later = [row("q", f"draft {n}", False, "the same", True, "Q?") for n in range(4)]
    part = Said()
    score_rows([*later, later[0]], part, part)
    assert len(part.made("ask")) == 4 and len(part.made("confidence")) == 5
    assert [texts for _, _, texts, _ in part.made("score")] == [(f"draft {n}", "the same") for n in range(4)]
    alone = Said(pointwise=True)
    found = score_rows([*later, later[0]], alone, alone).rows
    assert [texts for _, _, texts, _ in alone.made("score")] == [
        ("draft 0",), ("the same",), ("draft 1",), ("draft 2",), ("draft 3",)
    ]  # fmt: skip
    assert all(len(row.scores) == 2 for row in found)


def test_the_same_answer_from_other_passages_is_another_answer() -> None:
    rows = [
        Prediction("q", "Q?", (answer("x", True, "initial"), answer("y", True)), passages=passages)
        for passages in (None, (), (passage("alpha"),), (passage("beta"),), (passage("alpha"),))
    ]
    part = Said()
    score_rows(rows, part, part)
    assert [call[3] for call in part.made("ask")] == [None, (), (passage("alpha"),), (passage("beta"),)]


def test_a_truster_that_compares_sees_the_answers_of_its_own_row_only() -> None:
    class Comparing(Said):
        def score(self, question: str, answers: Sequence[str], passages: Any = None) -> list[float]:
            return [float(sum(other != text for other in answers)) for text in answers]

    rows = [row("q", f"draft {n}", False, "the same", True, "Q?") for n in range(4)]
    assert {found.scores for found in score_rows(rows, Said(), Comparing()).rows} == {(1.0, 1.0)}


def test_parts_that_can_be_awaited_are_asked_side_by_side() -> None:
    class Awaited(Said):
        now = most = 0

        async def aask(self, *given: Any) -> Doubt:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return self.ask(*given)

    asker, told = Awaited(), []
    rows = [row(str(n), f"doubt 0.{n}", False, f"later {n}", True) for n in range(40)]
    found = asyncio.run(ascore_rows(rows, asker, Said(), tell=lambda done, total: told.append((done, total))))
    assert found == score_rows(rows, Said(), Said())
    assert 1 < asker.most <= scoring.SIDE_BY_SIDE
    assert told[-1] == (160, 160) and told == sorted(told)


def test_a_part_may_fail_twice_but_not_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PAUSES", (0.0, 0.0))

    class Failing(Said):
        left = 2

        def ask(self, *given: Any) -> Doubt:
            self.left -= 1
            if self.left >= 0:
                raise ConnectionError("gone")
            return super().ask(*given)

    assert score_rows(ROWS, Failing(), Said()) == score_rows(ROWS, Said(), Said())
    with pytest.raises(ModelCallError, match=r"the asker failed on row 'a' \(ConnectionError: gone\)"):
        score_rows(ROWS, Failing(left=3), Said())

    class Refusing(Said):
        def ask(self, *given: Any) -> Doubt:
            self.calls.append(given)
            raise PredictionsError("as it is")

    refusing = Refusing()
    with pytest.raises(PredictionsError, match="as it is"):  # what is wrong on purpose is not tried again
        score_rows(ROWS, refusing, Said())
    assert len(refusing.calls) == 1


@pytest.mark.parametrize("draft", ["doubt nan", "score nan", "sure nan"])
def test_numbers_that_are_none_are_refused(draft: str) -> None:
    with pytest.raises(ModelCallError, match="row 'q' has 2 answers, but got .*nan.*mend the"):
        score_rows([row("q", draft, False, "later", True)], Said(), Said())


def test_a_truster_must_score_every_answer() -> None:
    class Silent(Said):
        def score(self, *_: Any) -> list[float]:
            return [0.5]

    with pytest.raises(ModelCallError, match="2 answers, but got the scores .0.5."):
        score_rows(ROWS, Said(), Silent())


def test_one_class_leaves_gaps_and_no_error() -> None:
    rows = [row(str(n), f"doubt 0.{n}", True, "score 0.9", True) for n in range(5)]
    found = replay(rows, Said(), Said(), refine_above=0.5, trust_margin=0.1).as_dict()
    assert found["auc"] == {"value": None, "low": None, "high": None} == found["within_question_auc"]
    assert found["gain_kept_at_half"]["value"] is None and found["initial"]["value"] == 1
    json.dumps(found, allow_nan=False)


def test_settings_are_chosen_margin_first_then_threshold_then_floor() -> None:
    scored = score_rows(ROWS, Said(), Said())
    chosen = choose_settings(scored, at_least=0.9)
    # Later minus draft: .5 right, -.1 wrong, .05 right, .6 wrong, .7 right. Above -.025: right on a, b, c, e.
    assert chosen["trust_margin"] == near(-0.025)
    # With it, refining e too costs d: rows a, b and c are as good and fewer.
    assert chosen["refine_above"] == near(0.35)
    # Final: a .8, b .6, c .35, d .7 right; e .1 wrong.
    assert chosen["abstain_below"] == near(0.225)
    report = replay_scored(scored, refine_above=chosen["refine_above"], trust_margin=chosen["trust_margin"])
    assert report.comparison.policies["ask+trust"].value == near(0.8)
    assert choose_settings(scored, at_least=0.9, budget=0.2)["refine_above"] == near(0.85)
    assert choose_settings(scored, at_least=0.9, lowest_margin=0.3)["trust_margin"] == near(0.65)


# The command.

RAW = [
    {
        "id": r.id,
        "question": r.question,
        "candidates": [
            {"stage": a.stage, "text": a.text, "correct": a.correct, "predicted": n} for n, a in enumerate(r.candidates)
        ],
    }
    for r in ROWS
]
FORMAT = {"initial", "refine-all", "random", "trust-only", "ask+trust", "oracle"}
MEASURES = {"refine_rate", "auc", "ece", "accuracy_at_80"}
Artrag = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Artrag:
    def go(*given: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["artrag", "evaluate", "art", *map(str, given)])
        code: Any = 0
        try:
            with warnings.catch_warnings():
                cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return go


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """A trained part with thresholds of its own, which is what is loaded by default."""
    limits = {"refine_above": 0.85, "trust_margin": 0.2, "abstain_below": 0.1}
    part = Said(limits=lambda passages: limits if passages is None else {})
    monkeypatch.setattr("artrag.models.askers.load_asker", lambda *_, **__: part)
    monkeypatch.setattr("artrag.models.trusters.load_truster", lambda *_, **__: part)
    return part


def test_the_command_gives_the_keys_of_the_format(run: Artrag, said: Said, tmp_path: Path) -> None:
    code, out, _ = run("--predictions", json_lines(tmp_path / "p.jsonl", RAW), "--json")
    found = json.loads(out)
    assert code == 0 and out.count("\n") == 1
    for name in FORMAT | MEASURES:
        assert set(found[name]) == {"value", "low", "high"}, name
        assert 0 <= found[name]["low"] <= found[name]["high"] <= 1
    assert found["initial"]["value"] == near(0.4) and found["oracle"]["value"] == 1
    assert found["thresholds"] == {"refine_above": 0.85, "trust_margin": 0.2}  # those of the trained parts
    assert found["refine_rate"]["value"] == near(0.2) and found["ask+trust"]["value"] == near(0.6)
    assert (found["rows"], found["questions"], found["files"]) == (5, 5, {})
    assert {"majority", "within_question_auc", "gain", "better", "differences", "seconds"} <= set(found)
    assert found["gain"] == found["differences"]["ask+trust"] and found["better"] == "refine-all"


def test_thresholds_can_be_given(run: Artrag, said: Said, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "p.jsonl", RAW)
    _, out, _ = run("--predictions", path, "--refine-above", 0, "--trust-margin", -0.2, "--json")
    found = json.loads(out)
    assert found["thresholds"] == {"refine_above": 0, "trust_margin": -0.2}
    assert found["ask+trust"] == found["trust-only"] == found["refine-all"]
    grounded = json_lines(tmp_path / "g.jsonl", [raw | {"passages": ["alpha"]} for raw in RAW])
    _, out, _ = run("--predictions", grounded, "--json")
    assert json.loads(out)["thresholds"] == {"refine_above": 0.5, "trust_margin": 0.02}  # those of the settings
    assert run("--predictions", path, "--refine-above", 1.5, "--json")[0] == 2


def test_several_files_are_told_apart(run: Artrag, said: Said, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    one, two = json_lines(tmp_path / "one.jsonl", RAW[:2]), json_lines(tmp_path / "two.jsonl", RAW[1:])
    for words in (("--predictions", one, "--predictions", two), ("--predictions", one, two)):
        found = json.loads(run(*words, "--json")[1])
        assert (found["rows"], found["questions"]) == (6, 5)
        assert {name: part["rows"] for name, part in found["files"].items()} == {"one.jsonl": 2, "two.jsonl": 4}
        assert found["files"]["one.jsonl"]["initial"]["value"] == 0.5
        assert found["files"]["two.jsonl"]["better"] == "initial"  # two of four each: the draft is the cheaper
        assert set(found["files"]["two.jsonl"]) >= {"gain", "ask+trust", "refine_rate", "oracle"}
    same = json_lines(tmp_path / "x" / "one.jsonl", RAW[2:])
    assert set(json.loads(run("--predictions", one, same, "--json")[1])["files"]) == {str(one), str(same)}


def test_a_person_reads_tables(run: Artrag, said: Said, tmp_path: Path) -> None:
    rows = [*RAW, {"id": "u", "question": "U?", "candidates": []}]
    code, out, _ = run("--predictions", json_lines(tmp_path / "p.jsonl", rows))
    assert code == 0
    for words in ("5 rows, 5 questions", "ask+trust", "60.0", "auc", "left out: 1 rows with no initial answer"):
        assert words in " ".join(out.split()), words


@pytest.mark.parametrize("kind", ["evidence", "judge", "prompted"])
def test_kinds_are_known_by_name(run: Artrag, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fakes import AnsweringChat

    chat = AnsweringChat(lambda prompt: "Yes" if "refined" in prompt else "7")
    monkeypatch.setattr("artrag.models.references.load_chat", lambda *_, **__: chat)
    path = json_lines(tmp_path / "p.jsonl", RAW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the judge says that it reads words
        code, out, _ = run("--predictions", path, "--asker", kind, "--truster", kind, "--json")
    found = json.loads(out)
    assert code == 0 and (found["asker"], found["truster"]) == (kind, kind)
    assert bool(chat.asked) is (kind != "evidence")
    if kind == "judge":
        assert found["truster_readings"] == {"written": 10} and found["asker_readings"] == {"written": 5}


def test_bad_rows_are_named_by_file_and_line(run: Artrag, tmp_path: Path) -> None:
    bad = json_lines(tmp_path / "bad.jsonl", [RAW[0], {"id": "x", "question": "Q?"}])
    code, out, err = run("--predictions", bad, "--json")
    assert code == 2 and json.loads(out)["type"] == "PredictionsError" and "bad.jsonl:2" in err
    code, _, err = run("--predictions", tmp_path / "none.jsonl")
    assert code == 2 and "none.jsonl" in err


# The page.

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def hostile_report() -> Report:
    """Misses, ids and file names that would run as code, and no right answer chosen."""
    rows = [
        Prediction(HOSTILE + str(n), f"{HOSTILE} {n}?", (answer(f"{HOSTILE} doubt 0.{n}", False, "initial"),
                   answer(f"{HOSTILE} score 0.3 {n}", True)))
        for n in range(9)
    ]  # fmt: skip
    parts = [HOSTILE if n % 2 else "$\\frac$ 费用 \ud800.jsonl" for n in range(9)]
    return replay_scored(score_rows(rows, Said(), Said(), parts=parts), refine_above=0.5, trust_margin=0.02)


def test_hostile_texts_stay_texts() -> None:
    report = hostile_report()
    page = as_html(report, {"predictions": HOSTILE, HOSTILE: "x"})
    assert report.misses and len(report.parts) == 2
    lowered = page.lower()
    assert "<script" not in lowered and "<img" not in lowered and "onerror=alert(2)>" not in lowered
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<pre>") == page.count("</pre>") == 3 * len(report.misses)
    assert "default-src 'none'" in page


def test_the_page_stands_alone() -> None:
    page = as_html(replay(ROWS, Said(), Said(), refine_above=0.5, trust_margin=0.1), {"predictions": "p.jsonl"})
    assert page.count("<svg") == page.count("</svg>") == 5
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"|http://purl\.org\S*|rdf:resource="[^"]*"', "", page)
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|<link|<script""", without_names)
    for words in ("Policies", "Accuracy against share refined", "Calibration", "Risk and coverage", "ask+trust"):
        assert words in page
    assert "[+0.0, +0.0]" in page and "60.0" in page
    assert page == as_html(replay(ROWS, Said(), Said(), refine_above=0.5, trust_margin=0.1), {"predictions": "p.jsonl"})


def test_the_report_is_written_whole(run: Artrag, said: Said, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    code, out, err = run("--predictions", json_lines(tmp_path / "p.jsonl", RAW), "--report", folder, "--json")
    assert code == 0 and str(folder / "report.html") in err.replace("\n", "")
    kept, shown = json.loads((folder / "report.json").read_text("utf-8")), json.loads(out)
    assert {name: kept[name] for name in FORMAT | MEASURES} == {name: shown[name] for name in FORMAT | MEASURES}
    assert kept["curve"][0] == {"refined": 0.0, "accuracy": near(0.4)} and kept["curve"][-1]["refined"] == 1
    assert len(kept["margins"]["mends"]) == 3 and kept["risk_coverage"] and kept["ask_reliability"]
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    write_report(folder, hostile_report(), {"predictions": "\ud800"})  # half a character, as JSON may hold it
    json.loads((folder / "report.json").read_text("utf-8"))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = replay(ROWS, Said(), Said(), refine_above=0.5, trust_margin=0.1)
    with pytest.raises(MissingExtraError, match=r"pip install 'artrag\[train\]'"):
        write_report(tmp_path / "r", report, {})
    assert not (tmp_path / "r").exists()


def test_one_right_answer_alone_still_makes_a_page() -> None:
    rows = [row("q", "the same", True, "the same", True)]
    report = replay(rows, Said(), Said(), refine_above=0.5, trust_margin=0.1)
    page = as_html(report, {})
    assert "nan" not in page and page.count("<svg") == 5
