"""The shipped model and GoEmotions in, the figures of the card out. `python -m models.text_affect.evaluate --data DIR`.

Needs the run-time packages only. Thresholds come from the dev split; each look at the test split is appended to
`test_log.jsonl`. `--part dev` is for choices and leaves no trace; `--part latency` times one message of 32 tokens.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band, softmax
from kernels.engines import MODELS
from models.text_affect import scores, split
from models.text_affect.encode import MODEL, Encoder
from models.text_affect.test_log import append_look

FLOOR_SEVEN = 0.568
_LATENCY_TOKENS = 32


def evaluate(data: Path, part: split.Part, models: Path = MODELS) -> dict[str, float]:
    """Data folder and split in, every figure of the card but latency out."""
    encoder = Encoder(models=models)
    dev, judged = split.read(data, "dev"), split.read(data, part)
    on_dev = encoder.outputs([comment.text for comment in dev])
    outputs = on_dev if part == "dev" else encoder.outputs([comment.text for comment in judged])
    thresholds = scores.Thresholds.choose(on_dev["goemotions"], dev)
    figures = scores.multi_label_scores(outputs["goemotions"], judged, thresholds)
    figures |= scores.top_class_scores(outputs["logits"], judged)
    for name, temperature in (("raw", 1.0), ("calibrated", encoder.engine.spec.temperature)):
        figures |= {
            f"{key}_{name}": value for key, value in calibration(outputs["logits"], temperature, judged).items()
        }
    return {"n": float(len(judged)), "temperature": encoder.engine.spec.temperature} | figures


def calibration(logits: NDArray[np.floating], temperature: float, comments: list[split.Comment]) -> dict[str, float]:
    """Logits, temperature and comments in, how far the nine probabilities can be believed out.

    NLL (nats) and Brier are against a comment's shares; for ECE one of a comment's emotions, drawn with a fixed seed by
    its share, stands for the truth, so that the band of a perfect calibrator (95 %, at these confidences) applies.
    """
    p, targets = softmax(logits, temperature), split.emotion_targets(comments)
    draws = np.random.default_rng(0).random((len(p), 1))
    truth = (targets.cumsum(axis=1) < draws).sum(axis=1)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == truth
    low, high = perfect_ece_band(confidence)
    return {
        "nll": scores.nll(p, targets),
        "brier": float(((p - targets) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(confidence, correct),
        "ece_band_low": low,
        "ece_band_high": high,
    }


def latency(encoder: Encoder, tokens: int = _LATENCY_TOKENS, rounds: int = 300) -> dict[str, float]:
    """Encoder in, milliseconds of one message of so many tokens out: the median, and the least (for a busy machine)."""
    ids = np.full((1, tokens), 2000, dtype=np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        encoder.engine.infer(inputs)
        taken.append((time.perf_counter() - begun) * 1e3)
    settled = taken[rounds // 10 :]
    return {"latency_ms_median": float(np.median(settled)), "latency_ms_least": float(np.min(settled))}


def main() -> None:
    """Command line in, a table of figures out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_affect.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds goemotions/")
    parser.add_argument("--part", choices=("dev", "test", "latency"), default="test")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    given = parser.parse_args()
    if given.part == "latency":
        figures = latency(Encoder(models=given.models))
    else:
        figures = evaluate(given.data, given.part, given.models)
    if given.part == "test":
        append_look(given.models / MODEL, figures)
    for name, value in figures.items():
        print(f"{name:32} {value:.4f}")
    if "macro_f1_7" in figures:
        print(f"floor of macro_f1_7 (TF-IDF, one-vs-rest): {FLOOR_SEVEN}")


if __name__ == "__main__":
    main()
