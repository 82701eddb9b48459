"""Emotion words as Gaussians of valence, arousal and dominance: there, and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.emotions import EMOTIONS
from kernels.vad import WORDS, emotions_of, spread, vad_of

UNIFORM = dict.fromkeys(EMOTIONS, 1 / len(EMOTIONS))


def test_every_emotion_is_a_word_inside_the_space() -> None:
    assert set(WORDS) == set(EMOTIONS)
    for word in WORDS.values():
        assert all(-1 <= m <= 1 and 0 < s < 1 for m, s in zip(word.mean, word.deviation, strict=True))


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_word_leads_to_its_place_and_its_place_back_to_the_word(name: str) -> None:
    assert vad_of({name: 1.0}) == WORDS[name].mean
    assert spread({name: 1.0}) == pytest.approx(WORDS[name].deviation)
    told = emotions_of(WORDS[name].mean, UNIFORM)
    assert max(told, key=lambda n: told[n]) == name


def test_a_mixture_has_the_mean_and_spread_of_its_draws() -> None:
    rng, mixed = np.random.default_rng(0), {"fear": 0.5, "surprise": 0.3, "neutral": 0.2}
    names = rng.choice(list(mixed), 200_000, p=list(mixed.values()))
    drawn = np.array([WORDS[n].mean for n in names]) + rng.normal(size=(len(names), 3)) * [
        WORDS[n].deviation for n in names
    ]
    assert vad_of(mixed) == pytest.approx(drawn.mean(axis=0), abs=0.01)
    assert spread(mixed) == pytest.approx(drawn.std(axis=0), abs=0.01)


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
