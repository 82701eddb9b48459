"""Raw outputs and comments in, the labels that they name out; NumPy only: evaluation needs no training library."""

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
    """Logits in, probabilities of each label by itself out."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float64))), dtype=np.float64)


def seven_truth(comments: Sequence[Comment]) -> Flags:
    """Comments in, their multi-label truth over the seven classes (n x 7) out."""
    return np.asarray(label_matrix(comments) @ _label_fold() > 0, dtype=np.bool_)


def seven_from_labels(p: Floats) -> Floats:
    """Probabilities of the 28 labels (n x 28) in, of the seven classes out: 1 - prod(1 - p) over a class's labels."""
    members = _label_fold() > 0
    return np.stack([1.0 - np.prod(1.0 - p[:, members[:, at]], axis=1) for at in range(len(SEVEN))], axis=1)


def choose_thresholds(p: Floats, truth: Flags) -> Floats:
    """Probabilities and truth of the *dev* split (n x c) in, the threshold of each class with the best F1 (c) out.

    F1 is smoothed over five neighbouring candidates, so that a rare class's threshold is not one lucky comment's.
    """
    by_candidate = np.stack([f1(truth, p >= candidate) for candidate in _CANDIDATES])
    smooth = np.stack([by_candidate[max(0, at - 2) : at + 3].mean(axis=0) for at in range(len(_CANDIDATES))])
    return np.asarray(_CANDIDATES[smooth.argmax(axis=0)], dtype=np.float64)


def named(p: Floats, thresholds: Floats) -> Flags:
    """Probabilities and thresholds in, labels (n x c) out; a row that reaches none gets the one nearest to its own."""
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
        """The 28 logits on the dev split (n x 28) and its comments in, thresholds out."""
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
        """The 28 logits (n x 28), comments and thresholds in, what was named beside what is true out."""
        p = sigmoid(goemotions)
        guess_7 = named(seven_from_labels(p), thresholds.seven)
        return cls(label_matrix(comments) > 0, named(p, thresholds.labels), seven_truth(comments), guess_7)


class TopClass(NamedTuple):
    """Comments that carry one emotion only: truth and the most probable one (m x 9), and `among`.

    `among` is the share of all comments whose most probable emotion is among their own.
    """

    truth: Flags
    guess: Flags
    among: float

    @classmethod
    def of(cls, logits: NDArray[np.floating], comments: Sequence[Comment]) -> TopClass:
        """Nine logits (n x 9) and comments in, what was named out."""
        targets, top = emotion_targets(comments), logits.argmax(axis=1)
        clear = targets.max(axis=1) == 1.0
        one_hot = np.eye(len(EMOTIONS), dtype=np.bool_)
        among = float((targets[np.arange(len(top)), top] > 0).mean())
        return cls(one_hot[targets[clear].argmax(axis=1)], one_hot[top[clear]], among)

    @property
    def accuracy(self) -> float:
        """The share named right."""
        return float((self.truth & self.guess).any(axis=1).mean())


def _label_fold() -> Floats:
    """28 x 7: one where a GoEmotions label belongs to a class; trust and anticipation fold into happiness."""
    rows = [fold_to_seven({GOEMOTIONS_TO_EMOTION[label]: 1.0}) for label in GOEMOTIONS_LABELS]
    return np.array([[row[name] for name in SEVEN] for row in rows])
