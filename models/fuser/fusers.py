"""The fusers that are compared: the kernel's gates and their rivals, each predicting distributions over SEVEN.

`Evidence` holds the windows as arrays, with all priors divided out. Every fuser has a few parameters, fitted by
`minimise` to the least cross-entropy on one half, and is judged on the other. Absent modalities and emotions that a
modality doesn't cover are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels import fusion
from kernels.emotions import EMOTIONS, SEVEN, fold_to_seven
from models.fuser.compose import MODALITIES, Composed

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Fuser = Callable[["Evidence", Floats], Floats]
FOLD = np.array([[fold_to_seven({name: 1.0})[seven] for seven in SEVEN] for name in EMOTIONS])
_UNIFORM = dict.fromkeys(EMOTIONS, 1 / len(EMOTIONS))
_RIDGE = 1e-3
_STEPS = 400
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """n windows of 3 modalities: mean log(p / prior) and covered emotions (n, 3, 9); coverage and variance (n, 3)."""

    mean: Floats
    supports: Bools
    coverage: Floats
    variance: Floats


def evidence(composed: Composed) -> Evidence:
    """Average the windows' outputs as `kernels.fusion.expert` does; a test compares the two."""
    n, k = len(composed.truth), len(EMOTIONS)
    mean, variance = np.zeros((n, len(MODALITIES), k)), np.zeros((n, len(MODALITIES)))
    supports, coverage = np.zeros(mean.shape, np.bool_), np.zeros(variance.shape)
    for at, m in enumerate(MODALITIES):
        items, weight = composed.items[m], composed.weight[m][:, :, None]
        able = ~np.isnan(items.p).all(axis=0)
        prior = np.array([max(items.prior.get(name, 1 / able.sum()), fusion.FLOOR) for name in EMOTIONS])
        evidence_of = np.where(able, np.log(np.maximum(np.nan_to_num(items.p, nan=1.0), fusion.FLOOR) / prior), 0.0)
        each, total = evidence_of[composed.chosen[m]], np.maximum(weight.sum(axis=1), _LEAST)
        mean[:, at] = (weight * each).sum(axis=1) / total
        spread = (weight * (each - mean[:, at, None]) ** 2).sum(axis=1) / total
        variance[:, at] = spread[:, able].mean(axis=1)
        coverage[:, at] = 1.0 - np.prod(1.0 - composed.weight[m], axis=1)
        supports[:, at] = able & (coverage[:, at] > 0)[:, None]
    return Evidence(mean, supports, coverage, variance)


def covered_windows(e: Evidence) -> NDArray[np.intp]:
    """Return the windows whose modalities cover all of SEVEN; in others some class is 0 with every fuser."""
    return np.flatnonzero((e.supports.any(axis=1) @ FOLD > 0).all(axis=1))


def gate(e: Evidence, x: Floats) -> Floats:
    """Fuse by the kernel's gates, all windows at once: 3 reliabilities (as logits), 3 sharpnesses (as logarithms)."""
    reliability, sharpness = 1 / (1 + np.exp(-x[:3])), np.exp(x[3:6])
    logits = np.zeros((len(e.mean), len(EMOTIONS)))
    for at in range(len(MODALITIES)):
        able: Bools = e.supports[:, at]
        count = able.sum(axis=1, keepdims=True)
        opinion = _masked(sharpness[at] * e.coverage[:, at, None] * e.mean[:, at], able) * count
        logits += np.where(able, np.log(1 - reliability[at] + reliability[at] * np.where(able, opinion, 1.0)), 0.0)
    return _seven(logits, _any(e))


def kernel(composed: Composed, reliability: Sequence[float], sharpness: Sequence[float]) -> Floats:
    """Fuse by the code of kernels/fusion.py, window after window (n, 7)."""
    rows = []
    for row in range(len(composed.truth)):
        experts = {}
        for m, r, s in zip(MODALITIES, reliability, sharpness, strict=True):
            found = fusion.expert(composed.outputs(row)[m], r, s)
            if found is not None:
                experts[str(m)] = found
        fused = fusion.fuse(experts, _UNIFORM)
        seven = fold_to_seven(fused.emotions) if fused is not None else dict.fromkeys(SEVEN, 1 / len(SEVEN))
        rows.append([seven[name] for name in SEVEN])
    return np.array(rows)


def product(e: Evidence, x: Floats) -> Floats:
    """Product of experts with tempered exponents (Hinton 2002, eq. 1): 3 exponents."""
    return _seven((np.exp(x)[None, :, None] * e.coverage[:, :, None] * e.mean).sum(axis=1), _any(e))


