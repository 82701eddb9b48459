"""The cards' scores on cases with a known result."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import scores
from models.scores import calibration_figures, interval, lead

TRUTH = np.array([0, 0, 0, 1, 1, 2])
GUESS = np.array([0, 0, 1, 1, 1, 1])


def test_macro_f1_and_recall_are_means_over_the_classes_that_the_truth_has() -> None:
    assert scores.macro_f1(TRUTH, GUESS) == pytest.approx((4 / 5 + 4 / 6 + 0) / 3)
    assert scores.unweighted_recall(TRUTH, GUESS) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.f1_of(TRUTH, GUESS, 4) == pytest.approx([4 / 5, 4 / 6, 0, 0])


def test_recall_by_class_is_the_diagonal_of_the_confusion_and_nothing_where_nothing_was_to_find() -> None:
    assert scores.confusion(TRUTH, GUESS, 4).tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert scores.recalls(TRUTH, GUESS, 4) == pytest.approx([2 / 3, 1, 0, np.nan], nan_ok=True)


def test_nll_and_brier_of_a_coin_and_of_certainty() -> None:
    coin = scores.calibration(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]))
    assert (coin.nll, coin.brier) == pytest.approx((np.log(2), 0.5))
    sure = scores.calibration(np.eye(2)[[0, 1]], np.array([0, 0]))
    assert sure.brier == pytest.approx((0 + 2) / 2)
    assert sure.nll == pytest.approx(-np.log(1e-12) / 2)


def test_shares_of_one_class_are_that_class() -> None:
    p, truth = np.random.default_rng(0).dirichlet(np.ones(3), 200), np.random.default_rng(1).integers(0, 3, 200)
    assert scores.calibration(p, np.eye(3)[truth]) == scores.calibration(p, truth)


def test_probabilities_that_are_the_raters_shares_are_calibrated_and_have_the_shares_own_brier_score() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 5000)
    found = scores.calibration(shares, shares)
    assert found.brier == 0
    assert found.band[0] <= found.ece <= found.band[1]


def test_an_ece_outside_the_band_is_missed_and_says_why_and_one_inside_makes_no_excuse() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 4000)
    truth = (p.cumsum(axis=1)[:, :2] < rng.random((4000, 1))).sum(axis=1)
    calibrated = calibration_figures(p, truth, of="drawn", tolerance=0.01, missed="it was cold")
    boast = calibration_figures(
        p**4 / (p**4).sum(axis=1, keepdims=True), truth, of="drawn", tolerance=0.01, missed="it was cold"
    )
    assert [f.name for f in calibrated] == ["ece_calibrated", "nll", "brier"]
    assert (calibrated[0].verdict, calibrated[0].missed) == ("must reached", "")
    assert (boast[0].verdict, boast[0].missed) == ("missed", "it was cold")


def test_few_items_may_stay_in_a_wide_band_and_many_must_reach_more() -> None:
    few, many = (
        calibration_figures(np.full((n, 2), 0.5), np.arange(n) % 2, of="coins", tolerance=0.1)[0].must
        for n in (300, 3000)
    )
    assert few is not None
    assert few > 0.05
    assert many == 0.03


def test_whole_groups_are_drawn_so_few_groups_make_a_wide_interval() -> None:
    right = np.repeat([1.0, 0.0, 1.0, 0.0], 100)
    by_group = interval(lambda rows: float(right[rows].mean()), np.repeat(list("abcd"), 100), draws=500)
    by_row = interval(lambda rows: float(right[rows].mean()), len(right), draws=500)
    assert by_group == (0.0, 1.0)
    assert 0.4 < by_row[0] < 0.5 < by_row[1] < 0.6


def test_groups_need_not_lie_together_and_the_interval_is_the_same_each_time() -> None:
    right = np.random.default_rng(0).random(90)
    groups, order = np.repeat(["x", "y", "z"], 30), np.random.default_rng(1).permutation(90)
    shuffled, names = right[order], groups[order]
    once, again = (interval(lambda rows: float(right[rows].mean()), groups) for _ in range(2))
    assert once == again
    assert interval(lambda rows: float(shuffled[rows].mean()), names) == pytest.approx(once)


def test_a_lead_is_paired_and_nothing_leads_itself() -> None:
    noise = np.random.default_rng(0).random(200)
    ours, theirs = (lambda rows: float(noise[rows].mean() + 0.01)), (lambda rows: float(noise[rows].mean()))
    ahead, level = lead(ours, theirs, 200, draws=200), lead(ours, ours, 200, draws=200)
    assert (ahead.value, ahead.low, ahead.high, ahead.above_zero) == pytest.approx((0.01, 0.01, 0.01, 1))
    assert (level.value, level.low, level.high, level.above_zero) == (0, 0, 0, 0)


def test_a_draw_without_a_score_is_skipped() -> None:
    low, high = interval(lambda rows: float("nan") if 0 in rows else 1.0, 3, draws=100)
    assert (low, high) == (1, 1)
