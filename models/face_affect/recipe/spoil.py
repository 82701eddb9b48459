"""Spoil FER2013 pictures with faults of a camera, to fit and judge the quality gate.

Each face fills 128 pixels of a frame, as in composed sessions, before the fault; the frame is compressed after it, and
cut by `kernels.face.crop`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kernels.face.crop import Square, crop

KINDS = ("none", "small", "blurred", "dark", "burnt_out", "compressed", "turned")
_FACE_PX, _MARGIN_PX = 128, 32
_QUALITY = 80


def spoil(
    image: NDArray[np.uint8], fault: str, level: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Square]:
    """Spoil a grey 48 x 48 picture; return the face as the model gets it (48 x 48), and its square.

    `level` is from 0, harmless, to 1. `small`: 48 down to 12 pixels on a side; `blurred`: a Gaussian, up to a tenth of
    the face; `dark`: down to 1/64 of the light, while the sensor's noise stays; `burnt_out`: up to six times the light;
    `compressed`: JPEG of quality 40 down to 2; `turned`: in the picture's plane, up to 30 degrees to either side, since
    faces turned further are seldom detected.
    """
    side = round(48 * 0.25**level) if fault == "small" else _FACE_PX
    margin = round(_MARGIN_PX * side / _FACE_PX)
    face = cv2.resize(image, (_FACE_PX, _FACE_PX), interpolation=cv2.INTER_CUBIC)
    frame = np.pad(face, _MARGIN_PX, mode="edge")
    if fault == "turned":
        angle = 30 * level * rng.choice((-1, 1))
        turn = cv2.getRotationMatrix2D((frame.shape[0] / 2 - 0.5,) * 2, float(angle), 1.0)
        frame = cv2.warpAffine(frame, turn, frame.shape, borderMode=cv2.BORDER_REPLICATE)
    if fault == "blurred":
        frame = cv2.GaussianBlur(frame, (0, 0), 1 + 12 * level)
    frame = cv2.resize(frame, (side + 2 * margin,) * 2, interpolation=cv2.INTER_AREA)
    light = frame.astype(np.float32) * {"dark": 0.5 * 2.0 ** (-5 * level), "burnt_out": 1 + 5 * level}.get(fault, 1.0)
    light += rng.normal(0, 1.5, light.shape)
    quality = round(40 * 0.05**level) if fault == "compressed" else _QUALITY
    coded = cv2.imencode(".jpg", light.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    seen = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
    square = Square(margin, margin, side)
    return crop(seen, square), square
