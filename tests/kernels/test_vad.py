"""Emotion words as Gaussians of valence, arousal and dominance: there, and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.emotions import EMOTIONS
from kernels.vad import WORDS, emotions_of, said_of, vad_of

UNIFORM = dict.fromkeys(EMOTIONS, 1 / len(EMOTIONS))


def test_every_emotion_is_a_word_inside_the_space() -> None:
    assert set(WORDS) == set(EMOTIONS)
    for word in WORDS.values():
        assert all(-1 <= m <= 1 and 0 < s < 1 for m, s in zip(word.mean, word.deviation, strict=True))


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_word_leads_to_its_place_and_its_place_back_to_the_word(name: str) -> None:
    assert vad_of({name: 1.0}) == WORDS[name].mean
    told = emotions_of(WORDS[name].mean, UNIFORM)
    assert max(told, key=lambda n: told[n]) == name


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 2))
def test_a_place_gives_a_distribution_and_less_of_an_opinion_the_less_sure_it_is(
    place: tuple[float, float, float], error: float
) -> None:
    told = emotions_of(place, UNIFORM, (error,) * 3)
    assert math.isclose(sum(told.values()), 1.0)
    lost = emotions_of(place, UNIFORM, (1e6,) * 3)
    assert lost == pytest.approx(UNIFORM, abs=1e-3)


def test_the_prior_decides_between_words_that_lie_alike() -> None:
    between = tuple((a + b) / 2 for a, b in zip(WORDS["fear"].mean, WORDS["anger"].mean, strict=True))
    often = emotions_of(between, {"fear": 0.9, "anger": 0.1})  # type: ignore[arg-type]
    seldom = emotions_of(between, {"fear": 0.1, "anger": 0.9})  # type: ignore[arg-type]
    assert often["fear"] > seldom["fear"]
    assert emotions_of((0.0, 0.0, 0.0), {"fear": 0.0, "anger": 1.0})["fear"] == 0


def test_a_word_is_said_of_what_falls_into_it_as_often_as_draws_do() -> None:
    rng, words = np.random.default_rng(0), ("anger", "happiness", "neutral", "sadness")
    said = said_of(words, EMOTIONS)
    for name in EMOTIONS:
        assert math.isclose(sum(said[word][name] for word in words), 1.0)
        place = WORDS[name].mean + rng.normal(size=(200_000, 3)) * WORDS[name].deviation
        means, deviations = (np.array([getattr(WORDS[w], of) for w in words]) for of in ("mean", "deviation"))
        off = (place[:, None] - means) / deviations
        density = np.exp(-0.5 * (off**2).sum(axis=2)) / deviations.prod(axis=1)
        assert [said[w][name] for w in words] == pytest.approx(
            density.mean(axis=0) / density.mean(axis=0).sum(), abs=0.01
        )


def test_every_word_is_said_of_its_own_emotion_most_and_a_language_without_fear_calls_it_anger_or_sadness() -> None:
    said = said_of(("anger", "happiness", "neutral", "sadness"), EMOTIONS)
    assert all(max(said, key=lambda w: said[w][word]) == word for word in said)
    assert said["anger"]["fear"] + said["sadness"]["fear"] > 0.9
    assert said["happiness"]["surprise"] > 0.5
