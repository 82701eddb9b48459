"""Read FER2013 with FER+ votes and split it: train, held_a, held_b, excluded, public, private.

Fusion and calibration use the same rule, so that nothing is fitted on pictures that the network was trained on:

* copies stay together: pictures whose pixels correlate above .98 (exact copies included) form one group;
* a Training picture with a copy in PublicTest or PrivateTest is `excluded`: it is in no part of training;
* of the other groups one in ten, drawn by the SHA-256 of its picture, is held out: half A (`held_a`) fits fusion,
  half B (`held_b`) calibrates; the rest is `train`;
* `public` (PublicTest) serves choices and development sessions, `private` (PrivateTest) only `evaluate`.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import FER2013_TO_EMOTION, SEVEN

NEAR_COPY = 0.98
"""Pixel correlation above which two pictures count as copies; the data's README found its near copies with it."""
_CANDIDATE = 0.97
_BLOCK = 2048
_VOTES = (*SEVEN, "contempt", "unknown", "NF")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Faces:
    """n rows of FER2013, in file order; classes are indices into `SEVEN`.

    `images` uint8 n x 48 x 48; `votes` float32 n x 7, sum 1 (0 if no class got two votes); `plurality` the class with
    most of the ten votes, -1 where that is contempt, unknown or no face; `majority` the label by FER+'s rule (see
    `majorities`); `original` FER2013's label; `part` see above; `leaked` marks test pictures with an exact copy in
    Training, `copied` those with an exact or near one.
    """

    images: NDArray[np.uint8]
    votes: Floats
    plurality: Ints
    majority: Ints
    original: Ints
    part: NDArray[np.str_]
    leaked: Bools
    copied: Bools

    def where(self, part: str) -> Ints:
        """Return the row numbers of a part."""
        return np.flatnonzero(self.part == part)


def load(data: Path) -> Faces:
    """Load all 35,710 pictures that FER+ has votes for, from `fer2013/` of the data folder; about ten seconds.

    Raises:
        FileNotFoundError: the folder lacks `fer2013_images.npz` or `fer2013_labels.csv`.
    """
    with np.load(data / "fer2013" / "fer2013_images.npz") as archive:
        images = archive[archive.files[0]]
    with (data / "fer2013" / "fer2013_labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    raw = np.array([[int(row[name]) for name in _VOTES] for row in rows], np.float32)
    usage = np.array([row["usage"] for row in rows])
    groups, exact = _groups(images)
    training = usage == "Training"
    part = np.where(usage == "PublicTest", "public", np.where(usage == "PrivateTest", "private", "train")).astype("<U8")
    part[training] = _training_parts(images, groups, training)[training]
    return Faces(
        images=images,
        votes=soft_votes(raw),
        plurality=np.where(raw.argmax(1) < len(SEVEN), raw.argmax(1), -1),
        majority=majorities(raw),
        original=np.array([SEVEN.index(FER2013_TO_EMOTION[row["fer_label"].lower()]) for row in rows]),
        part=part,
        leaked=~training & np.isin(exact, exact[training]),
        copied=~training & np.isin(groups, groups[training]),
    )


def soft_votes(raw: Floats) -> Floats:
    """Normalise votes (n x 10) to distributions (n x 7) without single votes (Barsoum et al. 2016, sec. 3)."""
    votes = np.where(raw > 1, raw, 0)[:, : len(SEVEN)]
    total = votes.sum(1, keepdims=True)
    return np.asarray(np.divide(votes, total, out=np.zeros_like(votes), where=total > 0), np.float32)


def majorities(raw: Floats) -> Ints:
    """Return the class with more than half of the votes (n x 10), single ones dropped, or -1 if there is none.

    -1 also if contempt, unknown or no face has them. This is FER+'s rule: mode `majority` of `_process_data` in
    src/ferplus.py of github.com/microsoft/FERPlus.
    """
    votes = np.where(raw > 1, raw, 0)
    top = votes.argmax(1)
    return np.where((votes.max(1) * 2 > votes.sum(1)) & (top < len(SEVEN)), top, -1)


def _training_parts(images: NDArray[np.uint8], groups: Ints, training: Bools) -> NDArray[np.str_]:
    """Return the part that each row would be in as a Training picture, by its group's first hash."""
    first: dict[int, str] = {}
    for group, image in zip(groups.tolist(), images, strict=True):
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        first[group] = min(digest, first.get(group, digest))
    tested = set(groups[~training].tolist())
    return np.array(["excluded" if g in tested else _draw(first[g]) for g in groups.tolist()], dtype="<U8")


def _draw(digest: str) -> str:
    number = int(digest[:12], 16)
    if number % 10:
        return "train"
    return "held_a" if number // 10 % 2 else "held_b"


def _groups(images: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Group near copies and exact copies among pictures (n x 48 x 48); each result holds n group numbers.

    A pair is compared at full size only if its 12 x 12 averages correlate above .97: 1/16 of the arithmetic, and pairs
    that correlate above .98 at full size pass.
    """
    n = len(images)
    exact = np.unique(images.reshape(n, -1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    small = _standardised(images.reshape(n, 12, 4, 12, 4).mean((2, 4), dtype=np.float32).reshape(n, -1))
    parent = np.arange(n)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for start in range(0, n, _BLOCK):
        close = small[start : start + _BLOCK] @ small[start:].T > _CANDIDATE
        left, right = np.nonzero(np.triu(close, 1))
        a = _standardised(images[left + start].reshape(len(left), -1).astype(np.float32))
        b = _standardised(images[right + start].reshape(len(left), -1).astype(np.float32))
        for k in np.flatnonzero((a * b).sum(1) > NEAR_COPY):
            parent[root(int(left[k]) + start)] = root(int(right[k]) + start)
    return np.array([root(i) for i in range(n)], np.int64), exact


def _standardised(rows: Floats) -> Floats:
    """Scale rows to zero mean and unit length; a constant row becomes zeros."""
    centred = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0), np.float32)
