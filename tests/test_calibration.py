"""Ranking and calibration measures, calibrations and thresholds, against values worked out by hand."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artrag.choice import pick
from artrag.errors import PartError, TrainingDataError
from artrag.evaluation.calibration import (
    Isotonic,
    Kind,
    Platt,
    accuracy_at,
    auc,
    aurc,
    brier,
    calibration_from,
    expected_calibration_error,
    fit_calibration,
    pool_adjacent,
    reliability,
    risk_coverage,
    within_question_auc,
)
from artrag.evaluation.thresholds import abstention_floor, choose_margin, choose_threshold
from artrag.models.parts import probability

KINDS: tuple[Kind, ...] = ("temperature", "platt", "isotonic")
near = pytest.approx


def drawn(n: int, scale: float = 2.0, shift: float = -1.0, seed: int = 0) -> tuple[Any, Any]:
    """Scores and labels whose true probability is sigmoid(scale * score + shift)."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=n)
    return scores, random.random(n) < 1 / (1 + np.exp(-scale * scores - shift))


def test_auc_counts_the_pairs_that_are_ranked_rightly() -> None:
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75  # of four pairs one is the wrong way round
    assert auc([3, 2, 1], [1, 0, 0]) == 1 and auc([1, 2, 3], [1, 0, 0]) == 0
    assert auc([5, 5, 5], [1, 0, 1]) == 0.5
    assert auc([1, 2, 2], [0, 0, 1]) == 0.75  # one win, one tie
    assert np.isnan(auc([1, 2], [1, 1])) and np.isnan(auc([1, 2], [0, 0]))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auc_is_what_counting_pair_by_pair_gives(rows: list[tuple[int, bool]]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a, x in rows for b, y in rows if x and not y]
    found = auc([score for score, _ in rows], [label for _, label in rows])
    assert np.isnan(found) if not pairs else found == near(sum(pairs) / len(pairs))


def test_within_a_question_only_its_own_pairs_count() -> None:
    scores, labels = [1, 9, 5, 2, 3, 4], [1, 0, 1, 0, 0, 0]
    groups = ["a", "b", "b", "a", "b", "c"]
    # a: 1 (right) below 2; b: 5 (right) below 9, above 3; c: no right one.
    assert within_question_auc(scores, labels, groups) == near(1 / 3)
    assert within_question_auc(scores, labels, [0] * 6) == auc(scores, labels)
    assert np.isnan(within_question_auc([1, 2], [1, 0], ["a", "b"]))
    with pytest.raises(ValueError, match="1 groups for 2 scores"):
        within_question_auc([1, 2], [1, 0], ["a"])


def test_the_calibration_error_is_taken_over_bins_of_equal_mass() -> None:
    probabilities, labels = [0.8, 0.1, 0.6, 0.3], [1, 0, 1, 1]
    low, high = reliability(probabilities, labels, bins=2)
    assert (low.probability, low.share, low.count) == (near(0.2), 0.5, 2)
    assert (high.probability, high.share, high.count) == (near(0.7), 1.0, 2)
    assert expected_calibration_error(probabilities, labels, bins=2) == near(0.3)
    crowded = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95]  # one bin of equal width, three of equal mass
    assert [b.count for b in reliability(crowded, [1] * 6, bins=3)] == [2, 2, 2]
    assert expected_calibration_error([0.5, 1.0, 1.0], [1, 1, 1], bins=2) == near((2 * 0.25 + 0) / 3)


def test_over_and_under_confidence_do_not_cancel_out_between_bins() -> None:
    assert expected_calibration_error([0.2] * 4 + [0.8] * 4, [1] * 4 + [0] * 4, bins=2) == near(0.8)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1, max_size=25), st.randoms())
def test_no_measure_depends_on_the_order_of_equal_rows(rows: list[tuple[float, bool]], random: Any) -> None:
    mixed = random.sample(rows, len(rows))
    for measure in (expected_calibration_error, brier, aurc, lambda p, y: accuracy_at(0.4, p, y)):
        values = [measure([p for p, _ in order], [y for _, y in order]) for order in (rows, mixed)]
        assert values[0] == near(values[1], nan_ok=True)


