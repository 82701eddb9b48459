"""Cut a stream of samples into one segment for each step of event time: speech of the current utterance, or silence.

webrtcvad classifies frames of 20 ms. An utterance opens when 6 of 10 frames are speech and closes after 500 ms without;
while one is open, each step yields its last 3 s. How the samples are divided into `push` calls changes nothing.

Segments are a function of the samples since the *origin*. From time to time, in silence, the origin moves on and the
detector is restarted, primed with only the step before (its first frames after a cold start are unreliable). A second
stream that starts at most one step before that moment reaches the same origin and yields the same segments from there
on: that makes replay exact.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.voice.log_mel import RATE_HZ

PER_MS = RATE_HZ // 1000
_FRAME = 20 * PER_MS
_RECENT_FRAMES = 10
_OPENING_FRAMES = 6
_LEAD_IN = 60 * PER_MS
_CLOSING_SILENCE = 500 * PER_MS
_RESTART_IN_SILENCE = 4000 * PER_MS
_RESTART_ALWAYS = 15_000 * PER_MS

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Segment:
    """One step's result, `[start_ms, end_ms)`: int16 samples of speech, or None for silence or too little speech."""

    start_ms: int
    end_ms: int
    speech_ms: int
    samples: Samples | None


@dataclass(frozen=True, slots=True)
class SegmenterParams:
    """Step length, shortest and longest speech of a segment in ms, and webrtcvad's aggressiveness (0-3)."""

    step_ms: int = 250
    shortest_ms: int = 600
    longest_ms: int = 3000
    aggressiveness: int = 2


class SpeechSegmenter:
    """Segments one audio source, from its first sample on; internal times are samples of event time (16 per ms)."""

    def __init__(self, start_ms: int, params: SegmenterParams) -> None:
        self._params = params
        self._step = params.step_ms * PER_MS
        self._buffer_start = start_ms * PER_MS
        self._buffer = np.zeros(0, np.int16)
        self.origin_ms = first_origin_ms(start_ms, params.step_ms)
        self._origin: int | None = None
        self._detector: Any = None
        self._next_frame = self._next_step = self.origin_ms * PER_MS
        self._classified: deque[tuple[int, bool]] = deque(maxlen=params.longest_ms // 20 + _RECENT_FRAMES)
        self._recent: deque[bool] = deque(maxlen=_RECENT_FRAMES)
        self._utterance: int | None = None
        self._spoken = 0

    @property
    def end_sample(self) -> int:
        """The event time, in samples, of the next sample."""
        return self._buffer_start + len(self._buffer)

    def push(self, samples: Samples) -> list[Segment]:
        """Append the next samples (n,) and return the segments of the steps they complete, oldest first."""
        self._buffer = np.concatenate([self._buffer, samples])
        end, segments = self.end_sample, []
        if self._origin is None and end >= self._next_step:
            self._restart(self._next_step)
        while self._origin is not None:
            if self._next_frame + _FRAME <= min(end, self._next_step):
                self._classify_frame()
            elif self._next_step <= end:
                segments.append(self._finish_step())
            else:
                break
        self._drop_old()
        return segments

    def _classify_frame(self) -> None:
        at = self._next_frame
        self._next_frame = at + _FRAME
        spoken = self._detector.is_speech(self._slice(at, at + _FRAME).tobytes(), RATE_HZ)
        self._classified.append((at, spoken))
        self._recent.append(spoken)
        if self._utterance is None:
            if sum(self._recent) >= _OPENING_FRAMES:
                first = at - _FRAME * (len(self._recent) - 1 - self._recent.index(True))
                self._utterance = max(first - _LEAD_IN, self._origin or 0)
                self._spoken = at + _FRAME
        elif spoken:
            self._spoken = at + _FRAME
        elif at + _FRAME - self._spoken >= _CLOSING_SILENCE:
            self._utterance = None
            self._recent.clear()

    def _finish_step(self) -> Segment:
        at = self._next_step
        self._next_step = at + self._step
        params, end_ms = self._params, at // PER_MS
        segment = Segment(end_ms - params.step_ms, end_ms, 0, None)
        if self._utterance is not None:
            start = max(self._utterance, at - params.longest_ms * PER_MS)
            speech_ms = 20 * sum(spoken for begin, spoken in self._classified if begin >= start)
            if speech_ms >= params.shortest_ms:
                segment = Segment(start // PER_MS, end_ms, speech_ms, self._slice(start, at))
        age = at - (self._origin or 0)
        silent = self._utterance is None and not any(self._recent)
        if (silent and age >= _RESTART_IN_SILENCE) or age >= _RESTART_ALWAYS:
            self._restart(at)
        return segment

    def _restart(self, at: int) -> None:
        """Move the origin to `at` and start a new detector, primed with the last step; its results are discarded."""
        import webrtcvad  # noqa: PLC0415 - compiled code, needed only where sound is segmented

        self._detector = webrtcvad.Vad(self._params.aggressiveness)
        for begin in range(at - self._step // _FRAME * _FRAME, at, _FRAME):
            self._detector.is_speech(self._slice(begin, begin + _FRAME).tobytes(), RATE_HZ)
        self._origin, self.origin_ms = at, at // PER_MS
        self._next_frame, self._next_step = at, at + self._step
        self._utterance = None
        self._recent.clear()
        self._classified.clear()

    def _slice(self, start: int, end: int) -> Samples:
        return self._buffer[start - self._buffer_start : end - self._buffer_start]

    def _drop_old(self) -> None:
        spare = self.end_sample - (self._params.longest_ms + 2 * self._params.step_ms) * PER_MS - self._buffer_start
        if spare > 0:
            self._buffer = self._buffer[spare:].copy()
            self._buffer_start += spare


def first_origin_ms(start_ms: int, step_ms: int) -> int:
    """Return the first origin of a stream that starts at `start_ms`: the next step's border and one step more."""
    return -(-start_ms // step_ms) * step_ms + step_ms
