"""Sounds in which nobody speaks, made by formulas: noises, tones and simple music, 12 s each at 16 kHz.

They are synthetic: no recording of music, traffic or a crowd is among them. The same seed gives the same samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000
SECONDS = 12
PEAK = 0.3
SEED = 11

Sound = NDArray[np.float64]
_T = np.arange(SECONDS * RATE_HZ) / RATE_HZ


def make_noises(seed: int = SEED) -> dict[str, NDArray[np.int16]]:
    """Every sound by its name, as samples (n,), its peak at 0.3 of full scale."""
    return {name: _scaled(make(np.random.default_rng(seed))) for name, make in _MAKERS.items()}


def _scaled(x: Sound) -> NDArray[np.int16]:
    return np.asarray(np.round(x / np.abs(x).max() * PEAK * 32767), np.int16)


def _coloured(exponent: float) -> Callable[[np.random.Generator], Sound]:
    """Noise whose amplitude falls with frequency to the power of `exponent`: 0 white, .5 pink, 1 brown."""

    def make(rng: np.random.Generator) -> Sound:
        spectrum = np.fft.rfft(rng.standard_normal(len(_T)))
        hz = np.maximum(np.fft.rfftfreq(len(_T), 1 / RATE_HZ), 20)
        return np.asarray(np.fft.irfft(spectrum / hz**exponent, len(_T)))

    return make


def _tones(*hz: float) -> Callable[[np.random.Generator], Sound]:
    return lambda rng: np.sum([np.sin(2 * np.pi * f * _T + rng.uniform(0, 6)) for f in hz], axis=0)


def _harmonics(hz: float, count: int) -> Callable[[np.random.Generator], Sound]:
    return lambda _: np.sum([np.sin(2 * np.pi * hz * h * _T) / h for h in range(1, count + 1)], axis=0)


def _clicks(per_s: float, decay_ms: float, thud: bool = False) -> Callable[[np.random.Generator], Sound]:
    """Keys: short bursts of noise, or thuds of 120 Hz, at random moments, over quiet noise."""

    def make(rng: np.random.Generator) -> Sound:
        x = rng.standard_normal(len(_T)) * 1e-3
        at = 0
        ring = np.arange(1600)
        while at < len(x) - 1600:
            burst = np.sin(2 * np.pi * 120 * ring / RATE_HZ) if thud else rng.standard_normal(1600)
            x[at : at + 1600] += burst * np.exp(-ring / (RATE_HZ * decay_ms / 1000)) * rng.uniform(0.5, 1)
            at += int(RATE_HZ * rng.exponential(1 / per_s)) + 400
        return x

    return make


def _melody(note: Callable[[float, Sound, float], Sound]) -> Callable[[np.random.Generator], Sound]:
    """Notes of two octaves from 220 Hz up, of 250 or 500 ms, played by `note(hz, times, seconds)`."""

    def make(rng: np.random.Generator) -> Sound:
        notes: list[Sound] = []
        while sum(map(len, notes)) < len(_T):
            hz, seconds = 220 * 2 ** (rng.integers(0, 24) / 12), float(rng.choice([0.25, 0.5]))
            notes.append(note(hz, np.arange(int(seconds * RATE_HZ)) / RATE_HZ, seconds))
        return np.concatenate(notes)[: len(_T)]

    return make


def _pluck(hz: float, t: Sound, seconds: float) -> Sound:
    del seconds
    return np.asarray(np.sum([np.sin(2 * np.pi * hz * h * t) / h * np.exp(-t * (3 + h)) for h in range(1, 8)], axis=0))


def _organ(hz: float, t: Sound, seconds: float) -> Sound:
    fade = np.minimum(1, np.minimum(t, seconds - t) / 0.02)
    return np.asarray(fade * np.sum([np.sin(2 * np.pi * hz * h * t) / h for h in (1, 2, 3, 4, 6)], axis=0))


def _bowed(hz: float, t: Sound, seconds: float) -> Sound:
    fade = np.minimum(1, np.minimum(t, seconds - t) / 0.05)
    phase = 2 * np.pi * hz * t + 0.6 * np.sin(2 * np.pi * 5.5 * t)
    return np.asarray(fade * np.sum([np.sin(h * phase) / h for h in range(1, 15)], axis=0))


def _drums(rng: np.random.Generator) -> Sound:
    x, t = np.zeros(len(_T)), np.arange(4000) / RATE_HZ
    for beat, at in enumerate(range(0, len(x) - 4000, 4000)):
        kick = np.sin(2 * np.pi * 60 * t * np.exp(-t * 5)) * np.exp(-t * 12)
        snare = rng.standard_normal(4000) * np.exp(-t * 30) * 0.6
        x[at : at + 4000] += snare if beat % 2 else kick
    return x


def _keypad(rng: np.random.Generator) -> Sound:
    del rng
    low, high = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
    which = (_T / 0.4).astype(int) % 4
    tone = np.sin(2 * np.pi * np.take(low, which) * _T) + np.sin(2 * np.pi * np.take(high, which) * _T)
    return np.asarray(tone * (_T % 0.4 < 0.2))  # noqa: PLR2004 - tones of 200 ms


def _swelling(make: Callable[[np.random.Generator], Sound], per_s: float) -> Callable[[np.random.Generator], Sound]:
    """A sound as loud and soft as syllables are."""
    return lambda rng: make(rng) * (0.5 + 0.5 * np.sin(2 * np.pi * per_s * _T))


_MAKERS: dict[str, Callable[[np.random.Generator], Sound]] = {
    "white noise": _coloured(0),
    "pink noise": _coloured(0.5),
    "brown noise": _coloured(1),
    "fan": lambda rng: _coloured(0.7)(rng) * (1 + 0.3 * np.sin(2 * np.pi * 23 * _T)),
    "breath": lambda rng: _coloured(0.3)(rng) * np.maximum(0, np.sin(2 * np.pi * 0.35 * _T)) ** 2,
    "noise, 4 swells a second": _swelling(_coloured(0), 4),
    "crackle": lambda rng: (rng.random(len(_T)) < 0.002) * rng.standard_normal(len(_T)),  # noqa: PLR2004 - 32 a second
    "key clicks": _clicks(5, 8),
    "fast key clicks": _clicks(10, 4),
    "thuds": _clicks(6, 20, thud=True),
    "hum, 50 Hz": _harmonics(50, 11),
    "hum, 60 Hz": _harmonics(60, 29),
    "buzz of a phone": _harmonics(217, 14),
    "tone, 440 Hz": _tones(440),
    "tone, 1 kHz": _tones(1000),
    "sweep": lambda _: np.sin(2 * np.pi * (100 * _T + 75 * _T**2)),
    "siren": lambda _: np.sin(2 * np.pi * 700 * _T + 300 * np.sin(np.pi * _T)),
    "chord": _tones(261.6, 329.6, 392.0),
    "ringing": lambda rng: _tones(440, 480)(rng) * (_T % 3 < 2),  # noqa: PLR2004 - 2 s on, 1 s off
    "keypad": _keypad,
    "tone, 4 swells a second": _swelling(_tones(150), 4),
    "buzz, 4 swells a second": _swelling(_harmonics(140, 24), 4),
    "plucked strings": _melody(_pluck),
    "organ": _melody(_organ),
    "bowed strings": _melody(_bowed),
    "drums": _drums,
    "strings and drums": lambda rng: _melody(_bowed)(rng) + 3 * _drums(rng),
}
