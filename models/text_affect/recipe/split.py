"""GoEmotions on disk in, comments with their labels and their place in our split out."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import EMOTIONS, GOEMOTIONS_TO_EMOTION
from streamer.errors import ModelError

GOEMOTIONS_LABELS: tuple[str, ...] = tuple(GOEMOTIONS_TO_EMOTION)
"""The 27 labels of GoEmotions and neutral in the order of its `labels.txt`: label id 0 is admiration."""

Half = Literal["A", "B"]
Part = Literal["train", "dev", "test"]
_SALT = "affectstream/goemotions/1"
_HELD_OUT_PER_MILLE = 100


class Comment(NamedTuple):
    """One Reddit comment: its text and the indices of its labels (0..27, the order of `GOEMOTIONS_LABELS`)."""

    text: str
    labels: tuple[int, ...]


def text_hash(text: str) -> str:
    """Text in, hex SHA-256 of the salted text out; case and white space do not count, so copies stay together."""
    return hashlib.sha256(f"{_SALT}:{' '.join(text.casefold().split())}".encode()).hexdigest()


def held_out(text: str) -> Half | None:
    """A text of GoEmotions *train* in, its half out: None is trained on (90 %), A fits fusion, B calibrates (5 % each).

    The rule is a function of the text alone, so that no list has to be kept and copies cannot straddle it.
    """
    place = int(text_hash(text)[:8], 16) % 1000
    if place >= _HELD_OUT_PER_MILLE:
        return None
    return "A" if place < _HELD_OUT_PER_MILLE // 2 else "B"


def read(data: Path, part: Part) -> list[Comment]:
    """`--data` folder and an official split in, its comments in file order out."""
    path = data / "goemotions" / "data" / "original" / f"{part}.tsv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Comment(row[0], tuple(int(label) for label in row[1].split(","))) for row in rows]


def read_half(data: Path, half: Half) -> list[Comment]:
    """The comments of GoEmotions train that no encoder was trained on: half A (fusion) or B (calibration)."""
    return [comment for comment in read(data, "train") if held_out(comment.text) == half]


def read_training(data: Path) -> list[Comment]:
    """What the encoder may learn from: train without the held-out halves and without copies of dev or test texts."""
    elsewhere = {text_hash(comment.text) for part in ("dev", "test") for comment in read(data, part)}
    return [
        comment
        for comment in read(data, "train")
        if held_out(comment.text) is None and text_hash(comment.text) not in elsewhere
    ]


def refuse_trained(data: Path, comments: Sequence[Comment]) -> None:
    """Comments that are to be judged in; nothing out.

    Raises:
        ModelError: the shipped encoder was trained on one of them, by the hash of its text.
    """
    trained = {text_hash(comment.text) for comment in read_training(data)}
    known = [digest for comment in comments if (digest := text_hash(comment.text)) in trained]
    if known:
        told = f"{len(known)} of {len(comments)} comments, {known[0][:12]}... by the hash of its text among them"
        raise ModelError(f"models/text_affect was trained on {told}: its figures there would mean nothing")


def label_matrix(comments: Sequence[Comment]) -> NDArray[np.float32]:
    """Comments in, the 28 labels as 0 or 1 out (float32, n x 28)."""
    matrix = np.zeros((len(comments), len(GOEMOTIONS_LABELS)), dtype=np.float32)
    for at, comment in enumerate(comments):
        matrix[at, list(comment.labels)] = 1.0
    return matrix


def emotion_targets(comments: Sequence[Comment]) -> NDArray[np.float32]:
    """Comments in, soft targets over the nine emotions out (float32, n x 9, rows sum to 1).

    Each label of a comment gives its emotion an equal share: {joy, desire} is .5 happiness and .5 anticipation.
    """
    places = [EMOTIONS.index(GOEMOTIONS_TO_EMOTION[label]) for label in GOEMOTIONS_LABELS]
    table = np.eye(len(EMOTIONS), dtype=np.float32)[places]
    counts = label_matrix(comments) @ table
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)
