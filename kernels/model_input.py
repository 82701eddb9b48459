"""Make an encoder's inputs from faces, speech or texts, and emotions from its logits.

The `input` of a model.json is one of the structs below, selected by its field `framing`. Training, calibration and the
running pipeline all use them, so that an encoder is evaluated on the inputs it gets in operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.engines import Engine, ModelFolderError, ModelSpec
from kernels.face.crop import Square, crop, crop_rgb
from kernels.text.tokens import TextTokens, Tokens
from kernels.voice.speech import SpeechClip, stack_pieces, voice_features

Arrays = Mapping[str, NDArray[Any]]
Batch = tuple[list[int], Arrays]
"""The indices of some items, and the model's named inputs for them, in the same order."""
_VARIANCE_FLOOR = 1e-7


class FaceGreyCrop(msgspec.Struct, frozen=True, tag_field="framing", tag="face_grey_crop"):
    """Grey faces of 48 x 48, cut by `kernels.face.crop`, 0..255: (n, 1, 48, 48) float32."""

    name: str = "faces"
    size: Literal[48] = 48
    colour: ClassVar[bool] = False

    def cut(self, picture: NDArray[np.uint8], square: Square) -> NDArray[np.float32]:
        """Cut the face (48, 48) in a square out of a grey picture (h, w)."""
        return crop(picture, square)

    def batches(self, items: Sequence[NDArray[np.float32]]) -> Iterator[Batch]:
        """Make one batch of n results of `cut`."""
        yield list(range(len(items))), {self.name: np.stack(items)[:, None]}


class ImageRgb(msgspec.Struct, frozen=True, tag_field="framing", tag="image_rgb"):
    """Colour faces, (value / 255 - mean) / std for each of red, green, blue: (n, 3, size, size) float32."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    name: str = "pixel_values"
    colour: ClassVar[bool] = True

    def cut(self, picture: NDArray[np.uint8], square: Square) -> NDArray[np.float32]:
        """Cut the face in a square out of an RGB picture (h, w, 3): (3, size, size), normalised."""
        scaled = crop_rgb(picture, square, self.size) / np.float32(255)
        face = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(face.transpose(2, 0, 1), np.float32)

    def batches(self, items: Sequence[NDArray[np.float32]]) -> Iterator[Batch]:
        """Make one batch of n results of `cut`."""
        yield list(range(len(items))), {self.name: np.stack(items)}


class LogMel(msgspec.Struct, frozen=True, tag_field="framing", tag="log_mel"):
    """`voice_features` of up to 3 s of speech: `features` (n, 300, 67) and their `mask` (n, 300), float32."""

    rate_hz: Literal[16000] = 16000
    frames: Literal[300] = 300
    features: Literal[67] = 67

    def batches(self, items: Sequence[SpeechClip]) -> Iterator[Batch]:
        """Make one batch of n clips."""
        features, mask = stack_pieces([voice_features(piece) for piece in items])
        yield list(range(len(items))), {"features": features, "mask": mask}


class Waveform(msgspec.Struct, frozen=True, tag_field="framing", tag="waveform"):
    """Samples at 16 kHz, scaled to mean 0 and variance 1 if `normalised`: (n, samples) float32.

    Clips of equal length share a batch and nothing is padded: padding would change a clip's logits, as the first
    normalisation of these networks runs over time. So a clip's logits don't depend on the other clips.
    """

    name: str = "input_values"
    rate_hz: Literal[16000] = 16000
    normalised: bool = True
    mask: str | None = None

    def batches(self, items: Sequence[SpeechClip]) -> Iterator[Batch]:
        """Make one batch of the clips of each length, shortest first."""
        for length in sorted({len(piece.samples) for piece in items}):
            rows = [row for row, piece in enumerate(items) if len(piece.samples) == length]
            values = np.stack([items[row].samples for row in rows])
            if self.normalised:
                values = values - values.mean(axis=1, keepdims=True)
                values /= np.sqrt(values.var(axis=1, keepdims=True) + np.float32(_VARIANCE_FLOOR))
            inputs = {self.name: values}
            yield rows, inputs | ({self.mask: np.ones(values.shape, np.int64)} if self.mask else {})


class WordPiece(msgspec.Struct, frozen=True, tag_field="framing", tag="wordpiece"):
    """Token ids by the model's `tokenizer.json`, padded to a common width: int64 (n, t) for each of `inputs`.

    `positions` is the maximum number of tokens, special tokens included.
    """

    positions: int = 512
    tokenizer: str = "tokenizer.json"
    inputs: tuple[Literal["input_ids", "attention_mask", "token_type_ids"], ...] = ("input_ids", "attention_mask")
    pad_id: int = 0
    unknown: str | None = "[UNK]"
    emoji: Literal["spelled_out", "as_is"] = "spelled_out"

    def tokens(self, folder: Path, max_tokens: int) -> TextTokens:
        """Load the tokenizer from the model's folder, with a limit on tokens.

        Raises:
            ModelFolderError: the limit is above the model's `positions`.
        """
        if max_tokens > self.positions:
            raise ModelFolderError(f"{folder.name} takes {self.positions} tokens: say max_tokens: {self.positions}")
        return TextTokens(
            folder / self.tokenizer,
            max_tokens=max_tokens,
            pad_id=self.pad_id,
            unknown=self.unknown,
            spelled=self.emoji == "spelled_out",
        )

    def arrays(self, tokens: Tokens) -> Arrays:
        """Select the model's inputs from a batch of tokens; missing `token_type_ids` are 0."""
        found = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        return {name: found.get(name, np.zeros_like(tokens.input_ids)) for name in self.inputs}


