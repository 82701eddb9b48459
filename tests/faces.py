"""Pictures for tests: the public-domain portrait of the demo, as a camera would send it, and rooms without anybody."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PORTRAIT = Path(__file__).resolve().parent.parent / "demo" / "astronaut.jpg"
Grey = NDArray[np.uint8]


def portrait(width: int = 320, height: int = 240) -> Grey:
    """The portrait at this size: one smiling face, about half as high as the picture."""
    grey = cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_CUBIC))


def empty_room(width: int = 320, height: int = 240, seed: int = 0) -> Grey:
    """A soft grey pattern."""
    noise = np.random.default_rng(seed).integers(60, 140, (height, width), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 6))


def jpeg(picture: Grey, quality: int = 90) -> bytes:
    """A picture as JPEG."""
    done, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(coded.tobytes())
