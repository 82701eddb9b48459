"""Log-mel spectrograms of 16 kHz audio, for training and for serving.

Frames of 25 ms every 10 ms, periodic Hann window, power spectrum, 64 triangular bands, natural logarithm. `log_mel` is
the fast implementation, `log_mel_reference` the reference it is tested against. The mel scale is O'Shaughnessy's
(Speech Communication, 1987): m = 2595 log10(1 + f / 700).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from kernels.voice.fourier import power_spectrum

RATE_HZ = 16000
FRAME = 400
HOP = 160
FFT = 512
BANDS = 64
LOWEST_HZ = 60.0
HIGHEST_HZ = 7600.0
POWER_FLOOR = 1e-10
AT_ONCE = 128
"""Frames processed together: more would not fit in the processor's cache."""

Floats = NDArray[np.float32]


def frame_count(samples: int) -> int:
    """Return how many full frames fit in `samples`; 0 where there are fewer than one frame has."""
    return 0 if samples < FRAME else 1 + (samples - FRAME) // HOP


def log_mel(samples: NDArray[np.floating]) -> Floats:
    """Compute log-mel power (frames, 64), float32, of samples (n,) in [-1, 1] at 16 kHz.

    Frame i covers samples [160 i, 160 i + 400); an incomplete frame at the end is ignored. Fewer than 400 samples give
    (0, 64).
    """
    count = frame_count(len(samples))
    out = np.empty((count, BANDS), np.float32)
    if count:
        x = np.ascontiguousarray(samples, dtype=np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(x, FRAME)[::HOP]
        for first in range(0, count, AT_ONCE):
            power = power_spectrum(frames[first : first + AT_ONCE] * _window(), FFT)
            out[first : first + AT_ONCE] = np.log(_band_power(power) + np.float32(POWER_FLOOR))
    return out


def log_mel_reference(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the same as `log_mel` by its definition: a loop over frames and bands, in float64."""
    filters = mel_filters()
    n = np.arange(FRAME)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / FRAME)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(FFT // 2 + 1), n) / FFT)
    rows = []
    for i in range(frame_count(len(samples))):
        frame = np.asarray(samples[i * HOP : i * HOP + FRAME], np.float64)
        power = np.abs(basis @ (frame * window)) ** 2
        rows.append([np.log(sum(w * p for w, p in zip(band, power, strict=True)) + POWER_FLOOR) for band in filters])
    return np.array(rows, np.float64).reshape(-1, BANDS)


def mel_filters() -> NDArray[np.float64]:
    """Return the triangular filters (64, 257): each band's weight on each bin of the power spectrum, peak 1."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(LOWEST_HZ), _hz_to_mel(HIGHEST_HZ), BANDS + 2))
    bins = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))


def _hz_to_mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


def _band_power(power: Floats) -> Floats:
    """Sum power (frames, 257) into bands (frames, 64), without a matrix product and its threads.

    Between two neighbouring edges lie the falling side of one filter and the rising side of the next: two sums each.
    """
    starts, filled, rising, falling = _filter_sides()
    end = rising.shape[0]
    up = np.add.reduceat(power[:, :end] * rising, starts, axis=1) * filled
    down = np.add.reduceat(power[:, :end] * falling, starts, axis=1) * filled
    return np.asarray(up[:, :-1] + down[:, 1:])


@cache
def _filter_sides() -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    edges = _mel_to_hz(np.linspace(_hz_to_mel(LOWEST_HZ), _hz_to_mel(HIGHEST_HZ), BANDS + 2))
    bins = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
    borders = np.searchsorted(bins, edges)
    filled = np.diff(borders) > 0  # an interval without any bin: reduceat would give it its neighbour's sum
    filters, end = mel_filters(), borders[-1]
    interval = np.clip(np.searchsorted(edges, bins[:end], side="right") - 1, 0, BANDS)
    at = np.arange(end)
    rising = np.where((interval < BANDS) & (bins[:end] >= edges[0]), filters[np.minimum(interval, BANDS - 1), at], 0.0)
    falling = np.where(interval > 0, filters[np.maximum(interval - 1, 0), at], 0.0)
    return borders[:-1], filled.astype(np.float32), rising.astype(np.float32), falling.astype(np.float32)


@cache
def _window() -> Floats:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)
