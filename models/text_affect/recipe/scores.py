"""Predicted labels of comments from the model's raw outputs; NumPy only: evaluation needs no training library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.emotions import EMOTIONS, GOEMOTIONS_TO_EMOTION, SEVEN, fold_to_seven
from kernels.scores import Flags, f1
from models.text_affect.recipe.split import GOEMOTIONS_LABELS, Comment, emotion_targets, label_matrix

Floats = NDArray[np.float64]
_CANDIDATES = np.linspace(0.05, 0.8, 76)


def sigmoid(logits: NDArray[np.floating]) -> Floats:
    """Return the probability of each label by itself."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float64))), dtype=np.float64)


def seven_truth(comments: Sequence[Comment]) -> Flags:
    """Return the comments' multi-label truth over the seven classes (n x 7)."""
    return np.asarray(label_matrix(comments) @ _label_fold() > 0, dtype=np.bool_)


def seven_from_labels(p: Floats) -> Floats:
    """Combine probabilities of the 28 labels (n x 28) to the seven classes: 1 - prod(1 - p) over a class's labels."""
    members = _label_fold() > 0
    return np.stack([1.0 - np.prod(1.0 - p[:, members[:, at]], axis=1) for at in range(len(SEVEN))], axis=1)


def choose_thresholds(p: Floats, truth: Flags) -> Floats:
    """Choose each class's threshold with the best F1 (c) from probabilities and truth of the *dev* split (n x c).

    F1 is smoothed over five neighbouring candidates, so that no single comment decides a rare class's threshold.
    """
    by_candidate = np.stack([f1(truth, p >= candidate) for candidate in _CANDIDATES])
    smooth = np.stack([by_candidate[max(0, at - 2) : at + 3].mean(axis=0) for at in range(len(_CANDIDATES))])
    return np.asarray(_CANDIDATES[smooth.argmax(axis=0)], dtype=np.float64)


def labels_above(p: Floats, thresholds: Floats) -> Flags:
    """Return the labels (n x c) that reach their threshold; a row without any gets the one nearest to its threshold."""
    guess = np.asarray(p >= thresholds, dtype=np.bool_)
    rows = np.flatnonzero(~guess.any(axis=1))
    guess[rows, (p[rows] / thresholds).argmax(axis=1)] = True
    return guess


class Thresholds(NamedTuple):
    """One threshold for each of the 28 labels, and for each of the seven classes."""

    labels: Floats
    seven: Floats

    @classmethod
    def choose(cls, goemotions: NDArray[np.floating], dev: Sequence[Comment]) -> Thresholds:
        """Choose thresholds from the 28 logits on the dev split (n x 28) and its comments."""
        p = sigmoid(goemotions)
        labels = choose_thresholds(p, label_matrix(dev) > 0)
        return cls(labels, choose_thresholds(seven_from_labels(p), seven_truth(dev)))


class Guesses(NamedTuple):
    """Truth and guess over the 28 labels (n x 28) and over the seven classes (n x 7)."""

    truth_28: Flags
    guess_28: Flags
    truth_7: Flags
    guess_7: Flags

    @classmethod
    def of(cls, goemotions: NDArray[np.floating], comments: Sequence[Comment], thresholds: Thresholds) -> Guesses:
        """Apply thresholds to the 28 logits (n x 28) of comments."""
        p = sigmoid(goemotions)
        guess_7 = labels_above(seven_from_labels(p), thresholds.seven)
        return cls(label_matrix(comments) > 0, labels_above(p, thresholds.labels), seven_truth(comments), guess_7)


class TopClass(NamedTuple):
    """Comments that carry one emotion only: truth and the most probable one (m x 9), and `among`.

    `among` is the share of all comments whose most probable emotion is among their own.
    """

    truth: Flags
    guess: Flags
    among: float

    @classmethod
    def of(cls, logits: NDArray[np.floating], comments: Sequence[Comment]) -> TopClass:
        """Take the most probable emotions of comments from nine logits (n x 9)."""
        targets, top = emotion_targets(comments), logits.argmax(axis=1)
        clear = targets.max(axis=1) == 1.0
        one_hot = np.eye(len(EMOTIONS), dtype=np.bool_)
        among = float((targets[np.arange(len(top)), top] > 0).mean())
        return cls(one_hot[targets[clear].argmax(axis=1)], one_hot[top[clear]], among)

    @property
    def accuracy(self) -> float:
        """The share predicted correctly."""
        return float((self.truth & self.guess).any(axis=1).mean())


def _label_fold() -> Floats:
    """28 x 7: one where a GoEmotions label belongs to a class; trust and anticipation fold into happiness."""
    rows = [fold_to_seven({GOEMOTIONS_TO_EMOTION[label]: 1.0}) for label in GOEMOTIONS_LABELS]
    return np.array([[row[name] for name in SEVEN] for row in rows])
