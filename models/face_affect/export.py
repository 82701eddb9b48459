"""A trained network in, `model.onnx` and `model.json` out: the natural prior put back, the temperature from held_b."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.calibration import fit_temperature
from kernels.emotions import SEVEN
from models.face_affect.network import EMBEDDING, SIZE, BothSides, FaceNet
from models.face_affect.split import Faces

VERSION = "1"


def export(net: FaceNet, faces: Faces, out: Path, *, prior: NDArray[np.float64], drawn: NDArray[np.float64]) -> None:
    """Write both files.

    Args:
        net: a trained `FaceNet` on the CPU; its head's bias is changed in place.
        faces: for the temperature: the rows of `held_b` and their plurality classes.
        out: the folder.
        prior: 7, the classes' shares of the training votes.
        drawn: 7, their shares as they were drawn; log(prior / drawn) goes into the bias.
    """
    with torch.no_grad():
        net.head.bias += torch.from_numpy(np.log(prior / drawn)).float()
    both = BothSides(net).eval()
    torch.onnx.export(
        both,
        (torch.zeros(2, 1, SIZE, SIZE),),
        str(out / "model.onnx"),
        input_names=["faces"],
        output_names=["logits", "embedding"],
        dynamic_axes={name: {0: "n"} for name in ("faces", "logits", "embedding")},
        opset_version=17,
        dynamo=False,
    )
    rows = faces.where("held_b")
    rows = rows[faces.plurality[rows] >= 0]
    with torch.inference_mode():
        logits = both(torch.from_numpy(faces.images[rows, None]).float())[0].numpy()
    spec = {
        "name": "face_affect",
        "version": VERSION,
        "modality": "face",
        "labels": list(SEVEN),
        "prior": {name: round(float(p), 6) for name, p in zip(SEVEN, prior, strict=True)},
        "temperature": round(fit_temperature(logits, np.eye(len(SEVEN))[faces.plurality[rows]]), 4),
        "licence": "unsettled",
        "input": {
            "framing": "face_grey_crop", "name": "faces", "size": SIZE, "channels": 1,
            "values": "grey 0..255, float32, not normalised",
        },  # fmt: skip
        "outputs": {"logits": f"n x {len(SEVEN)}", "embedding": f"n x {EMBEDDING}"},
        "embedding_width": EMBEDDING,
        "sha256": hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest(),
    }
    (out / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}: temperature {spec['temperature']}")
