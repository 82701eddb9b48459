"""Read an ONNX model's inputs and outputs, and find the input format that fits them, or all that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernels.backend_openvino import import_openvino, port_name
from streamer.errors import Problem

EMBEDDING_WIDTHS = {"face": 256, "voice": 128, "text": 384}
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_GREY_SIDE = 48
_IMAGE, _ROWS = 4, 2
_BYTE_SCALE = 1 / 255
_RATE_HZ = 16_000
_TOKENS = 512
_WEIGHTS_APART = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])", re.DOTALL)
"""A tensor's entry `location` in TensorProto.external_data (onnx.proto): a file's name follows, of so many bytes."""


class Port(NamedTuple):
    """An input or output; a dimension that varies is None, and `kind` is OpenVINO's name of the element type."""

    name: str
    shape: tuple[int | None, ...]
    kind: str

    def __str__(self) -> str:
        shape = " x ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name} ({shape or 'scalar'}, {self.kind})"


class Signature(NamedTuple):
    """A model's inputs and outputs."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class InputFormat(NamedTuple):
    """The `input` of a model.json, and what is wrong."""

    input: dict[str, Any]
    problems: list[Problem]


def read_signature(onnx: Path) -> Signature:
    """Read the signature of an ONNX file.

    Raises:
        ValueError: it is no ONNX, an incomplete one, one whose weights are in another file, or one with operations that
            OpenVINO doesn't have.
    """
    if problem := _no_onnx(onnx):
        raise ValueError(problem)
    import_openvino()
    from openvino.frontend import FrontEndManager

    reader = FrontEndManager().load_by_framework("onnx")  # a plain read_model would try it as every other format too
    try:
        model = reader.convert(reader.load(str(onnx)))
    except Exception as error:  # OpenVINO's failures derive from nothing narrower
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1][:200] if lines else "no reason given"
        raise ValueError(f"OpenVINO can't read it as an ONNX: {reason}") from error
    return Signature(tuple(map(_port, model.inputs)), tuple(map(_port, model.outputs)))


def _no_onnx(path: Path) -> str | None:
    """What a file is instead of an ONNX with its weights inside, and what to do; None where nothing is seen."""
    data = path.read_bytes()
    if not data:
        return "an empty file"
    if data.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself: `git lfs pull` fetches it"
    if data.startswith(b"PK\x03\x04") or data.startswith(b"\x80\x02") or (data[8:9] == b"{" and b"dtype" in data[:400]):
        return "weights of PyTorch, not an ONNX: export it, by `optimum-cli export onnx` or torch.onnx.export"
    names = {data[found.end() : found.end() + found[1][0]] for found in _WEIGHTS_APART.finditer(data)}
    if apart := sorted(name.decode(errors="replace") for name in names):
        one_file = f"""python -c "import onnx; onnx.save(onnx.load('{path.name}'), 'one.onnx')\""""
        return f"its weights are in {', '.join(apart)}: save it as one file: {one_file}"
    return None


def input_format(
    signature: Signature, modality: str, facts: Mapping[str, Any], config: Mapping[str, Any]
) -> InputFormat:
    """Find the input format of a signature, by the preprocessor's `facts` and config.json, or all that is wrong."""
    describe = {"face": _face, "voice": _voice, "text": _text}[modality]
    found = describe(signature, facts, config)
    fixed = [port for port in signature.inputs if port.shape and port.shape[0] is not None]
    found.problems.extend(_varies(port, 0, "batch") for port in fixed)
    return found


def output_problems(signature: Signature, classes: int) -> list[Problem]:
    """List what is wrong with the outputs for this number of classes."""
    logits = next((port for port in signature.outputs if port.name == "logits"), None)
    if logits is None:
        listed = ", ".join(map(str, signature.outputs))
        way_out = 'export it with output_names=["logits"], before any softmax'
        return [Problem("outputs", f"none is named logits; there are: {listed}; {way_out}")]
    problems = []
    if len(logits.shape) != _ROWS:
        problems.append(Problem("outputs.logits", f"{logits} must be batch x classes"))
    elif classes and logits.shape[1] not in (None, classes):
        problems.append(Problem("outputs.logits", f"has {logits.shape[1]} columns, but {classes} classes are named"))
    return problems


