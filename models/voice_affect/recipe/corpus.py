"""Read the labelled recordings: EmoDB to train on, RAVDESS to be judged by.

EmoDB: the 339 untouched 16 kHz originals of four classes (`orig_4class_wav16k`), by `index.csv`. RAVDESS: actors 1-16
and the same four classes (calm counts as neutral); it is read for evaluation only and never trained on.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import RAVDESS_TO_EMOTION
from kernels.voice.speech import PIECE_FRAMES

LABELS: tuple[str, ...] = ("anger", "happiness", "neutral", "sadness")
RAVDESS_ACTORS = range(1, 17)
DEMO_SPEAKER = "13"
"""The speaker of the demo: the shipped weights are trained on every speaker of EmoDB but this one."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled recording; `item` is `item_hash` of its file, `group` the speaker's sex as indexed."""

    path: Path
    item: str
    speaker: str
    group: str
    label: int


def emodb(data: Path) -> list[Utterance]:
    """List EmoDB's 339 originals of four classes, in file order.

    Raises:
        FileNotFoundError: the data folder lacks them.
    """
    folder = data / "emodb" / "orig_4class_wav16k"
    rows = _read(data / "emodb" / "index.csv")
    found = [
        _utterance(folder / row["file"], row["speaker"], row["gender"], row["emotion"])
        for row in rows
        if row["emotion"] in LABELS and (folder / row["file"]).exists()
    ]
    if not found:
        raise FileNotFoundError(f"{folder}: EmoDB's originals are not there; models/voice_affect/card.md says which")
    return sorted(found, key=lambda u: u.path.name)


def ravdess(data: Path) -> list[Utterance]:
    """List the RAVDESS speech of actors 1-16 labelled with the same four classes, in file order."""
    folder = data / "ravdess" / "wav16k"
    return [
        _utterance(folder / row["file"], row["actor"], row["gender"], RAVDESS_TO_EMOTION[row["emotion"]])
        for row in sorted(_read(data / "ravdess" / "index.csv"), key=lambda r: r["file"])
        if RAVDESS_TO_EMOTION[row["emotion"]] in LABELS and int(row["actor"]) in RAVDESS_ACTORS
    ]


def labels(utterances: Sequence[Utterance]) -> NDArray[np.int64]:
    """Return the class indices (n,) of utterances."""
    return np.array([u.label for u in utterances], dtype=np.int64)


def item_hash(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _utterance(path: Path, speaker: str, group: str, emotion: str) -> Utterance:
    return Utterance(path, item_hash(path), speaker, group, LABELS.index(emotion))


def _read(index: Path) -> list[dict[str, str]]:
    with index.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def split_pieces(features: Floats) -> list[Floats]:
    """Split an utterance's features (frames, 67) into pieces of at most 3 s, about 1 s apart, that cover it."""
    over = len(features) - PIECE_FRAMES
    if over <= 0:
        return [features]
    starts = np.linspace(0, over, -(-over // 100) + 1).astype(int)
    return [features[s : s + PIECE_FRAMES] for s in starts]
