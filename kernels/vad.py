"""Convert emotions to valence, arousal and dominance (VAD) and back: each emotion word is a Gaussian in that space.

Both conversions follow "Revisiting Emotions Representation for Recognition in the Wild" (Cardia Neto, Ferrari and
Berretti, arXiv 2602.06778, 2026): a state is a mixture of words, and a word is a normal distribution of what people
meant by it. Means and deviations of the six are Russell and Mehrabian's (J. Research in Personality 11, 1977: ratings
of 151 words, scaled to [-1, 1]). The means of anticipation and trust are those of their words hopeful and respectful;
the deviations of these two and all values of neutral are set by us. Axes are taken as independent within a word: the
table gives no correlations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Vad = tuple[float, float, float]


class EmotionWord(NamedTuple):
    """An emotion word's mean and standard deviation of valence, arousal and dominance, in [-1, 1]."""

    mean: Vad
    deviation: Vad


WORDS: Mapping[str, EmotionWord] = {
    "happiness": EmotionWord((0.81, 0.51, 0.46), (0.21, 0.26, 0.38)),
    "sadness": EmotionWord((-0.63, -0.27, -0.33), (0.23, 0.34, 0.22)),
    "surprise": EmotionWord((0.40, 0.67, -0.13), (0.30, 0.27, 0.38)),
    "fear": EmotionWord((-0.64, 0.60, -0.43), (0.20, 0.32, 0.30)),
    "anger": EmotionWord((-0.51, 0.59, 0.25), (0.20, 0.33, 0.39)),
    "disgust": EmotionWord((-0.60, 0.35, 0.11), (0.20, 0.41, 0.34)),
    "anticipation": EmotionWord((0.51, 0.23, 0.14), (0.25, 0.30, 0.30)),
    "trust": EmotionWord((0.38, 0.13, -0.08), (0.25, 0.30, 0.30)),
    "neutral": EmotionWord((0.0, 0.0, 0.0), (0.20, 0.20, 0.20)),
}


def vad_of(emotions: Mapping[str, float]) -> Vad:
    """Derive VAD from probabilities of emotions: the mean of their mixture."""
    v, a, d = (math.fsum(p * WORDS[name].mean[axis] for name, p in emotions.items()) for axis in range(3))
    return v, a, d


def emotions_of(vad: Vad, prior: Mapping[str, float], error: Vad = (0.0, 0.0, 0.0)) -> dict[str, float]:
    """Compute the probability of each emotion in `prior` given VAD (Bayes: prior times density, scaled to sum 1).

    `error` is the standard deviation of the error of `vad`; it widens every word's Gaussian.
    """
    logs = {}
    for name, share in prior.items():
        word = WORDS[name]
        log = math.log(share) if share > 0 else -math.inf
        for value, mean, deviation, off in zip(vad, word.mean, word.deviation, error, strict=True):
            variance = deviation * deviation + off * off
            log -= 0.5 * ((value - mean) ** 2 / variance + math.log(variance))
        logs[name] = log
    top = max(logs.values())
    weights = {name: math.exp(log - top) for name, log in logs.items()}
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def word_likelihoods(words: Sequence[str], emotions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compute p(word | emotion): how probable each of a model's words is for each emotion.

    Returns {word: {emotion: p}}; for each emotion the p over `words` sum to 1. An emotion is a point drawn from its
    Gaussian, and is named by the word whose Gaussian fits: `emotions_of` its mean, with its deviations as the error.
    """
    equal = {word: 1 / len(words) for word in words}
    by_emotion = {name: emotions_of(WORDS[name].mean, equal, WORDS[name].deviation) for name in emotions}
    return {word: {name: by_emotion[name][word] for name in emotions} for word in words}
