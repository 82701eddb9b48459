"""Find the model at a path, an ONNX or a Hugging Face folder, with the files beside it that describe its use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from operators.model_import.hugging_face import FAMILIES, missing_packages
from streamer.errors import Problem

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_HEADS = ("ForImageClassification", "ForSequenceClassification")
INSTALL = "pip install -e '.[train]'"


@dataclass(slots=True)
class Source:
    """The model to import: `onnx` is None for a Hugging Face folder, which has to be exported first.

    `config` is its config.json; `facts` is its preprocessor_config.json, or for text {"tokenizer": tokenizer.json}.
    """

    path: Path
    folder: Path
    onnx: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str] | None:
        """The class names in the order of the logits, None where config.json has none."""
        named = self.config.get("id2label")
        return [str(named[at]) for at in sorted(named, key=int)] if isinstance(named, dict) and named else None


def find_source(path: Path, modality: str) -> tuple[Source, list[Problem]]:
    """Find a model of a modality at a path, and all that is wrong with its files, without opening the weights."""
    problems: list[Problem] = []
    if not path.exists():
        return Source(path, path), [Problem("PATH", f"{path}: no such file or folder")]
    onnx: Path | None = path
    if path.is_dir():
        candidates = [path / "model.onnx", path / "onnx" / "model.onnx", *sorted(path.glob("*.onnx"))]
        onnx = next((file for file in candidates if file.is_file()), None)
    found = Source(path, path if path.is_dir() else path.parent, onnx)
    found.config = _json(found.folder / "config.json", problems)
    found.facts = _facts(found.folder, modality, problems)
    named = found.config.get("id2label", {})
    if not isinstance(named, dict) or not all(str(at).isdecimal() for at in named):
        problems.append(Problem("config.json id2label", 'must be a map such as {"0": "angry", "1": "happy"}'))
        found.config = {k: v for k, v in found.config.items() if k != "id2label"}
    problems += _family(found, modality)
    if found.config.get("problem_type") == "multi_label_classification":
        trained = "its classes were trained so that several may hold at once, here exactly one is taken to"
        found.warnings.append(f"config.json says multi_label_classification: {trained}")
    return found, problems


def _family(found: Source, modality: str) -> list[Problem]:
    """List the problems of a Hugging Face folder; of an ONNX, only a `model_type` of another modality."""
    kind = found.config.get("model_type")
    belongs = next((m for m, types in FAMILIES.items() if kind in types), None)
    if found.onnx is not None:
        if belongs not in (None, modality):
            return [Problem("config.json model_type", f"{kind} reads {belongs}, not {modality}")]
        return []
    if not found.config:
        if (found.folder / "config.json").exists():
            return []
        return [Problem("PATH", f"{found.path} is neither an ONNX nor a Hugging Face folder: it has no config.json")]
    problems = []
    if belongs != modality:
        families = sorted(FAMILIES[modality])
        near = [] if belongs else get_close_matches(str(kind), families, n=1)
        problem = f"{kind} reads {belongs}, not {modality}" if belongs else f"{kind} is no family that is known here"
        nearest = f"; nearest: {near[0]}" if near else ""
        problems.append(Problem("config.json model_type", f"{problem}{nearest}; for {modality}: {', '.join(families)}"))
    heads = found.config.get("architectures") or []
    if heads and not any(str(head).endswith(_HEADS) for head in heads):
        problems.append(Problem("config.json architectures", f"{', '.join(heads)} gives no logits of classes"))
    if not any((found.folder / name).exists() for name in _WEIGHTS):
        problems.append(Problem("PATH", f"{found.path} holds no weights: one of {', '.join(_WEIGHTS)}"))
    if missing := missing_packages():
        problem = f"a Hugging Face folder is exported with {', '.join(missing)}, not installed here"
        problems.append(Problem("PATH", f"{problem}: install the extra train ({INSTALL}), or give an ONNX"))
    return problems


def _facts(folder: Path, modality: str, problems: list[Problem]) -> dict[str, Any]:
    if modality == "text":
        return {"tokenizer": _json(folder / "tokenizer.json", problems)}
    return _json(folder / "preprocessor_config.json", problems)


def _json(path: Path, problems: list[Problem]) -> dict[str, Any]:
    """Read a JSON map beside the model; empty where there is no file."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        problems.append(Problem(path.name, f"is no JSON: {error}"))
        return {}
    if not isinstance(found, dict):
        problems.append(Problem(path.name, "must be a JSON map"))
        return {}
    return found
