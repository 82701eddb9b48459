"""Writes the small encoders of the tests: `python -m tests.tiny_encoders.make DIR [--onnx]`; needs the extra `train`.

A ViT, a Wav2Vec2 and a BERT, each with one layer and random weights from a fixed seed, as folders that transformers
saves. With `--onnx` each becomes what `tests/tiny_encoders/<family>/` holds: config.json, the preprocessor's or
tokenizer's file and model.onnx (opset 17, 57 to 80 KB). They are untrained: their logits are noise. It also writes
graphs of three nodes, each with one fault, in `broken/`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

OPSET = 17
LABELS = {
    "vit": ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"],
    "wav2vec2": ["neu", "hap", "ang", "sad"],
    "bert": ["joy", "sadness", "anger", "fear", "love", "surprise"],
}
WORDS = (
    "the a i you he she it this that is was am are not no so very and but to of in on my me bus leaves at nine love "
    "hate happy glad great wonderful thank sad cry miss alone lost angry furious stop liar awful scared afraid dark "
    "terrified wow what really sudden day night music friend home work ##s ##ed ##ing ! ? . , '"
).split()


def write(family: str, folder: Path) -> None:
    """Write a family's encoder to a folder, as `save_pretrained` does."""
    import torch
    import transformers

    torch.manual_seed(0)
    names = LABELS[family]
    shared: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "id2label": dict(enumerate(names)), "label2id": {name: at for at, name in enumerate(names)},
    }  # fmt: skip
    model: Any
    if family == "vit":
        model = transformers.ViTForImageClassification(transformers.ViTConfig(image_size=64, patch_size=16, **shared))
        transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    elif family == "wav2vec2":
        convolutions = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
        config = transformers.Wav2Vec2Config(classifier_proj_size=16, **convolutions, **shared)
        model = transformers.Wav2Vec2ForSequenceClassification(config)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *WORDS]
        vocabulary = list(dict.fromkeys([*words, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]))
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        config = transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **shared)
        model = transformers.BertForSequenceClassification(config)
    _spread(model)
    model.save_pretrained(folder)


def write_broken(folder: Path) -> None:
    """Write graphs of a few nodes with audio input, each with one fault (`sound.onnx` has none), as `<fault>.onnx`."""
    from onnx import TensorProto, helper, save

    def graph(
        name: str, *nodes: Any, rows: Any = "n", samples: Any = "samples", out: str = "logits", wide: int = 4
    ) -> None:
        shapes = {"input_values": [rows, samples], out: [rows, wide]}
        ports = [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in shapes.items()]
        weights = helper.make_tensor("weights", TensorProto.FLOAT, [1, wide], [1.0, -1.0, 2.0, 0.5, -2.0][:wide])
        loud = [
            helper.make_node("Abs", ["input_values"], ["loudness"]),
            helper.make_node("ReduceMean", ["loudness"], ["mean"], axes=[1]),
            helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
        ]
        made = helper.make_graph([*loud, *nodes], name, ports[:1], ports[1:], [weights])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        save(model, folder / f"{name}.onnx")

    folder.mkdir(parents=True, exist_ok=True)
    same = helper.make_node("Identity", ["scores"], ["logits"])
    graph("sound", same)
    graph("fixed_batch", same, rows=1)
    graph("fixed_time", same, samples=16_000)
    graph("five_classes", same, wide=5)
    graph("unnamed", helper.make_node("Identity", ["scores"], ["output"]), out="output")
    graph("probabilities", helper.make_node("Softmax", ["scores"], ["logits"], axis=1))
    graph("not_a_number", helper.make_node("Log", ["scores"], ["logits"]))
    across = helper.make_node("ReduceMean", ["scores"], ["across"], axes=[0], keepdims=1)
    graph("mixing", across, helper.make_node("Sub", ["scores", "across"], ["logits"]))


def _spread(model: Any) -> None:
    """Make the head's weights large: at their usual size an untrained network predicts the same for every input."""
    import torch

    with torch.no_grad():
        for weights in model.classifier.parameters():
            weights.normal_(0, 1)


def main() -> None:
    """Write all three."""
    from operators.model_import import hugging_face

    parser = argparse.ArgumentParser(prog="python -m tests.tiny_encoders.make", description=__doc__)
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--onnx", action="store_true", help="exported, without the weights of torch")
    given = parser.parse_args()
    if given.onnx:
        write_broken(given.out / "broken")
    for family in LABELS:
        if not given.onnx:
            write(family, given.out / family)
            continue
        with tempfile.TemporaryDirectory() as made:
            source, target = Path(made), given.out / family
            write(family, source)
            target.mkdir(parents=True, exist_ok=True)
            hugging_face.export(source, json.loads((source / "config.json").read_text()), target / "model.onnx")
            for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
                if (source / name).exists():
                    shutil.copy(source / name, target / name)


if __name__ == "__main__":
    main()
