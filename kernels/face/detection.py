"""A session's pictures in, one after the other; the squares of the faces in them out.

The whole picture is searched at a bounded rate; in between, the neighbourhood of the last face is. Where a detector
sees nothing there (a turned head, a strange expression), the face's own last picture is matched, for a bounded time.
Time comes with each picture; nothing here reads a clock. A finder is used by one thread at a time.
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
"""The neighbourhood searched around the last face, in sides."""
_TEMPLATE_PX = 40
_BENT = 14.0
"""Degrees a head may be bent aside for a second look: the cascade itself bears about as many."""


class DetectorError(ValueError):
    """The detector's file can't be used; names it and says what can."""


class Detector(Protocol):
    """Finds faces in one picture, with FER2013's framing: forehead to chin fill the square."""

    def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
        """All faces of the picture with a side of `min_px` or more, largest first.

        `attempt` counts the searches in vain before this one: a costly detector may try something else each time.
        """
        ...

    def confirm(self, grey: Grey, near: Square) -> Square | None:
        """The face about here and about this large, or None; `grey` is the picture around it."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the whole picture is searched, and how long a face is held unseen and its place is kept in mind."""

    following_ms: int = 500
    lost_ms: int = 90
    hold_ms: int = 2000
    match: float = 0.72
    remember_ms: int = 4000


@dataclass(frozen=True, slots=True)
class Track:
    """What is kept of a session between two pictures.

    `faces` is the count of the last whole search, `last` where a face was before it was lost.
    """

    square: Square | None
    faces: int
    searched_ms: int
    seen_ms: int
    misses: int = 0
    last: Square | None = None
    template: Grey | None = None


class FaceFinder:
    """Follows one face of a session; see the module."""

    def __init__(self, detector: Detector, *, min_px: int = 60, pace: Pace | None = None) -> None:
        self._detector = detector
        self._min_px = min_px
        self._pace = pace or Pace()

    def find(self, grey: Grey, at_ms: int, track: Track | None) -> Track:
        """A picture (h, w), its time and what was known before, to what is known now.

        The result's `square` is None where no face was found, `faces` how many there are. A picture that is older than
        the last one, or follows a gap longer than `hold_ms`, starts afresh.
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

    def _search(self, grey: Grey, at_ms: int, track: Track | None) -> Track:
        found = self._detector.search(grey, self._min_px, track.misses if track else 0)
        known = track.square if track else None
        if found:
            square = max(found, key=lambda s: s.overlap(known)) if known else found[0]
            if known is not None and square.overlap(known) > 0.3:  # noqa: PLR2004 - the same face
                square = known.towards(square, 0.5)
            others = [s for s in found if not square.holds_centre_of(s)]
            return Track(square, 1 + len(others), at_ms, at_ms, template=_picture(grey, square))
        followed = self._follow(grey, at_ms, track) if track is not None and known is not None else None
        if followed is not None:
            return replace(followed, faces=1, searched_ms=at_ms, misses=followed.misses + 1)
        return self._return(grey, at_ms, track)

    def _return(self, grey: Grey, at_ms: int, track: Track | None) -> Track:
        """Nothing was found; perhaps a lost face is back where it was, where less evidence will do."""
        if track is None:
            return Track(None, 0, at_ms, at_ms, misses=1)
        last = track.square or track.last
        if last is None or at_ms - track.seen_ms > self._pace.remember_ms:
            return Track(None, 0, at_ms, track.seen_ms, misses=track.misses + 1)
        back = self._detector.confirm(grey, last)
        if back is not None:
            return Track(back, 1, at_ms, at_ms, template=_picture(grey, back))
        return Track(None, 0, at_ms, track.seen_ms, misses=track.misses + 1, last=last)

    def _follow(self, grey: Grey, at_ms: int, track: Track) -> Track | None:
        """The known face in this picture, by the detector or by its own last look; None where it isn't there."""
        if track.square is None or track.template is None:
            return None
        seen = self._detector.confirm(grey, track.square)
        if seen is not None:
            square = track.square.towards(seen, 0.5)
            return replace(track, square=square, seen_ms=at_ms, template=_picture(grey, square))
        if at_ms - track.seen_ms > self._pace.hold_ms:
            return None
        matched, likeness = _match(grey, track.square, track.template)
        return replace(track, square=matched) if likeness >= self._pace.match else None


