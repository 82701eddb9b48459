"""List the utterances of RAVDESS (24 actors) and EmoDB with one set of eight classes, and the published folds.

RAVDESS's speech of actors 1-24 by `ravdess/index.csv`; each recording is cut to where webrtcvad detects speech when it
is read. Published weights are trained on actors 1-16 and EmoDB; choices were made on actors 1-20.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import RAVDESS_TO_EMOTION
from models.voice_affect.recipe import corpus as german
from models.voice_affect.recipe.corpus import Utterance, item_hash

FOLDER = Path(__file__).resolve().parents[1]
CLASSES: tuple[str, ...] = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
LABELS: tuple[str, ...] = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
FOLDS: tuple[tuple[int, ...], ...] = (
    (2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22),
)  # fmt: skip
"""The actors of each fold: the folds of Luna-Jimenez et al. (Sensors 21, 2021), as others publish on."""
TRAINED_ON = range(1, 17)
"""The actors that published weights are trained on."""
DEVELOPMENT_ACTORS = range(1, 21)
"""The actors that choices were made on."""
_EMODB = {"anger": "angry", "happiness": "happy", "neutral": "neutral", "sadness": "sad"}


def ravdess(data: Path, actors: Sequence[int] = range(1, 25)) -> list[Utterance]:
    """List RAVDESS's speech of some actors, in file order; `speaker` is the actor's number.

    Raises:
        FileNotFoundError: the data folder lacks it.
    """
    folder = data / "ravdess"
    with (folder / "index.csv").open(encoding="utf-8", newline="") as handle:
        rows = sorted(csv.DictReader(handle), key=lambda row: row["file"])
    return [
        Utterance(path, item_hash(path), row["actor"], row["gender"], CLASSES.index(row["emotion"]))
        for row in rows
        if int(row["actor"]) in actors
        for path in [folder / "wav16k" / row["file"]]
    ]


def emodb(data: Path) -> list[Utterance]:
    """List EmoDB's originals with RAVDESS's labels; `speaker` is `emodb-` and its number."""
    return [
        Utterance(u.path, u.item, f"emodb-{u.speaker}", u.group, CLASSES.index(_EMODB[german.LABELS[u.label]]))
        for u in german.emodb(data)
    ]


def folds_of(utterances: Sequence[Utterance]) -> NDArray[np.int64]:
    """Return the index of the fold that each RAVDESS utterance's actor is in (n,)."""
    return np.array([next(k for k, fold in enumerate(FOLDS) if int(u.speaker) in fold) for u in utterances])


def label_of_class() -> dict[str, str]:
    """Map each class to the emotion it counts as; calm counts as neutral."""
    return {name: RAVDESS_TO_EMOTION[name] for name in CLASSES}

