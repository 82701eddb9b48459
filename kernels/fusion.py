"""What each modality makes of a window in, one distribution over emotions out, with weights, conflict and support.

Late fusion of calibrated experts. Each model's log(p / training prior) is evidence over its own classes and 0 over the
others: neither raised nor lowered. Within a modality evidence is averaged by how fresh it is (ten frames of one second
are not ten witnesses); across modalities it is added, each scaled by its strength: reliability x coverage x calibrated
confidence. The product of experts with tempered exponents is Hinton's (Neural Computation 14(8), 2002, eq. 1),
averaging in the logarithm is the logarithmic opinion pool (Genest and Zidek, Statistical Science 1(1), 1986), dividing
the prior out is Bourlard and Morgan's scaled likelihood (Connectionist Speech Recognition, 1994, ch. 7).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import EMOTIONS

FLOOR = 1e-4
"""No model is more certain than this: a probability of 0 would be a veto."""

VAD_OF_EMOTION: dict[str, tuple[float, float, float]] = {
    "happiness": (0.76, 0.48, 0.35),
    "sadness": (-0.63, -0.27, -0.33),
    "surprise": (0.40, 0.67, -0.13),
    "fear": (-0.64, 0.60, -0.43),
    "anger": (-0.51, 0.59, 0.25),
    "disgust": (-0.60, 0.35, 0.11),
    "anticipation": (0.30, 0.35, 0.15),
    "trust": (0.50, -0.05, 0.20),
    "neutral": (0.0, 0.0, 0.0),
}
"""Valence, arousal, dominance of each emotion word. Ekman's six: Russell and Mehrabian (J. Research in Personality 11,
1977) as tabulated by Gebhard (ALMA, AAMAS 2005); neutral is the origin; anticipation and trust are set by us between
their neighbours. Used only where nothing was measured, and then marked "derived"."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One model output as evidence: `weight` in [0, 1] is what time has left of it, `confidence` its calibrated own."""

    emotions: Mapping[str, float]
    prior: Mapping[str, float]
    weight: float
    confidence: float
    vad: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Expert:
    """One modality in one window: its evidence over EMOTIONS (nats, 0 where it can't speak) and how far to trust it."""

    evidence: NDArray[np.float64]
    supports: tuple[str, ...]
    coverage: float
    confidence: float
    strength: float
    vad: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Fused:
    """A window's estimate: probabilities over the supported emotions, and each modality's share in it."""

    emotions: dict[str, float]
    weights: dict[str, float]
    confidence: float
    conflict: float
    supported: dict[str, list[str]]
    vad: tuple[float, float, float]
    vad_measured: bool
    experts: Mapping[str, Expert] = field(default_factory=dict)


def expert(readings: Sequence[Reading], reliability: float) -> Expert | None:
    """All readings of one modality to its expert; None where nothing weighs anything, or nothing named is an emotion.

    Evidence and confidence are averages over the readings by weight. Coverage is 1 - prod(1 - weight): one fresh
    reading covers a window as well as many. Strength is reliability x coverage x confidence.
    """
    total, missed, confidence = 0.0, 1.0, 0.0
    evidence = np.zeros(len(EMOTIONS))
    vad, vad_weight = np.zeros(3), 0.0
    names: set[str] = set()
    for r in readings:
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
        if r.vad is not None:
            vad += r.weight * np.asarray(r.vad)
            vad_weight += r.weight
    if total <= 0 or not names:
        return None
    coverage, confidence = 1.0 - missed, confidence / total
    measured = tuple(float(v) for v in vad / vad_weight) if vad_weight > 0 else None
    return Expert(
        evidence / total,
        tuple(n for n in EMOTIONS if n in names),
        coverage,
        confidence,
        reliability * coverage * confidence,
        (measured[0], measured[1], measured[2]) if measured else None,
    )


