"""Read audio files, and trim recordings to the part that is speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.voice.log_mel import RATE_HZ

_VAD_FRAME, _VAD_MARGIN = 480, 3

Floats = NDArray[np.float32]


def read_audio(path: Path) -> Floats:
    """Read an audio file as mono samples (n,), float32 in [-1, 1], at 16 kHz."""
    import av  # noqa: PLC0415 - heavy, needed only where files are read

    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", RATE_HZ)
        parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32) / np.float32(32768)


def speech_only(samples: Floats) -> Floats:
    """Trim samples (n,) to the first to last 30 ms frame that webrtcvad takes for speech, and 90 ms around."""
    import webrtcvad  # noqa: PLC0415 - compiled code, needed only here

    detector = webrtcvad.Vad(2)
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2")
    parts = [pcm[at : at + _VAD_FRAME].tobytes() for at in range(0, len(pcm) - _VAD_FRAME + 1, _VAD_FRAME)]
    speech = [i for i, part in enumerate(parts) if detector.is_speech(part, RATE_HZ)]
    if not speech:
        return samples
    return samples[max(0, speech[0] - _VAD_MARGIN) * _VAD_FRAME : (speech[-1] + 1 + _VAD_MARGIN) * _VAD_FRAME]
