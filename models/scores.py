"""Predictions and the truth in, the scores of all cards out: one way to count, NumPy only.

Classes are indices; n is the number of items, k of classes. Intervals are of 95 %, by a bootstrap that draws whole
groups (speakers, actors, comments): items of one group share a voice or an author, so they are no separate evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band
from models.figures import Figure

DRAWS = 2000
BINS = 10
MANY, ECE_OF_MANY = 3000, 0.03
_LEAST = 1e-12

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Flags = NDArray[np.bool_]
Score = Callable[[NDArray[np.intp]], float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities can be believed.

    `nll`: mean of -ln p of the truth, in nats. `brier`: mean squared distance to the truth, summed over classes, 0 to 2
    (Brier 1950). `ece`: of the top class, over 10 bins of equal mass (Nguyen & O'Connor 2015). `band`: where 95 % of
    perfectly calibrated models with these confidences have theirs.
    """

    nll: float
    brier: float
    ece: float
    band: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lead:
    """A score minus another's, its 95 % interval, and the share of draws in which it is above 0."""

    value: float
    low: float
    high: float
    above_zero: float


def calibration(p: Floats, truth: Ints | Floats) -> Calibration:
    """Probabilities (n, k) and the truth, classes (n,) or raters' shares (n, k), to how far they can be believed.

    Against shares, NLL and Brier are exact expectations; for the ECE one class is drawn from each item's shares with a
    fixed seed, so that the band of a perfect calibrator, who is right or wrong, applies.
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
    """Classes (n,) to themselves; raters' shares (n, k) to one class of each item (n,), drawn by them, seed 0."""
    if truth.ndim == 1:
        return np.asarray(truth, np.int64)
    lots = np.random.default_rng(0).random((len(truth), 1))
    return np.asarray((np.asarray(truth, np.float64).cumsum(axis=1)[:, :-1] < lots).sum(axis=1), np.int64)


def calibration_figures(
    p: Floats, truth: Ints | Floats, *, of: str, tolerance: float, prefix: str = "", missed: str = ""
) -> list[Figure]:
    """The same to a card's three figures: `{prefix}ece_calibrated`, `{prefix}nll` and `{prefix}brier`.

    The ECE must lie in the band of a perfect calibrator at that n, and where n is 3,000 or more also reach .03.

    Args:
        p: calibrated probabilities (n, k).
        truth: as in `calibration`.
        of: data and split for people, such as `GoEmotions test`.
        tolerance: of each of the three.
        prefix: what sets this head's names apart from another head's of the same card.
        missed: why the ECE is shipped although it lies outside; left out where it doesn't.
    """
    found, n = calibration(p, truth), len(p)
    low, high = (round(end, 3) for end in found.band)
    ece = Figure(
        name=f"{prefix}ece_calibrated",
        what=f"ECE, {of}",
        value=found.ece,
        tolerance=tolerance,
        n=n,
        must=min(high, ECE_OF_MANY) if n >= MANY else high,
        lower_is_better=True,
        floor=f"a perfect calibrator's: {_short(low)} to {_short(high)}",
    )
    if ece.verdict == "missed" and missed:
        ece = msgspec.structs.replace(ece, missed=missed)
    return [
        ece,
        Figure(name=f"{prefix}nll", what=f"NLL (nats), {of}", value=found.nll, tolerance=tolerance, n=n),
        Figure(name=f"{prefix}brier", what=f"Brier score, {of}", value=found.brier, tolerance=tolerance, n=n),
    ]


def f1(truth: Flags, guess: Flags) -> NDArray[np.float64]:
    """Flags (n, k) of what is there and what was named to F1 of each class (k,); a class that neither has scores 0."""
    hits = (truth & guess).sum(axis=0).astype(np.float64)
    return np.asarray(2 * hits / np.maximum(truth.sum(axis=0) + guess.sum(axis=0), 1), np.float64)


def f1_of(truth: Ints, guess: Ints, classes: int) -> NDArray[np.float64]:
    """Classes (n,), true and named, to F1 of each of the k (k,)."""
    every = np.arange(classes)
    return f1(truth[:, None] == every, guess[:, None] == every)


def macro_f1(truth: Ints, guess: Ints) -> float:
    """Classes (n,), true and named, to the mean F1 of the classes that the truth has."""
    occur = np.unique(truth)
    return float(f1(truth[:, None] == occur, guess[:, None] == occur).mean())


def recalls(truth: Ints, guess: Ints, classes: int) -> NDArray[np.float64]:
    """Classes (n,), true and named, to the share of each of the k that was found (k,); NaN where the truth has none."""
    counts = confusion(truth, guess, classes)
    there = counts.sum(axis=1)
    return np.asarray(np.where(there > 0, np.diag(counts) / np.maximum(there, 1), np.nan))


def unweighted_recall(truth: Ints, guess: Ints) -> float:
    """Classes (n,), true and named, to the mean share found of the classes that the truth has (UAR)."""
    return float(np.mean([(guess[truth == one] == one).mean() for one in np.unique(truth)]))


def confusion(truth: Ints, guess: Ints, classes: int) -> NDArray[np.int64]:
    """Classes (n,), true and named, to counts (k, k): a row for each true class, a column for each named one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (truth, guess), 1)
    return counts


def interval(score: Score, groups: NDArray[Any] | int, draws: int = DRAWS) -> tuple[float, float]:
    """A score of some rows to its 95 % interval when whole groups are drawn with replacement (Efron 1979), seed 0.

    Args:
        score: row indices, repeated as drawn, to a number; a draw for which it is NaN is skipped.
        groups: the name of each row's group (n,); or n, where each row stands for itself.
        draws: how many.
    """
    low, high = np.nanquantile([score(rows) for rows in _redrawn(groups, draws)], [0.025, 0.975])
    return float(low), float(high)


def lead(ours: Score, theirs: Score, groups: NDArray[Any] | int, draws: int = DRAWS) -> Lead:
    """Two scores of the same rows to how far the first is ahead, both on the same drawn groups (as in `interval`)."""
    every = np.arange(groups if isinstance(groups, int) else len(groups))
    drawn = np.array([ours(rows) - theirs(rows) for rows in _redrawn(groups, draws)])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Lead(ours(every) - theirs(every), float(low), float(high), float((drawn > 0).mean()))


def _redrawn(groups: NDArray[Any] | int, draws: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng(0)
    if isinstance(groups, int):
        yield from (rng.integers(0, groups, groups) for _ in range(draws))
        return
    _, of_row = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row))[:-1])
    for _ in range(draws):
        yield np.concatenate([members[at] for at in rng.integers(0, len(members), len(members))])


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
