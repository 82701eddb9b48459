"""A stream of samples in, what is due on each step of event time out: a piece of the current utterance, or silence.

webrtcvad judges frames of 20 ms. An utterance opens when 6 of 10 frames are speech and closes after 500 ms without;
while one is open, each step yields its last 3 s. Nothing here depends on how the samples were cut into pushes.

What is due is a function of the samples since the *origin*, and from time to time, in silence, the origin moves on: the
detector starts anew, having heard only the step before (its first frames after a cold start are unreliable). A second
stream that starts at most one step before that moment comes to the same origin and yields the same from there on: that
is what makes re-reading exact.
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
_RING = 10
_OPENING = 6
_BEFORE = 60 * PER_MS
_CLOSING = 500 * PER_MS
_RENEW_AFTER = 4000 * PER_MS
_RENEW_ANYWAY = 15_000 * PER_MS

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Due:
    """What one step yields: `[start_ms, end_ms)` and its samples, None where nobody speaks (or not yet long enough)."""

    start_ms: int
    end_ms: int
    speech_ms: int
    samples: Samples | None


@dataclass(frozen=True, slots=True)
class Rules:
    """How a stream is cut: step and piece lengths in ms; `aggressiveness` 0-3 is webrtcvad's own."""

    step_ms: int = 250
    shortest_ms: int = 600
    longest_ms: int = 3000
    aggressiveness: int = 2


class SpeechSegments:
    """One source of sound, from its first sample on; inside, times are samples of event time (16 a millisecond)."""

    def __init__(self, start_ms: int, rules: Rules) -> None:
        self._rules = rules
        self._step = rules.step_ms * PER_MS
        self._held_from = start_ms * PER_MS
        self._held = np.zeros(0, np.int16)
        self.origin_ms = first_origin_ms(start_ms, rules.step_ms)
        self._origin: int | None = None
        self._detector: Any = None
        self._next_frame = self._next_step = self.origin_ms * PER_MS
        self._judged: deque[tuple[int, bool]] = deque(maxlen=rules.longest_ms // 20 + _RING)
        self._ring: deque[bool] = deque(maxlen=_RING)
        self._utterance: int | None = None
        self._spoken = 0

    @property
    def end_sample(self) -> int:
        """Where the next sample belongs."""
        return self._held_from + len(self._held)

    def push(self, samples: Samples) -> list[Due]:
        """The next samples (n,) in; what has become due out, oldest first."""
        self._held = np.concatenate([self._held, samples])
        end, due = self.end_sample, []
        if self._origin is None and end >= self._next_step:
            self._renew(self._next_step)
        while self._origin is not None:
            if self._next_frame + _FRAME <= min(end, self._next_step):
                self._judge()
            elif self._next_step <= end:
                due.append(self._take())
            else:
                break
        self._drop_old()
        return due

    def _judge(self) -> None:
        at = self._next_frame
        self._next_frame = at + _FRAME
        spoken = self._detector.is_speech(self._slice(at, at + _FRAME).tobytes(), RATE_HZ)
        self._judged.append((at, spoken))
        self._ring.append(spoken)
        if self._utterance is None:
            if sum(self._ring) >= _OPENING:
                first = at - _FRAME * (len(self._ring) - 1 - self._ring.index(True))
                self._utterance = max(first - _BEFORE, self._origin or 0)
                self._spoken = at + _FRAME
        elif spoken:
            self._spoken = at + _FRAME
        elif at + _FRAME - self._spoken >= _CLOSING:
            self._utterance = None
            self._ring.clear()

    def _take(self) -> Due:
        at = self._next_step
        self._next_step = at + self._step
        rules, end_ms = self._rules, at // PER_MS
        due = Due(end_ms - rules.step_ms, end_ms, 0, None)
        if self._utterance is not None:
            start = max(self._utterance, at - rules.longest_ms * PER_MS)
            speech_ms = 20 * sum(spoken for begin, spoken in self._judged if begin >= start)
            if speech_ms >= rules.shortest_ms:
                due = Due(start // PER_MS, end_ms, speech_ms, self._slice(start, at))
        age = at - (self._origin or 0)
        silent = self._utterance is None and not any(self._ring)
        if (silent and age >= _RENEW_AFTER) or age >= _RENEW_ANYWAY:
            self._renew(at)
        return due

    def _renew(self, at: int) -> None:
        """Forget all but the last step: a new detector hears it and its answers are thrown away."""
        import webrtcvad  # noqa: PLC0415 - compiled code, needed only where sound is heard

        self._detector = webrtcvad.Vad(self._rules.aggressiveness)
        for begin in range(at - self._step // _FRAME * _FRAME, at, _FRAME):
            self._detector.is_speech(self._slice(begin, begin + _FRAME).tobytes(), RATE_HZ)
        self._origin, self.origin_ms = at, at // PER_MS
        self._next_frame, self._next_step = at, at + self._step
        self._utterance = None
        self._ring.clear()
        self._judged.clear()

    def _slice(self, start: int, end: int) -> Samples:
        return self._held[start - self._held_from : end - self._held_from]

    def _drop_old(self) -> None:
        spare = self.end_sample - (self._rules.longest_ms + 2 * self._rules.step_ms) * PER_MS - self._held_from
        if spare > 0:
            self._held = self._held[spare:].copy()
            self._held_from += spare


def first_origin_ms(start_ms: int, step_ms: int) -> int:
    """When a stream that starts at `start_ms` begins to judge: one step of event time after the next step's border."""
    return -(-start_ms // step_ms) * step_ms + step_ms
