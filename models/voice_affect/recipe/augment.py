"""Distort clean studio recordings: another microphone, room, level, pitch or codec.

The model is trained on ten actors in one quiet room and must work with any microphone: everything that doesn't carry
the expression is varied. Deterministic for a given generator.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from kernels.voice.log_mel import RATE_HZ

Floats = NDArray[np.float32]

SPEED = (0.84, 1.19)
SNR_DB = (3.0, 40.0)
_OPUS_HZ = 48000


def distort(samples: Floats, rng: np.random.Generator) -> Floats:
    """Distort samples (n,) at 16 kHz to a copy (m,): speed, equaliser, room, noise, level, clipping, Opus."""
    x = change_speed(samples, float(np.exp(rng.uniform(*np.log(SPEED)))))
    if rng.random() < 0.8:  # noqa: PLR2004 - a share of copies
        x = equalise(x, rng)
    if rng.random() < 0.4:  # noqa: PLR2004 - a share of copies
        x = reverberate(x, rng)
    if rng.random() < 0.75:  # noqa: PLR2004 - a share of copies
        x = add_noise(x, float(rng.uniform(*SNR_DB)), rng)
    x = x / (np.abs(x).max() + 1e-9) * np.float32(np.exp(rng.uniform(np.log(0.02), np.log(1.0))))
    if rng.random() < 0.1:  # noqa: PLR2004 - a share of copies
        x = np.clip(x, -0.5 * np.abs(x).max(), 0.5 * np.abs(x).max())
    x = np.round(x * 32767) / np.float32(32767)
    if rng.random() < 0.5:  # noqa: PLR2004 - a share of copies
        x = through_opus(x, int(rng.choice([12000, 16000, 24000, 48000])))
    return np.asarray(x, np.float32)


def change_speed(samples: Floats, factor: float) -> Floats:
    """Play `factor` times as fast, pitch and formants with it; resampled in the frequency domain."""
    n = len(samples)
    m = round(n / factor)
    spectrum = np.fft.rfft(samples)
    resampled = np.zeros(m // 2 + 1, spectrum.dtype)
    k = min(len(resampled), len(spectrum))
    resampled[:k] = spectrum[:k]
    return np.asarray(np.fft.irfft(resampled, m) * (m / n), np.float32)


def equalise(samples: Floats, rng: np.random.Generator) -> Floats:
    """Apply a smooth random response: a tilt of up to 1.5 dB an octave, three bumps, a low and a high cut."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    octaves = np.log2(np.maximum(hz, 20.0) / 1000.0)
    gain_db = rng.uniform(-1.5, 1.5) * octaves
    for _ in range(3):
        height, middle, width = rng.normal(0, 4), rng.uniform(-3, 3), rng.uniform(0.3, 1.2)
        gain_db = gain_db + height * np.exp(-0.5 * ((octaves - middle) / width) ** 2)
    if rng.random() < 0.4:  # noqa: PLR2004 - a share of copies
        gain_db = gain_db - 12.0 * np.maximum(0.0, np.log2(rng.uniform(60, 300) / np.maximum(hz, 20.0)))
    if rng.random() < 0.3:  # noqa: PLR2004 - a share of copies
        gain_db = gain_db - 24.0 * np.maximum(0.0, np.log2(np.maximum(hz, 20.0) / rng.uniform(3000, 7000)))
    return np.asarray(np.fft.irfft(spectrum * 10.0 ** (gain_db / 20.0), len(samples)), np.float32)


def reverberate(samples: Floats, rng: np.random.Generator) -> Floats:
    """Add reverberation: noise that decays by 60 dB in 0.1 to 0.5 s, 2 to 15 dB below the direct sound."""
    length = int(rng.uniform(0.1, 0.5) * RATE_HZ)
    tail = rng.normal(size=length) * np.exp(-6.9 * np.arange(length) / length)
    tail *= 10.0 ** (-rng.uniform(2, 15) / 20.0) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    size = 1 << int(np.ceil(np.log2(len(samples) + len(tail))))
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return np.asarray(wet[: len(samples)], np.float32)


def add_noise(samples: Floats, snr_db: float, rng: np.random.Generator) -> Floats:
    """Add coloured noise (white to brown) at a signal-to-noise ratio in dB."""
    spectrum = np.fft.rfft(rng.normal(size=len(samples)))
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    noise = np.fft.irfft(spectrum / np.maximum(hz, 40.0) ** rng.uniform(0.0, 1.0), len(samples))
    ratio = np.square(samples).mean() / (np.square(noise).mean() + 1e-20)
    return np.asarray(samples + noise * np.sqrt(ratio / 10.0 ** (snr_db / 10.0)), np.float32)


def through_opus(samples: Floats, bit_rate: int) -> Floats:
    """Encode with libopus (as `replay` media is) and decode again; the end can lose a few milliseconds."""
    import av  # noqa: PLC0415 - heavy, needed only for training

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=_OPUS_HZ)
        stream.bit_rate = bit_rate
        stream.layout = "mono"
        pcm = np.clip(samples * 32767, -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], "s16", "mono")
        frame.sample_rate = RATE_HZ
        frame.pts = 0
        resampler = av.AudioResampler("s16", "mono", _OPUS_HZ, frame_size=960)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        resampler = av.AudioResampler("s16", "mono", RATE_HZ)
        parts = [out.to_ndarray()[0] for got in container.decode(audio=0) for out in resampler.resample(got)]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return np.asarray(np.concatenate(parts)[: len(samples)].astype(np.float32) / np.float32(32768))
