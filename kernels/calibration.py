"""Temperature scaling of logits, and the expected calibration error of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DRAWS = 1000


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Turn logits (n, k) into probabilities (n, k), float64, rows summing to 1 (Guo et al. 2017, eq. 9)."""
    z = np.asarray(logits, np.float64) / temperature
    z = z - z.max(axis=-1, keepdims=True)
    e = np.exp(z)
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def fit_temperature(
    logits: NDArray[np.floating], targets: NDArray[np.floating], merge: NDArray[np.floating] | None = None
) -> float:
    """Find the temperature in [0.25, 8] with the least cross-entropy, by golden-section search in its logarithm.

    Args:
        logits: (n, k).
        targets: (n, c) probabilities (one-hot or soft), or (n,) class indices.
        merge: (k, c), 1 where logit k counts towards class c, one class for each logit; default: the identity.
    """
    merge = np.eye(logits.shape[1]) if merge is None else merge
    if targets.ndim == 1:
        targets = np.eye(merge.shape[1])[targets.astype(int)]

    def loss(log_t: float) -> float:
        p = softmax(logits, float(np.exp(log_t))) @ merge
        return float(-(targets * np.log(p + 1e-12)).sum(axis=1).mean())

    low, high, ratio = np.log(0.25), np.log(8.0), (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def expected_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 10) -> float:
    """Compute the ECE over `bins` bins of equal mass from the top class's confidence (n,) and correctness (n,)."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(confidence[part].mean() - correct[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / max(len(confidence), 1))


def perfect_ece_band(confidence: NDArray[np.floating], *, bins: int = 10) -> tuple[float, float]:
    """Compute the 95 % band of the ECE of a perfectly calibrated model: correctness is drawn from its confidences."""
    rng, n = np.random.default_rng(0), len(confidence)
    order = np.argsort(confidence, kind="stable")
    starts = np.unique([part[0] for part in np.array_split(np.arange(n), bins) if len(part)])
    sums = np.add.reduceat(confidence[order], starts)
    drawn = ((rng.random(n) < confidence)[order] for _ in range(_DRAWS))
    eces = [np.abs(sums - np.add.reduceat(correct, starts, dtype=np.float64)).sum() / n for correct in drawn]
    low, high = np.quantile(eces, [0.025, 0.975])
    return float(low), float(high)
