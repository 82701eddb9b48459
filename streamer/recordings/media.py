"""Reads the pictures and the sound of a media file as events, in the order of their times; decoded with PyAV.

Pictures and sound share one zero: the earliest start of the file's streams, where that is after 0. Damaged packets are
left out and counted; a stream that can't be decoded leaves the other. What was left out is said in one line each, by
the logger of this module.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamer.errors import MediaError
from streamer.recordings.events import Event
from streamer.recordings.pictures import upright
from streamer.recordings.sound import SAMPLE_RATE_HZ, SoundTrack

FRAMES_PER_S = 10
JPEG_QUALITY = 90
LARGEST_SIDE_PX = 640
USUAL_FRAMES_PER_S = 25
"""The rate that a raw video without times is taken to have if it doesn't say its own."""
LONGEST_PAUSE_S = 3600.0
"""Times that jump further are taken for another clock: the stream continues where it was."""
BACKWARDS_S = 1.0
"""So are times that go back by more than this; pictures that go back by less are left out."""
_SAME_S = 0.002
_NO_MEDIA = ("tty", "image2", "hls", "concat", "dash", "sdp", "rtsp", "ffmetadata")
"""Formats of libav that are text, a still picture, or a list of other files and addresses."""
_LOG = logging.getLogger(__name__)

__all__ = ["FRAMES_PER_S", "JPEG_QUALITY", "LARGEST_SIDE_PX", "SAMPLE_RATE_HZ", "MediaFile"]


class MediaFile:
    """A file with moving pictures, sound or both, whatever its name.

    Of several videos or sounds in the file the one marked as default is taken, else the first; cover art is no video.

    Args:
        path: of the file.

    Raises:
        MediaError: not a file, empty, can't be read, or nothing of it is video or sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as container:
            self.start_s = _start_s(container)
            self.length_ms: int | None = container.duration // 1000 if container.duration else None
            self._video = self._choose(container, "video")
            self._audio = self._choose(container, "audio")
        self.has_video, self.has_audio = self._video is not None, self._audio is not None
        if not self.has_video and not self.has_audio:
            raise MediaError(f"{path}: holds neither video nor audio that can be decoded")

    def video(self, source_id: str = "camera") -> Iterator[Event]:
        """Frames as JPEG, at most 10 a second, upright, with square pixels, at most 640 on the longer side.

        A frame without a time follows the one before by the rate that the file says, or by 1/25 s.
        """
        import cv2

        due_ms, seq = 0, 0
        for at_s, frame, stream in self._frames(self._video):
            at_ms = round(at_s * 1000)
            if at_ms < due_ms:
                continue
            due_ms = max(due_ms + 1000 // FRAMES_PER_S, at_ms - 1000 // FRAMES_PER_S)
            picture = upright(frame, stream.sample_aspect_ratio, LARGEST_SIDE_PX)
            height, width = picture.shape[:2]
            data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            fields = {"source_id": source_id, "seq": seq, "width": width, "height": height, "data": data}
            yield Event(at_ms, "video_frames", fields)
            seq += 1

    def audio(self, source_id: str = "microphone") -> Iterator[Event]:
        """Chunks of 50 ms as 16-bit PCM, 16 kHz mono, each at the time that the file says; a gap stays one."""
        track = SoundTrack(source_id)
        for at_s, frame, _ in self._frames(self._audio):
            yield from track.add(at_s, frame)
        yield from track.end()

    def _choose(self, container: Any, kind: str) -> int | None:
        """The index of the stream to read; says which others are left aside, and why."""
        from av.stream import Disposition

        found: list[Any] = []
        aside: list[Any] = []
        for stream in container.streams:
            if stream.type != kind:
                continue
            if stream.disposition & (Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails):
                continue
            (found if stream.codec_context is not None else aside).append(stream)
        if aside:
            _LOG.warning("%s: no decoder here for %d of its %s streams", self.path, len(aside), kind)
        found.sort(key=lambda stream: not stream.disposition & Disposition.default)
        if len(found) > 1:
            _LOG.warning("%s: has %d %s streams; stream %d is read", self.path, len(found), kind, found[0].index)
        return found[0].index if found else None

    def _frames(self, index: int | None) -> Iterator[tuple[float, Any, Any]]:
        """The decoded frames of a stream with their times in s from the file's zero, which never go back."""
        import av

        if index is None:
            return
        count, damaged, first_s = 0, 0, 0.0
        with _opened(self.path) as container:
            stream = container.streams[index]
            stream.thread_type = "AUTO"
            times = _Times(self.start_s, stream)
            try:
                for packet in container.demux(stream):
                    try:
                        frames = packet.decode()
                    except av.FFmpegError:
                        first_s = first_s if damaged else times.expected_s
                        damaged += 1
                        continue
                    for frame in frames:
                        at_s = times.of(frame, packet)
                        if at_s is not None:
                            count += 1
                            yield at_s, frame, stream
            except (av.FFmpegError, OSError) as error:
                where = f"breaks off at {times.expected_s:.1f} s"
                _LOG.warning("%s: its %s %s (%s)", self.path, stream.type, where, type(error).__name__)
            if count == 0:
                _LOG.warning("%s: nothing of its %s can be decoded", self.path, stream.type)
            elif damaged:
                _LOG.warning("%s: %d damaged packets of its %s are left out, the first at %.1f s",
                             self.path, damaged, stream.type, first_s)  # fmt: skip


