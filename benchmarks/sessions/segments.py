"""A labelled session folder in, its segments out; a segment and the finals inside it in, one prediction out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sessions.statistics import Prediction
from kernels.emotions import SEVEN, fold_to_seven
from operators.payloads import AffectEvent
from streamer.errors import MediaError

SETTLE_MS = 2500
"""A window that starts sooner after a segment's start still holds what came before it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a session with one true emotion; times count from the session's start.

    `shown` says what each modality shows: another emotion in a conflict, None where it is missing.
    """

    session: str
    start_ms: int
    end_ms: int
    emotion: str
    kind: str
    shown: Mapping[str, str | None]


def find_sessions(folder: Path) -> list[Path]:
    """The labelled sessions in a folder, by name.

    Raises:
        MediaError: there is none.
    """
    found = sorted(p.parent for p in folder.glob("*/labels.json"))
    if not found:
        raise MediaError(f"{folder}: no session with a labels.json; tools such as make_sessions.py compose some")
    return found


def read_segments(session: Path) -> list[Segment]:
    """The segments of a session's `labels.json`.

    Raises:
        MediaError: it can't be read, or names an emotion that isn't one of the seven.
    """
    path = session / "labels.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["segments"]
        segments = [
            Segment(session.name, s["start_ms"], s["end_ms"], s["emotion"], s["kind"], s["modalities"]) for s in listed
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{path}: {type(error).__name__}: {error}") from None
    strange = sorted({s.emotion for s in segments} - set(SEVEN))
    if strange:
        raise MediaError(f"{path}: not one of the seven emotions that are scored: {', '.join(strange)}")
    return segments


def predict(segment: Segment, finals: Iterable[AffectEvent], start_ms: int) -> Prediction:
    """The mean of the finals wholly inside a segment that start `SETTLE_MS` or more after its start.

    Probabilities are folded to seven classes; a final that abstains adds none, and where all do the segment counts as
    abstained. `start_ms` is the session's start in Unix milliseconds.
    """
    told = _told(segment, finals, start_ms)
    return _prediction(segment, _mean(told)) if told else Prediction(segment.session, segment.emotion, None, 0.0)


def predict_each(segment: Segment, finals: Iterable[AffectEvent], start_ms: int) -> list[Prediction]:
    """The same finals, each by itself: what a consumer of single events sees."""
    return [_prediction(segment, told) for told in _told(segment, finals, start_ms)]


def _told(segment: Segment, finals: Iterable[AffectEvent], start_ms: int) -> list[dict[str, float]]:
    first, last = start_ms + segment.start_ms + SETTLE_MS, start_ms + segment.end_ms
    inside = [f for f in finals if f.window_start_ms >= first and f.window_end_ms <= last]
    return [fold_to_seven(f.emotions) for f in inside if f.emotions is not None and not f.abstained]


def _prediction(segment: Segment, told: Mapping[str, float]) -> Prediction:
    best = max(SEVEN, key=lambda name: told[name])
    return Prediction(segment.session, segment.emotion, best, told[best])


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(e[name] for e in each) / len(each) for name in SEVEN}
