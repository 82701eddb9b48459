"""Emotions in, valence, arousal and dominance out, and back: each emotion word is a Gaussian in that space.

Both ways are of "Revisiting Emotions Representation for Recognition in the Wild" (Cardia Neto, Ferrari and Berretti,
arXiv 2602.06778, 2026): a state is a mixture of words, a word a normal distribution of what people meant by it. Means
and deviations of the six are Russell and Mehrabian's (J. Research in Personality 11, 1977: ratings of 151 words,
scaled to [-1, 1]); those of anticipation and trust stand for their words hopeful and respectful; the deviations of
these two and all of neutral are set by us. Axes are taken as independent within a word: the table has no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Vad = tuple[float, float, float]


class Word(NamedTuple):
    """What people mean by an emotion word: mean and standard deviation of valence, arousal, dominance in [-1, 1]."""

    mean: Vad
    deviation: Vad


WORDS: Mapping[str, Word] = {
    "happiness": Word((0.81, 0.51, 0.46), (0.21, 0.26, 0.38)),
    "sadness": Word((-0.63, -0.27, -0.33), (0.23, 0.34, 0.22)),
    "surprise": Word((0.40, 0.67, -0.13), (0.30, 0.27, 0.38)),
    "fear": Word((-0.64, 0.60, -0.43), (0.20, 0.32, 0.30)),
    "anger": Word((-0.51, 0.59, 0.25), (0.20, 0.33, 0.39)),
    "disgust": Word((-0.60, 0.35, 0.11), (0.20, 0.41, 0.34)),
    "anticipation": Word((0.51, 0.23, 0.14), (0.25, 0.30, 0.30)),
    "trust": Word((0.38, 0.13, -0.08), (0.25, 0.30, 0.30)),
    "neutral": Word((0.0, 0.0, 0.0), (0.20, 0.20, 0.20)),
}


def vad_of(emotions: Mapping[str, float]) -> Vad:
    """Probabilities of emotions in, the mean of their mixture out: derived, never measured."""
    v, a, d = (math.fsum(p * WORDS[name].mean[axis] for name, p in emotions.items()) for axis in range(3))
    return v, a, d


def emotions_of(vad: Vad, prior: Mapping[str, float], error: Vad = (0.0, 0.0, 0.0)) -> dict[str, float]:
    """A place in the space in, the probability of each emotion in `prior` out (Bayes: prior times density, to sum 1).

    `error` is the standard deviation of how far the place itself may be off; it widens every word.
    """
    logs = {}
    for name, share in prior.items():
        word = WORDS[name]
        log = math.log(share) if share > 0 else -math.inf
        for place, mean, deviation, off in zip(vad, word.mean, word.deviation, error, strict=True):
            variance = deviation * deviation + off * off
            log -= 0.5 * ((place - mean) ** 2 / variance + math.log(variance))
        logs[name] = log
    top = max(logs.values())
    weights = {name: math.exp(log - top) for name, log in logs.items()}
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def said_of(words: Sequence[str], shown: Sequence[str]) -> dict[str, dict[str, float]]:
    """Words that can be said and emotions that are shown in, how probable each word is of each of these out.

    {word: {shown: p}}; for each of `shown` the p sum to 1. What is shown lies somewhere in its own Gaussian, and the
    word is said whose Gaussian it falls into: `emotions_of` its mean, with its deviations as the error.
    """
    equal = {word: 1 / len(words) for word in words}
    said = {name: emotions_of(WORDS[name].mean, equal, WORDS[name].deviation) for name in shown}
    return {word: {name: said[name][word] for name in shown} for word in words}