def test_brier_is_the_mean_squared_error() -> None:
    assert brier([0.8, 0.4], [1, 0]) == near((0.04 + 0.16) / 2)


def test_risk_and_coverage_have_a_point_for_every_threshold() -> None:
    confidence, correct = [0.8, 0.9, 0.1, 0.8], [0, 1, 0, 1]
    points = [(p.coverage, p.risk, p.threshold) for p in risk_coverage(confidence, correct)]
    assert points == [(0.25, 0.0, 0.9), (0.75, near(1 / 3), 0.8), (1.0, 0.5, 0.1)]
    # The surest 1, 2, 3, 4 answers; the two at 0.8 come in no order, half right each.
    assert aurc(confidence, correct) == near(1 - (1 + 1.5 / 2 + 2 / 3 + 2 / 4) / 4)
    assert accuracy_at(0.25, confidence, correct) == 1
    assert accuracy_at(0.5, confidence, correct) == 0.75
    assert accuracy_at(0.75, confidence, correct) == near(2 / 3)
    assert accuracy_at(0.8, confidence, correct) == 0.5  # rounded up to four rows
    assert accuracy_at(0.1, confidence, correct) == 1 and accuracy_at(1, confidence, correct) == 0.5
    assert accuracy_at(0.8, list(range(10)), [0, 0] + [1] * 8) == 1  # eight rows, not nine
    for coverage in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match="share above 0 and at most 1"):
            accuracy_at(coverage, confidence, correct)


def test_platt_finds_scale_and_shift_again() -> None:
    fitted = fit_calibration(*drawn(20_000), "platt")
    assert isinstance(fitted, Platt)
    assert (fitted.scale, fitted.shift) == (near(2, rel=0.06), near(-1, rel=0.08))
    assert float(fitted([0.5])[0]) == near(0.5, abs=0.02)
    scores, labels = drawn(20_000)
    moved = fit_calibration(10 * scores + 70, labels, "platt")  # the same on another scale
    assert (moved.as_dict()["scale"], moved.as_dict()["shift"]) == (near(0.2, rel=0.06), near(-15, rel=0.06))


def test_a_temperature_has_no_shift() -> None:
    fitted = fit_calibration(*drawn(20_000, 0.5, 0.0), "temperature")
    assert fitted == Platt(near(0.5, rel=0.06)) and float(fitted([0.0])[0]) == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_mends_overconfidence_on_new_rows(kind: Kind) -> None:
    scores, labels = drawn(4000, 1.0, 0.0)
    fitted = fit_calibration(8 * scores[:2000], labels[:2000], kind)
    raw = Platt(1.0)(8 * scores[2000:])
    assert expected_calibration_error(raw, labels[2000:]) > 0.15
    assert expected_calibration_error(fitted(8 * scores[2000:]), labels[2000:]) < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", [[-1.0, -1.0, 1.0, 1.0], [-1e9, -2e9, 1e9, 3e9], [-2e-9, -1e-9, 1e-9, 2e-9]])
