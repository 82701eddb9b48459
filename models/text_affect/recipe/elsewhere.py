"""Data sets that the encoder has never learned from in, what it makes of their test splits out: a look, no choice.

MELD (lines of a television series, one of seven emotions) and EmoContext (the third turn of a chat: happy, sad, angry
or others). One line is read at a time, as the pipeline does, and nothing is fitted: no threshold, no prior of theirs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import EMOTIONS, SEVEN, fold_to_seven
from kernels.scores import f1_of

MELD_TO_SEVEN: Mapping[str, str] = {
    "joy": "happiness", "sadness": "sadness", "surprise": "surprise", "fear": "fear", "anger": "anger",
    "disgust": "disgust", "neutral": "neutral",
}  # fmt: skip
EMOCONTEXT: tuple[str, ...] = ("happy", "sad", "angry", "others")
_SEVEN_TO_EMOCONTEXT: Mapping[str, int] = {"happiness": 0, "sadness": 1, "anger": 2}
_OTHERS = 3


class Lines(NamedTuple):
    """Texts (n) and their classes (n): places in `SEVEN`, or in `EMOCONTEXT`."""

    texts: list[str]
    truth: NDArray[np.int64]


def read_meld(data: Path) -> Lines:
    """`--data` folder in, MELD's test utterances and their places in `SEVEN` out."""
    path = data / "meld" / "data" / "MELD" / "test_sent_emo.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [SEVEN.index(MELD_TO_SEVEN[row["Emotion"]]) for row in rows]
    return Lines([row["Utterance"] for row in rows], np.array(truth))


def read_emocontext(data: Path) -> Lines:
    """`--data` folder in, the third turns of EmoContext's test chats and their places in `EMOCONTEXT` out."""
    with (data / "emocontext" / "test.txt").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return Lines([row["turn3"] for row in rows], np.array([EMOCONTEXT.index(row["label"]) for row in rows]))


def top_of_seven(p: NDArray[np.float64]) -> NDArray[np.int64]:
    """Probabilities of the nine emotions (n x 9) in, the likeliest of `SEVEN` (n places) out."""
    fold = np.array([[fold_to_seven({name: 1.0})[seven] for seven in SEVEN] for name in EMOTIONS])
    return np.asarray((p @ fold).argmax(axis=1), np.int64)


def as_emocontext(seven: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in `SEVEN` (n) in, places in `EMOCONTEXT` (n) out: what is neither happy, sad nor angry is others."""
    return np.array([_SEVEN_TO_EMOCONTEXT.get(name, _OTHERS) for name in SEVEN])[seven]


def weighted_f1(truth: NDArray[np.int64], guess: NDArray[np.int64], classes: int) -> float:
    """Classes (n,), true and named, to F1 of each of the k weighed by how often it is true: MELD's own measure."""
    share = np.bincount(truth, minlength=classes) / len(truth)
    return float(f1_of(truth, guess, classes) @ share)


def micro_f1(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """Places in `EMOCONTEXT` (n,), true and named, to F1 over happy, sad and angry together: the task's own measure."""
    hits = ((truth == guess) & (truth != _OTHERS)).sum()
    return float(2 * hits / max((truth != _OTHERS).sum() + (guess != _OTHERS).sum(), 1))