def embedding_width(signature: Signature, modality: str) -> int:
    """Return the width of the output `embedding` if observations of the modality have that width, else 0."""
    wanted = EMBEDDING_WIDTHS[modality]
    return wanted if any(p.name == "embedding" and p.shape[1:] == (wanted,) for p in signature.outputs) else 0


def _face(signature: Signature, facts: Mapping[str, Any], _config: Mapping[str, Any]) -> InputFormat:
    found = InputFormat({}, [])
    port = _only(signature, found, "f32", _IMAGE, "batch x 3 x size x size")
    if port is None:
        return found
    _batch, channels, *sides = port.shape
    if channels == 1 and sides == [_GREY_SIDE, _GREY_SIDE]:
        found.input.update(framing="face_grey_crop", name=port.name, size=_GREY_SIDE)
        return found
    if channels not in (3, None):
        found.problems.append(Problem(f"inputs.{port.name}", f"{port} must have 3 channels, or be 1 x 48 x 48"))
    if not facts:
        example = '{"size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
        way_out = f"write one beside it that says how its pictures were normalised, such as {example}"
        found.problems.append(Problem("preprocessor_config.json", f"is missing: {way_out}"))
        return found
    size = _side(facts.get("size"))
    if size is None or any(side not in (None, size) for side in sides):
        problem = f"{facts.get('size')} isn't a square that fits {port}"
        found.problems.append(Problem("preprocessor_config.json size", problem))
    scale = facts.get("rescale_factor", _BYTE_SCALE) if facts.get("do_rescale", True) else 1.0
    if abs(scale - _BYTE_SCALE) > _BYTE_SCALE / 100:
        found.problems.append(Problem("preprocessor_config.json rescale_factor", "must be 1/255"))
    normalised = facts.get("do_normalize", True)
    mean, std = [facts.get(key) for key in ("image_mean", "image_std")] if normalised else ([0.0] * 3, [1.0] * 3)
    for key, value in (("image_mean", mean), ("image_std", std)):
        if not isinstance(value, list) or [isinstance(v, int | float) for v in value] != [True] * 3:
            found.problems.append(Problem(f"preprocessor_config.json {key}", "must be three numbers"))
    found.input.update(framing="image_rgb", name=port.name, size=size, mean=mean, std=std)
    return found


def _voice(signature: Signature, facts: Mapping[str, Any], _config: Mapping[str, Any]) -> InputFormat:
    found = InputFormat({}, [])
    if {port.name for port in signature.inputs} == {"features", "mask"}:
        found.input.update(framing="log_mel", rate_hz=_RATE_HZ)
        return found
    mask = next((port for port in signature.inputs if port.name == "attention_mask"), None)
    rest = Signature(tuple(p for p in signature.inputs if p is not mask), signature.outputs)
    port = _only(rest, found, "f32", _ROWS, "batch x samples")
    if port is None:
        return found
    timed = (port, *([mask] if mask else []))
    found.problems.extend(_varies(p, 1, "time") for p in timed if p.shape[1] is not None)
    if mask and mask.kind != "i64":
        found.problems.append(Problem("inputs.attention_mask", f"{mask} must be i64"))
    if not facts:
        example = '{"sampling_rate": 16000, "do_normalize": true}'
        way_out = f"write one beside it that says how its sound was normalised, such as {example}"
        found.problems.append(Problem("preprocessor_config.json", f"is missing: {way_out}"))
    elif facts.get("sampling_rate", _RATE_HZ) != _RATE_HZ:
        found.problems.append(Problem("preprocessor_config.json sampling_rate", "must be 16000: chunks are 16 kHz"))
    normalised = facts.get("do_normalize", True)
    found.input.update(framing="waveform", name=port.name, rate_hz=_RATE_HZ, normalised=normalised)
    if mask:
        found.input["mask"] = mask.name
    return found