class _Times:
    """The times of one stream's frames: those the file says, continued where it says none or something impossible."""

    def __init__(self, start_s: float, stream: Any) -> None:
        rate: Fraction | None = None
        if stream.type == "video":
            rate = stream.guessed_rate or stream.average_rate or stream.base_rate
        self._step_s = float(1 / rate) if rate else 1 / USUAL_FRAMES_PER_S
        self._shift_s = -start_s
        self._last_s: float | None = None
        self._miscounted_s = 0.0  # by how much the container takes the last packet's sound to be longer than it is
        self.expected_s = 0.0

    def of(self, frame: Any, packet: Any) -> float | None:
        """The time of a packet's frame; None of one to leave out: before the file's zero, or before an earlier one."""
        is_sound = hasattr(frame, "samples")
        length_s = frame.samples / frame.sample_rate if is_sound else self._step_s
        at_s = self.expected_s if frame.time is None else frame.time + self._shift_s
        jump_s = at_s - self.expected_s
        miscounted = self._miscounted_s and abs(jump_s - self._miscounted_s) < _SAME_S
        if self._last_s is not None and (miscounted or jump_s > LONGEST_PAUSE_S or jump_s < -BACKWARDS_S):
            self._shift_s -= jump_s
            at_s = self.expected_s
        packet_s = float(packet.duration * packet.time_base) if is_sound and packet.duration else length_s
        self._miscounted_s = packet_s - length_s if abs(packet_s - length_s) > _SAME_S else 0.0
        if at_s < 0 or (self._last_s is not None and at_s < self._last_s and not is_sound):
            return None
        self._last_s, self.expected_s = at_s, at_s + length_s
        return at_s


def _opened(path: Path) -> Any:
    import av

    if not path.is_file():
        raise MediaError(f"{path}: not a file" if path.exists() else f"{path}: no such file or folder")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: may not be read by this user")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: an empty file")
    try:
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path}: not a media file that can be read ({type(error).__name__})") from None
    names = container.format.name.split(",")
    if any(name in _NO_MEDIA or name.endswith("_pipe") for name in names):
        container.close()
        raise MediaError(f"{path}: neither video nor sound, but {container.format.long_name or names[0]}")
    return container


def _start_s(container: Any) -> float:
    """The earliest start of the streams of pictures and sound, where it is after 0."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in container.streams
        if stream.type in ("video", "audio") and stream.start_time is not None and stream.time_base
    ]
    return max(min(starts, default=0.0), 0.0)
