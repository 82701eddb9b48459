"""Read the labelled segments of sessions, and predict a segment's emotion from the finals inside it."""

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
"""A window that starts sooner after a segment's start still holds evidence from before it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a session with one true emotion; times count from the session's start.

    `expressed` holds the emotion in each modality: a different one in a conflict, None where the modality is missing.
    """

    session: str
    start_ms: int
    end_ms: int
    emotion: str
    kind: str
    expressed: Mapping[str, str | None]


def find_sessions(folder: Path) -> list[Path]:
    """Find the session folders with a `labels.json` in a folder, sorted by name.

    Raises:
        MediaError: there is none.
    """
    found = sorted(p.parent for p in folder.glob("*/labels.json"))
    if not found:
        raise MediaError(f"{folder}: no session with a labels.json; tools such as make_sessions.py compose some")
    return found


def read_segments(session: Path) -> list[Segment]:
    """Read the segments of a session's `labels.json`.

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
    """Predict a segment's emotion by the mean of the finals inside it that start `SETTLE_MS` or more after its start.

    Probabilities are summed to seven classes. Finals that abstain are left out; without any other one, the prediction
    is an abstention. `start_ms` is the session's start in Unix milliseconds.
    """
    probabilities = _probabilities(segment, finals, start_ms)
    if not probabilities:
        return Prediction(segment.session, segment.emotion, None, 0.0)
    return _prediction(segment, _mean(probabilities))


def predict_each(segment: Segment, finals: Iterable[AffectEvent], start_ms: int) -> list[Prediction]:
    """Predict from each of the same finals by itself, as a consumer of single events would."""
    return [_prediction(segment, each) for each in _probabilities(segment, finals, start_ms)]


def _probabilities(segment: Segment, finals: Iterable[AffectEvent], start_ms: int) -> list[dict[str, float]]:
    first, last = start_ms + segment.start_ms + SETTLE_MS, start_ms + segment.end_ms
    inside = [f for f in finals if f.window_start_ms >= first and f.window_end_ms <= last]
    return [fold_to_seven(f.emotions) for f in inside if f.emotions is not None and not f.abstained]


def _prediction(segment: Segment, probabilities: Mapping[str, float]) -> Prediction:
    best = max(SEVEN, key=lambda name: probabilities[name])
    return Prediction(segment.session, segment.emotion, best, probabilities[best])


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(e[name] for e in each) / len(each) for name in SEVEN}
