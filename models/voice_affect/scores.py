"""Predictions beside labels in, figures out: recall, calibration, intervals; and the file of out-of-fold answers.

folds.csv has one row for each utterance: `item` (hash), `fold` (the left-out speaker) and p of each class. Labels are
not in it: they are joined from the data.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, fit_temperature, perfect_ece_band, softmax
from models.voice_affect.corpus import LABELS, Utterance, labels

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """NLL in nats, Brier score (sum over classes), ECE of the top class and the 95 % band of a perfect calibrator."""

    nll: float
    brier: float
    ece: float
    band: tuple[float, float]


def recalls(p: Floats, targets: Ints) -> Floats:
    """Answers (n, classes) and labels (n,) to the share of each class that was found (classes,)."""
    found = p.argmax(axis=1)
    return np.array([(found[targets == k] == k).mean() for k in range(p.shape[1])])


def unweighted_recall(p: Floats, targets: Ints) -> float:
    """Mean over classes of the share found (UAR)."""
    return float(recalls(p, targets).mean())


def confusion(p: Floats, targets: Ints) -> Ints:
    """Counts (label, answer)."""
    table = np.zeros((p.shape[1], p.shape[1]), np.int64)
    np.add.at(table, (targets, p.argmax(axis=1)), 1)
    return table


def calibration(p: Floats, targets: Ints) -> Calibration:
    """Probabilities (n, classes) and labels (n,) to how far they can be believed."""
    hot, top = np.eye(p.shape[1])[targets], p.max(axis=1)
    return Calibration(
        nll=float(-np.log(p[np.arange(len(p)), targets] + 1e-12).mean()),
        brier=float(np.square(p - hot).sum(axis=1).mean()),
        ece=expected_calibration_error(top, p.argmax(axis=1) == targets),
        band=perfect_ece_band(top),
    )


def over_speakers(
    p: Floats, targets: Ints, speakers: Sequence[str], other: Floats | None = None, draws: int = 2000
) -> tuple[float, float]:
    """The 95 % interval of the UAR, or of its lead over `other`'s, when whole speakers are drawn with replacement."""
    rng, names = np.random.default_rng(0), np.array(speakers)
    rows = [np.flatnonzero(names == name) for name in np.unique(names)]
    found = []
    for _ in range(draws):
        drawn = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        if len(np.unique(targets[drawn])) < p.shape[1]:
            continue
        lead = 0.0 if other is None else unweighted_recall(other[drawn], targets[drawn])
        found.append(unweighted_recall(p[drawn], targets[drawn]) - lead)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def cross_fitted(logits: Floats, utterances: Sequence[Utterance]) -> Floats:
    """Out-of-fold logits (n, classes) to p: each speaker's by a temperature fitted on the other speakers."""
    targets, speakers = labels(utterances), np.array([u.speaker for u in utterances])
    p = np.zeros_like(logits)
    for speaker in np.unique(speakers):
        out = speakers == speaker
        p[out] = softmax(logits[out], fit_temperature(logits[~out], targets[~out].astype(float)))
    return p


def write_folds(path: Path, utterances: Sequence[Utterance], p: Floats) -> None:
    """Utterances and their out-of-fold p (n, classes) to a file."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["item", "fold", *LABELS])
        rows.writerows([u.item, u.speaker, *(f"{v:.6f}" for v in row)] for u, row in zip(utterances, p, strict=True))


def read_folds(path: Path, utterances: Sequence[Utterance]) -> Floats:
    """The file of out-of-fold answers to p (n, classes) of these utterances, joined by item hash.

    Raises:
        ValueError: an utterance has no row, or its row was predicted by a model that had heard its speaker.
    """
    with path.open(encoding="utf-8", newline="") as handle:
        rows = {row["item"]: row for row in csv.DictReader(handle)}
    wrong = [u.path.name for u in utterances if u.item not in rows or rows[u.item]["fold"] != u.speaker]
    if wrong:
        raise ValueError(f"{path}: {len(wrong)} utterances have no row by a model without them, first {wrong[0]}")
    return np.array([[float(rows[u.item][name]) for name in LABELS] for u in utterances])
