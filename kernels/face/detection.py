"""Detect the face in each picture of a session, and track it from picture to picture.

The full picture is searched at a limited rate; in between, only the neighbourhood of the last face. Where the detector
finds nothing there (a turned head, an unusual expression), the last picture of the face is matched instead, for a
limited time. Times are those of the pictures. A finder must be used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.face.crop import Square

Grey = NDArray[np.uint8]
_NEAR = 1.6
"""The side of the neighbourhood searched around the last face, in sides of the face."""
_TEMPLATE_PX = 40
_YUNET_THRESHOLD = 0.5
_TILT_DEG = 14.0
"""How far the picture is rotated in a second search for a tilted head; the cascade tolerates about as much."""


class DetectorError(ValueError):
    """The detector's file can't be used; the message names it and the alternative."""


class Detector(Protocol):
    """Finds faces in one picture, framed as in FER2013: forehead to chin fill the square."""

    def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
        """Find all faces with a side of `min_px` or more, largest first.

        `attempt` counts the searches without a result before this one, so that a detector can vary its method.
        """
        ...

    def confirm(self, grey: Grey, near: Square) -> Square | None:
        """Find the face of about this position and size, or None; `grey` is the full picture."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Rates and limits of tracking.

    The full picture is searched every `following_ms` while a face is tracked, else every `lost_ms`. A face that the
    detector misses is tracked by matching for `hold_ms`, with a correlation of at least `match`. For `remember_ms` a
    lost face is looked for at its last position.
    """

    following_ms: int = 500
    lost_ms: int = 90
    hold_ms: int = 2000
    match: float = 0.72
    remember_ms: int = 4000


@dataclass(frozen=True, slots=True)
class Track:
    """The state of tracking after a picture.

    `square` is the face, None where there is none. `faces` is the count of the last full search, at `searched_ms`;
    `seen_ms` is the last detection, `misses` counts searches without one. `last` is the last position of a lost face,
    and `template` its last picture.
    """

    square: Square | None
    faces: int
    searched_ms: int
    seen_ms: int
    misses: int = 0
    last: Square | None = None
    template: Grey | None = None


class FaceFinder:
    """Tracks one face of a session; see the module."""

    def __init__(self, detector: Detector, *, min_px: int = 60, pace: Pace | None = None) -> None:
        self._detector = detector
        self._min_px = min_px
        self._pace = pace or Pace()

    def find(self, grey: Grey, at_ms: int, track: Track | None) -> Track:
        """Update a track by a picture (h, w) and its time.

        A picture that is older than the last search, or later by more than `hold_ms` + `following_ms`, starts a new
        track.
        """
        if track is None or not 0 <= at_ms - track.searched_ms < self._pace.hold_ms + self._pace.following_ms:
            return self._search(grey, at_ms, None)
        due = self._pace.lost_ms if track.square is None else self._pace.following_ms
        if at_ms - track.searched_ms >= due:
            return self._search(grey, at_ms, track)
        if track.square is None:
            return track
        return self._follow(grey, at_ms, track) or self._search(
            grey, at_ms, replace(track, square=None, last=track.square)
        )

    def quarter_turn(self, grey: Grey) -> int | None:
        """The clockwise quarter turns (1, 3 or 2) after which a picture (h, w) shows a face; None where none does."""
        for turn in (1, 3, 2):
            if self._detector.search(turned(grey, turn), self._min_px, 0):
                return turn
        return None

    def _search(self, grey: Grey, at_ms: int, track: Track | None) -> Track:
        found = self._detector.search(grey, self._min_px, track.misses if track else 0)
        previous = track.square if track else None
        if found:
            square = max(found, key=lambda s: s.overlap(previous)) if previous else found[0]
            if previous is not None and square.overlap(previous) > 0.3:  # noqa: PLR2004 - the same face
                square = previous.towards(square, 0.5)
            others = [s for s in found if not square.holds_centre_of(s)]
            return Track(square, 1 + len(others), at_ms, at_ms, template=_template_of(grey, square))
        followed = self._follow(grey, at_ms, track) if track is not None and previous is not None else None
        if followed is not None:
            return replace(followed, faces=1, searched_ms=at_ms, misses=followed.misses + 1)
        return self._find_again(grey, at_ms, track)

    def _find_again(self, grey: Grey, at_ms: int, track: Track | None) -> Track:
        """Look for a lost face at its last position, where a weaker detection is enough."""
        if track is None:
            return Track(None, 0, at_ms, at_ms, misses=1)
        last = track.square or track.last
        if last is None or at_ms - track.seen_ms > self._pace.remember_ms:
            return Track(None, 0, at_ms, track.seen_ms, misses=track.misses + 1)
        back = self._detector.confirm(grey, last)
        if back is not None:
            return Track(back, 1, at_ms, at_ms, template=_template_of(grey, back))
        return Track(None, 0, at_ms, track.seen_ms, misses=track.misses + 1, last=last)

    def _follow(self, grey: Grey, at_ms: int, track: Track) -> Track | None:
        """Track the face into this picture, by the detector or by matching its last picture; None where it is gone."""
        if track.square is None or track.template is None:
            return None
        seen = self._detector.confirm(grey, track.square)
        if seen is not None:
            square = track.square.towards(seen, 0.5)
            return replace(track, square=square, seen_ms=at_ms, template=_template_of(grey, square))
        if at_ms - track.seen_ms > self._pace.hold_ms:
            return None
        matched, correlation = _match(grey, track.square, track.template)
        return replace(track, square=matched) if correlation >= self._pace.match else None


def turned(picture: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A picture (h, w) or (h, w, 3) after so many clockwise quarter turns."""
    return np.ascontiguousarray(np.rot90(picture, -turn)) if turn % 4 else picture


