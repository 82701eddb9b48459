"""Export a Hugging Face folder to ONNX: the only module here that needs torch and transformers (extra `train`)."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAMILIES: dict[str, frozenset[str]] = {
    "face": frozenset({"vit", "deit", "beit", "swin"}),
    "voice": frozenset({"wav2vec2", "hubert", "wavlm"}),
    "text": frozenset({"bert", "distilbert", "roberta", "xlm-roberta", "electra"}),
}
"""`model_type` of config.json by modality: the families of ViT, Wav2Vec2 and BERT."""
NEEDED = ("torch", "transformers", "onnx")
OPSET = 17
_SAMPLES = 16_000


def missing_packages() -> list[str]:
    """List the packages that an export needs and that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def export(folder: Path, config: Mapping[str, Any], out: Path) -> None:
    """Export a folder with config.json and weights to an ONNX with dynamic axes and the output `logits`.

    Only files of the folder are read, and no code of it is run: weights come from safetensors files, or from
    pytorch_model.bin by torch's loader for tensors only.

    Raises:
        ValueError: transformers can't load it, or torch can't export it; with the first line of their message.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = next(modality for modality, types in FAMILIES.items() if config["model_type"] in types)
    loaders = {
        "face": transformers.AutoModelForImageClassification,
        "voice": transformers.AutoModelForAudioClassification,
        "text": transformers.AutoModelForSequenceClassification,
    }
    try:
        model, loading = loaders[kind].from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager",
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"transformers can't load it: {_first_line(error)}") from error
    missing = sorted(loading["missing_keys"])
    if missing:
        named = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")  # noqa: PLR2004
        raise ValueError(f"its weights lack {named}: they would be random")
    names, example, axes = _example(kind, config)
    axes |= {"logits": {0: "n"}}
    wrapped = _only_logits(torch, model.eval().float(), names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: what it got wrong, the dry run and the shapes would show
            torch.onnx.export(
                wrapped, tuple(torch.from_numpy(array) for array in example), str(out), input_names=names,
                output_names=["logits"], dynamic_axes=axes, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except Exception as error:  # torch raises whatever it likes here
        raise ValueError(f"torch can't export it: {_first_line(error)}") from error


def write_tokenizer(folder: Path, out: Path) -> None:
    """Write the `tokenizer.json` of a folder that has only vocabulary files.

    Raises:
        ValueError: transformers can't read its tokenizer.
    """
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        tokenizer.backend_tokenizer.save(str(out))
    except Exception as error:  # many kinds, by tokenizer
        raise ValueError(f"its tokenizer can't be read: {_first_line(error)}") from error


def _example(kind: str, config: Mapping[str, Any]) -> tuple[list[str], list[Any], dict[str, dict[int, str]]]:
    import numpy as np

    if kind == "face":
        size = int(config.get("image_size", 224))
        return ["pixel_values"], [np.zeros((2, 3, size, size), np.float32)], {"pixel_values": {0: "n"}}
    if kind == "voice":
        noise = np.random.default_rng(0).normal(size=(2, _SAMPLES)).astype(np.float32)
        return ["input_values"], [noise], {"input_values": {0: "n", 1: "samples"}}
    ids = np.ones((2, 16), np.int64)
    names = ["input_ids", "attention_mask"]
    return names, [ids, ids], {name: {0: "n", 1: "tokens"} for name in names}


def _only_logits(torch: Any, model: Any, names: list[str]) -> Any:
    class OnlyLogits(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True))).logits

    return OnlyLogits()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
