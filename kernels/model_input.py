"""What an encoder takes and what its scores mean: faces, speech or texts in, its named inputs and emotions out.

The `input` of a model.json is one of the structs below, told apart by its field `framing`. Training, calibration and
the running pipeline all frame with these, so an encoder is judged on what it will be given.
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
from kernels.text_tokens import TextTokens, Tokens
from kernels.voice.speech import Listened, stack_pieces, voice_features

Arrays = Mapping[str, NDArray[Any]]
Batch = tuple[list[int], Arrays]
"""Which items, and the inputs made of them, in that order."""
_VARIANCE_FLOOR = 1e-7


class FaceGreyCrop(msgspec.Struct, frozen=True, tag_field="framing", tag="face_grey_crop"):
    """Grey squares of 48 x 48 as `kernels.face.crop` cuts them, 0..255: (n, 1, 48, 48) float32."""

    name: str = "faces"
    size: Literal[48] = 48
    colour: ClassVar[bool] = False

    def cut(self, picture: NDArray[np.uint8], square: Square) -> NDArray[np.float32]:
        """A grey picture (h, w) and a square to the face (48, 48)."""
        return crop(picture, square)

    def batches(self, items: Sequence[NDArray[np.float32]]) -> Iterator[Batch]:
        """What `cut` gave, n times, to one batch."""
        yield list(range(len(items))), {self.name: np.stack(items)[:, None]}


class ImageRgb(msgspec.Struct, frozen=True, tag_field="framing", tag="image_rgb"):
    """Colour squares, (values / 255 - mean) / std for each of red, green, blue: (n, 3, size, size) float32."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    name: str = "pixel_values"
    colour: ClassVar[bool] = True

    def cut(self, picture: NDArray[np.uint8], square: Square) -> NDArray[np.float32]:
        """A picture (h, w, 3) in red, green, blue and a square to the face (3, size, size), normalised."""
        scaled = crop_rgb(picture, square, self.size) / np.float32(255)
        face = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(face.transpose(2, 0, 1), np.float32)

    def batches(self, items: Sequence[NDArray[np.float32]]) -> Iterator[Batch]:
        """What `cut` gave, n times, to one batch."""
        yield list(range(len(items))), {self.name: np.stack(items)}


class LogMel(msgspec.Struct, frozen=True, tag_field="framing", tag="log_mel"):
    """`voice_features` of up to 3 s (kernels.voice.speech): `features` (n, 300, 67), their `mask` (n, 300); float32."""

    rate_hz: Literal[16000] = 16000
    frames: Literal[300] = 300
    features: Literal[67] = 67

    def batches(self, items: Sequence[Listened]) -> Iterator[Batch]:
        """Pieces of speech, n of them, to one batch."""
        features, mask = stack_pieces([voice_features(piece) for piece in items])
        yield list(range(len(items))), {"features": features, "mask": mask}


class Waveform(msgspec.Struct, frozen=True, tag_field="framing", tag="waveform"):
    """Samples at 16 kHz, brought to mean 0 and variance 1 where `normalised`: (n, samples) float32.

    Pieces of one length share a batch and nothing is padded: zeros beside a short piece would change what these
    networks make of it (their first normalisation runs over time), so a piece is read as if it were alone.
    """

    name: str = "input_values"
    rate_hz: Literal[16000] = 16000
    normalised: bool = True
    mask: str | None = None

    def batches(self, items: Sequence[Listened]) -> Iterator[Batch]:
        """Pieces of speech to one batch for each length, shortest first."""
        for length in sorted({len(piece.samples) for piece in items}):
            rows = [row for row, piece in enumerate(items) if len(piece.samples) == length]
            values = np.stack([items[row].samples for row in rows])
            if self.normalised:
                values = values - values.mean(axis=1, keepdims=True)
                values /= np.sqrt(values.var(axis=1, keepdims=True) + np.float32(_VARIANCE_FLOOR))
            inputs = {self.name: values}
            yield rows, inputs | ({self.mask: np.ones(values.shape, np.int64)} if self.mask else {})


