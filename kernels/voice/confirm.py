"""Confirm that what webrtcvad took for speech is speech, by Silero's network; or say what kind of sound it is instead.

webrtcvad is quick and hears speech in clicks, hums, noise and tones too. The network (models/silero_vad) is asked about
a whole segment at once, from a state of zero: so the answer depends on the segment alone, and reading it again gives
the same.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.engines import Engine, ModelFolderError, ModelSpec
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import VOICED, SpeechClip

FRAME, CONTEXT = 512, 64
"""Samples that the network classifies at once, and those before them that it sees too."""
FRAME_MS = FRAME * 1000 // RATE_HZ
SURE = 0.5
LEAST_MS, LEAST_SHARE = 192, 0.25
"""A segment is speech where so much, and this share of what webrtcvad took for it, is speech to the network. Chosen on
synthetic sounds, EmoDB and RAVDESS: see the card of models/silero_vad."""
STEADY_OCTAVES = 0.03
"""No voice keeps its pitch within so little (between the 10th and 90th percentile); machines do. The least of 1,899
segments of EmoDB and RAVDESS is 0.11."""
FEWEST_PITCHES = 10
TONAL = 0.5
Sound = Literal["speech", "music", "noise"]
_STATE = np.zeros((1, 1, 128), np.float32)


def check_detector(spec: ModelSpec) -> ModelSpec:
    """Return the spec of a model that is a speech detector of this format.

    Raises:
        ModelFolderError: it is another model.
    """
    found = {name: spec.input.get(name) for name in ("framing", "rate_hz", "samples", "context")}
    if found != {"framing": "speech_frames", "rate_hz": RATE_HZ, "samples": FRAME, "context": CONTEXT}:
        raise ModelFolderError(f"{spec.id} is no speech detector: name one as `detector`, such as silero_vad")
    return spec


def speech_probability(engine: Engine, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute p(speech) of each 32 ms (frames,) of samples (n,) in [-1, 1] at 16 kHz; the last frame is padded."""
    count = -(-len(samples) // FRAME)
    padded = np.zeros(CONTEXT + count * FRAME, np.float32)
    padded[CONTEXT : CONTEXT + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
    inputs = {"input": np.ascontiguousarray(frames), "h": _STATE, "c": _STATE}
    return np.asarray(engine.infer(inputs)["speech_probs"], np.float32).reshape(-1)


def classify(clip: SpeechClip, probability: NDArray[np.float32], claimed_ms: float) -> Sound:
    """Say what a segment is: speech, or `music` where half of it has a pitch in a voice's range, or `noise`.

    Args:
        clip: the segment's samples and pitch.
        probability: p(speech) of each 32 ms of it (frames,), see `speech_probability`.
        claimed_ms: how much of it webrtcvad took for speech.
    """
    voiced = clip.voicing > VOICED
    confirmed_ms = int((probability > SURE).sum()) * FRAME_MS
    if confirmed_ms >= max(LEAST_MS, LEAST_SHARE * claimed_ms) and not _is_steady(clip.pitch_hz[voiced]):
        return "speech"
    return "music" if voiced.size and float(voiced.mean()) >= TONAL else "noise"


def _is_steady(pitch_hz: NDArray[np.float32]) -> bool:
    if len(pitch_hz) < FEWEST_PITCHES:
        return False
    low, high = np.quantile(np.log2(pitch_hz), [0.1, 0.9])
    return bool(high - low < STEADY_OCTAVES)
