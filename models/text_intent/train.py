"""Templates, CLINC150, GoEmotions and the frozen text_affect encoder in, models/text_intent out.

`python -m models.text_intent.train --data DIR`. Which layers are read and the ridge penalty are chosen on template
families that the fold's solution has not seen; the test lines are not opened here. Features are kept in --work, so an
interrupted run goes on. Seeded: the same checkout and data give the same head.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kernels.calibration import softmax
from kernels.engines import MODELS
from kernels.intents import INTENTS
from models.text_affect.encode import Encoder
from models.text_intent import corpus, head
from models.text_intent.corpus import READS
from models.text_intent.scores import choose_threshold, macro_f1, name_all, nll

MODEL = "text_intent"
VERSION = "1"
OPSET = 17
_WIDTH = 384
_SETS = {"layers": slice(None), "embedding": slice(-_WIDTH, None)}
_PENALTIES = {"layers": (0.01, 0.03, 0.1, 0.3, 1.0), "embedding": (0.003, 0.01, 0.03, 0.1)}

Floats = NDArray[np.float64]


class Trial(NamedTuple):
    """A choice of features and penalty, and what it gives on unseen families: macro-F1, NLL, and the scores (n x k)."""

    reads: str
    penalty: float
    macro_f1: float
    nll: float
    scores: Floats


class Lines(NamedTuple):
    """The training lines as numbers: standardized features; intent, weight, fold and whether a template's, each (n)."""

    z: NDArray[np.float32]
    truth: NDArray[np.int64]
    weight: Floats
    fold: NDArray[np.int64]
    ours: NDArray[np.bool_]


def trials(given: Lines) -> list[Trial]:
    """Lines in, every choice with its cross-validated figures out; figures are over template lines, weighted."""
    hot = np.eye(len(INTENTS))[given.truth]
    parts = [given.fold == fold for fold in range(corpus.FOLDS)]
    sums = [head.moments(given.z[part], hot[part], given.weight[part]) for part in parts]
    whole = head.moments(given.z, hot, given.weight)
    tried = []
    for reads, columns in _SETS.items():
        for penalty in _PENALTIES[reads]:
            scores = np.zeros((len(given.z), len(INTENTS)))
            for part, own in zip(parts, sums, strict=True):
                matrix, offset = head.ridge(whole.minus(own).of(columns), penalty)
                scores[part] = given.z[part][:, columns] @ matrix + offset
            p = cross_scaled(scores, given)[given.ours]
            truth, weight = given.truth[given.ours], given.weight[given.ours]
            tried.append(
                Trial(reads, penalty, macro_f1(truth, p.argmax(axis=1), weight), nll(p, truth, weight), scores)
            )
            print(
                f"{reads:9} penalty {penalty:6} macro-F1 {tried[-1].macro_f1:.4f} NLL {tried[-1].nll:.4f}", flush=True
            )
    return tried


def cross_scaled(scores: Floats, given: Lines) -> Floats:
    """Scores of unseen lines in, probabilities out: each fold's by a scaling fitted on the other folds."""
    p = np.zeros_like(scores)
    for fold in range(corpus.FOLDS):
        rest = given.fold != fold
        matrix, offset = head.matrix_scaling(scores[rest], given.truth[rest], given.weight[rest])
        p[~rest] = softmax(scores[~rest] @ matrix + offset)
    return p


def build(weights: Floats, offset: Floats) -> onnx.ModelProto:
    """Weights (d x 10) and offset (10) in, a checked model out: `layers` (n x d) to `logits` (n x 10)."""
    tensors = [
        numpy_helper.from_array(weights.astype(np.float32), "weights"),
        numpy_helper.from_array(offset.astype(np.float32), "offset"),
    ]
    features = helper.make_tensor_value_info(READS, TensorProto.FLOAT, ["n", len(weights)])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(INTENTS)])
    node = helper.make_node("Gemm", [READS, "weights", "offset"], ["logits"])
    graph = helper.make_graph([node], MODEL, [features], [logits], tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="affectstream"
    )
    onnx.checker.check_model(model)
    return model


def train(data: Path, models: Path, work: Path, *, threads: int = 2) -> None:
    """Data folder in; the folder text_intent of `models` is written. Its encoder is the text_affect beside it."""
    encoder = Encoder(threads=threads, models=models)
    lines = corpus.lines(data)
    raw = corpus.features_of(lines, encoder, work)
    mean, scale = raw.mean(axis=0, dtype=np.float64), raw.std(axis=0, dtype=np.float64) + 1e-6
    truth = corpus.indices([line.intent for line in lines])
    ours = np.array([corpus.source(line) == "template" for line in lines])
    standard = ((raw - mean) / scale).astype(np.float32)
    given = Lines(standard, truth, corpus.weights(lines), corpus.folds(lines), ours)
    best = max(trials(given), key=lambda trial: trial.macro_f1)
    columns = _SETS[best.reads]
    matrix, offset = head.ridge(
        head.moments(given.z, np.eye(len(INTENTS))[truth], given.weight).of(columns), best.penalty
    )
    scaling, shift = head.matrix_scaling(best.scores, truth, given.weight)
    p = cross_scaled(best.scores, given)[ours]
    threshold = choose_threshold(p, truth[ours], given.weight[ours])
    weights = np.zeros((raw.shape[1], len(INTENTS)))
    weights[columns] = (matrix / scale[columns, None]) @ scaling
    folder = models / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build(weights, offset @ scaling + shift - mean @ weights), folder / "model.onnx")
    write_spec(folder, encoder, best, threshold)
    kept = macro_f1(truth[ours], name_all(p, threshold), given.weight[ours])
    print(f"{folder}: {best.reads}, penalty {best.penalty}, threshold {threshold:.2f}: macro-F1 {kept:.4f} unseen")


def write_spec(folder: Path, encoder: Encoder, chosen: Trial, threshold: float) -> None:
    """The folder of `model.onnx`, its encoder, and what was chosen in; model.json is written."""
    spec = {
        "name": MODEL,
        "version": VERSION,
        "modality": "text",
        "labels": list(INTENTS),
        "prior": {intent: round(share, 6) for intent, share in corpus.PRIOR.items()},
        "temperature": 1.0,
        "licence": "free",
        "input": {
            "reads": READS,
            "of": encoder.engine.spec.id,
            "of_sha256": encoder.engine.spec.sha256,
            "chosen_features": chosen.reads,
            "penalty": chosen.penalty,
            "none_below": round(threshold, 2),
        },
        "outputs": {"logits": f"n x {len(INTENTS)}"},
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line in, the model folder out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_intent.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/ and goemotions/")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    parser.add_argument("--work", type=Path, default=Path("build/text_intent"), help="features, kept for the next run")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    train(given.data, given.models, given.work, threads=given.threads)


if __name__ == "__main__":
    main()