def test_separable_scores_blow_nothing_up(scores: list[float], kind: Kind) -> None:
    found = fit_calibration(scores, [0, 0, 1, 1], kind)([*scores, 10 * scores[-1]])
    assert np.isfinite(found).all() and found[0] < 0.5 <= found[3]
    assert kind == "isotonic" or found[2] < 0.99
    assert 0 < found.min() and found.max() <= 1


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=2, max_size=40), st.sampled_from(KINDS))
@settings(max_examples=60)
def test_probabilities_rise_with_the_score_and_survive_json(rows: list[tuple[float, bool]], kind: Kind) -> None:
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    if len(set(labels)) < 2:
        with pytest.raises(TrainingDataError, match="both right and wrong"):
            fit_calibration(scores, labels, kind)
        return
    fitted = fit_calibration(scores, labels, kind)
    found = fitted(np.linspace(-60, 60, 241))
    assert (np.diff(found) >= -1e-12).all() and found.min() >= 0 and found.max() <= 1
    kept = json.loads(json.dumps(fitted.as_dict()))
    assert calibration_from(kept) == fitted
    # Trained parts read the same JSON without this module.
    assert [probability(kept, score) for score in scores] == near(list(fitted(scores)))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_rank_backwards_say_nothing(kind: Kind) -> None:
    found = fit_calibration([3.0, 2.5, 2.0, 1.0, 0.5, 0.1], [0, 0, 0, 1, 1, 0], kind)([0.0, 3.0])
    assert found[0] == near(found[1])
    if kind != "temperature":
        assert 0.3 < found[0] < 0.45  # the share of right rows, a little towards a half


@pytest.mark.parametrize("kind", KINDS)
def test_constant_scores_get_the_share_of_right_rows(kind: Kind) -> None:
    (found,) = fit_calibration([2.0] * 8, [1] * 6 + [0] * 2, kind)([2.0])
    assert 0.65 < found < 0.8


def test_pool_adjacent_violators_by_hand() -> None:
    assert pool_adjacent([1, 3, 2, 4], [1, 1, 1, 1]) == [(1, 1, 1), (2.5, 2, 2), (4, 1, 1)]
    assert pool_adjacent([1, 3, 2, 4], [1, 1, 3, 1]) == [(1, 1, 1), (2.25, 4, 2), (4, 1, 1)]
    assert pool_adjacent([3, 2, 1], [1, 1, 1]) == [(2, 3, 3)]
    assert pool_adjacent([1, 5, 4, 3], [1, 1, 1, 1]) == [(1, 1, 1), (4, 3, 3)]


def test_isotonic_draws_a_line_between_its_blocks_and_never_says_never() -> None:
    # With one right row more at 0 and one wrong row more at 10: shares 1/3 at 0, and 2/3 at 10.
    fitted = fit_calibration([0, 0, 10, 10], [0, 0, 1, 1], "isotonic")
    assert fitted == Isotonic((0.0, 10.0), (near(1 / 3), near(2 / 3)))
    assert list(fitted([-5, 0, 5, 10, 99])) == near([1 / 3, 1 / 3, 1 / 2, 2 / 3, 2 / 3])


def test_a_calibration_needs_both_classes_and_finite_scores() -> None:
    for labels in ([1, 1], [0, 0]):
        with pytest.raises(TrainingDataError, match=f"all 2 labels are {bool(labels[0])}: .* both right and wrong"):
            fit_calibration([1, 2], labels)
    with pytest.raises(TrainingDataError, match="no labelled rows"):
        fit_calibration([], [])
    with pytest.raises(TrainingDataError, match="score 1 is nan"):
        fit_calibration([1, float("nan"), 2], [1, 0, 1])
    with pytest.raises(ValueError, match="one label a value"):
        fit_calibration([1, 2], [1])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "magic"},
        {"kind": "platt", "scale": 1},
        {"kind": "platt", "scale": -1, "shift": 0},
        {"kind": "platt", "scale": float("nan"), "shift": 0},
        {"kind": "platt", "scale": "x", "shift": 0},
        {"kind": "isotonic", "scores": [], "probabilities": []},
        {"kind": "isotonic", "scores": [1, 2], "probabilities": [0.1]},
        {"kind": "isotonic", "scores": [2, 1], "probabilities": [0.1, 0.2]},
        {"kind": "isotonic", "scores": [1, 2], "probabilities": [0.3, 0.2]},
        {"kind": "isotonic", "scores": [1, 2], "probabilities": [0.3, 1.2]},
        {"kind": "isotonic", "scores": 3, "probabilities": [0.3]},
    ],
    ids=str,
)
def test_a_damaged_calibration_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(PartError, match="no calibration can be read .* train the part again"):
        calibration_from(data)


