"""The content of a card's picture, and that the same input makes the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import pictures


def _answers(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), n)
    return p, (p.cumsum(axis=1)[:, :2] < rng.random((n, 1))).sum(axis=1)


def test_calibrated_predictions_are_in_the_band_in_nearly_every_bin() -> None:
    p, truth = _answers(4000)
    bins = pictures.reliability(p, truth)
    assert len(bins.accuracy) == 10
    assert ((bins.low <= bins.accuracy) & (bins.accuracy <= bins.high)).sum() >= 8
    assert (np.diff(bins.confidence) >= 0).all()


def test_three_items_make_three_bins() -> None:
    bins = pictures.reliability(np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 1, 0]))
    assert bins.confidence == pytest.approx([0.6, 0.7, 0.9])
    assert bins.accuracy == pytest.approx([0, 1, 1])


def test_risk_is_ordered_by_confidence_and_ties_share_theirs() -> None:
    risks = pictures.risks(np.array([0.2, 0.9, 0.5, 0.5]), np.array([False, True, True, False]))
    assert risks == pytest.approx([0, 0.25, 1 / 3, 0.5])


@pytest.mark.train
def test_the_same_answers_make_the_same_bytes_without_a_date(tmp_path: Path) -> None:
    p, truth = _answers(200)
    once = pictures.draw(tmp_path, p, truth, ["fear", "anger", "neutral"]).read_bytes()
    assert all(pictures.draw(tmp_path, p, truth, ["fear", "anger", "neutral"]).read_bytes() == once for _ in range(5))
    assert b"<dc:date>" not in once
    assert once.count(b"<svg") == 1
    rated = pictures.draw_rated(tmp_path, p - 0.5, p - 0.4, ["valence", "arousal", "dominance"]).read_bytes()
    assert rated != once


@pytest.mark.train
def test_another_answer_makes_another_picture(tmp_path: Path) -> None:
    p, truth = _answers(200)
    once = pictures.draw(tmp_path, p, truth, ["fear", "anger", "neutral"]).read_bytes()
    assert pictures.draw(tmp_path, p, (truth + 1) % 3, ["fear", "anger", "neutral"]).read_bytes() != once
