"""Decode JPEG bytes to an upright picture, grey or RGB, or raise what is wrong with them.

The header is checked before the decoder is called, so that a small file which expands to a huge picture is refused at
no cost.
"""

from __future__ import annotations

import re
import struct

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 4096 * 4096
MAX_SCANS = 64
"""A progressive JPEG has about ten; each passes over the whole picture, so thousands decode for many seconds."""
_START, _END = b"\xff\xd8", b"\xff\xd9"
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker, not a stuffed byte, a restart or a fill byte within the data of a scan."""


class JpegError(ValueError):
    """The bytes are not the announced picture; the message states what is wrong and never quotes them."""


def decode_grey(data: bytes, *, width: int, height: int, rotation: int = 0) -> NDArray[np.uint8]:
    """Decode a JPEG to grey values, uint8 (rows, columns), turned upright.

    Args:
        data: the full file.
        width: pixels as encoded, before turning.
        height: likewise.
        rotation: the clockwise turn that makes the picture upright: 0, 90, 180 or 270. An EXIF turn is ignored.

    Raises:
        JpegError: not a JPEG, truncated, another size than announced, larger than 4096 x 4096, or of more than 64
            scans.
    """
    return _decode(data, (width, height), rotation, "GRAY")[..., 0]


def decode_rgb(data: bytes, *, width: int, height: int, rotation: int = 0) -> NDArray[np.uint8]:
    """Decode a JPEG to RGB values, uint8 (rows, columns, 3), turned upright; else as `decode_grey`."""
    return _decode(data, (width, height), rotation, "RGB")


def grey_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert an RGB picture (rows, columns, 3) to grey (rows, columns), by ITU-R BT.601 as in JPEG."""
    import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _decode(data: bytes, announced: tuple[int, int], rotation: int, colours: str) -> NDArray[np.uint8]:
    """The picture (rows, columns, 1 or 3). Damaged data is decoded as far as it goes, without a word on stderr."""
    import simplejpeg  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    width, height = announced
    size = read_size(data)
    if size != announced:
        raise JpegError(f"the picture is {size[0]} x {size[1]}, the record says {width} x {height}")
    if width * height > MAX_PIXELS:
        raise JpegError(f"the picture has {width * height} pixels, more than {MAX_PIXELS}")
    _check_scans(data)
    try:
        picture = simplejpeg.decode_jpeg(data, colours, strict=False)
    except ValueError:
        raise JpegError("the JPEG can't be decoded") from None
    if picture.shape[:2] != (height, width):
        raise JpegError("the JPEG can't be decoded")
    return np.ascontiguousarray(np.rot90(picture, -rotation // 90))


def _check_scans(data: bytes) -> None:
    """Refuse a picture without an end marker or with too many scans; what follows the end marker is ignored."""
    at, scans = 2, 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[0][1], found.end()
        if marker == _END[1]:
            return
        if marker == _SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise JpegError(f"the JPEG has more than {MAX_SCANS} scans")
        if marker not in _STANDALONE and at + 2 <= len(data):
            at += max(struct.unpack_from(">H", data, at)[0], 2)
    raise JpegError(f"the JPEG is cut short: {len(data)} bytes without an end marker")


def read_size(data: bytes) -> tuple[int, int]:
    """Read a JPEG's (width, height) in pixels from its frame header (ITU-T T.81, B.2.2).

    Raises:
        JpegError: not a JPEG, or it ends before the header does.
    """
    if not data.startswith(_START):
        raise JpegError("not a JPEG: no start marker")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:  # noqa: PLR2004 - every marker's first byte
        marker = data[at + 1]
        if marker in _STANDALONE or marker == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1 if marker == 0xFF else 2  # noqa: PLR2004
            continue
        if marker == _SCAN:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAME_HEADERS and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + max(length, 2)
    raise JpegError("not a JPEG: no frame header")