class CascadeDetector:
    """OpenCV's own `haarcascade_frontalface_alt2`; its boxes have FER2013's framing (see the face model's card)."""

    FRAME = 1.0

    def __init__(self) -> None:
        import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

        self._cv2: Any = cv2
        name = "haarcascade_frontalface_alt2.xml"
        self._cascade: Any = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))
        if self._cascade.empty():
            raise DetectorError(f"OpenCV {cv2.__version__} has no {name}: install opencv-python-headless<5")
        self._equalise: Callable[[Grey], Grey] = cv2.createCLAHE(2.0, (4, 4)).apply

    def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
        """See `Detector`; where nothing is found, a second look: by turns with finer steps and the head bent aside."""
        scale = min(1.0, 30 / min_px, 320 / max(grey.shape))
        small = _resized(grey, scale)
        least = max(round(min_px * scale), 20)
        found = self._detect(small, 1.05, 2, least, 0)
        if not found:
            even, angle = self._equalise(small), (0, _BENT, -_BENT)[attempt % 3]
            found = self._detect_turned(even, angle, least) if angle else self._detect(even, 1.03, 3, least, 0)
        squares = (Square(x / scale, y / scale, s / scale) for x, y, s in found)
        return sorted(squares, key=lambda s: s.side, reverse=True)

    def confirm(self, grey: Grey, near: Square) -> Square | None:
        """See `Detector`: one sighting is enough where a face is known to be."""
        (x, y), around = _around(grey, near)
        scale = min(1.0, 40 / near.side)
        least, most = round(near.side * scale * 0.7), round(near.side * scale * 1.3)
        small, least = _resized(around, scale), max(least, 20)
        found = self._detect(small, 1.06, 1, least, most) or self._detect(self._equalise(small), 1.03, 1, least, most)
        squares = [Square(x + left / scale, y + top / scale, s / scale) for left, top, s in found]
        return max(squares, key=near.overlap, default=None)

    def _detect_turned(self, grey: Grey, angle: float, least: int) -> list[tuple[float, float, float]]:
        """Faces of a picture turned by `angle` degrees, each square at its place in the picture as it was."""
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
    """A YuNet face detector in ONNX (Wu et al. 2023), brought by path; any input size."""

    FRAME = 1.0

    def __init__(self, path: Path, *, threshold: float = 0.5) -> None:
        import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

        if not path.is_file():
            raise DetectorError(f"detector {path}: no such file; leave the parameter out to use OpenCV's cascade")
        self._cv2: Any = cv2
        try:
            self._net: Any = cv2.FaceDetectorYN.create(str(path), "", (320, 320), threshold)
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
    """The part of the picture around a square, and where it begins."""
    wide = square.scaled(_NEAR)
    left, top = max(round(wide.x), 0), max(round(wide.y), 0)
    return (left, top), grey[top : max(round(wide.y + wide.side), 0), left : max(round(wide.x + wide.side), 0)]


def _picture(grey: Grey, square: Square) -> Grey:
    """The inner part of a face, `_TEMPLATE_PX` wide at most: what is matched while no detector sees it."""
    inner = square.scaled(0.8)
    left, top = max(round(inner.x), 0), max(round(inner.y), 0)
    part = grey[top : round(inner.y + inner.side), left : round(inner.x + inner.side)]
    return _resized(part, _TEMPLATE_PX / inner.side)


def _match(grey: Grey, square: Square, template: Grey) -> tuple[Square, float]:
    """The place near a square that looks most like its last picture, and the correlation there, in [-1, 1]."""
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
