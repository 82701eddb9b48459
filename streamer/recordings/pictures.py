"""Turns a decoded frame into a picture as people see it: upright, with square pixels, not too large."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDEST = 4
"""Pixels further from square than this are taken for a mistake in the file."""


def upright(frame: Any, aspect: Fraction | None, largest_side: int) -> NDArray[np.uint8]:
    """The picture of a frame of PyAV, BGR (rows, columns, 3).

    Args:
        frame: with its display matrix, as phones write it, as side data.
        aspect: width by height of a pixel; None or 0 where the file doesn't say.
        largest_side: the longer side in pixels is at most this; smaller pictures keep their size.
    """
    pixel = float(aspect) if aspect else 1.0
    if not 1 / _WIDEST <= pixel <= _WIDEST:
        pixel = 1.0
    width, height = frame.width * max(pixel, 1.0), frame.height / min(pixel, 1.0)
    scale = min(1.0, largest_side / max(width, height))
    size = {"width": max(round(width * scale), 1), "height": max(round(height * scale), 1)}
    return _turned(frame.to_ndarray(format="bgr24", **size), _display_matrix(frame))


def _display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """The upper left of the matrix [[a, b], [c, d]] by which (x, y) is displayed at (ax + cy, bx + dy)."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
            return a, b, c, d
    return None


def _turned(picture: NDArray[np.uint8], matrix: tuple[int, int, int, int] | None) -> NDArray[np.uint8]:
    """Apply a display matrix, to the nearest quarter turn, with its mirroring."""
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.transpose(1, 0, 2), c, b  # now x is what y was
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
