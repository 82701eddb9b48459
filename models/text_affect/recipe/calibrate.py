"""Calibrate logits on held-out comments: one temperature, and a bias for each emotion.

Bias-corrected temperature scaling (Alexandari et al. 2020, "Maximum likelihood with bias-corrected calibration is
hard-to-beat at label shift adaptation"): softmax((logits + bias) / temperature). The bias is added to the head's bias
when the graph is written, so that users of the model need the temperature only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax

Floats = NDArray[np.float64]
_PENALTY = 0.01
"""On the biases, in units of the mean cross-entropy; of 0, .001 and .01 the best by cross-validation in half B."""
_NEWTON_STEPS = 30
_STILL = 1e-10


class Scaling(NamedTuple):
    """`temperature` (> 0) and `bias` (k): probabilities are softmax((logits + bias) / temperature)."""

    temperature: float
    bias: Floats


def fit(logits: NDArray[np.floating], targets: NDArray[np.floating]) -> Scaling:
    """Fit the scaling with the least penalised cross-entropy to logits and soft targets (n x k, rows sum to 1).

    With slope = 1 / temperature and offset = bias / temperature the loss is convex: Newton's method from (1, 0). The
    penalty also settles the one direction that changes nothing, a constant added to all offsets.
    """
    z, (n, k) = np.asarray(logits, np.float64), logits.shape
    # How each logit moves with the slope (first column) and with the offsets.
    moves = np.concatenate([z[:, :, None], np.broadcast_to(np.eye(k), (n, k, k))], axis=2)
    curb = np.diag([0.0, *[_PENALTY] * k])
    found = np.array([1.0, *[0.0] * k])
    for _ in range(_NEWTON_STEPS):
        p = softmax(moves @ found)
        slope = np.einsum("nki,nk->i", moves, p - targets) / n + curb @ found
        mean = np.einsum("nki,nk->ni", moves, p)
        curve = np.einsum("nki,nk,nkj->ij", moves, p, moves, optimize=True) - mean.T @ mean
        step = np.linalg.solve(curve / n + curb, slope)
        found = found - step
        if np.abs(step).max() < _STILL:
            break
    return Scaling(float(1.0 / found[0]), found[1:] / found[0])
