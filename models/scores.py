"""Figures of a card from the scores of kernels/scores.py: calibration with its bounds, bootstrap intervals, leads.

n is the number of items, k of classes. Intervals are 95 % intervals by a cluster bootstrap that draws full groups
(speakers, actors, comments): items of one group share a voice or an author, so they are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.scores import Floats, Ints, calibration
from models.figures import Figure

DRAWS = 2000
MANY, ECE_OF_MANY = 3000, 0.03

Score = Callable[[NDArray[np.intp]], float]


@dataclass(frozen=True, slots=True)
class Lead:
    """A score minus another's, its 95 % interval, and the share of draws in which it is above 0."""

    value: float
    low: float
    high: float
    above_zero: float


def calibration_figures(
    p: Floats, truth: Ints | Floats, *, of: str, tolerance: float, prefix: str = "", missed: str = ""
) -> list[Figure]:
    """Measure calibration as a card's three figures: `{prefix}ece_calibrated`, `{prefix}nll` and `{prefix}brier`.

    The ECE must be in the band of a perfect calibrator at that n, and if n is 3,000 or more also at most .03.

    Args:
        p: calibrated probabilities (n, k).
        truth: as in `calibration`.
        of: data and split for people, such as `GoEmotions test`.
        tolerance: of each of the three.
        prefix: of the names, to distinguish two heads of the same card.
        missed: the reason for shipping an ECE that misses its bound; ignored if the bound is reached.
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


def interval(score: Score, groups: NDArray[Any] | int, draws: int = DRAWS) -> tuple[float, float]:
    """Estimate a score's 95 % interval by a bootstrap over groups (Efron 1979), seed 0.

    Args:
        score: takes row indices, repeated as drawn, and returns a number; draws for which it is NaN are skipped.
        groups: the name of each row's group (n,); or n, if each row is a group.
        draws: how many.
    """
    low, high = np.nanquantile([score(rows) for rows in _redrawn(groups, draws)], [0.025, 0.975])
    return float(low), float(high)


def lead(ours: Score, theirs: Score, groups: NDArray[Any] | int, draws: int = DRAWS) -> Lead:
    """Measure the lead of the first of two scores of the same rows by a paired bootstrap; groups as in `interval`."""
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
