"""Fit twenty affective intents on MIntRec and the frozen text_affect encoder: complain, comfort, taunt, thank ...

Kernel ridge regression of the twenty classes on the mean of each encoder layer (a Gaussian kernel, in closed form),
then temperature and biases from its leave-one-out scores. The data are licensed for evaluation only, so no weights are
stored: the evaluation fits again, in seconds. `python -m models.mintrec.recipe --data DIR` prints the dev figures that
kernel and penalty were chosen by.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.scores import macro_f1
from models.text_affect.recipe import calibrate
from models.text_affect.recipe.encode import Encoder
from streamer.errors import ModelError

Part = Literal["train", "dev", "test"]
READS = "layers"
_WIDTHS = (0.3, 0.5, 1.0, 2.0)
_PENALTIES = (0.03, 0.1, 0.3)

Floats = NDArray[np.float64]
Features = NDArray[np.float32]


class Chosen(NamedTuple):
    """Inverse width of the kernel (times the mean squared difference of standardized features), and the ridge."""

    width: float
    penalty: float


CHOSEN = Chosen(width=0.5, penalty=0.1)
"""The best accuracy on dev, and of ties the best macro-F1."""


class Lines(NamedTuple):
    """The data set's names of its clips (n), their transcripts (n), and the intents (n)."""

    ids: list[str]
    texts: list[str]
    labels: NDArray[np.str_]


def read(data: Path, part: Part) -> Lines:
    """Read the lines of an official split, in file order."""
    path = data / "mintrec" / "data" / "MIntRec" / f"{part}.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    ids = [f"{row['season']}/{row['episode']}/{row['clip']}" for row in rows]
    return Lines(ids, [row["text"] for row in rows], np.array([row["label"] for row in rows]))


class Fitted(NamedTuple):
    """A fitted model: its training lines' ids and standardized features (`examples`), and the kernel regression."""

    ids: frozenset[str]
    classes: NDArray[np.str_]
    mean: Features
    scale: Features
    examples: Features
    weights: Floats
    offset: Floats
    scaling: calibrate.Scaling
    chosen: Chosen

    def probabilities(self, lines: Lines, features: Features) -> Floats:
        """Predict the probabilities of the twenty intents (n x 20) from lines (n) and their features (n x d).

        Raises:
            ModelError: it was fitted on one of the lines.
        """
        trained = self.ids.intersection(lines.ids)
        if trained:
            raise ModelError(f"mintrec: was fitted on {len(trained)} of these lines, {min(trained)} among them")
        near = _kernel((features - self.mean) / self.scale, self.examples, self.chosen.width)
        scores = near @ self.weights + self.offset
        return softmax(scores + self.scaling.bias, self.scaling.temperature)


def fit(lines: Lines, features: Features, chosen: Chosen = CHOSEN) -> Fitted:
    """Fit lines (n) and their features (n x d), and calibrate on `unseen_scores`."""
    classes, group = np.unique(lines.labels, return_inverse=True)
    hot = np.eye(len(classes))[group]
    offset = hot.mean(axis=0)
    mean, scale = features.mean(axis=0), features.std(axis=0) + np.float32(1e-6)
    examples = (features - mean) / scale
    kernel = _kernel(examples, examples, chosen.width)
    weights = np.linalg.solve(kernel + chosen.penalty * np.eye(len(hot)), hot - offset)
    scaling = calibrate.fit(unseen_scores(kernel, hot, chosen.penalty), hot)
    return Fitted(frozenset(lines.ids), classes, mean, scale, examples, weights, offset, scaling, chosen)


def unseen_scores(kernel: Floats, hot: Floats, penalty: float) -> Floats:
    """Compute each line's scores (n x k) by a fit without it, from kernel (n x n), one-hot classes (n x k) and ridge.

    They are y - c / diag(A^-1), where A is kernel plus ridge and c = A^-1 y (Rifkin & Lippert 2007, "Notes on
    Regularized Least-Squares"), so calibrating on unseen lines needs no further fits. The mean over all lines, which is
    subtracted from y first, is not fitted again.
    """
    inverse = np.linalg.inv(kernel + penalty * np.eye(len(hot)))
    return np.asarray(hot - inverse @ (hot - hot.mean(axis=0)) / np.diag(inverse)[:, None])


def features_of(lines: Lines, encoder: Encoder) -> Features:
    """Compute the mean over tokens of every encoder layer (n x 2688) for n lines."""
    return np.asarray(encoder.outputs(lines.texts)[READS], np.float32)


def _kernel(a: Features, b: Features, width: float) -> Floats:
    apart = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-width * np.maximum(apart, 0.0) / a.shape[1]), np.float64)


def main() -> None:
    """Print the dev figures of each choice of kernel and penalty."""
    parser = argparse.ArgumentParser(prog="python -m models.mintrec.recipe", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mintrec/")
    given = parser.parse_args()
    encoder = Encoder()
    train, dev = read(given.data, "train"), read(given.data, "dev")
    train_features, dev_features = features_of(train, encoder), features_of(dev, encoder)
    for width in _WIDTHS:
        for penalty in _PENALTIES:
            fitted = fit(train, train_features, Chosen(width, penalty))
            guess = fitted.classes[fitted.probabilities(dev, dev_features).argmax(axis=1)]
            right = float((guess == dev.labels).mean())
            truth, named = (np.searchsorted(fitted.classes, names) for names in (dev.labels, guess))
            print(f"{fitted.chosen}: accuracy {right:.4f}, macro-F1 {macro_f1(truth, named):.4f}", flush=True)


if __name__ == "__main__":
    main()
