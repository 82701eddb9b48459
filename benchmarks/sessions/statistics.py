"""Labelled predictions in, scores with their uncertainty out: macro-F1, bootstrap over sessions, calibration, risk.

Sessions, not segments, are drawn again: segments of one session share their voice, their noise and their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band

DRAWS = 2000
COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One labelled stretch: its session, the true class, the predicted one (None: abstained), and how sure it was."""

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
    """A paired difference of two scores with its 95 % interval, and the share of draws in which it is above 0."""

    value: float
    low: float
    high: float
    above_zero: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One row of a reliability table: how many, how sure on average, how often right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error over equal-mass bins, and the 95 % band a perfect model would show with as few."""

    ece: float
    perfect_low: float
    perfect_high: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The area under the risk-coverage curve, and the risk of answering only the surest share, for some shares."""

    aurc: float
    risk_at: dict[float, float]


def macro_f1(predictions: Sequence[Prediction], classes: Sequence[str]) -> float:
    """The mean over the true classes of their F1; an abstention is nobody's prediction, so it costs recall."""
    return float(_macro_f1(_confusions(predictions, classes).sum(axis=0)[None])[0])


def macro_f1_interval(predictions: Sequence[Prediction], classes: Sequence[str], draws: int = DRAWS) -> Interval:
    """Macro-F1 with its interval over sessions drawn again with replacement (Efron 1979), seed 0."""
    confusions = _confusions(predictions, classes)
    drawn = _macro_f1(_redraw(confusions, draws))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(_macro_f1(confusions.sum(axis=0)[None])[0]), float(low), float(high))


def paired_difference(
    first: Sequence[Prediction], second: Sequence[Prediction], classes: Sequence[str], draws: int = DRAWS
) -> Difference:
    """Macro-F1 of the first minus that of the second, both on the same drawn sessions.

    Raises:
        ValueError: the two don't judge the same stretches.
    """
    if [(p.session, p.truth) for p in first] != [(p.session, p.truth) for p in second]:
        raise ValueError("a paired difference needs the same stretches in the same order")
    ours, theirs = _confusions(first, classes), _confusions(second, classes)
    drawn = _macro_f1(_redraw(ours, draws)) - _macro_f1(_redraw(theirs, draws))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = float(_macro_f1(ours.sum(axis=0)[None])[0] - _macro_f1(theirs.sum(axis=0)[None])[0])
    return Difference(value, float(low), float(high), float((drawn > 0).mean()))


def calibration(predictions: Sequence[Prediction], bins: int = 10) -> Calibration:
    """How far confidence is from accuracy, over the stretches that were answered."""
    answered = sorted((p for p in predictions if p.predicted is not None), key=lambda p: p.confidence)
    if not answered:
        return Calibration(0.0, 0.0, 0.0, ())
    confidence = np.array([p.confidence for p in answered])
    correct = np.array([p.correct for p in answered])
    parts = [part for part in np.array_split(np.arange(len(answered)), bins) if len(part)]
    table = tuple(Bin(len(i), float(confidence[i].mean()), float(correct[i].mean())) for i in parts)
    return Calibration(
        expected_calibration_error(confidence, correct, bins), *perfect_ece_band(confidence, bins=bins), table
    )


def risk_coverage(predictions: Sequence[Prediction]) -> RiskCoverage:
    """Answer the surest first: the error rate of what is answered so far, over all shares answered.

    Geifman and El-Yaniv (NeurIPS 2017), area as in Geifman, Uziel and El-Yaniv (ICLR 2019). Abstentions come last and
    are wrong; equal confidences share their mean risk, so the order of the file plays no part.
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
    """Session x true class x predicted class (the last column: abstained), sessions in the order they appear."""
    sessions = {s: i for i, s in enumerate(dict.fromkeys(p.session for p in predictions))}
    place = {c: i for i, c in enumerate(classes)}
    counts = np.zeros((len(sessions), len(classes), len(classes) + 1))
    for p in predictions:
        column = len(classes) if p.predicted is None else place[p.predicted]
        counts[sessions[p.session], place[p.truth], column] += 1
    return counts


def _redraw(confusions: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """Confusions of sessions drawn with replacement, summed: draws x true x predicted; always the same draws."""
    n = len(confusions)
    times = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    return np.asarray(np.einsum("ds,stp->dtp", times, confusions))


def _macro_f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Confusions (d, true, predicted) to macro-F1 (d,), over the classes that occur in each."""
    answered = confusion[:, :, :-1]
    hits = np.einsum("dcc->dc", answered)
    support, predicted = confusion.sum(axis=2), answered.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    occurs = support > 0
    return np.asarray((f1 * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1))