def test_the_threshold_is_the_best_within_the_budget() -> None:
    doubt, kept, refined = [0.9, 0.6, 0.3, 0.1], [0, 1, 0, 1], [1, 0, 1, 1]
    found = choose_threshold(doubt, kept, refined)  # refining 1, 3 or 4 gives three right ones: the fewest
    assert (found.value, found.accuracy, found.refined) == (near(0.75), 0.75, 0.25)
    none = choose_threshold(doubt, kept, refined, budget=0.2)
    assert (none.value, none.accuracy, none.refined, none.cost) == (near(0.95), 0.5, 0, 0)
    assert choose_threshold([0.9, 0.2], [0, 0], [1, 1]).value == 0.0  # all of them
    assert choose_threshold([0.9, 0.2], [0, 0], [1, 1], budget=0.5).value == near(0.55)
    assert choose_threshold([0.9, 0.2], [1, 1], [0, 0]).value == near(0.95)  # none of them


def test_a_budget_counts_what_refining_costs() -> None:
    doubt, kept, refined = [0.9, 0.5, 0.1], [0, 0, 0], [1, 1, 1]
    found = choose_threshold(doubt, kept, refined, budget=2.0, costs=[3, 2, 4])  # 1, 5/3 or 3 a row
    assert (found.value, found.refined, found.cost) == (near(0.3), near(2 / 3), near(5 / 3))
    assert choose_threshold(doubt, kept, refined, budget=1.0, costs=[3, 2, 4]).refined == near(1 / 3)
    assert choose_threshold(doubt, kept, refined, budget=3.0, costs=[3, 2, 4]).refined == 1


def test_equal_doubts_stay_together_and_certain_ones_cannot_be_kept_out() -> None:
    together = choose_threshold([0.5, 0.5, 0.5], [0, 1, 1], [1, 1, 0])
    assert (together.refined, together.accuracy) == (0, near(2 / 3))
    certain = choose_threshold([1.0, 0.2], [1, 1], [0, 0], budget=0)
    assert (certain.refined, certain.accuracy, certain.value) == (0.5, 0.5, near(0.6))


Rows = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 0.99]), st.booleans(), st.booleans()), min_size=1, max_size=15
)


@given(Rows, st.sampled_from([None, 0.0, 0.3, 0.5]))
def test_no_other_threshold_does_better(rows: list[tuple[float, bool, bool]], budget: float | None) -> None:
    doubt, kept, refined = (np.array(column) for column in zip(*rows, strict=True))

    def at(value: float) -> tuple[float, float]:
        return float(np.where(doubt >= value, refined, kept).mean()), float((doubt >= value).mean())

    found = choose_threshold(doubt, kept, refined, budget=budget)
    assert at(found.value) == (near(found.accuracy), near(found.refined))
    tried = [at(value) for value in (0.0, 0.1, 0.3, 0.6, 0.8, 0.995)]
    allowed = [(accuracy, share) for accuracy, share in tried if budget is None or share <= budget]
    assert found.accuracy == near(max(accuracy for accuracy, _ in allowed))
    assert found.refined == near(min(share for accuracy, share in allowed if accuracy > found.accuracy - 1e-9))


def test_a_margin_is_what_another_answer_must_beat_the_draft_by() -> None:
    assert pick([0.5, 0.7], 0.1) == 1 and pick([0.5, 0.7], 0.3) == 0
    assert pick([0.5, 0.75], 0.25) == 0  # more than the margin, not as much
    assert pick([0.5, 0.4], -0.2) == 1 and pick([0.5, 0.2], -0.2) == 0
    assert pick([0.3], 0.1) == 0 and pick([0.3], -0.1) == 0


def test_the_margin_is_the_drafts_and_not_among_the_others() -> None:
    assert pick([0.1, 0.5, 0.55], 0.1) == 2 and pick([0.1, 0.9, 0.5], 0.1) == 1 and pick([0.1, 0.5, 0.5], 0.1) == 1
    # Below zero it must not drift from each to the next: 0.9, 0.8 and 0.7 are no steps down to the last.
    assert pick([0.9, 0.8, 0.7, 0.6], -0.15) == 1 and pick([0.9, 0.6, 0.7], -0.15) == 0


