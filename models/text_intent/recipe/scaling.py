"""Fit the map from scores of unseen lines to calibrated logits.

Matrix scaling (Guo et al. 2017): multinomial logistic regression of the class on the scores of all classes. If
scores are more reliable the nearer a line is to the training lines, the inputs are scores and scores times nearness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax

Floats = NDArray[np.float64]
_NEWTON_STEPS = 25
_PENALTY = 1e-4
_STILL = 1e-7


def with_nearness(scores: Floats, near: Floats) -> Floats:
    """Concatenate scores (n x k), nearness (n) and their products to (n x 2k + 1)."""
    return np.concatenate([scores, near[:, None], scores * near[:, None]], axis=1)


def matrix_scaling(
    scores: Floats, truth: NDArray[np.int64], weight: Floats, classes: int | None = None
) -> tuple[Floats, Floats]:
    """Fit the map (d x k) and offset (k) from scores (n x d) to logits, to classes (n) with weights (n).

    With a slight penalty on standardized scores, by Newton's method with halved steps; k, the number of `classes`
    (default d), is small, so the full Hessian ((d+1)k square) is solved.
    """
    n, d = scores.shape
    k = classes or d
    mean, spread = scores.mean(axis=0), scores.std(axis=0) + 1e-9
    x = np.concatenate([(scores - mean) / spread, np.ones((n, 1))], axis=1)
    share, hot, size = weight / weight.sum(), np.eye(k)[truth], (d + 1) * k

    def loss(b: Floats) -> float:
        chosen = softmax(x @ b)[np.arange(n), truth]
        return float(-(share * np.log(chosen + 1e-12)).sum() + _PENALTY * (b**2).sum() / 2)

    b = np.zeros((d + 1, k))
    before = loss(b)
    for _ in range(_NEWTON_STEPS):
        p = softmax(x @ b)
        slope = (x * share[:, None]).T @ (p - hot) + _PENALTY * b
        hessian = np.zeros((d + 1, k, d + 1, k))
        for i in range(k):
            for j in range(i + 1):
                curve = share * p[:, i] * ((i == j) - p[:, j])
                hessian[:, i, :, j] = hessian[:, j, :, i] = (x * curve[:, None]).T @ x
        curved = hessian.reshape(size, size) + _PENALTY * np.eye(size)
        step = np.linalg.solve(curved, slope.reshape(size)).reshape(d + 1, k)
        while (after := loss(b - step)) > before and np.abs(step).max() > _STILL:
            step /= 2
        b, gained, before = b - step, before - after, after
        if gained < _STILL:
            break
    matrix = b[:d] / spread[:, None]
    return matrix, b[d] - mean @ matrix