class WordPiece(msgspec.Struct, frozen=True, tag_field="framing", tag="wordpiece"):
    """Token ids of a `tokenizer.json`, padded to a common width: int64 (n, t) for each of `inputs`.

    `positions` is the most that the model can take, special tokens included.
    """

    positions: int = 512
    tokenizer: str = "tokenizer.json"
    inputs: tuple[Literal["input_ids", "attention_mask", "token_type_ids"], ...] = ("input_ids", "attention_mask")
    pad_id: int = 0
    unknown: str | None = "[UNK]"
    emoji: Literal["spelled_out", "as_is"] = "spelled_out"

    def tokens(self, folder: Path, max_tokens: int) -> TextTokens:
        """The model's folder and a limit to the tokenizer.

        Raises:
            ModelFolderError: the limit is more than the model can take.
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
        """One batch of tokens to the model's inputs."""
        found = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        return {name: found.get(name, np.zeros_like(tokens.input_ids)) for name in self.inputs}


FaceFraming = FaceGreyCrop | ImageRgb
VoiceFraming = LogMel | Waveform


class Batching(Protocol):
    """A framing of faces or speech."""

    def batches(self, items: Sequence[Any]) -> Iterator[Batch]:
        """Items to the batches that an engine takes."""
        ...


class Reading(NamedTuple):
    """What an encoder made of n items.

    `emotions` float64 (n, labels), rows sum to 1; `known` float64 (n,): how much of the probability lies on classes
    that have a label at all; `embeddings` float32 (n, width), or None where the model gives none.
    """

    emotions: NDArray[np.float64]
    known: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None


def face_framing(spec: ModelSpec) -> FaceFraming:
    """A spec to how faces are framed for it.

    Raises:
        ModelFolderError: it is no model of faces, or its `input` isn't understood.
    """
    found: FaceFraming = _framing(spec, "face", FaceFraming)
    return found


def voice_framing(spec: ModelSpec) -> VoiceFraming:
    """A spec to how speech is framed for it; raises as `face_framing` does."""
    found: VoiceFraming = _framing(spec, "voice", VoiceFraming)
    return found


def text_framing(spec: ModelSpec) -> WordPiece:
    """A spec to how texts are framed for it; raises as `face_framing` does."""
    found: WordPiece = _framing(spec, "text", WordPiece)
    return found


def read(engine: Engine, framing: Batching, items: Sequence[Any]) -> Reading:
    """Faces or pieces of speech, at least one, to what the encoder makes of each, in their order."""
    logits, embeddings = raw_outputs(engine, framing, items)
    p, known = emotions(engine.spec, logits)
    return Reading(p, known, embeddings)


def raw_outputs(
    engine: Engine, framing: Batching, items: Sequence[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Items, at least one, to their logits (n, k) and embeddings (n, width) or None, in their order."""
    order: list[int] = []
    logits, embeddings = [], []
    for rows, inputs in framing.batches(items):
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
    """Logits (n, k) to the probabilities of the spec's labels (n, labels) and the share on classes with a label (n,).

    Classes of one label are added up; those without a counterpart are left out, and the rest sums to 1.
    """
    temperature = spec.temperature if temperature is None else temperature
    p = softmax(logits, temperature)
    if not spec.classes:
        return p, np.ones(len(p))
    merge = merging(spec)
    named = merge.any(axis=1)
    return by_label(softmax(logits[:, named], temperature), merge[named]), np.asarray(p[:, named].sum(axis=1))


def merging(spec: ModelSpec) -> NDArray[np.float64]:
    """A spec with `classes` to (k, labels): 1 where a class counts towards a label, or the share that stands there."""
    said = [to if isinstance(to, dict) else {to: 1.0} for to in spec.classes.values()]
    return np.array([[float(shares.get(label, 0.0)) for label in spec.labels] for shares in said])


def by_label(p: NDArray[np.float64], merge: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of classes (n, k) to those of labels (n, labels), rows sum to 1, by `merging`'s matrix.

    With shares this is Bayes, for classes drawn equally often in training: p(label) ~ sum_k p_k P(k | label).
    """
    found = p @ merge
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _framing(spec: ModelSpec, modality: str, kind: Any) -> Any:
    if spec.modality != modality:
        raise ModelFolderError(f"{spec.id} reads {spec.modality}, not {modality}: name another model in the topology")
    try:
        return msgspec.convert(spec.input, type=kind)
    except msgspec.ValidationError as error:
        raise ModelFolderError(f"{spec.folder.name}/model.json: input: {error}") from None