def test_the_margin_chosen_lies_between_the_good_and_the_bad_changes() -> None:
    scores = [[0.0, 0.1], [0.0, 0.2], [0.0, 0.6], [0.0, 0.8], [0.5, 0.0]]
    correct = [[True, False], [True, False], [False, True], [False, True], [True, False]]
    found = choose_margin(scores, correct)
    assert (found.value, found.accuracy, found.changed) == (near(0.4), 1.0, near(0.4))
    never = choose_margin([[0.0, 0.1], [0.0, 0.3]], [[True, False], [True, True]])
    assert (never.accuracy, never.changed) == (1.0, 0.0)


def test_a_margin_may_lie_below_zero_unless_that_is_ruled_out() -> None:
    scores, correct = [[0.5, 0.4], [0.5, 0.3], [0.5, 0.0]], [[False, True], [False, True], [True, False]]
    found = choose_margin(scores, correct)
    assert (found.value, found.accuracy) == (near(-0.35), 1.0)
    bound = choose_margin(scores, correct, lowest=0.0)
    assert bound.value >= 0 and bound.accuracy == near(1 / 3)
    always = choose_margin([[0.9, 0.1], [0.5, 0.1]], [[False, True], [False, True]])
    assert always.value < -0.8 and always.changed == 1


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=3),
        min_size=1,
        max_size=8,
    )
)
def test_no_other_margin_does_better(rows: list[list[tuple[float, bool]]]) -> None:
    scores, correct = [[s for s, _ in row] for row in rows], [[y for _, y in row] for row in rows]

    def at(margin: float) -> float:
        return float(np.mean([labels[pick(given, margin)] for given, labels in zip(scores, correct, strict=True)]))

    found = choose_margin(scores, correct)
    assert at(found.value) == near(found.accuracy)
    assert found.accuracy == near(max(at(margin) for margin in (-9, -0.8, -0.6, -0.4, -0.1, 0.1, 0.4, 0.6, 0.8, 9)))


def test_many_margins_are_thinned_out() -> None:
    random = np.random.default_rng(0)
    gaps = random.normal(size=3000)
    found = choose_margin([[0.0, gap] for gap in gaps], [[gap < 0.7, gap >= 0.7] for gap in gaps])
    assert found.value == near(0.7, abs=0.02) and found.accuracy > 0.99


def test_the_floor_keeps_as_much_as_the_accuracy_allows() -> None:
    confidence, correct = [0.9, 0.8, 0.6, 0.4, 0.2], [1, 1, 0, 1, 0]
    found = abstention_floor(confidence, correct, at_least=0.75)
    assert (found.value, found.coverage, found.accuracy, found.reached) == (near(0.3), 0.8, 0.75, True)
    assert abstention_floor(confidence, correct, at_least=1.0).value == near(0.7)
    all_of_them = abstention_floor(confidence, correct, at_least=0.6)
    assert (all_of_them.value, all_of_them.coverage) == (0.0, 1.0)
    missed = abstention_floor([0.9, 0.5, 0.1], [0, 1, 0], at_least=0.9)
    assert (missed.value, missed.accuracy, missed.reached) == (near(0.3), 0.5, False)


def test_without_rows_nothing_is_chosen() -> None:
    with pytest.raises(TrainingDataError, match="no rows to choose a threshold"):
        choose_threshold([], [], [])
    with pytest.raises(TrainingDataError, match="no rows to choose a margin"):
        choose_margin([], [])
    with pytest.raises(TrainingDataError, match="no rows to choose a floor"):
        abstention_floor([], [], at_least=0.5)
    with pytest.raises(ValueError, match="one value a row"):
        choose_threshold([0.1, 0.2], [1], [1, 0])
