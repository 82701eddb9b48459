"""Cut faces out of pictures for a face model, and measure the quality of the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE = 48
"""Pixels on a side of the model's input (FER2013's size)."""
_DARK, _BRIGHT = 3, 252


class Square(NamedTuple):
    """A square by its top left corner and side, in pixels of the upright picture; it may extend beyond the edges."""

    x: float
    y: float
    side: float

    def scaled(self, factor: float) -> Square:
        """Scale the side, with the same centre."""
        grown = self.side * factor
        return Square(self.x + (self.side - grown) / 2, self.y + (self.side - grown) / 2, grown)

    def towards(self, other: Square, share: float) -> Square:
        """Interpolate to another square: 0 is this one, 1 the other."""
        return Square(*(a + share * (b - a) for a, b in zip(self, other, strict=True)))

    def holds_centre_of(self, other: Square) -> bool:
        """Tell whether the other square's centre is in this one: both are then taken for the same face."""
        x, y = other.x + other.side / 2 - self.x, other.y + other.side / 2 - self.y
        return 0 <= x <= self.side and 0 <= y <= self.side

    def overlap(self, other: Square) -> float:
        """Compute the intersection over union, in [0, 1]."""
        wide = min(self.x + self.side, other.x + other.side) - max(self.x, other.x)
        high = min(self.y + self.side, other.y + other.side) - max(self.y, other.y)
        shared = max(wide, 0.0) * max(high, 0.0)
        return shared / (self.side**2 + other.side**2 - shared)


def crop(grey: NDArray[np.uint8], square: Square) -> NDArray[np.float32]:
    """Cut a square out of a picture (h, w), resized to 48 x 48 by area averages, float32 of 0..255.

    The square is rounded to integer pixels; pixels outside the picture repeat its edge. It is tested against
    `crop_reference`.
    """
    import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    part = np.ascontiguousarray(grey[_inside(square, grey)], np.float32)
    return np.asarray(cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.float32)


def crop_reference(grey: NDArray[np.uint8], square: Square) -> NDArray[np.float32]:
    """Compute `crop` in NumPy, for squares of 48 pixels or more: each output pixel is the mean of its area."""
    part = grey[_inside(square, grey)].astype(np.float64)
    weights = _area_weights(len(part))
    return np.asarray(weights @ part @ weights.T, np.float32)


def crop_rgb(picture: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.float32]:
    """Cut a square out of a picture (h, w, 3), resized to (size, size, 3), float32 of 0..255.

    It is downscaled by area averages and upscaled by linear interpolation. The square is rounded and the edge repeated
    as in `crop`. It is tested against `crop_rgb_reference`.
    """
    import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    part = np.ascontiguousarray(picture[_inside(square, picture)], np.float32)
    method = cv2.INTER_AREA if len(part) >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (size, size), interpolation=method), np.float32)


def crop_rgb_reference(picture: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.float32]:
    """Compute `crop_rgb` in NumPy."""
    part = picture[_inside(square, picture)].astype(np.float64)
    side = len(part)
    weights = _area_weights(side, size)
    if side < size:
        at = ((np.arange(size) + 0.5) * side / size - 0.5).clip(0, side - 1)
        weights = (1 - np.abs(at[:, None] - np.arange(side))).clip(min=0)
    return np.asarray(np.einsum("ar,rcd,bc->abd", weights, part, weights), np.float32)


def quality(face: NDArray[np.float32], square: Square) -> dict[str, float]:
    """Measure the quality of a cropped face (48, 48) of 0..255.

    `blur`: the share of variance left by a 3 x 3 average, near 1 without fine detail; `size`: pixels on a side in the
    picture; `light`: mean grey in 0..1; `clipped`: the share of black or white pixels.
    """
    pairs = (face[:-2] + face[1:-1] + face[2:]) / 3
    smooth = (pairs[:, :-2] + pairs[:, 1:-1] + pairs[:, 2:]) / 3
    variance = float(face[1:-1, 1:-1].var())
    return {
        "blur": round(float(smooth.var()) / variance, 4) if variance > 1 else 1.0,
        "size": round(square.side, 1),
        "light": round(float(face.mean()) / 255, 4),
        "clipped": round(float(((face < _DARK) | (face > _BRIGHT)).mean()), 4),
    }


class Fault(NamedTuple):
    """A quality measure's factor on trust: 1 up to `harmless`, `left` from `hopeless` on, linear between."""

    harmless: float
    hopeless: float
    left: float

    def factors(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the factors, in [`left`, 1], of values of `quality` (n,)."""
        share = (np.asarray(values, np.float64) - self.harmless) / (self.hopeless - self.harmless)
        return np.asarray(1 - (1 - self.left) * share.clip(0, 1))


FAULTS = {"size": Fault(20.0, 15.0, 0.8), "blur": Fault(0.955, 0.969, 0.8), "clipped": Fault(0.521, 1.0, 0.7)}
"""By name of the measure; fitted by `models.face_affect.recipe.calibrate` on degraded held-out pictures.

`light` is not used: the network normalises light and contrast, and its probabilities fall as fast as its accuracy.
"""


def trust(measured: Mapping[str, float], faults: Mapping[str, Fault] = FAULTS) -> float:
    """Compute from `quality` the factor, in [0, 1], on the confidence above chance: 1 for a good picture."""
    return float(np.prod([fault.factors(np.array([measured[name]]))[0] for name, fault in faults.items()]))


def _inside(square: Square, picture: NDArray[np.uint8]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of a square rounded to integer pixels; indices beyond an edge are clipped to it."""
    left, top, side = round(square.x), round(square.y), max(round(square.side), 1)
    rows = np.arange(top, top + side).clip(0, picture.shape[0] - 1)
    return np.ix_(rows, np.arange(left, left + side).clip(0, picture.shape[1] - 1))


def _area_weights(side: int, size: int = SIZE) -> NDArray[np.float64]:
    """Return the share of each of `side` pixels in each of `size` equal parts: size x side, rows sum to 1."""
    edges, pixels = side * np.arange(size + 1) / size, np.arange(side)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(covered.clip(min=0) * (size / side))
