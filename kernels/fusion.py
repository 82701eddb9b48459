"""Fuse the model outputs of a window's modalities into one distribution over emotions, with weights and conflict.

This is late fusion of calibrated experts, each behind a gate. A model's log(p / training prior) is evidence over its
classes, and 0 over the other emotions: those are neither raised nor lowered. Within a modality, evidence is averaged by
how fresh it is. Across modalities, likelihoods multiply. But a modality may carry something else than the person's
emotion - a smile put on for the camera, a voice through the wall, a quoted line - so each is a mixture of its
likelihood (gate open) and a flat density (gate shut),

    p(e) ~ prior(e) prod_m ((1 - g_m) + g_m L_m(e)),

and one that contradicts two others is outvoted instead of vetoing. Dividing the prior out is Bourlard and Morgan's
scaled likelihood (Connectionist Speech Recognition, 1994, ch. 7), the product of experts Hinton's (Neural Computation
14(8), 2002, eq. 1), the mixture with a flat density Box and Tiao's for outlying observations (Biometrika 55(1), 1968).
`models/fuser` fits the gates and compares this with other fusers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import EMOTIONS
from kernels.vad import Vad, vad_of

FLOOR = 1e-4
"""The lowest probability that a model's output counts as: 0 would be a veto."""

_COMPOUND_LEAST = 0.25

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WeightedOutput:
    """One model output with its weight in a window.

    `emotions` and the model's training `prior` are probabilities by emotion. `weight` in [0, 1] is what its age leaves
    of it. `confidence` is its calibrated confidence: where bad quality puts it below the greatest probability, their
    ratio lowers the gate. `vad` is measured valence, arousal and dominance, None where the model has none.
    """

    emotions: Mapping[str, float]
    prior: Mapping[str, float]
    weight: float
    confidence: float
    vad: Vad | None = None


@dataclass(frozen=True, slots=True)
class Expert:
    """One modality's combined outputs in one window.

    `evidence` is over EMOTIONS, in nats, 0 for those its models have no class for. `likelihood` is computed from it:
    over EMOTIONS, mean 1 over the emotions in `supports`, 1 elsewhere. `gate` in [0, 1] is the probability that the
    modality reflects the person's emotion. `vad` is None where no output has a measured one.
    """

    evidence: Floats
    likelihood: Floats
    supports: tuple[str, ...]
    coverage: float
    confidence: float
    gate: float
    vad: Vad | None


@dataclass(frozen=True, slots=True)
class Fused:
    """A window's estimate: probabilities over the supported emotions, and by modality its share in them.

    `supported` lists for each emotion the modalities with a class for it. `vad_measured` is False where some modality's
    valence, arousal and dominance were derived from its emotions.
    """

    emotions: dict[str, float]
    weights: dict[str, float]
    confidence: float
    conflict: float
    supported: dict[str, list[str]]
    vad: Vad
    vad_measured: bool
    experts: Mapping[str, Expert] = field(default_factory=dict)


def expert(outputs: Sequence[WeightedOutput], reliability: float, sharpness: float = 1.0) -> Expert | None:
    """Combine the outputs of one modality; None where all weights are 0 or no output names an emotion.

    Evidence, confidence and trust (confidence by greatest probability, at most 1) are averages over the outputs by
    weight. Coverage is 1 - prod(1 - weight): one fresh output covers a window as well as many. The likelihood is the
    softmax of sharpness x coverage x evidence; the gate is reliability x trust.

    Args:
        outputs: those of one modality in one window.
        reliability: in [0, 1], how often the modality reflects the person's emotion.
        sharpness: 0 or more; how many outputs' worth of evidence the average of a window counts as.
    """
    total, missed, confidence, trust = 0.0, 1.0, 0.0, 0.0
    evidence = np.zeros(len(EMOTIONS))
    measured, measured_weight = np.zeros(3), 0.0
    names: set[str] = set()
    for r in outputs:
        if r.weight <= 0:
            continue
        for i, name in enumerate(EMOTIONS):
            if name in r.emotions:
                prior = max(r.prior.get(name, 1 / len(r.emotions)), FLOOR)
                evidence[i] += r.weight * math.log(max(r.emotions[name], FLOOR) / prior)
                names.add(name)
        total += r.weight
        missed *= 1.0 - min(r.weight, 1.0)
        confidence += r.weight * r.confidence
        trust += r.weight * min(r.confidence / max(r.emotions.values(), default=1.0), 1.0)
        if r.vad is not None:
            measured += r.weight * np.asarray(r.vad)
            measured_weight += r.weight
    if total <= 0 or not names:
        return None
    evidence, coverage = evidence / total, 1.0 - missed
    supported = np.array([n in names for n in EMOTIONS])
    v, a, d = (float(x) for x in measured / max(measured_weight, FLOOR))
    return Expert(
        evidence,
        np.where(supported, len(names) * _softmax(np.where(supported, sharpness * coverage * evidence, -np.inf)), 1.0),
        tuple(n for n in EMOTIONS if n in names),
        coverage,
        confidence / total,
        reliability * trust / total,
        (v, a, d) if measured_weight > 0 else None,
    )


