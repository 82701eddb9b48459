"""Cuts decoded sound into chunks, each at its time: 50 ms of 16-bit PCM, 16 kHz, mono."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from streamer.recordings.events import Event

SAMPLE_RATE_HZ = 16000
CHUNK_MS = 50
TOLERANCE_S = 0.06
"""Frames that are off by less follow each other: containers round their times, resamplers hold samples back."""
_CHUNK_BYTES = SAMPLE_RATE_HZ * CHUNK_MS // 1000 * 2
_BYTES_PER_S = SAMPLE_RATE_HZ * 2


class SoundTrack:
    """One source of sound: give it frames in order, it yields chunks.

    Where a frame comes later than its predecessor ends, the chunk under way ends early and the next begins at the
    frame's time. What lies before the end of what is there already is left out.
    """

    def __init__(self, source_id: str) -> None:
        self._source_id = source_id
        self._seq = 0
        self._buffered = bytearray()
        self._start_s = 0.0  # of the first buffered byte
        self._resampler: Any = None
        self._setup: tuple[Any, ...] = ()

    def add(self, at_s: float, frame: Any) -> Iterator[Event]:
        """Take in a frame of PyAV that begins at a time; yields the chunks that it completes."""
        import av

        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        off_s = at_s - self._end_s
        if off_s < -TOLERANCE_S and self._setup:
            return
        if setup != self._setup or off_s > TOLERANCE_S:
            yield from self._finish()
            self._resampler, self._setup = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ), setup
            if abs(off_s) > TOLERANCE_S:
                self._start_s = at_s
        frame.pts = None  # its place is known, and the resampler would fill gaps by it
        yield from self._take(self._resampler.resample(frame))

    def end(self) -> Iterator[Event]:
        """Yield what is left; the last chunk may be shorter."""
        yield from self._finish()

    @property
    def _end_s(self) -> float:
        return self._start_s + len(self._buffered) / _BYTES_PER_S

    def _take(self, pieces: list[Any]) -> Iterator[Event]:
        self._buffered += b"".join(chain(piece.to_ndarray().tobytes() for piece in pieces))
        while len(self._buffered) >= _CHUNK_BYTES:
            yield self._cut(_CHUNK_BYTES)

    def _finish(self) -> Iterator[Event]:
        """Yield all that is buffered, what the resampler holds included."""
        if self._resampler is not None:
            yield from self._take(self._resampler.resample(None))
            self._resampler = None
        if self._buffered:
            yield self._cut(len(self._buffered))

    def _cut(self, size: int) -> Event:
        data, at_ms = bytes(self._buffered[:size]), round(self._start_s * 1000)
        del self._buffered[:size]
        self._start_s += size / _BYTES_PER_S
        fields = {
            "source_id": self._source_id, "seq": self._seq, "sample_rate_hz": SAMPLE_RATE_HZ, "channels": 1,
            "data": data,
        }  # fmt: skip
        self._seq += 1
        return Event(at_ms, "audio_chunks", fields)
