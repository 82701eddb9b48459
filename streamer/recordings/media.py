"""Reads a session folder or a media file as the events a platform would have published, in the order of event time.

A session folder holds `media.mkv` (or another media file) and/or `chat.jsonl`, and may hold a `<topic>.jsonl` for any
other topic from outside, one payload a line, with `event_time_ms` counted from the start of the session. Media is
decoded with PyAV, frames are encoded with OpenCV.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from streamer.errors import MediaError

SAMPLE_RATE_HZ = 16000
CHUNK_MS = 50
FRAMES_PER_S = 10
JPEG_QUALITY = 90
LARGEST_SIDE_PX = 640
MEDIA_SUFFIXES = (".mkv", ".mp4", ".webm", ".mov", ".avi", ".m4v", ".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


@dataclass(frozen=True, slots=True)
class Event:
    """A record to publish: its time since the session's start, its topic, and its payload's fields."""

    at_ms: int
    topic: str
    fields: Mapping[str, Any]


def read_session(path: Path) -> Iterator[Event]:
    """The events of a session folder or a media file, in the order of event time.

    Raises:
        MediaError: nothing there, not media, or a line of JSON that can't be read; names the file and the line.
    """
    if not path.exists():
        raise MediaError(f"{path}: no such file or folder")
    if path.is_file():
        streams = [_video(path), _audio(path)]
        if not any(_has_stream(path, kind) for kind in ("video", "audio")):
            raise MediaError(f"{path}: holds neither video nor audio")
        return heapq.merge(*streams, key=lambda e: e.at_ms)
    media = sorted(p for p in path.iterdir() if p.suffix.lower() in MEDIA_SUFFIXES)
    lines = sorted(path.glob("*.jsonl"))
    if not media and not lines:
        raise MediaError(
            f"{path}: a session folder holds a media file ({', '.join(MEDIA_SUFFIXES[:3])}, …) or chat.jsonl"
        )
    streams = [stream for p in media for stream in (_video(p), _audio(p))]
    streams += [iter(sorted(_read_lines(p), key=lambda e: e.at_ms)) for p in lines]
    return heapq.merge(*streams, key=lambda e: e.at_ms)


def _read_lines(path: Path) -> Iterator[Event]:
    topic = "chat_messages" if path.stem == "chat" else path.stem
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MediaError(f"{path}: not UTF-8 at byte {error.start}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            at_ms = fields.pop("event_time_ms")
            if not isinstance(at_ms, int) or isinstance(at_ms, bool) or at_ms < 0:
                raise ValueError("event_time_ms is milliseconds from the start, a whole number from 0 on")  # noqa: TRY301
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            why = "event_time_ms is missing" if isinstance(error, KeyError) else str(error)
            raise MediaError(f"{path}, line {number}: {why}") from None
        if topic == "chat_messages":
            fields = {"message_id": f"chat-{number}", "speaker": "user", **fields}
        yield Event(at_ms, topic, fields)


def _open(path: Path) -> Any:
    import av

    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: not a media file that can be read ({type(error).__name__})") from None


def _has_stream(path: Path, kind: str) -> bool:
    with _open(path) as container:
        return any(stream.type == kind for stream in container.streams)


def _video(path: Path) -> Iterator[Event]:
    """Frames as JPEG, at most 10 a second, scaled to at most 640 pixels on the longer side."""
    import av
    import cv2

    if not _has_stream(path, "video"):
        return
    with _open(path) as container:
        due_ms, seq = 0, 0
        try:
            for frame in container.decode(video=0):
                at_ms = round((frame.time or 0.0) * 1000)
                if at_ms < due_ms:
                    continue
                due_ms = max(due_ms + 1000 // FRAMES_PER_S, at_ms - 1000 // FRAMES_PER_S)
                scale = min(1.0, LARGEST_SIDE_PX / max(frame.width, frame.height))
                width, height = int(frame.width * scale), int(frame.height * scale)
                picture = frame.to_ndarray(format="bgr24", width=width, height=height)
                data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
                fields = {"source_id": "camera", "seq": seq, "width": width, "height": height, "data": data}
                yield Event(at_ms, "video_frames", fields)
                seq += 1
        except av.FFmpegError as error:
            raise MediaError(f"{path}: its video breaks off after {seq} frames ({type(error).__name__})") from None


def _audio(path: Path) -> Iterator[Event]:
    """Chunks of 50 ms as 16-bit PCM, 16 kHz mono."""
    import av

    if not _has_stream(path, "audio"):
        return
    with _open(path) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
        buffered, seq = bytearray(), 0
        size = SAMPLE_RATE_HZ * CHUNK_MS // 1000 * 2
        try:
            for frame in chain(container.decode(audio=0), (None,)):
                for piece in resampler.resample(frame):
                    buffered += piece.to_ndarray().tobytes()
                while len(buffered) >= size or (frame is None and buffered):
                    yield _chunk(seq, bytes(buffered[:size]))
                    del buffered[:size]
                    seq += 1
        except av.FFmpegError as error:
            raise MediaError(
                f"{path}: its audio breaks off after {seq * CHUNK_MS} ms ({type(error).__name__})"
            ) from None


def _chunk(seq: int, data: bytes) -> Event:
    fields = {"source_id": "microphone", "seq": seq, "sample_rate_hz": SAMPLE_RATE_HZ, "channels": 1, "data": data}
    return Event(seq * CHUNK_MS, "audio_chunks", fields)
