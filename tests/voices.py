"""The demo's voices as samples, for tests that need real speech."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.voice.audio_files import read_audio

_FOLDER = Path(__file__).resolve().parent.parent / "demo" / "voices"
VOICES: dict[str, Path] = {p.name.split("_")[0]: p for p in sorted(_FOLDER.glob("*.flac"), reverse=True)}
"""One recording for each emotion: the first of each by name."""
ALL_VOICES: list[tuple[str, Path]] = [(p.name.split("_")[0], p) for p in sorted(_FOLDER.glob("*.flac"))]


@cache
def read_pcm(emotion: str) -> NDArray[np.int16]:
    """The recording of an emotion as samples (n,) at 16 kHz."""
    return np.round(read_audio(VOICES[emotion]) * 32768).astype(np.int16)


def pause(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """Quiet noise, as between the utterances of a session."""
    return np.random.default_rng(seed).normal(0, 12, int(seconds * 16000)).astype(np.int16)