def fuse(experts: Mapping[str, Expert], prior: Mapping[str, float]) -> Fused | None:
    """Fuse experts, by modality, and the deployment's prior into one estimate; None where no expert counts.

    Emotions that no modality supports are masked before the softmax. A modality's weight is its share of coverage times
    the posterior probability that its gate was open: one that contradicts the others weighs little.
    """
    present = {m: e for m, e in experts.items() if e.gate > 0 and e.coverage > 0}
    if not present:
        return None
    supported = np.array([any(n in e.supports for e in present.values()) for n in EMOTIONS])
    logits = _log_prior(prior)
    for e in present.values():
        logits = logits + np.log(_gated(e))
    p = _softmax(np.where(supported, logits, -np.inf))
    carried = np.array([e.coverage * float(p @ (e.gate * e.likelihood / _gated(e))) for e in present.values()])
    weights = carried / carried.sum()
    vads = [e.vad if e.vad is not None else vad_of(_estimate_alone(e, prior)) for e in present.values()]
    valence, arousal, dominance = (float(weights @ np.array(axis)) for axis in zip(*vads, strict=True))
    return Fused(
        emotions={n: float(p[i]) for i, n in enumerate(EMOTIONS) if supported[i]},
        weights={m: float(w) for m, w in zip(present, weights, strict=True)},
        confidence=float(p.max()),
        conflict=conflict(present, prior),
        supported={
            n: [m for m, e in present.items() if n in e.supports] for i, n in enumerate(EMOTIONS) if supported[i]
        },
        vad=(valence, arousal, dominance),
        vad_measured=all(e.vad is not None for e in present.values()),
        experts=present,
    )


def conflict(experts: Mapping[str, Expert], prior: Mapping[str, float]) -> float:
    """Measure how far modalities contradict each other, in [0, 1]: 0 where all agree or there is only one.

    It is the mean, over pairs of modalities, of the total variation distance (half the sum of absolute differences)
    between their separate estimates, over the emotions that both support. A pair weighs the product of its gates and
    coverages. Absolute differences as the sign of conflict are ConflictAwareAH's (ABAW 2025).
    """
    distance, total = 0.0, 0.0
    members = list(experts.values())
    for at, one in enumerate(members):
        for other in members[at + 1 :]:
            shared = [i for i, n in enumerate(EMOTIONS) if n in one.supports and n in other.supports]
            if len(shared) > 1:
                weight = one.gate * one.coverage * other.gate * other.coverage
                apart = np.abs(_softmax(_logits(one, prior)[shared]) - _softmax(_logits(other, prior)[shared])).sum()
                distance, total = distance + weight * float(apart) / 2, total + weight
    return min(distance / total, 1.0) if total > 0 else 0.0


def compounds(emotions: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Return the two likeliest emotions with the sum of their probabilities if each has at least 0.25, else nothing.

    Pair sums are as in Team RAS's compound expression system (ABAW 2024). Neutral is no part of a compound.
    """
    top = sorted(((p, n) for n, p in emotions.items() if n != "neutral"), reverse=True)[:2]
    if len(top) < 2 or top[1][0] < _COMPOUND_LEAST:  # noqa: PLR2004 - a pair
        return []
    return [(top[0][1], top[1][1], top[0][0] + top[1][0])]


def _gated(e: Expert) -> Floats:
    return np.asarray((1.0 - e.gate) + e.gate * e.likelihood)


def _estimate_alone(e: Expert, prior: Mapping[str, float]) -> dict[str, float]:
    supported = np.array([n in e.supports for n in EMOTIONS])
    p = _softmax(np.where(supported, _logits(e, prior), -np.inf))
    return {n: float(p[i]) for i, n in enumerate(EMOTIONS) if supported[i]}


def _logits(e: Expert, prior: Mapping[str, float]) -> Floats:
    return np.asarray(_log_prior(prior) + np.log(_gated(e)))


def _log_prior(prior: Mapping[str, float]) -> Floats:
    return np.array([math.log(max(prior.get(n, 1 / len(EMOTIONS)), FLOOR)) for n in EMOTIONS])


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())
