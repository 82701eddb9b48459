"""Evaluate an encoder: a dry run that finds broken ones, the temperature, and figures on labelled items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import model_input, scores
from kernels.calibration import fit_temperature
from kernels.engines import Engine, ModelSpec
from kernels.face.crop import Square
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import track_pitch
from operators.model_import.labelled import Item
from streamer.errors import Problem
from streamer.event_time import SystemClock

_BATCH = 16
_TOLERANCE = 1e-2
_ROUNDS = 20
_TEXTS = ("no", "I can't believe they did that to him, it is awful and I am angry", "thank you so much! 😀")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """A model's scores on n items; `floor` is the accuracy of always predicting their commonest emotion.

    `ece` is over 10 bins of equal mass; 95 % of perfectly calibrated models with these confidences have theirs in
    `band`.
    """

    n: int
    accuracy: float
    macro_f1: float
    floor: float
    nll: float
    brier: float
    ece: float
    band: tuple[float, float]


def compute_logits(engine: Engine, input_format: Any, items: Sequence[Any]) -> NDArray[np.float32]:
    """Compute the logits (n, k) of prepared items, in small batches."""
    parts = [_logits(engine, input_format, items[at : at + _BATCH]) for at in range(0, len(items), _BATCH)]
    return np.concatenate(parts)


def dry_run(engine: Engine, input_format: Any) -> tuple[list[Problem], float]:
    """Run an engine on random items; returns what is wrong with its logits, and the median ms of one item."""
    items = _random_items(engine.spec, input_format)
    classes = len(engine.spec.classes)
    try:
        together = _logits(engine, input_format, items)
        alone = np.concatenate([_logits(engine, input_format, [item]) for item in items])
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        return [Problem("dry run", f"it fails: {str(error).strip().splitlines()[-1][:200]}")], 0.0
    if together.shape != (len(items), classes):
        shape = " x ".join(map(str, together.shape))
        return [Problem("outputs.logits", f"is {shape} for {len(items)} items; {classes} classes are named")], 0.0
    problems = []
    if not np.isfinite(together).all():
        return [Problem("dry run", "says NaN or infinity of random input")], 0.0
    if (together >= 0).all() and np.allclose(together.sum(axis=1), 1.0, atol=1e-3):
        problems.append(Problem("outputs.logits", "are probabilities (rows sum to 1): export it without its softmax"))
    gap = float(np.abs(together - alone).max())
    if gap > _TOLERANCE * max(1.0, float(np.abs(alone).max())):
        problems.append(Problem("dry run", f"an item's scores move by {gap:.3g} with what else is in its batch"))
    return problems, 0.0 if problems else _median_ms(engine, input_format, items[-1])


def temperature(spec: ModelSpec, logits: NDArray[np.float32], items: Sequence[Item]) -> float:
    """Fit the temperature with the least cross-entropy over the spec's labels on logits (n, k) of labelled items."""
    matrix = model_input.class_label_matrix(spec)
    mapped = matrix.any(axis=1)
    return fit_temperature(logits[:, mapped], np.eye(len(spec.labels))[_targets(spec, items)], matrix[mapped])


def figures(spec: ModelSpec, logits: NDArray[np.float32], items: Sequence[Item], at: float) -> Figures:
    """Score logits (n, k) of labelled items at temperature `at`; macro-F1 is over the emotions of the items."""
    p, _ = model_input.emotions(spec, logits, at)
    truth, guess = _targets(spec, items), p.argmax(axis=1)
    calibration = scores.calibration(p, truth)
    return Figures(
        n=len(items),
        accuracy=float((guess == truth).mean()),
        macro_f1=scores.macro_f1(truth, guess),
        floor=float(np.bincount(truth).max() / len(truth)),
        nll=calibration.nll,
        brier=calibration.brier,
        ece=calibration.ece,
        band=calibration.band,
    )


def _targets(spec: ModelSpec, items: Sequence[Item]) -> NDArray[np.int64]:
    return np.array([spec.labels.index(item.emotion) for item in items], dtype=np.int64)


def _logits(engine: Engine, input_format: Any, items: Sequence[Any]) -> NDArray[np.float32]:
    if isinstance(input_format, model_input.WordPiece):
        tokens = input_format.tokens(engine.spec.folder, input_format.positions).encode(list(items))
        return np.asarray(engine.infer(input_format.arrays(tokens))["logits"])
    return model_input.raw_outputs(engine, input_format, items)[0]


def _random_items(spec: ModelSpec, input_format: Any) -> list[Any]:
    """Make a few dissimilar items: dark and bright pictures, dense and sparse noise, short and very long texts."""
    rng = np.random.default_rng(0)
    if isinstance(input_format, model_input.WordPiece):
        return ["word " * (2 * input_format.positions), *_TEXTS]
    if spec.modality == "voice":
        shapes = ((RATE_HZ * 3 // 5, 1), (RATE_HZ, 1), (3 * RATE_HZ, 1), (3 * RATE_HZ, 5))
        return [track_pitch((rng.normal(0, 0.3, n) ** power).astype(np.float32)) for n, power in shapes]
    shape = (input_format.size, input_format.size, 3) if input_format.colour else (input_format.size, input_format.size)
    pictures = [rng.integers(0, brightest, shape, dtype=np.uint8) for brightest in (40, 140, 255)]
    return [input_format.cut(picture, Square(0, 0, input_format.size)) for picture in pictures]


def _median_ms(engine: Engine, input_format: Any, item: Any) -> float:
    spent_ms, clock = [], SystemClock()
    for _ in range(_ROUNDS):
        begun_ms = clock.perf_ms()
        _logits(engine, input_format, [item])
        spent_ms.append(clock.perf_ms() - begun_ms)
    return float(np.median(spent_ms))
