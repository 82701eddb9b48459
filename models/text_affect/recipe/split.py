"""Read GoEmotions: comments with their labels, and the split into training and held-out halves."""

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
    """Return the hex SHA-256 of the salted text, without case and white space, so that copies stay together."""
    return hashlib.sha256(f"{_SALT}:{' '.join(text.casefold().split())}".encode()).hexdigest()


def held_out(text: str) -> Half | None:
    """Return a *train* text's half: None is trained on (90 %), A fits fusion, B calibrates (5 % each).

    It depends on the text alone, so that no list has to be stored and copies are never separated.
    """
    number = int(text_hash(text)[:8], 16) % 1000
    if number >= _HELD_OUT_PER_MILLE:
        return None
    return "A" if number < _HELD_OUT_PER_MILLE // 2 else "B"


def read(data: Path, part: Part) -> list[Comment]:
    """Read the comments of an official split, in file order."""
    path = data / "goemotions" / "data" / "original" / f"{part}.tsv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Comment(row[0], tuple(int(label) for label in row[1].split(","))) for row in rows]


def read_half(data: Path, half: Half) -> list[Comment]:
    """Read the comments of GoEmotions train that no encoder was trained on: half A (fusion) or B (calibration)."""
    return [comment for comment in read(data, "train") if held_out(comment.text) == half]


def read_training(data: Path) -> list[Comment]:
    """Read the encoder's training comments: train without held-out halves and copies of dev or test texts."""
    elsewhere = {text_hash(comment.text) for part in ("dev", "test") for comment in read(data, part)}
    return [
        comment
        for comment in read(data, "train")
        if held_out(comment.text) is None and text_hash(comment.text) not in elsewhere
    ]


def refuse_trained(data: Path, comments: Sequence[Comment]) -> None:
    """Refuse to judge comments that the shipped encoder was trained on.

    Raises:
        ModelError: the shipped encoder was trained on one of them, by the hash of its text.
    """
    trained = {text_hash(comment.text) for comment in read_training(data)}
    copies = [digest for comment in comments if (digest := text_hash(comment.text)) in trained]
    if copies:
        which = f"{len(copies)} of {len(comments)} comments, {copies[0][:12]}... by the hash of its text among them"
        raise ModelError(f"models/text_affect was trained on {which}: its figures there would mean nothing")


def label_matrix(comments: Sequence[Comment]) -> NDArray[np.float32]:
    """Return the 28 labels of comments as 0 or 1 (float32, n x 28)."""
    matrix = np.zeros((len(comments), len(GOEMOTIONS_LABELS)), dtype=np.float32)
    for at, comment in enumerate(comments):
        matrix[at, list(comment.labels)] = 1.0
    return matrix


def emotion_targets(comments: Sequence[Comment]) -> NDArray[np.float32]:
    """Return soft targets over the nine emotions (float32, n x 9, rows sum to 1).

    Each label of a comment gives its emotion an equal share: {joy, desire} is .5 happiness and .5 anticipation.
    """
    indices = [EMOTIONS.index(GOEMOTIONS_TO_EMOTION[label]) for label in GOEMOTIONS_LABELS]
    table = np.eye(len(EMOTIONS), dtype=np.float32)[indices]
    counts = label_matrix(comments) @ table
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)
