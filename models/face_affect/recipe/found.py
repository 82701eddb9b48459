"""Measure face detection on composed sessions. `python -m models.face_affect.recipe.found SESSIONS_DIR`.

For folders written by the data's `make_sessions.py --pool dev`: its faces are 128 pixels on a side and move about the
centre of the picture by a rule that is repeated here, so the true square of every frame is known.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.face.crop import Square
from kernels.face.detection import CascadeDetector, FaceFinder, Track, YunetDetector

_FRAME_MS = 100
_SAME = 0.3


def frames(session: Path) -> Iterator[tuple[int, NDArray[np.uint8], Square | None]]:
    """Read a session frame by frame: time in ms, grey picture, and the true square or None."""
    import av  # noqa: PLC0415 - heavy libraries are imported where they are first needed

    segments = json.loads((session / "labels.json").read_text(encoding="utf-8"))["segments"]
    with av.open(str(session / "media.mkv")) as media:
        for n, frame in enumerate(media.decode(video=0)):
            at_ms = n * _FRAME_MS
            now = [i for i, s in enumerate(segments) if s["start_ms"] <= at_ms < s["end_ms"]]
            square = None
            if now and segments[now[0]]["modalities"]["face"]:
                local = n - segments[now[0]]["start_ms"] // _FRAME_MS
                square = Square(96 + int(6 * math.sin(local / 5 + now[0])), 56 + int(4 * math.cos(local / 7)), 128)
            yield at_ms, np.asarray(frame.to_ndarray(format="gray"), np.uint8), square


def measure(sessions: list[Path], finder: FaceFinder) -> dict[str, float]:
    """Run a finder over sessions, each tracked from its first frame; return shares of frames and CPU times in ms."""
    with_face = empty = found = elsewhere = doubled = imagined = 0
    taken: list[float] = []
    for session in sessions:
        track: Track | None = None
        for at_ms, grey, true in frames(session):
            start = time.process_time()
            track = finder.find(grey, at_ms, track)
            taken.append((time.process_time() - start) * 1e3)
            if true is None:
                empty += 1
                imagined += track.square is not None
                continue
            with_face += 1
            right = track.square is not None and track.square.overlap(true) > _SAME
            found += right
            elsewhere += track.square is not None and not right
            doubled += track.faces > 1
    return {
        "frames_with_face": with_face,
        "found": found / max(with_face, 1),
        "elsewhere": elsewhere / max(with_face, 1),
        "more_than_one": doubled / max(with_face, 1),
        "frames_without_face": empty,
        "imagined": imagined / max(empty, 1),
        "cpu_ms_mean": float(np.mean(taken)),
        "cpu_ms_p95": float(np.quantile(taken, 0.95)),
    }


def main() -> None:
    """Run the command line."""
    options = argparse.ArgumentParser(prog="python -m models.face_affect.recipe.found", description=__doc__)
    options.add_argument("sessions", type=Path, help="the folder that holds session-00, session-01, ...")
    options.add_argument("--detector", type=Path, help="a YuNet ONNX; without it OpenCV's cascade is measured")
    given = options.parse_args()
    detector = YunetDetector(given.detector) if given.detector else CascadeDetector()
    for name, value in measure(sorted(given.sessions.glob("session-*")), FaceFinder(detector)).items():
        print(f"{name:20} {value:.4f}")


if __name__ == "__main__":
    main()
