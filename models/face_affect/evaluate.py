"""The shipped model and FER2013 in, the figures of the card out. `python -m models.face_affect.evaluate --data DIR`.

Needs the run-time packages only. Nothing is chosen here. Each look at PrivateTest is appended to `test_log.jsonl`;
`--part public` is for choices and leaves no trace. Pictures are judged as they are in the data set: no detector.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band, softmax
from kernels.emotions import SEVEN
from kernels.engines import MODELS, Engine, load
from kernels.face import SIZE
from models.face_affect import split
from models.text_affect.test_log import append_look

MODEL = "face_affect"
FLOORS = "mini_XCEPTION, original labels: .660 with the leaked copies, .645 without (measured on this data)"
PUBLISHED = "original labels: VGG19 .731, best about .76, people about .65"
_BATCH = 64
Floats = NDArray[np.floating]


def logits_of(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures uint8 n x 48 x 48 to logits float32 n x 7."""
    parts = [images[at : at + _BATCH, None].astype(np.float32) for at in range(0, len(images), _BATCH)]
    return np.concatenate([engine.infer({"faces": part})["logits"] for part in parts])


def evaluate(faces: split.Faces, part: Literal["public", "private"], engine: Engine) -> dict[str, float]:
    """Pictures and a part's name in, every figure of the card but latency out.

    `plurality`: the class with most of the ten votes is right; `majority`: of those pictures, where it has more than
    half of them. Both without the pictures that are exact or near copies of Training ones. `original` is the data set's
    own label, with the leaked exact copies and without: the training set leaves their twins out, so both are honest.
    """
    rows = faces.where(part)
    logits = logits_of(engine, faces.images[rows])
    guess, own = logits.argmax(1), ~faces.copied[rows]
    clear, strict = own & (faces.plurality[rows] >= 0), own & (faces.majority[rows] >= 0)
    original, fresh = faces.original[rows], ~faces.leaked[rows]
    figures = {
        "n_plurality": float(clear.sum()),
        "accuracy_plurality": float((guess == faces.plurality[rows])[clear].mean()),
        "macro_f1_plurality": macro_f1(guess[clear], faces.plurality[rows][clear]),
        "n_majority": float(strict.sum()),
        "accuracy_majority": float((guess == faces.majority[rows])[strict].mean()),
        "macro_f1_majority": macro_f1(guess[strict], faces.majority[rows][strict]),
        "n_original": float(len(rows)),
        "accuracy_original": float((guess == original).mean()),
        "n_original_without_leaked": float(fresh.sum()),
        "accuracy_original_without_leaked": float((guess == original)[fresh].mean()),
    }
    truth = faces.plurality[rows][clear]
    for name in range(len(SEVEN)):
        figures[f"recall_{SEVEN[name]}"] = float((guess[clear] == name)[truth == name].mean())
    for state, temperature in (("raw", 1.0), ("calibrated", engine.spec.temperature)):
        found = calibration(logits[clear], truth, temperature)
        figures |= {f"{figure}_{state}": value for figure, value in found.items()}
    return figures | {"temperature": engine.spec.temperature}


def calibration(logits: Floats, truth: NDArray[np.integer], temperature: float) -> dict[str, float]:
    """Logits n x 7, classes n and a temperature to NLL (nats), Brier, ECE and a perfect calibrator's band."""
    p = softmax(logits, temperature)
    confidence, correct = p.max(1), p.argmax(1) == truth
    low, high = perfect_ece_band(confidence)
    return {
        "nll": float(-np.log(p[np.arange(len(p)), truth] + 1e-12).mean()),
        "brier": float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(1).mean()),
        "ece": expected_calibration_error(confidence, correct),
        "ece_band_low": low,
        "ece_band_high": high,
    }


def macro_f1(guess: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Classes n and n to the unweighted mean of the seven F1 scores."""
    scores = []
    for name in range(len(SEVEN)):
        both, either = ((guess == name) & (truth == name)).sum(), (guess == name).sum() + (truth == name).sum()
        scores.append(2 * both / either if either else 0.0)
    return float(np.mean(scores))


def latency_ms(rounds: int = 300) -> dict[str, float]:
    """Median milliseconds of one face on 2 threads: OpenVINO, and onnxruntime where it is installed."""
    face = {"faces": np.random.default_rng(0).uniform(0, 255, (1, 1, SIZE, SIZE)).astype(np.float32)}
    engine = load(MODEL, threads=2)
    taken = {"latency_ms_openvino": _median_ms(lambda: engine.infer(face), rounds)}
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime  # noqa: PLC0415 - only where it is there to compare with

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(str(MODELS / MODEL / "model.onnx"), options)
        taken["latency_ms_onnxruntime"] = _median_ms(lambda: session.run(None, face), rounds)
    return taken


def _median_ms(call: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1e3)
    return float(np.median(taken[rounds // 10 :]))


def main() -> None:
    """Command line in, a table of figures out."""
    options = argparse.ArgumentParser(prog="python -m models.face_affect.evaluate", description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="the folder that holds fer2013/")
    options.add_argument("--part", choices=("public", "private"), default="private")
    given = options.parse_args()
    figures = evaluate(split.load(given.data), given.part, load(MODEL, threads=2)) | latency_ms()
    if given.part == "private":
        append_look(MODELS / MODEL, figures)
    for name, value in figures.items():
        print(f"{name:34} {value:.4f}")
    print(f"floor: {FLOORS}\npublished: {PUBLISHED}")


if __name__ == "__main__":
    main()
