"""Fit the head on EmoBank and the frozen text_affect encoder. `python -m models.text_vad.train --data DIR`.

Ridge regression on `layers` (the mean over tokens of each encoder layer), as the shipped int8 encoder computes them:
one penalty for each dimension, chosen on the dev split. Closed form, so there is no seed and nothing to resume.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kernels.engines import MODELS
from models.text_affect.recipe.encode import Encoder
from models.text_vad.emobank import DIMENSIONS, read
from models.text_vad.evaluate import MODEL, READS, r_squared

VERSION = "1"
OPSET = 17
_PENALTIES = (300.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0)

Floats = NDArray[np.float64]


class Standardized:
    """Ridge regression on standardized features (n x d); one eigendecomposition serves all penalties."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self.mean, self.scale = x.mean(axis=0), x.std(axis=0) + 1e-6
        self.offset = y.mean(axis=0)
        z = (x - self.mean) / self.scale
        self._values, self._vectors = np.linalg.eigh(z.T @ z)
        self._moments = self._vectors.T @ (z.T @ (y - self.offset))

    def solve(self, penalty: float) -> tuple[Floats, Floats]:
        """Return weights (d x k) and offset (k) for raw features (Hoerl & Kennard 1970)."""
        standard = self._vectors @ (self._moments / (self._values + penalty)[:, None])
        weights = standard / self.scale[:, None]
        return weights, self.offset - self.mean @ weights


def fit(x: Floats, y: Floats, dev_x: Floats, dev_y: Floats) -> tuple[Floats, Floats, list[float]]:
    """Fit weights (d x 3) and offset (3) on train, with the penalty of each dimension that has the best R2 on dev."""
    ridge = Standardized(x, y)
    solutions = [ridge.solve(penalty) for penalty in _PENALTIES]
    scores = np.stack([r_squared(dev_y, dev_x @ weights + offset) for weights, offset in solutions])
    best = scores.argmax(axis=0)
    columns = [solutions[at][0][:, dimension] for dimension, at in enumerate(best)]
    offsets = [solutions[at][1][dimension] for dimension, at in enumerate(best)]
    return np.stack(columns, axis=1), np.array(offsets), [_PENALTIES[at] for at in best]


def build(weights: Floats, offset: Floats) -> onnx.ModelProto:
    """Build and check the ONNX model from `layers` (n x d) to `vad` (n x 3), not yet clipped."""
    tensors = [
        numpy_helper.from_array(weights.astype(np.float32), "weights"),
        numpy_helper.from_array(offset.astype(np.float32), "offset"),
    ]
    features = helper.make_tensor_value_info(READS, TensorProto.FLOAT, ["n", len(weights)])
    vad = helper.make_tensor_value_info("vad", TensorProto.FLOAT, ["n", len(DIMENSIONS)])
    node = helper.make_node("Gemm", [READS, "weights", "offset"], ["vad"])
    graph = helper.make_graph([node], MODEL, [features], [vad], tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="affectstream"
    )
    onnx.checker.check_model(model)
    return model


def train(data: Path, models: Path) -> None:
    """Fit the head and write the folder text_vad of `models`; the encoder is text_affect of the same `models`."""
    encoder = Encoder(models=models)
    sentences, dev = read(data, "train"), read(data, "dev")
    x, dev_x = (encoder.outputs(part.texts)[READS].astype(np.float64) for part in (sentences, dev))
    weights, offset, penalties = fit(x, sentences.vad, dev_x, dev.vad)
    folder = models / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build(weights, offset), folder / "model.onnx")
    spec = {
        "name": MODEL,
        "version": VERSION,
        "modality": "text",
        "labels": list(DIMENSIONS),
        "licence": "share_alike",
        "input": {"reads": READS, "of": encoder.engine.spec.id, "of_sha256": encoder.engine.spec.sha256},
        "outputs": {"vad": "n x 3"},
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    for name, penalty, score in zip(DIMENSIONS, penalties, r_squared(dev.vad, dev_x @ weights + offset), strict=True):
        print(f"{name:10} penalty {penalty:8.0f}  dev R2 {score:.3f}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.text_vad.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds emobank/")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    given = parser.parse_args()
    train(given.data, given.models)


if __name__ == "__main__":
    main()
