"""Scores of predictions against the truth: F1, recall, confusion and calibration, with NumPy only.

Classes are indices; n is the number of items, k the number of classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band

BINS = 10
_LEAST = 1e-12

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well probabilities are calibrated.

    `nll`: mean of -ln p of the truth, in nats. `brier`: mean squared distance to the truth, summed over classes, 0 to 2
    (Brier 1950). `ece`: of the top class, over 10 bins of equal mass (Nguyen & O'Connor 2015). `band`: where 95 % of
    perfectly calibrated models with these confidences have theirs.
    """

    nll: float
    brier: float
    ece: float
    band: tuple[float, float]


def calibration(p: Floats, truth: Ints | Floats) -> Calibration:
    """Measure the calibration of probabilities (n, k) against the truth: classes (n,) or raters' shares (n, k).

    Against shares, NLL and Brier score are exact expectations. For the ECE one class is drawn from each item's shares
    with a fixed seed, because its band is that of a calibrator that is either right or wrong.
    """
    shares = np.eye(p.shape[1])[truth] if truth.ndim == 1 else np.asarray(truth, np.float64)
    drawn = one_class(truth)
    top = p.max(axis=1)
    return Calibration(
        nll=float(-(shares * np.log(np.maximum(p, _LEAST))).sum(axis=1).mean()),
        brier=float(((p - shares) ** 2).sum(axis=1).mean()),
        ece=expected_calibration_error(top, p.argmax(axis=1) == drawn, BINS),
        band=perfect_ece_band(top, bins=BINS),
    )


def one_class(truth: Ints | Floats) -> NDArray[np.int64]:
    """Return classes (n,) as they are; draw one class for each item (n,) from raters' shares (n, k), with seed 0."""
    if truth.ndim == 1:
        return np.asarray(truth, np.int64)
    lots = np.random.default_rng(0).random((len(truth), 1))
    return np.asarray((np.asarray(truth, np.float64).cumsum(axis=1)[:, :-1] < lots).sum(axis=1), np.int64)


def f1(truth: Flags, guess: Flags) -> NDArray[np.float64]:
    """Compute the F1 of each class (k,) from true and predicted flags (n, k); 0 for a class without any flag."""
    hits = (truth & guess).sum(axis=0).astype(np.float64)
    return np.asarray(2 * hits / np.maximum(truth.sum(axis=0) + guess.sum(axis=0), 1), np.float64)


def f1_of(truth: Ints, guess: Ints, classes: int) -> NDArray[np.float64]:
    """Compute the F1 of each class (k,) from true and predicted classes (n,)."""
    every = np.arange(classes)
    return f1(truth[:, None] == every, guess[:, None] == every)


def macro_f1(truth: Ints, guess: Ints) -> float:
    """Compute the mean F1 of the classes in the truth from true and predicted classes (n,)."""
    occur = np.unique(truth)
    return float(f1(truth[:, None] == occur, guess[:, None] == occur).mean())


def recalls(truth: Ints, guess: Ints, classes: int) -> NDArray[np.float64]:
    """Compute the recall of each class (k,) from true and predicted classes (n,); NaN for a class not in the truth."""
    counts = confusion(truth, guess, classes)
    there = counts.sum(axis=1)
    return np.asarray(np.where(there > 0, np.diag(counts) / np.maximum(there, 1), np.nan))


def unweighted_recall(truth: Ints, guess: Ints) -> float:
    """Compute the mean recall of the classes in the truth (UAR) from true and predicted classes (n,)."""
    return float(np.mean([(guess[truth == one] == one).mean() for one in np.unique(truth)]))


def confusion(truth: Ints, guess: Ints, classes: int) -> NDArray[np.int64]:
    """Count true and predicted classes (n,) in a matrix (k, k): rows are true classes, columns predicted ones."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (truth, guess), 1)
    return counts
