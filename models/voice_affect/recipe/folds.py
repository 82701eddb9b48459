"""Write and read folds.csv, the out-of-fold predictions: item hash, speaker, seed and p of each class.

One row for each utterance and seed, by a model trained without the utterance's fold: the speaker, or one of several
groups of speakers. p is the softmax of the model's logits at temperature 1, so means of logits and temperatures can
be computed from it. The file has no labels: they are joined from the data by the item's hash.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import fit_temperature, softmax
from models.voice_affect.recipe.corpus import Utterance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Seeds = Mapping[int, Floats]
"""Each seed's logits (n, classes), up to a constant of each row."""


class TrainedItemError(ValueError):
    """A model was about to be judged on an item that it was trained on."""


def write_folds(path: Path, utterances: Sequence[Utterance], classes: Sequence[str], seeds: Seeds) -> None:
    """Write each seed's out-of-fold logits (n, classes) of the utterances."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["item", "speaker", "seed", *classes])
        for seed, logits in sorted(seeds.items()):
            for utterance, p in zip(utterances, softmax(logits), strict=True):
                rows.writerow([utterance.item, utterance.speaker, seed, *(f"{v:.4g}" for v in p)])


def read_folds(path: Path, utterances: Sequence[Utterance], classes: Sequence[str]) -> dict[int, Floats]:
    """Read each seed's logits (n, classes) of these utterances, joined by item hash.

    Raises:
        ValueError: an utterance has no row of some seed, or its rows name another speaker.
    """
    found: dict[int, dict[str, dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            found.setdefault(int(row["seed"]), {})[row["item"]] = row
    for rows in found.values():
        wrong = [u.path.name for u in utterances if u.item not in rows or rows[u.item]["speaker"] != u.speaker]
        if wrong:
            raise ValueError(f"{path}: {len(wrong)} utterances have no row by a model without them, first {wrong[0]}")
    return {
        seed: np.log(np.array([[max(float(rows[u.item][name]), 1e-12) for name in classes] for u in utterances]))
        for seed, rows in found.items()
    }


def speakers_by_item(path: Path) -> dict[str, str]:
    """Read the speaker of each item hash."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["item"]: row["speaker"] for row in csv.DictReader(handle)}


def mean_logits(seeds: Seeds) -> Floats:
    """Average the logits (n, classes) over seeds, as the shipped graph of several networks does."""
    return np.asarray(np.mean(list(seeds.values()), axis=0))


def cross_fitted_temperatures(logits: Floats, truth: Ints, folds: NDArray[np.str_]) -> dict[str, float]:
    """Fit a temperature for each fold on the out-of-fold logits (n, classes) of the other folds."""
    return {str(f): fit_temperature(logits[folds != f], truth[folds != f]) for f in np.unique(folds)}


def cross_fitted(logits: Floats, truth: Ints, folds: NDArray[np.str_]) -> Floats:
    """Calibrate out-of-fold logits to p (n, classes), each fold by a temperature fitted on the other folds."""
    temperatures = cross_fitted_temperatures(logits, truth, folds)
    return softmax(logits / np.array([temperatures[str(fold)] for fold in folds])[:, None])
