"""An engine and items in, figures out: a dry run that finds broken encoders, a temperature, and how good it all is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import model_input as framing
from kernels import scores
from kernels.calibration import fit_temperature
from kernels.engines import Engine, ModelSpec
from kernels.face.crop import Square
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import track_pitch
from operators.model_import.labelled import Item
from streamer.errors import Problem
from streamer.event_time import SystemClock

_BATCH = 16
_ALIKE = 1e-2
_ROUNDS = 20
_LINES = ("no", "I can't believe they did that to him, it is awful and I am angry", "thank you so much! 😀")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """How a model does on n items; `floor` is the accuracy of always saying the commonest of their emotions.

    `band` is where 95 % of perfectly calibrated models with these confidences have their ECE (10 bins of equal mass).
    """

    n: int
    accuracy: float
    macro_f1: float
    floor: float
    nll: float
    brier: float
    ece: float
    band: tuple[float, float]


def run_all(engine: Engine, how: Any, items: Sequence[Any]) -> NDArray[np.float32]:
    """Framed items to the logits of all their classes (n, k), in small batches."""
    parts = [_logits(engine, how, items[at : at + _BATCH]) for at in range(0, len(items), _BATCH)]
    return np.concatenate(parts)


def dry_run(engine: Engine, how: Any) -> tuple[list[Problem], float]:
    """An engine and its framing to what is wrong with what it says of noise, and to the median ms of one item."""
    items = _noise(engine.spec, how)
    classes = len(engine.spec.classes)
    try:
        together = _logits(engine, how, items)
        alone = np.concatenate([_logits(engine, how, [item]) for item in items])
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
    if gap > _ALIKE * max(1.0, float(np.abs(alone).max())):
        problems.append(Problem("dry run", f"an item's scores move by {gap:.3g} with what else is in its batch"))
    return problems, 0.0 if problems else _median_ms(engine, how, items[-1])


def temperature(spec: ModelSpec, logits: NDArray[np.float32], items: Sequence[Item]) -> float:
    """Logits (n, k) of labelled items to the temperature with the least cross-entropy over the spec's labels."""
    merge = framing.merging(spec)
    named = merge.any(axis=1)
    return fit_temperature(logits[:, named], np.eye(len(spec.labels))[_targets(spec, items)], merge[named])


def figures(spec: ModelSpec, logits: NDArray[np.float32], items: Sequence[Item], at: float) -> Figures:
    """Logits (n, k) of labelled items and a temperature to figures; macro-F1 is over the emotions that items have."""
    p, _ = framing.emotions(spec, logits, at)
    truth, guess = _targets(spec, items), p.argmax(axis=1)
    found = scores.calibration(p, truth)
    return Figures(
        n=len(items),
        accuracy=float((guess == truth).mean()),
        macro_f1=scores.macro_f1(truth, guess),
        floor=float(np.bincount(truth).max() / len(truth)),
        nll=found.nll,
        brier=found.brier,
        ece=found.ece,
        band=found.band,
    )


def _targets(spec: ModelSpec, items: Sequence[Item]) -> NDArray[np.int64]:
    return np.array([spec.labels.index(item.emotion) for item in items], dtype=np.int64)


def _logits(engine: Engine, how: Any, items: Sequence[Any]) -> NDArray[np.float32]:
    if isinstance(how, framing.WordPiece):
        tokens = how.tokens(engine.spec.folder, how.positions).encode(list(items))
        return np.asarray(engine.infer(how.arrays(tokens))["logits"])
    return framing.raw_outputs(engine, how, items)[0]


def _noise(spec: ModelSpec, how: Any) -> list[Any]:
    """A few unlike items of the model's kind: dark and bright, dense and sparse noise, short and very long lines."""
    rng = np.random.default_rng(0)
    if isinstance(how, framing.WordPiece):
        return ["word " * (2 * how.positions), *_LINES]
    if spec.modality == "voice":
        kinds = ((RATE_HZ * 3 // 5, 1), (RATE_HZ, 1), (3 * RATE_HZ, 1), (3 * RATE_HZ, 5))
        return [track_pitch((rng.normal(0, 0.3, n) ** power).astype(np.float32)) for n, power in kinds]
    shape = (how.size, how.size, 3) if how.colour else (how.size, how.size)
    pictures = [rng.integers(0, brightest, shape, dtype=np.uint8) for brightest in (40, 140, 255)]
    return [how.cut(picture, Square(0, 0, how.size)) for picture in pictures]


def _median_ms(engine: Engine, how: Any, item: Any) -> float:
    spent_ms, clock = [], SystemClock()
    for _ in range(_ROUNDS):
        begun_ms = clock.perf_ms()
        _logits(engine, how, [item])
        spent_ms.append(clock.perf_ms() - begun_ms)
    return float(np.median(spent_ms))