def _text(signature: Signature, facts: Mapping[str, Any], config: Mapping[str, Any]) -> InputFormat:
    found = InputFormat({}, [])
    names = [port.name for port in signature.inputs]
    if not {"input_ids", "attention_mask"} <= set(names) <= set(TEXT_INPUTS):
        wanted = "input_ids and attention_mask (and perhaps token_type_ids), batch x tokens"
        listed = ", ".join(map(str, signature.inputs))
        found.problems.append(Problem("inputs", f"must be {wanted}; there are: {listed}"))
    for port in signature.inputs:
        if len(port.shape) != _ROWS or port.kind != "i64":
            found.problems.append(Problem(f"inputs.{port.name}", f"{port} must be batch x tokens, i64"))
        elif port.shape[1] is not None:
            found.problems.append(_varies(port, 1, "token"))
    tokenizer: Mapping[str, Any] = facts.get("tokenizer", {})
    if not tokenizer:
        found.problems.append(Problem("tokenizer.json", "is missing beside it: the model's own words are needed"))
    padding, vocabulary = tokenizer.get("padding") or {}, tokenizer.get("model") or {}
    pad_id = config.get("pad_token_id", padding.get("pad_id", 0)) or 0
    positions = int(config.get("max_position_embeddings", _TOKENS))
    if config.get("model_type") in ("roberta", "xlm-roberta"):
        positions -= pad_id + 1  # their positions count from behind the padding's
    size = len(vocabulary.get("vocab", ()))
    if config.get("vocab_size") and size > config["vocab_size"]:
        found.problems.append(Problem("tokenizer.json", f"has {size} words, the model {config['vocab_size']}"))
    found.input.update(
        framing="wordpiece", tokenizer="tokenizer.json", inputs=names, positions=min(positions, _TOKENS),
        pad_id=pad_id, unknown=_unknown(vocabulary), emoji="as_is",
    )  # fmt: skip
    return found


def _unknown(vocabulary: Mapping[str, Any]) -> str | None:
    """Return the unknown token, which each kind of model of the tokenizers library names differently."""
    at = vocabulary.get("unk_id")
    return vocabulary["vocab"][at][0] if at is not None else vocabulary.get("unk_token")


def _only(signature: Signature, found: InputFormat, kind: str, rank: int, wanted: str) -> Port | None:
    """Return the single input if it has this type and rank, else None with the problem added."""
    if len(signature.inputs) != 1:
        listed = ", ".join(map(str, signature.inputs))
        found.problems.append(Problem("inputs", f"must be one, {wanted}; there are: {listed}"))
        return None
    (port,) = signature.inputs
    if len(port.shape) != rank or port.kind != kind:
        found.problems.append(Problem(f"inputs.{port.name}", f"{port} must be {wanted}, {kind}"))
        return None
    return port


def _varies(port: Port, axis: int, called: str) -> Problem:
    way_out = f"export it with dynamic_axes={{'{port.name}': {{{axis}: '{called}'}}}}"
    return Problem(f"inputs.{port.name}", f"{port}: its {called} axis is fixed; {way_out}")


def _side(size: Any) -> int | None:
    if isinstance(size, Mapping):
        sides = set(size.values()) if size.keys() <= {"height", "width"} else {size.get("shortest_edge")}
        size = sides.pop() if len(sides) == 1 else None
    if isinstance(size, Sequence) and not isinstance(size, str):
        size = size[0] if len(set(size)) == 1 else None
    return size if isinstance(size, int) and size > 0 else None


def _port(port: Any) -> Port:
    shape = tuple(None if n.is_dynamic else n.get_length() for n in port.partial_shape)
    return Port(port_name(port), shape, port.get_element_type().get_type_name())
