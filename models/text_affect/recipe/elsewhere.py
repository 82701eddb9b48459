"""Evaluate the encoder on the test splits of data sets that it was not trained on; nothing is chosen by them.

MELD (lines of a television series, one of seven emotions) and EmoContext (the third turn of a chat: happy, sad, angry
or others). Each line is classified by itself, as in the pipeline. Nothing is fitted: no threshold, no prior of theirs.
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
    """Texts (n) and their classes (n): indices into `SEVEN`, or into `EMOCONTEXT`."""

    texts: list[str]
    truth: NDArray[np.int64]


def read_meld(data: Path) -> Lines:
    """Read MELD's test utterances, with classes as indices into `SEVEN`."""
    path = data / "meld" / "data" / "MELD" / "test_sent_emo.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [SEVEN.index(MELD_TO_SEVEN[row["Emotion"]]) for row in rows]
    return Lines([row["Utterance"] for row in rows], np.array(truth))


def read_emocontext(data: Path) -> Lines:
    """Read the third turns of EmoContext's test chats, with classes as indices into `EMOCONTEXT`."""
    with (data / "emocontext" / "test.txt").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return Lines([row["turn3"] for row in rows], np.array([EMOCONTEXT.index(row["label"]) for row in rows]))


def top_of_seven(p: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the most probable of `SEVEN` (n indices) from probabilities of the nine emotions (n x 9)."""
    fold = np.array([[fold_to_seven({name: 1.0})[seven] for seven in SEVEN] for name in EMOTIONS])
    return np.asarray((p @ fold).argmax(axis=1), np.int64)


def as_emocontext(seven: NDArray[np.int64]) -> NDArray[np.int64]:
    """Map indices into `SEVEN` (n) to indices into `EMOCONTEXT` (n): others are neither happy, sad nor angry."""
    return np.array([_SEVEN_TO_EMOCONTEXT.get(name, _OTHERS) for name in SEVEN])[seven]


def weighted_f1(truth: NDArray[np.int64], guess: NDArray[np.int64], classes: int) -> float:
    """Mean F1 over k classes, weighted by how often each is true: MELD's measure. Classes are (n,)."""
    share = np.bincount(truth, minlength=classes) / len(truth)
    return float(f1_of(truth, guess, classes) @ share)


def micro_f1(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """Micro-F1 over happy, sad and angry, of indices into `EMOCONTEXT` (n,): the task's measure."""
    hits = ((truth == guess) & (truth != _OTHERS)).sum()
    return float(2 * hits / max((truth != _OTHERS).sum() + (guess != _OTHERS).sum(), 1))
