"""Features, targets and weights in, a linear head out: ridge regression on one-hot targets, then matrix scaling.

Ridge in closed form (Hoerl & Kennard 1970) from one second-moment matrix, so that folds and feature sets cost little;
scores of lines that a fold's solution has not seen fit the map to probabilities (Guo et al. 2017, matrix scaling).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
_NEWTON_STEPS = 25
_SCALING_PENALTY = 1e-4
_STILL = 1e-7


class Moments(NamedTuple):
    """Weighted sums over lines of standardized features z: `total` (1), z (d), y (k), z z' (d x d), z y' (d x k)."""

    total: float
    z: Floats
    y: Floats
    zz: Floats
    zy: Floats

    def minus(self, other: Moments) -> Moments:
        """The sums over the lines that `other` doesn't hold."""
        return Moments(
            self.total - other.total, self.z - other.z, self.y - other.y, self.zz - other.zz, self.zy - other.zy
        )

    def of(self, columns: slice) -> Moments:
        """The sums of these features alone."""
        return Moments(self.total, self.z[columns], self.y, self.zz[columns, columns], self.zy[columns])


def moments(z: Features, y: Floats, weight: Floats) -> Moments:
    """Standardized features (n x d), targets (n x k) and weights (n) in, their sums out."""
    heavy = z * weight.astype(np.float32)[:, None]
    return Moments(
        float(weight.sum()),
        heavy.sum(axis=0, dtype=np.float64),
        weight @ y,
        (heavy.T @ z).astype(np.float64),
        (heavy.T @ y.astype(np.float32)).astype(np.float64),
    )


def ridge(sums: Moments, penalty: float) -> tuple[Floats, Floats]:
    """Sums and a penalty (in units of the mean variance) in; weights (d x k) and offset (k) out."""
    mean, middle = sums.z / sums.total, sums.y / sums.total
    spread = sums.zz / sums.total - np.outer(mean, mean)
    spread[np.diag_indices_from(spread)] += penalty * np.trace(spread) / len(spread)
    solved = np.linalg.solve(spread.astype(np.float32), (sums.zy / sums.total - np.outer(mean, middle)).astype("f4"))
    return solved.astype(np.float64), middle - mean @ solved


def matrix_scaling(scores: Floats, truth: NDArray[np.int64], weight: Floats) -> tuple[Floats, Floats]:
    """Scores (n x k), classes (n) and weights (n) in; the map (k x k) and offset (k) to logits out.

    Multinomial logistic regression with a slight penalty on standardized scores, by Newton's method with halved steps;
    k is small, so the Hessian ((k+1)k square) is solved whole.
    """
    n, k = scores.shape
    mean, spread = scores.mean(axis=0), scores.std(axis=0) + 1e-9
    x = np.concatenate([(scores - mean) / spread, np.ones((n, 1))], axis=1)
    share, hot, size = weight / weight.sum(), np.eye(k)[truth], (k + 1) * k

    def loss(b: Floats) -> float:
        chosen = softmax(x @ b)[np.arange(n), truth]
        return float(-(share * np.log(chosen + 1e-12)).sum() + _SCALING_PENALTY * (b**2).sum() / 2)

    b = np.zeros((k + 1, k))
    before = loss(b)
    for _ in range(_NEWTON_STEPS):
        p = softmax(x @ b)
        slope = (x * share[:, None]).T @ (p - hot) + _SCALING_PENALTY * b
        hessian = np.zeros((k + 1, k, k + 1, k))
        for i in range(k):
            for j in range(k):
                curve = share * p[:, i] * ((i == j) - p[:, j])
                hessian[:, i, :, j] = (x * curve[:, None]).T @ x
        curved = hessian.reshape(size, size) + _SCALING_PENALTY * np.eye(size)
        step = np.linalg.solve(curved, slope.reshape(size)).reshape(k + 1, k)
        while (after := loss(b - step)) > before and np.abs(step).max() > _STILL:
            step /= 2
        b, gained, before = b - step, before - after, after
        if gained < _STILL:
            break
    matrix = b[:k] / spread[:, None]
    return matrix, b[k] - mean @ matrix
