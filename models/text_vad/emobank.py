"""Read EmoBank: sentences with valence, arousal and dominance in [-1, 1]."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "dev", "test"]
DIMENSIONS = ("valence", "arousal", "dominance")
_COLUMNS = ("V", "A", "D")
_NEUTRAL, _HALF_RANGE = 3.0, 2.0


class Sentences(NamedTuple):
    """EmoBank's sentence ids (n), texts (n) and `vad` (float64, n x 3): (EmoBank's 1..5 - 3) / 2."""

    ids: list[str]
    texts: list[str]
    vad: NDArray[np.float64]


def read(data: Path, part: Part) -> Sentences:
    """Read the sentences of a split of the authors, in file order."""
    path = data / "emobank" / "corpus" / "emobank.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == part]
    rated = np.array([[float(row[column]) for column in _COLUMNS] for row in rows])
    return Sentences([row["id"] for row in rows], [row["text"] for row in rows], (rated - _NEUTRAL) / _HALF_RANGE)