FaceInput = FaceGreyCrop | ImageRgb
VoiceInput = LogMel | Waveform


class BatchedInput(Protocol):
    """An input format of faces or speech."""

    def batches(self, items: Sequence[Any]) -> Iterator[Batch]:
        """Make batches of named inputs for an engine."""
        ...


class ModelOutputs(NamedTuple):
    """An encoder's outputs for n items.

    `emotions` float64 (n, labels), rows sum to 1; `mapped_share` float64 (n,): the share of probability on classes that
    map to a label; `embeddings` float32 (n, width), None for a model without any.
    """

    emotions: NDArray[np.float64]
    mapped_share: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None


def face_input(spec: ModelSpec) -> FaceInput:
    """Read a face model's input format from its spec.

    Raises:
        ModelFolderError: it is no face model, or its `input` is invalid.
    """
    found: FaceInput = _input_format(spec, "face", FaceInput)
    return found


def voice_input(spec: ModelSpec) -> VoiceInput:
    """Read a voice model's input format from its spec; raises as `face_input` does."""
    found: VoiceInput = _input_format(spec, "voice", VoiceInput)
    return found


def text_input(spec: ModelSpec) -> WordPiece:
    """Read a text model's input format from its spec; raises as `face_input` does."""
    found: WordPiece = _input_format(spec, "text", WordPiece)
    return found


def run_model(engine: Engine, input_format: BatchedInput, items: Sequence[Any]) -> ModelOutputs:
    """Run an encoder on faces or clips, at least one, and return the outputs in their order."""
    logits, embeddings = raw_outputs(engine, input_format, items)
    p, mapped_share = emotions(engine.spec, logits)
    return ModelOutputs(p, mapped_share, embeddings)


def raw_outputs(
    engine: Engine, input_format: BatchedInput, items: Sequence[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Compute logits (n, k) and embeddings (n, width), or None, of items, at least one, in their order."""
    order: list[int] = []
    logits, embeddings = [], []
    for rows, inputs in input_format.batches(items):
        outputs = engine.infer(inputs)
        order += rows
        logits.append(outputs["logits"])
        if engine.spec.embedding_width:
            embeddings.append(outputs["embedding"])
    back = np.argsort(order)
    return np.concatenate(logits)[back], np.concatenate(embeddings)[back] if embeddings else None


def emotions(
    spec: ModelSpec, logits: NDArray[np.floating], temperature: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute probabilities of the spec's labels (n, labels), and the share on mapped classes (n,), from logits (n, k).

    Classes of one label are added; unmapped ones are left out, and the rest is scaled to sum 1.
    """
    temperature = spec.temperature if temperature is None else temperature
    p = softmax(logits, temperature)
    if not spec.classes:
        return p, np.ones(len(p))
    matrix = class_label_matrix(spec)
    mapped = matrix.any(axis=1)
    return by_label(softmax(logits[:, mapped], temperature), matrix[mapped]), np.asarray(p[:, mapped].sum(axis=1))


def class_label_matrix(spec: ModelSpec) -> NDArray[np.float64]:
    """Return the matrix (k, labels) of a spec's `classes`: 1 where a class maps to a label, or its p(class | label)."""
    rows = [to if isinstance(to, dict) else {to: 1.0} for to in spec.classes.values()]
    return np.array([[float(shares.get(label, 0.0)) for label in spec.labels] for shares in rows])


def by_label(p: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert probabilities of classes (n, k) to those of labels (n, labels) by a `class_label_matrix`; rows sum to 1.

    With p(class | label) this is Bayes, for classes equally frequent in training: p(label) ~ sum_k p_k P(k | label).
    """
    weights = p @ matrix
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _input_format(spec: ModelSpec, modality: str, kind: Any) -> Any:
    if spec.modality != modality:
        raise ModelFolderError(f"{spec.id} reads {spec.modality}, not {modality}: name another model in the topology")
    try:
        return msgspec.convert(spec.input, type=kind)
    except msgspec.ValidationError as error:
        raise ModelFolderError(f"{spec.folder.name}/model.json: input: {error}") from None