class CascadeDetector:
    """OpenCV's `haarcascade_frontalface_alt2`; its boxes are framed as in FER2013 (see the face model's card)."""

    def __init__(self) -> None:
        import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

        self._cv2: Any = cv2
        name = "haarcascade_frontalface_alt2.xml"
        self._cascade: Any = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))
        if self._cascade.empty():
            raise DetectorError(f"OpenCV {cv2.__version__} has no {name}: install opencv-python-headless<5")
        self._equalise: Callable[[Grey], Grey] = cv2.createCLAHE(2.0, (4, 4)).apply

    def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
        """See `Detector`; without a result it searches again, with finer steps or the picture rotated, by turns."""
        scale = min(1.0, 30 / min_px, 320 / max(grey.shape))
        small = _resized(grey, scale)
        least = max(round(min_px * scale), 20)
        found = self._detect(small, 1.05, 2, least, 0)
        if not found:
            even, angle = self._equalise(small), (0, _TILT_DEG, -_TILT_DEG)[attempt % 3]
            found = self._detect_turned(even, angle, least) if angle else self._detect(even, 1.03, 3, least, 0)
        squares = (Square(x / scale, y / scale, s / scale) for x, y, s in found)
        return sorted(squares, key=lambda s: s.side, reverse=True)

    def confirm(self, grey: Grey, near: Square) -> Square | None:
        """See `Detector`: a single detection is enough there."""
        (x, y), around = _around(grey, near)
        scale = min(1.0, 40 / near.side)
        least, most = round(near.side * scale * 0.7), round(near.side * scale * 1.3)
        small, least = _resized(around, scale), max(least, 20)
        found = self._detect(small, 1.06, 1, least, most) or self._detect(self._equalise(small), 1.03, 1, least, most)
        squares = [Square(x + left / scale, y + top / scale, s / scale) for left, top, s in found]
        return max(squares, key=near.overlap, default=None)

    def _detect_turned(self, grey: Grey, angle: float, least: int) -> list[tuple[float, float, float]]:
        """Find faces in the picture rotated by `angle` degrees; squares are in coordinates of the unrotated picture."""
        centre = (grey.shape[1] / 2, grey.shape[0] / 2)
        turn = self._cv2.getRotationMatrix2D(centre, angle, 1.0)
        border = self._cv2.BORDER_REPLICATE
        turned = np.asarray(self._cv2.warpAffine(grey, turn, (grey.shape[1], grey.shape[0]), borderMode=border))
        back = self._cv2.invertAffineTransform(turn)
        found = []
        for x, y, side in self._detect(turned, 1.04, 3, least, 0):
            middle = back @ (x + side / 2, y + side / 2, 1.0)
            found.append((float(middle[0]) - side / 2, float(middle[1]) - side / 2, side))
        return found

    def _detect(
        self, grey: Grey, step: float, neighbours: int, least: int, most: int
    ) -> list[tuple[float, float, float]]:
        if min(grey.shape) < least:
            return []
        limits: dict[str, Any] = {"minSize": (least, least)} | ({"maxSize": (most, most)} if most else {})
        boxes: Sequence[Sequence[int]] = self._cascade.detectMultiScale(grey, step, neighbours, **limits)
        return [(float(x), float(y), float(w)) for x, y, w, _ in boxes]


