"""Scores of labelled predictions: macro-F1 with bootstrap intervals, calibration, and risk against coverage.

The bootstrap resamples sessions, not segments, because the segments of a session share their voice and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band

DRAWS = 2000
BINS = 10
COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One labelled stretch: its session, the true class, the predicted class (None: abstained) and its confidence."""

    session: str
    truth: str
    predicted: str | None
    confidence: float

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one; abstaining is not."""
        return self.predicted == self.truth


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % bootstrap interval (percentiles)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of two scores with its 95 % bootstrap interval, and the share of draws above 0."""

    value: float
    low: float
    high: float
    above_zero: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One row of a reliability table: number of predictions, mean confidence, share that is correct."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error over equal-mass bins, and its 95 % band for a perfect model on as many predictions."""

    ece: float
    perfect_low: float
    perfect_high: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The area under the risk-coverage curve, and the risk at each coverage of `COVERAGES`."""

    aurc: float
    risk_at: dict[float, float]


def macro_f1(predictions: Sequence[Prediction], classes: Sequence[str]) -> float:
    """The mean F1 over the classes that occur; an abstention counts against recall only."""
    return float(_macro_f1(_confusions(predictions, classes).sum(axis=0)[None])[0])


def macro_f1_interval(predictions: Sequence[Prediction], classes: Sequence[str], draws: int = DRAWS) -> Interval:
    """Macro-F1 with its bootstrap interval (Efron 1979): sessions drawn with replacement, seed 0."""
    confusions = _confusions(predictions, classes)
    drawn = _macro_f1(_redraw(confusions, draws))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(_macro_f1(confusions.sum(axis=0)[None])[0]), float(low), float(high))


def paired_difference(first: Sequence[Prediction], second: Sequence[Prediction], classes: Sequence[str]) -> Difference:
    """Macro-F1 of the first minus that of the second, both on the same drawn sessions.

    Raises:
        ValueError: the two are not predictions for the same stretches.
    """
    if [(p.session, p.truth) for p in first] != [(p.session, p.truth) for p in second]:
        raise ValueError("a paired difference needs the same stretches in the same order")
    a, b = _confusions(first, classes), _confusions(second, classes)
    drawn = _macro_f1(_redraw(a, DRAWS)) - _macro_f1(_redraw(b, DRAWS))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = float(_macro_f1(a.sum(axis=0)[None])[0] - _macro_f1(b.sum(axis=0)[None])[0])
    return Difference(value, float(low), float(high), float((drawn > 0).mean()))


def calibration(predictions: Sequence[Prediction]) -> Calibration:
    """Compare confidence with accuracy over the predictions that don't abstain."""
    answered = sorted((p for p in predictions if p.predicted is not None), key=lambda p: p.confidence)
    if not answered:
        return Calibration(0.0, 0.0, 0.0, ())
    confidence = np.array([p.confidence for p in answered])
    correct = np.array([p.correct for p in answered])
    parts = [part for part in np.array_split(np.arange(len(answered)), BINS) if len(part)]
    table = tuple(Bin(len(i), float(confidence[i].mean()), float(correct[i].mean())) for i in parts)
    return Calibration(
        expected_calibration_error(confidence, correct, BINS), *perfect_ece_band(confidence, bins=BINS), table
    )


def risk_coverage(predictions: Sequence[Prediction]) -> RiskCoverage:
    """The error rate among the most confident predictions, as a function of the share that is answered.

    Geifman and El-Yaniv (NeurIPS 2017), area as in Geifman, Uziel and El-Yaniv (ICLR 2019). Abstentions come last and
    are wrong; equal confidences share their mean risk, so the order of the predictions has no effect.
    """
    confidence = np.array([p.confidence if p.predicted is not None else -1.0 for p in predictions])
    wrong = np.array([not p.correct for p in predictions], np.float64)
    order = np.argsort(-confidence, kind="stable")
    _, ties = np.unique(-confidence[order], return_inverse=True)
    mean_of_tie = np.bincount(ties, wrong[order]) / np.bincount(ties)
    risks = np.cumsum(mean_of_tie[ties]) / np.arange(1, len(wrong) + 1)
    at = {c: float(risks[max(round(c * len(risks)) - 1, 0)]) for c in COVERAGES}
    return RiskCoverage(float(risks.mean()), at)


def _confusions(predictions: Sequence[Prediction], classes: Sequence[str]) -> NDArray[np.float64]:
    """Counts (session, true class, predicted class; last column: abstained), sessions in the order they appear."""
    sessions = {s: i for i, s in enumerate(dict.fromkeys(p.session for p in predictions))}
    index = {c: i for i, c in enumerate(classes)}
    counts = np.zeros((len(sessions), len(classes), len(classes) + 1))
    for p in predictions:
        column = len(classes) if p.predicted is None else index[p.predicted]
        counts[sessions[p.session], index[p.truth], column] += 1
    return counts


def _redraw(confusions: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """Sum the confusions of sessions drawn with replacement, seed 0: (draw, true, predicted)."""
    n = len(confusions)
    times = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    return np.asarray(np.einsum("ds,stp->dtp", times, confusions))


def _macro_f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro-F1 (d,) of confusions (d, true, predicted), over the classes that occur in each."""
    answered = confusion[:, :, :-1]
    hits = np.einsum("dcc->dc", answered)
    support, predicted = confusion.sum(axis=2), answered.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    occurs = support > 0
    return np.asarray((f1 * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1))
