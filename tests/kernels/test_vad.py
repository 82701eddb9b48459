"""Emotion words as Gaussians of valence, arousal and dominance: there, and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.emotions import EMOTIONS
from kernels.vad import WORDS, emotions_of, vad_of, word_likelihoods

UNIFORM = dict.fromkeys(EMOTIONS, 1 / len(EMOTIONS))


def test_every_emotion_is_a_word_inside_the_space() -> None:
    assert set(WORDS) == set(EMOTIONS)
    for word in WORDS.values():
        assert all(-1 <= m <= 1 and 0 < s < 1 for m, s in zip(word.mean, word.deviation, strict=True))


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_word_gives_its_mean_and_its_mean_gives_the_word(name: str) -> None:
    assert vad_of({name: 1.0}) == WORDS[name].mean
    p = emotions_of(WORDS[name].mean, UNIFORM)
    assert max(p, key=lambda n: p[n]) == name


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 2))
def test_a_point_gives_a_distribution_which_nears_the_prior_as_its_error_grows(
    point: tuple[float, float, float], error: float
) -> None:
    p = emotions_of(point, UNIFORM, (error,) * 3)
    assert math.isclose(sum(p.values()), 1.0)
    vague = emotions_of(point, UNIFORM, (1e6,) * 3)
    assert vague == pytest.approx(UNIFORM, abs=1e-3)


def test_the_prior_decides_between_words_that_lie_alike() -> None:
    between = tuple((a + b) / 2 for a, b in zip(WORDS["fear"].mean, WORDS["anger"].mean, strict=True))
    often = emotions_of(between, {"fear": 0.9, "anger": 0.1})  # type: ignore[arg-type]
    seldom = emotions_of(between, {"fear": 0.1, "anger": 0.9})  # type: ignore[arg-type]
    assert often["fear"] > seldom["fear"]
    assert emotions_of((0.0, 0.0, 0.0), {"fear": 0.0, "anger": 1.0})["fear"] == 0


def test_word_likelihoods_equal_those_of_random_draws() -> None:
    rng, words = np.random.default_rng(0), ("anger", "happiness", "neutral", "sadness")
    likelihoods = word_likelihoods(words, EMOTIONS)
    for name in EMOTIONS:
        assert math.isclose(sum(likelihoods[word][name] for word in words), 1.0)
        points = WORDS[name].mean + rng.normal(size=(200_000, 3)) * WORDS[name].deviation
        means, deviations = (np.array([getattr(WORDS[w], of) for w in words]) for of in ("mean", "deviation"))
        off = (points[:, None] - means) / deviations
        density = np.exp(-0.5 * (off**2).sum(axis=2)) / deviations.prod(axis=1)
        assert [likelihoods[w][name] for w in words] == pytest.approx(
            density.mean(axis=0) / density.mean(axis=0).sum(), abs=0.01
        )


def test_each_word_is_likeliest_for_its_emotion_and_without_the_word_fear_it_is_called_anger_or_sadness() -> None:
    likelihoods = word_likelihoods(("anger", "happiness", "neutral", "sadness"), EMOTIONS)
    assert all(max(likelihoods, key=lambda w: likelihoods[w][word]) == word for word in likelihoods)
    assert likelihoods["anger"]["fear"] + likelihoods["sadness"]["fear"] > 0.9
    assert likelihoods["happiness"]["surprise"] > 0.5