class YunetDetector:
    """A YuNet face detector (Wu et al. 2023) from the path of its ONNX file; any input size."""

    def __init__(self, path: Path) -> None:
        import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

        if not path.is_file():
            raise DetectorError(f"detector {path}: no such file; leave the parameter out to use OpenCV's cascade")
        self._cv2: Any = cv2
        try:
            self._net: Any = cv2.FaceDetectorYN.create(str(path), "", (320, 320), _YUNET_THRESHOLD)
            self._net.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise DetectorError(f"detector {path}: OpenCV doesn't take it as a YuNet model ({error.err})") from None

    def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
        """See `Detector`; every attempt is the same."""
        scale = min(1.0, 60 / min_px, 640 / max(grey.shape))
        squares = [Square(*(v / scale for v in s)) for s in self._detect(_resized(grey, scale))]
        return sorted((s for s in squares if s.side >= min_px), key=lambda s: -s.side)

    def confirm(self, grey: Grey, near: Square) -> Square | None:
        """See `Detector`."""
        (x, y), around = _around(grey, near)
        scale = min(1.0, 60 / near.side)
        found = self._detect(_resized(around, scale))
        squares = [Square(x + s.x / scale, y + s.y / scale, s.side / scale) for s in found]
        close = [s for s in squares if s.overlap(near) > 0.3]  # noqa: PLR2004 - the same face
        return max(close, key=near.overlap, default=None)

    def _detect(self, grey: Grey) -> list[Square]:
        self._net.setInputSize((grey.shape[1], grey.shape[0]))
        _, faces = self._net.detect(self._cv2.cvtColor(grey, self._cv2.COLOR_GRAY2BGR))
        boxes = [] if faces is None else [tuple(float(v) for v in face[:4]) for face in faces]
        return [Square(x + (w - max(w, h)) / 2, y + (h - max(w, h)) / 2, max(w, h)) for x, y, w, h in boxes]


def _resized(grey: Grey, scale: float) -> Grey:
    import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    if scale >= 1:
        return np.ascontiguousarray(grey)
    size = (max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def _around(grey: Grey, square: Square) -> tuple[tuple[int, int], Grey]:
    """Return the top left corner and the part of the picture around a square."""
    wide = square.scaled(_NEAR)
    left, top = max(round(wide.x), 0), max(round(wide.y), 0)
    return (left, top), grey[top : max(round(wide.y + wide.side), 0), left : max(round(wide.x + wide.side), 0)]


def _template_of(grey: Grey, square: Square) -> Grey:
    """Return the inner part of a face, at most `_TEMPLATE_PX` wide, for matching while no detector finds the face."""
    inner = square.scaled(0.8)
    left, top = max(round(inner.x), 0), max(round(inner.y), 0)
    part = grey[top : round(inner.y + inner.side), left : round(inner.x + inner.side)]
    return _resized(part, _TEMPLATE_PX / inner.side)


def _match(grey: Grey, square: Square, template: Grey) -> tuple[Square, float]:
    """Return the square near the last one that matches the template best, and the correlation in [-1, 1]."""
    import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    inner = square.scaled(0.8)
    scale = min(_TEMPLATE_PX / inner.side, 1.0)
    (left, top), around = _around(grey, square)
    small = _resized(around, scale)
    if small.shape[0] < template.shape[0] or small.shape[1] < template.shape[1] or float(template.std()) < 1:
        return square, -1.0
    _, best, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(small, template, cv2.TM_CCOEFF_NORMED))
    start_x, start_y = max(inner.x, 0.0), max(inner.y, 0.0)
    return Square(square.x + left + x / scale - start_x, square.y + top + y / scale - start_y, square.side), float(best)
