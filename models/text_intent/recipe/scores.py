"""Scores of predicted intents; every line has a weight, so that the share of each intent can be set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.intents import INTENTS, NONE

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]
_THRESHOLDS = np.round(np.arange(0.0, 0.81, 0.05), 2)


def name_all(p: Floats, least: float) -> Classes:
    """Return the most probable intent (n) of each row of p (n x 10), or `none` if its probability is below `least`."""
    best = p.argmax(axis=1)
    return np.where(p.max(axis=1) >= least, best, INTENTS.index(NONE))


def f1_by_class(truth: Classes, guess: Classes, weight: Floats) -> Floats:
    """Return F1 of each of the ten classes from true and predicted ones and weights (n); 0 for a class in neither."""
    ones = np.arange(len(INTENTS))[:, None]
    is_truth, is_guess = truth == ones, guess == ones
    both = (is_truth & is_guess) @ weight
    return np.asarray(2 * both / np.maximum(is_truth @ weight + is_guess @ weight, 1e-12))


def macro_f1(truth: Classes, guess: Classes, weight: Floats) -> float:
    """The mean of `f1_by_class` over the classes that the truth has."""
    return float(f1_by_class(truth, guess, weight)[np.unique(truth)].mean())


def nll(p: Floats, truth: Classes, weight: Floats) -> float:
    """Weighted mean of -ln p of the true class, in nats."""
    return float(-(weight * np.log(p[np.arange(len(p)), truth] + 1e-12)).sum() / weight.sum())


def choose_threshold(p: Floats, truth: Classes, weight: Floats) -> float:
    """Choose the least probability of an intent with the best macro-F1 on development lines, of ties the lowest."""
    found = [macro_f1(truth, name_all(p, least), weight) for least in _THRESHOLDS]
    return float(_THRESHOLDS[int(np.argmax(found))])
