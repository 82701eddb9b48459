"""Export a trained network: `model.onnx` in 8 bits, with its prior corrected, and `model.json` with a temperature.

Weights are of 7 bits (one scale for each channel), activations of 8: products of full 8-bit weights overflow on
processors without VNNI, where they cost 3.5 points of accuracy; with 7 bits such a processor answers as others do.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kernels.emotions import SEVEN
from models.face_affect.recipe import calibrate
from models.face_affect.recipe.network import EMBEDDING, SIZE, BothSides, FaceNet
from models.face_affect.recipe.split import Faces

VERSION = "2"
_PICTURES, _BATCH = 256, 16


class TrainingPictures(CalibrationDataReader):  # type: ignore[misc,unused-ignore]  # onnxruntime is untyped where it is not installed
    """Training pictures, spread evenly over the file, on which the ranges of the activations are measured."""

    def __init__(self, faces: Faces) -> None:
        rows = faces.where("train")
        images = faces.images[rows[:: len(rows) // _PICTURES], None].astype(np.float32)
        self._batches: Iterator[NDArray[np.float32]] = iter(np.split(images, range(_BATCH, len(images), _BATCH)))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs by name, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"faces": batch}


def export(net: FaceNet, faces: Faces, out: Path, *, prior: NDArray[np.float64], drawn: NDArray[np.float64]) -> None:
    """Write `model.onnx` and `model.json`.

    Args:
        net: a trained `FaceNet` on the CPU; its head's bias is changed in place.
        faces: `train` for the ranges of the activations, `held_b` for the temperature.
        out: the folder.
        prior: the classes' shares of the training votes (7).
        drawn: their shares as drawn in training (7); log(prior / drawn) is added to the bias.
    """
    with torch.no_grad():
        net.head.bias += torch.from_numpy(np.log(prior / drawn)).float()
    names = ("faces", "logits", "embedding")
    with tempfile.TemporaryDirectory() as folder:
        exported, prepared = Path(folder) / "whole.onnx", Path(folder) / "prepared.onnx"
        torch.onnx.export(
            BothSides(net).eval(), (torch.rand(3, 1, SIZE, SIZE) * 255,), str(exported),
            input_names=[names[0]], output_names=list(names[1:]),
            dynamic_axes={name: {0: "n"} for name in names}, opset_version=17, dynamo=False,
        )  # fmt: skip
        quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(out / "model.onnx"), TrainingPictures(faces), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Relu"], per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        )  # fmt: skip
    spec = {
        "name": "face_affect",
        "version": VERSION,
        "modality": "face",
        "labels": list(SEVEN),
        "prior": {name: round(float(p), 6) for name, p in zip(SEVEN, prior, strict=True)},
        "temperature": 1.0,
        "licence": "unsettled",
        "input": {
            "framing": "face_grey_crop",
            "name": "faces",
            "size": SIZE,
            "channels": 1,
            "values": "grey 0..255, float32, not normalised",
        },  # fmt: skip
        "outputs": {"logits": f"n x {len(SEVEN)}", "embedding": f"n x {EMBEDDING}"},
        "embedding_width": EMBEDDING,
        "sha256": hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest(),
    }
    (out / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    calibrate.write_temperature(faces, out)