def average(e: Evidence, x: Floats) -> Floats:
    """Linear opinion pool of the experts' estimates: 3 weights, 3 sharpnesses."""
    opinions = [_masked(np.exp(x[3 + m]) * e.coverage[:, m, None] * e.mean[:, m], e.supports[:, m]) for m in range(3)]
    weight = np.exp(x[:3]) * e.coverage + _LEAST
    pooled = sum(weight[:, m, None] * np.where(e.supports[:, m], opinions[m], 0.0) for m in range(3))
    floor = np.asarray(pooled) + _LEAST
    return np.asarray((floor / floor.sum(axis=1, keepdims=True)) @ FOLD)


def softmax_gate(e: Evidence, x: Floats) -> Floats:
    """Weights that sum to 1: a masked softmax of gate logits (as in MiSTER-E).

    A bias for each modality, the weights of variance and certainty (sum of p squared), and a scale: 6 parameters.
    """
    opinions = [_masked(e.mean[:, m], e.supports[:, m]) for m in range(3)]
    certainty = np.stack([np.where(e.supports[:, m], opinions[m] ** 2, 0.0).sum(axis=1) for m in range(3)], axis=1)
    gates = x[:3] + x[3] * np.log(e.variance + 0.05) + x[4] * certainty
    weight = _masked(gates, np.asarray(e.coverage > 0))
    return _seven(np.exp(x[5]) * (weight[:, :, None] * e.coverage[:, :, None] * e.mean).sum(axis=1), _any(e))


def single(e: Evidence, x: Floats, modality: int = 0) -> Floats:
    """One modality alone, the face by default: its sharpness; uniform where it is absent."""
    alone = _masked(np.exp(x[0]) * e.coverage[:, modality, None] * e.mean[:, modality], e.supports[:, modality])
    absent = ~e.supports[:, modality].any(axis=1, keepdims=True)
    return np.asarray(np.where(absent, 1 / len(SEVEN), alone @ FOLD))


def concatenation(train: Evidence, truth: NDArray[np.int64], judged: Evidence) -> Floats:
    """Softmax regression on the concatenated evidence and the coverages, with a ridge; fitted here (n, 7)."""
    inputs, queries = (_side_by_side(e) for e in (train, judged))
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
    inputs, queries = (np.c_[(x - centre) / scale, np.ones(len(x))] for x in (inputs, queries))
    w, velocity, wanted = np.zeros((inputs.shape[1], len(SEVEN))), 0.0, np.eye(len(SEVEN))[truth]
    for _ in range(_STEPS):
        slope = inputs.T @ (_softmax(inputs @ w) - wanted) / len(inputs) + _RIDGE * w
        velocity = 0.9 * velocity - 0.3 * slope
        w = w + velocity
    return _softmax(queries @ w)


RIVALS: dict[str, tuple[Fuser, Floats]] = {
    "gate": (gate, np.array([2.0, 2.0, 2.0, 0.0, 0.0, 0.0])),
    "product of experts": (product, np.zeros(3)),
    "average": (average, np.zeros(6)),
    "softmax gate": (softmax_gate, np.zeros(6)),
    "best single (face)": (single, np.zeros(1)),
}
"""Fusers with parameters, and the parameters that their fit starts from."""


def fit(fuser: Fuser, begin: Floats, e: Evidence, truth: NDArray[np.int64]) -> Floats:
    """Fit the parameters with the least cross-entropy, with a ridge towards `begin`."""
    rows = covered_windows(e)

    def loss(x: Floats) -> float:
        p = fuser(e, x)[rows, truth[rows]]
        return float(-np.log(np.maximum(p, _LEAST)).mean() + _RIDGE * ((x - begin) ** 2).sum())

    return minimise(loss, begin)


def minimise(loss: Callable[[Floats], float], begin: Floats, step: float = 1.0, least: float = 0.01) -> Floats:
    """Find a local minimum of a function of few numbers from `begin`: compass search (Kolda et al. 2003, sec. 1.2)."""
    x, best = begin.copy(), loss(begin)
    while step >= least:
        moved = False
        for at in range(len(x)):
            for way in (step, -step):
                there = x.copy()
                there[at] += way
                if (value := loss(there)) < best:
                    x, best, moved = there, value, True
        if not moved:
            step /= 2
    return x


def _side_by_side(e: Evidence) -> Floats:
    side = (e.coverage[:, :, None] * e.mean).reshape(len(e.mean), -1)
    return np.concatenate([side, e.coverage], axis=1)


def _seven(logits: Floats, able: Bools) -> Floats:
    return np.asarray(_masked(logits, able) @ FOLD)


def _any(e: Evidence) -> Bools:
    return np.asarray(e.supports.any(axis=1))


def _masked(logits: Floats, able: Bools) -> Floats:
    """Softmax over the entries in `able`, 0 elsewhere; uniform if there are none."""
    nothing = ~able.any(axis=1, keepdims=True)
    return _softmax(np.asarray(np.where(able | nothing, logits, -np.inf), np.float64))


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
