"""Raw outputs and comments in, F1 figures out; NumPy only, so that evaluation needs no training library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.emotions import EMOTIONS, GOEMOTIONS_TO_EMOTION, SEVEN, fold_to_seven
from models.text_affect.split import GOEMOTIONS_LABELS, Comment, emotion_targets, label_matrix

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
_CANDIDATES = np.linspace(0.05, 0.8, 76)
_DRAWS = 1000


def sigmoid(logits: NDArray[np.floating]) -> Floats:
    """Logits in, probabilities of each label by itself out."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float64))), dtype=np.float64)


def nll(p: Floats, targets: NDArray[np.floating]) -> float:
    """Probabilities and soft targets (n x c) in, mean cross-entropy in nats out."""
    return float(-(targets * np.log(np.maximum(p, 1e-12))).sum(axis=1).mean())


def f1(truth: Flags, guess: Flags) -> Floats:
    """Truth and guess (n x c) in, F1 of each class (c) out; a class that neither names scores 0."""
    hits = (truth & guess).sum(axis=0).astype(np.float64)
    return np.asarray(2 * hits / np.maximum(truth.sum(axis=0) + guess.sum(axis=0), 1), dtype=np.float64)


def macro_f1(truth: Flags, guess: Flags) -> tuple[float, float, float]:
    """Truth and guess (n x c) in; macro-F1 and the ends of its 95 % bootstrap interval over rows out."""
    random, n = np.random.default_rng(0), len(truth)
    drawn = [random.integers(0, n, n) for _ in range(_DRAWS)]
    low, high = np.quantile([f1(truth[rows], guess[rows]).mean() for rows in drawn], [0.025, 0.975])
    return float(f1(truth, guess).mean()), float(low), float(high)


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


def multi_label_scores(
    goemotions: NDArray[np.floating], comments: Sequence[Comment], thresholds: Thresholds
) -> dict[str, float]:
    """The 28 logits (n x 28), comments and thresholds in, macro-F1 over 28 labels and over the seven classes out."""
    p = sigmoid(goemotions)
    truth_7, guess_7 = seven_truth(comments), named(seven_from_labels(p), thresholds.seven)
    pairs = {"28": (label_matrix(comments) > 0, named(p, thresholds.labels)), "7": (truth_7, guess_7)}
    out: dict[str, float] = {}
    for name, (truth, guess) in pairs.items():
        value, low, high = macro_f1(truth, guess)
        out |= {f"macro_f1_{name}": value, f"macro_f1_{name}_low": low, f"macro_f1_{name}_high": high}
    return out | {f"f1_7_{name}": float(value) for name, value in zip(SEVEN, f1(truth_7, guess_7), strict=True)}


def top_class_scores(logits: NDArray[np.floating], comments: Sequence[Comment]) -> dict[str, float]:
    """Nine logits and comments in, scores of the most probable emotion out.

    Accuracy and macro-F1 are over the comments that carry one emotion only (`n_9` of them); `among_9` is the share of
    all comments whose most probable emotion is among theirs.
    """
    targets, top = emotion_targets(comments), softmax(logits).argmax(axis=1)
    clear = targets.max(axis=1) == 1.0
    one_hot = np.eye(len(EMOTIONS), dtype=np.bool_)
    truth, guess = one_hot[targets[clear].argmax(axis=1)], one_hot[top[clear]]
    out = {
        "n_9": float(clear.sum()),
        "accuracy_9": float((truth & guess).any(axis=1).mean()),
        "macro_f1_9": float(f1(truth, guess).mean()),
        "among_9": float((targets[np.arange(len(top)), top] > 0).mean()),
    }
    return out | {f"f1_9_{name}": float(value) for name, value in zip(EMOTIONS, f1(truth, guess), strict=True)}


def _label_fold() -> Floats:
    """28 x 7: one where a GoEmotions label belongs to a class; trust and anticipation fold into happiness."""
    rows = [fold_to_seven({GOEMOTIONS_TO_EMOTION[label]: 1.0}) for label in GOEMOTIONS_LABELS]
    return np.array([[row[name] for name in SEVEN] for row in rows])
