"""Media files as devices make them, written with PyAV at test time: small, of coloured quarters and tones."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

COLOURS = {"red": (0, 0, 220), "green": (0, 220, 0), "blue": (220, 0, 0), "white": (230, 230, 230)}
"""BGR."""


def quarters(width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A picture: red upper left, green upper right, blue lower left, white lower right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = COLOURS["red"]
    picture[: height // 2, width // 2 :] = COLOURS["green"]
    picture[height // 2 :, : width // 2] = COLOURS["blue"]
    picture[height // 2 :, width // 2 :] = COLOURS["white"]
    return picture


def corners(picture: NDArray[np.uint8]) -> list[str]:
    """The colours of a picture's quarters: upper left, upper right, lower left, lower right."""
    height, width = picture.shape[:2]
    places = [(y * height // 4, x * width // 4) for y in (1, 3) for x in (1, 3)]
    return [min(COLOURS, key=lambda n: float(np.abs(picture[p].astype(int) - COLOURS[n]).sum())) for p in places]


def tone(seconds: float, rate: int = 16000, hz: float = 440.0) -> NDArray[np.int16]:
    """A tone (n,)."""
    return (9000 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def write(
    path: Path,
    *,
    frames_at: Sequence[float] = (),
    sound: Iterable[tuple[float, NDArray[Any]]] = (),
    size: tuple[int, int] = (64, 48),
    video_codec: str = "mpeg4",
    audio_codec: str = "pcm_s16le",
    rate: int = 16000,
    layout: str = "mono",
    sample_format: str = "s16",
    aspect: Fraction | None = None,
    pixels: str = "yuv420p",
    container: str | None = None,
) -> Path:
    """Write a file with a frame at each of `frames_at` and stretches of sound, each from its time in s."""
    sound = list(sound)
    with av.open(str(path), "w", format=container) as out:
        video: Any = out.add_stream(video_codec, rate=25) if frames_at else None
        audio: Any = out.add_stream(audio_codec, rate=rate, layout=layout) if sound else None
        if video is not None:
            video.width, video.height, video.pix_fmt = *size, pixels
            video.codec_context.time_base = video.time_base = Fraction(1, 1000)
            if aspect is not None:
                video.codec_context.sample_aspect_ratio = aspect
        todo: list[tuple[float, Any]] = [(at, None) for at in frames_at]
        for at, samples in sound:
            step = 1024
            starts = range(0, samples.shape[-1] // step * step, step)
            todo += [(at + start / rate, samples[..., start : start + step]) for start in starts]
        for at, samples in sorted(todo, key=lambda one: one[0]):
            if samples is None and video is not None:
                frame = av.VideoFrame.from_ndarray(quarters(*size), format="bgr24").reformat(format=pixels)
                frame.pts, frame.time_base = round(at * 1000), Fraction(1, 1000)
                out.mux(video.encode(frame))
            elif samples is not None:
                chunk = av.AudioFrame.from_ndarray(np.atleast_2d(samples), format=sample_format, layout=layout)
                chunk.sample_rate, chunk.pts, chunk.time_base = rate, round(at * rate), Fraction(1, rate)
                out.mux(audio.encode(chunk))
        for stream in (video, audio):
            if stream is not None:
                out.mux(stream.encode(None))
    return path


def with_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a matrix into an MP4's first track header (ISO 14496-12, 8.3.2): (x, y) is shown at (ax + cy, bx + dy)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
