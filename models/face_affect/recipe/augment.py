"""Augment FER2013 pictures, among others to look as on video behind a camera and a detector.

A face in a video is larger, has a background at its corners, is compressed, found by a detector whose box is a little
off, and scaled down again. `as_on_video` simulates that; `augment` does it to some pictures and adds the rest.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SIZE = 48
_VIDEO_SHARE = 0.5


def augment(image: Image, rng: np.random.Generator) -> Image:
    """Augment a grey 48 x 48 picture: mirror, turn, shift, scale, as on video, light, cut-out; each at random."""
    if rng.random() < 0.5:  # noqa: PLR2004 - a fair coin
        image = image[:, ::-1]
    on_video = rng.random() < _VIDEO_SHARE
    image = _moved(image, rng, 0.5 if on_video else 1.0)
    if on_video:
        image = as_on_video(image, rng)
    light = image.astype(np.float32) * rng.uniform(0.7, 1.3) + rng.uniform(-25, 25)
    if rng.random() < 0.3:  # noqa: PLR2004 - some cameras
        light = 255 * (light.clip(0, 255) / 255) ** rng.uniform(0.6, 1.6) + rng.normal(
            0, rng.uniform(0, 6), image.shape
        )
    out = light.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.5:  # noqa: PLR2004 - a fair coin
        side = int(rng.integers(6, 17))
        x, y = rng.integers(0, SIZE - side // 2, 2)
        out[y : y + side, x : x + side] = int(out.mean())
    return out


def as_on_video(image: Image, rng: np.random.Generator) -> Image:
    """Simulate a grey 48 x 48 face on video, cropped by a box at most a tenth off in position and size."""
    size = int(rng.integers(72, 161))
    margin = size // 3
    canvas = _background(size + 2 * margin, rng)
    face = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    mask: NDArray[np.float32] = np.zeros((size, size), np.float32)
    cv2.ellipse(mask, (size // 2, size // 2), (int(size * rng.uniform(0.44, 0.5)), size // 2), 0, 0, 360, 1.0, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), size * 0.03))
    inside = canvas[margin : margin + size, margin : margin + size]
    inside[:] = face * mask + inside * (1 - mask)
    if rng.random() < 0.5:  # noqa: PLR2004 - a fair coin
        canvas = cv2.GaussianBlur(canvas, (0, 0), size / 128 * rng.uniform(0.4, 1.6))
    coded = cv2.imencode(
        ".jpg", canvas.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
    )
    decoded = np.asarray(cv2.imdecode(coded[1], cv2.IMREAD_GRAYSCALE))
    side = round(size * rng.uniform(0.88, 1.14))
    x, y = (round((size - side) / 2 + margin + size * rng.uniform(-0.08, 0.08)) for _ in range(2))
    crop = decoded[max(y, 0) : y + side, max(x, 0) : x + side]
    return np.asarray(cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def _moved(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Turn by up to 14 degrees, scale by up to 15 %, shift by up to 5 pixels, each times `strength`."""
    turn = cv2.getRotationMatrix2D(
        (SIZE / 2 - 0.5, SIZE / 2 - 0.5), 14 * strength * rng.uniform(-1, 1), 1 + 0.15 * strength * rng.uniform(-1, 1)
    )
    turn[:, 2] += rng.uniform(-5, 5, 2) * strength
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpAffine(np.ascontiguousarray(image), turn, (SIZE, SIZE), borderMode=border))


def _background(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a smooth grey pattern (side x side, float32, 0..255)."""
    coarse = rng.normal(rng.uniform(30, 200), rng.uniform(2, 40), (8, 8)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth.clip(0, 255), np.float32)
