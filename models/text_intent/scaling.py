"""Scores of unseen lines, their classes and weights in, the map from scores to calibrated logits out.

Matrix scaling (Guo et al. 2017): multinomial logistic regression of the class on the scores of all classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax

Floats = NDArray[np.float64]
_NEWTON_STEPS = 25
_PENALTY = 1e-4
_STILL = 1e-7


def matrix_scaling(scores: Floats, truth: NDArray[np.int64], weight: Floats) -> tuple[Floats, Floats]:
    """Scores (n x k), classes (n) and weights (n) in; the map (k x k) and offset (k) to logits out.

    With a slight penalty on standardized scores, by Newton's method with halved steps; k is small, so the Hessian
    ((k+1)k square) is solved whole.
    """
    n, k = scores.shape
    mean, spread = scores.mean(axis=0), scores.std(axis=0) + 1e-9
    x = np.concatenate([(scores - mean) / spread, np.ones((n, 1))], axis=1)
    share, hot, size = weight / weight.sum(), np.eye(k)[truth], (k + 1) * k

    def loss(b: Floats) -> float:
        chosen = softmax(x @ b)[np.arange(n), truth]
        return float(-(share * np.log(chosen + 1e-12)).sum() + _PENALTY * (b**2).sum() / 2)

    b = np.zeros((k + 1, k))
    before = loss(b)
    for _ in range(_NEWTON_STEPS):
        p = softmax(x @ b)
        slope = (x * share[:, None]).T @ (p - hot) + _PENALTY * b
        hessian = np.zeros((k + 1, k, k + 1, k))
        for i in range(k):
            for j in range(k):
                curve = share * p[:, i] * ((i == j) - p[:, j])
                hessian[:, i, :, j] = (x * curve[:, None]).T @ x
        curved = hessian.reshape(size, size) + _PENALTY * np.eye(size)
        step = np.linalg.solve(curved, slope.reshape(size)).reshape(k + 1, k)
        while (after := loss(b - step)) > before and np.abs(step).max() > _STILL:
            step /= 2
        b, gained, before = b - step, before - after, after
        if gained < _STILL:
            break
    matrix = b[:k] / spread[:, None]
    return matrix, b[k] - mean @ matrix