def fuse(experts: Mapping[str, Expert], prior: Mapping[str, float]) -> Fused | None:
    """Experts by modality and the deployment prior to one estimate; None where no expert is present.

    p(e) is proportional to prior(e) exp(sum_m strength_m evidence_m(e)) over the emotions that somebody present
    supports. A modality's weight is its share of the strength, the softmax of log(strength) over the present ones.
    """
    present = {m: e for m, e in experts.items() if e.strength > 0}
    if not present:
        return None
    weights = np.array([e.strength for e in present.values()])
    weights /= weights.sum()
    able = np.array([any(n in e.supports for e in present.values()) for n in EMOTIONS])
    logits = _log_prior(prior)
    for e in present.values():
        logits = logits + e.strength * e.evidence
    p = _softmax(np.where(able, logits, -np.inf))
    vads = [e.vad if e.vad is not None else derived_vad(_alone(e, prior)) for e in present.values()]
    valence, arousal, dominance = (float(weights @ np.array(axis)) for axis in zip(*vads, strict=True))
    return Fused(
        emotions={n: float(p[i]) for i, n in enumerate(EMOTIONS) if able[i]},
        weights={m: float(w) for m, w in zip(present, weights, strict=True)},
        confidence=float(p.max()),
        conflict=conflict(present, weights, prior),
        supported={n: [m for m, e in present.items() if n in e.supports] for i, n in enumerate(EMOTIONS) if able[i]},
        vad=(valence, arousal, dominance),
        vad_measured=all(e.vad is not None for e in present.values()),
        experts=present,
    )


def conflict(experts: Mapping[str, Expert], weights: NDArray[np.float64], prior: Mapping[str, float]) -> float:
    """How far modalities contradict each other, in [0, 1]: 0 where one is present or all agree.

    The weighted Jensen-Shannon divergence (Lin, IEEE Trans. Information Theory 37(1), 1991, eq. 5.1) of the experts'
    own estimates over the emotions that all of them support, divided by its bound, the entropy of the weights.
    """
    shared = [i for i, n in enumerate(EMOTIONS) if all(n in e.supports for e in experts.values())]
    if len(experts) < 2 or len(shared) < 2:  # noqa: PLR2004 - it takes two to disagree
        return 0.0
    each = [_softmax(_logits(e, prior)[shared]) for e in experts.values()]
    mixture = sum(w * p for w, p in zip(weights, each, strict=True))
    divergence = _entropy(np.asarray(mixture)) - sum(float(w) * _entropy(p) for w, p in zip(weights, each, strict=True))
    bound = _entropy(weights)
    return min(max(float(divergence) / bound, 0.0), 1.0) if bound > 0 else 0.0


def derived_vad(emotions: Mapping[str, float]) -> tuple[float, float, float]:
    """A distribution over emotions to its mean valence, arousal and dominance; see VAD_OF_EMOTION."""
    v, a, d = (sum(p * VAD_OF_EMOTION[n][k] for n, p in emotions.items()) for k in range(3))
    return v, a, d


def compounds(emotions: Mapping[str, float], least: float = 0.25) -> list[tuple[str, str, float]]:
    """The two likeliest emotions as a compound where each has at least `least`, with the sum of both; else nothing.

    Pair sums as in Team RAS's compound expression system (ABAW 2024). Neutral is no part of a compound.
    """
    top = sorted(((p, n) for n, p in emotions.items() if n != "neutral"), reverse=True)[:2]
    if len(top) < 2 or top[1][0] < least:  # noqa: PLR2004 - a pair
        return []
    return [(top[0][1], top[1][1], top[0][0] + top[1][0])]


def _alone(e: Expert, prior: Mapping[str, float]) -> dict[str, float]:
    able = np.array([n in e.supports for n in EMOTIONS])
    p = _softmax(np.where(able, _logits(e, prior), -np.inf))
    return {n: float(p[i]) for i, n in enumerate(EMOTIONS) if able[i]}


def _logits(e: Expert, prior: Mapping[str, float]) -> NDArray[np.float64]:
    return np.asarray(_log_prior(prior) + e.strength * e.evidence)


def _log_prior(prior: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array([math.log(max(prior.get(n, 1 / len(EMOTIONS)), FLOOR)) for n in EMOTIONS])


def _softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def _entropy(p: NDArray[np.float64]) -> float:
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())
