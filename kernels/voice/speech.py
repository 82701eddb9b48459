"""Acoustic measures of speech that need no model: pitch, loudness, speech rate, level range, clipping.

Frames are those of `log_mel`: one every 10 ms, so pitch and log-mel rows correspond. `voice_features` joins both to the
input of the voice model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kernels.voice.fourier import autocorrelation, power_spectrum
from kernels.voice.log_mel import AT_ONCE, BANDS, FRAME, HOP, RATE_HZ, frame_count, log_mel

PITCH_FRAME = 640
_FFT = 1024
LOWEST_PITCH_HZ = 70.0
HIGHEST_PITCH_HZ = 550.0
_OCTAVE_COST = 0.03
_LAGS = slice(int(RATE_HZ / HIGHEST_PITCH_HZ) - 1, int(RATE_HZ / LOWEST_PITCH_HZ) + 3)
_LAG_COST = _OCTAVE_COST * np.log2(LOWEST_PITCH_HZ * np.arange(_LAGS.start + 1, _LAGS.stop - 1) / RATE_HZ)
_FLAT = 1e-9
_RUMBLE_BINS = 4
VOICED = 0.5
SILENT_POWER = 1e-11
RANGE_NATS = 10.0
FEATURES = BANDS + 3
PIECE_FRAMES = 300
_SYLLABLE_DIP_DB = 2.0

Floats = NDArray[np.float32]


def pitch(samples: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Track pitch in Hz and voicing in [0, 1], each (frames,), of samples (n,) in [-1, 1] at 16 kHz.

    Pitch is the lag of the highest peak of the window-corrected autocorrelation between 70 and 550 Hz, with a small
    cost for low octaves (Boersma, IFA Proceedings 17, 1993, eq. 9 and 24), refined by a parabola. Voicing is the height
    of that peak; frames without one, and near-silent ones, have voicing 0, and their pitch is meaningless.
    """
    count = frame_count(len(samples))
    hz, voicing = np.zeros(count, np.float32), np.zeros(count, np.float32)
    if count:
        x = np.pad(np.asarray(samples, np.float32), ((PITCH_FRAME - FRAME) // 2, PITCH_FRAME))
        frames = np.lib.stride_tricks.sliding_window_view(x, PITCH_FRAME)[::HOP][:count]
        for first in range(0, count, AT_ONCE):
            part = slice(first, first + AT_ONCE)
            hz[part], voicing[part] = _pitch_of(frames[part])
    return hz, voicing


def _pitch_of(frames: Floats) -> tuple[Floats, Floats]:
    """Compute pitch and voicing (n,) of frames (n, 640)."""
    window, correction = _pitch_window()
    power = power_spectrum((frames - frames.mean(axis=1, keepdims=True)) * window, _FFT)
    power[:, :_RUMBLE_BINS] = 0.0
    correlation = autocorrelation(power)
    energy, rows = correlation[:, 0], np.arange(len(frames))
    r = correlation[:, _LAGS] / np.maximum(energy[:, None], 1e-12) / correction[_LAGS]
    inside = r[:, 1:-1]
    peaks = (inside >= r[:, :-2]) & (inside > r[:, 2:])
    best = np.where(peaks, inside - _LAG_COST, -np.inf).argmax(axis=1)
    left, middle, right = r[rows, best], r[rows, best + 1], r[rows, best + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / np.where(np.abs(bend) > _FLAT, bend, np.inf)
    hz = RATE_HZ / (_LAGS.start + 1 + best + np.clip(shift, -0.5, 0.5))
    voiced = peaks[rows, best] & (energy > PITCH_FRAME * SILENT_POWER)
    return hz.astype(np.float32), np.where(voiced, np.clip(middle, 0.0, 1.0), 0.0).astype(np.float32)


def pitch_reference(samples: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the same as `pitch` by its definition: frame by frame and lag by lag, in float64."""
    x = np.pad(np.asarray(samples, np.float64), ((PITCH_FRAME - FRAME) // 2, PITCH_FRAME))
    window = np.hanning(PITCH_FRAME + 1)[:-1]
    correction = [float(window[lag:] @ window[: PITCH_FRAME - lag] / (window @ window)) for lag in range(_LAGS.stop)]
    hz, voicing = [], []
    for i in range(frame_count(len(samples))):
        frame = x[i * HOP : i * HOP + PITCH_FRAME]
        spectrum = np.fft.fft((frame - frame.mean()) * window, _FFT)
        spectrum[:_RUMBLE_BINS] = spectrum[_FFT - _RUMBLE_BINS + 1 :] = 0.0
        r = np.fft.ifft(np.abs(spectrum) ** 2).real
        energy = r[0]
        r = r[: _LAGS.stop] / max(energy, 1e-12) / correction
        best, height, best_score = 0, 0.0, -np.inf
        for lag in range(_LAGS.start + 1, _LAGS.stop - 1):
            score = r[lag] - _OCTAVE_COST * np.log2(LOWEST_PITCH_HZ * lag / RATE_HZ)
            if r[lag - 1] <= r[lag] > r[lag + 1] and score > best_score:
                best, height, best_score = lag, r[lag], score
        voiced = best > 0 and energy > PITCH_FRAME * SILENT_POWER
        bend = r[best - 1] - 2 * r[best] + r[best + 1] if voiced else -np.inf
        shift = np.clip(0.5 * (r[best - 1] - r[best + 1]) / bend, -0.5, 0.5)
        hz.append(RATE_HZ / (best + shift) if voiced else 0.0)
        voicing.append(min(max(height, 0.0), 1.0) if voiced else 0.0)
    return np.array(hz), np.array(voicing)


@dataclass(frozen=True, slots=True)
class SpeechClip:
    """Samples of speech with the pitch (Hz) and voicing of their frames, computed once for all uses."""

    samples: Floats
    pitch_hz: Floats
    voicing: Floats


def track_pitch(samples: NDArray[np.floating]) -> SpeechClip:
    """Track the pitch of samples (n,) in [-1, 1] at 16 kHz."""
    x = np.ascontiguousarray(samples, dtype=np.float32)
    return SpeechClip(x, *pitch(x))


def voice_features(clip: SpeechClip) -> Floats:
    """Compute the voice model's input (frames, 67), float32, independent of the recording level.

    Columns 0-63: log-mel power minus the logarithm of the clip's mean power, clipped at 10 nats (43 dB) from it, scaled
    to about unit range. Column 64: voicing. 65: octaves of pitch above 200 Hz where voiced, else 0. 66: 1 where voiced.
    """
    mel = log_mel(clip.samples)
    if len(mel) == 0:
        return np.zeros((0, FEATURES), np.float32)
    level = np.log(np.exp(mel, dtype=np.float64).mean())
    mel = np.clip(mel - level, -RANGE_NATS, RANGE_NATS) / np.float32(RANGE_NATS / 2) + 0.5
    voiced = clip.voicing > VOICED
    octaves = np.where(voiced, np.log2(clip.pitch_hz / 200.0), 0.0)
    return np.concatenate([mel, np.stack([clip.voicing, octaves, voiced], axis=1)], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class AcousticMeasures:
    """Acoustic measures of a clip: pitch is the median of voiced frames (0 without any), rate is in syllables/s."""

    loudness_dbfs: float
    pitch_hz: float
    rate_hz: float
    voiced: float
    clipped: float
    range_db: float


def measure_acoustics(clip: SpeechClip) -> AcousticMeasures:
    """Measure a clip of at least one frame.

    Loudness is the level of the louder half of frames, in dB below a full-scale square wave. Range is the distance
    between the 95th and 5th percentile of frame levels, an approximation of the signal-to-noise ratio. Clipped is the
    share of samples at full scale. Rate counts voiced peaks of the smoothed level that rise 2 dB above the dip before
    them (after de Jong and Wempe, Behavior Research Methods 41, 2009).
    """
    x, hz, count = clip.samples, clip.pitch_hz, len(clip.pitch_hz)
    frames = np.lib.stride_tricks.sliding_window_view(x, FRAME)[::HOP][:count]
    level_db = 10.0 * np.log10(np.square(frames).mean(axis=1, dtype=np.float64) + 1e-10)
    voiced = clip.voicing > VOICED
    loud = level_db >= np.median(level_db)
    smooth = np.convolve(np.pad(level_db, 4, mode="edge"), np.hanning(9) / np.hanning(9).sum(), "valid")
    low, high = np.quantile(level_db, [0.05, 0.95])
    return AcousticMeasures(
        loudness_dbfs=float(10.0 * np.log10(np.mean(10.0 ** (level_db[loud] / 10.0)))),
        pitch_hz=float(np.median(hz[voiced])) if voiced.any() else 0.0,
        rate_hz=_syllables(smooth, voiced, float(high) - 25.0) * RATE_HZ / max(len(x), 1),
        voiced=float(voiced.mean()),
        clipped=float((np.abs(x) >= 32700 / 32768).mean()),  # noqa: PLR2004 - the last two steps of 16 bits
        range_db=float(high - low),
    )


def _syllables(level_db: NDArray[np.float64], voiced: NDArray[np.bool_], floor_db: float) -> int:
    count, dip, peak, at = 0, level_db[0], -np.inf, 0
    for i, level in enumerate(level_db):
        if level > peak:
            peak, at = level, i
        if peak - level > _SYLLABLE_DIP_DB:
            count += bool(peak - dip > _SYLLABLE_DIP_DB and peak > floor_db and voiced[at])
            dip, peak = level, -np.inf
        dip = min(dip, level)
    return int(count)


def stack_pieces(pieces: Sequence[Floats], frames: int = PIECE_FRAMES) -> tuple[Floats, Floats]:
    """Pad features of n clips, each (at most `frames`, 67), to a batch (n, frames, 67) with its mask (n, frames)."""
    features = np.zeros((len(pieces), frames, FEATURES), np.float32)
    mask = np.zeros((len(pieces), frames), np.float32)
    for row, piece in enumerate(pieces):
        features[row, : len(piece)] = piece
        mask[row, : len(piece)] = 1.0
    return features, mask


@cache
def _pitch_window() -> tuple[Floats, Floats]:
    window = np.hanning(PITCH_FRAME + 1)[:-1]
    power = np.abs(np.fft.rfft(window, _FFT)) ** 2
    correlation = np.fft.irfft(power, _FFT)
    return window.astype(np.float32), np.maximum(correlation / correlation[0], 1e-3).astype(np.float32)
