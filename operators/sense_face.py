"""Senses faces: one observation for each video frame, with the expression it shows or the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels import model_input
from kernels.engines import Engine
from kernels.face.crop import Square, crop, quality, trust
from kernels.face.detection import CascadeDetector, FaceFinder, Track, YunetDetector, turned
from kernels.face.jpeg import JpegError, decode_grey, decode_rgb, grey_of
from kernels.vad import vad_of
from operators.consent import ConsentGate, Verdict
from operators.encoders import load_with_input
from operators.payloads import MAX_FRAME_BYTES, Observation, VideoFrame
from streamer.operator import Context
from streamer.records import Origin, Record

_SMALLEST_FACE_PX = 24
_IDLE_MS = 10_000
_LOOK_ASIDE_EVERY, _LOOK_ASIDE_AT = 10, (1, 2)
"""Of the pictures without a face: two in succession of every ten are also looked at turned."""


class Pixels(int):
    """A length in a picture."""

    @classmethod
    def parse(cls, value: object) -> Pixels:
        """`60px` to 60.

        Raises:
            ValueError: no whole number followed by px.
        """
        digits = value.removesuffix("px") if isinstance(value, str) else ""
        if not digits.isdecimal() or digits == value:
            raise ValueError(f"{value!r} is not a length in pixels: write a whole number and px, such as 60px")
        return cls(digits)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model's name, the smallest face that is read, and the detector: OpenCV's `cascade` or a YuNet ONNX's path."""

    model: str = "face_affect"
    min_face: Pixels = Pixels(60)
    detector: str = "cascade"

    def __post_init__(self) -> None:
        if self.min_face < _SMALLEST_FACE_PX:
            raise ValueError(f"min_face must be {_SMALLEST_FACE_PX}px or more: a smaller face shows no expression")


@dataclass(slots=True)
class _Detection:
    """A frame that may be read, and what is found in it, step by step.

    Args:
        record: the frame's.
        verdict: how it may be read.
        row: its place in the batch.
        problem: why it can't be decoded.
        track: where the face is, followed from frame to frame.
        face: the face's grey square, by which quality is judged.
        framed: the model's input.
        emotions: probabilities in the order of the model's labels.
        mapped: the share of probability on classes that map to an emotion.
        embedding: float16, of a model that has one.
    """

    record: Record[Any]
    verdict: Verdict
    row: int
    problem: str | None = None
    track: Track | None = None
    face: NDArray[np.float32] | None = None
    framed: NDArray[np.float32] | None = None
    emotions: NDArray[np.float64] | None = None
    mapped: float = 1.0
    embedding: NDArray[np.float16] | None = None


class _Stages(NamedTuple):
    decode_ms: list[float]
    detect_ms: list[float]
    encode_ms: list[float]


class _Lying:
    """How a camera lies: by how many quarter turns its pictures are off although they claim to be upright.

    Where no face is found, two pictures now and then are also looked at turned. Only if a face shows in both after the
    same turn, it is the camera that lies on its side: phones do, and say so wrongly or not at all.
    """

    def __init__(self) -> None:
        self.turn = self.last = 0
        self._supposed: int | None = None

    def look(self, finder: FaceFinder, grey: NDArray[np.uint8], misses: int) -> bool:
        """Whether a picture without a face must be turned by `last` more from now on; `misses` counts such pictures."""
        if misses % _LOOK_ASIDE_EVERY not in _LOOK_ASIDE_AT:
            return False
        found, supposed = finder.quarter_turn(grey), self._supposed
        self._supposed = found
        if found is None or found != supposed:
            return False
        self.turn, self.last, self._supposed = (self.turn + found) % 4, found, None
        return True


class SenseFace:
    """Follows one face per session and source; one call of the encoder for each batch of records.

    A frame that may not be read is neither decoded nor encoded. A mirrored frame is read as it is: the network was
    trained on both sides. Frames of a camera that lies on its side are turned, whatever they say. An observation's
    `box` is (left, top, width, height) in pixels of the upright frame.
    """

    modality = "face"

    def __init__(self, params: Params, context: Context) -> None:
        self._params = params
        self._context = context
        self._gate = ConsentGate(context, self.modality, drop=self._drop)
        self._engine: Engine | None = None
        self._input: model_input.FaceInput = model_input.FaceGreyCrop()
        self._finder: FaceFinder | None = None
        self._tracks: dict[tuple[str, str], Track] = {}
        self._lying: dict[tuple[str, str], _Lying] = {}

    async def open(self) -> None:
        """Check the declared use and the model's licence, load the detector, compile the model and warm both up.

        Raises:
            RefusedUseError: this use, or the model's licence state, is not accepted here.
            ModelError: the model folder is incomplete or altered, or nothing on this machine runs it.
            DetectorError: the detector's file is missing or no YuNet model.
        """
        self._gate.open()
        await asyncio.to_thread(self._load)

    async def process(self, batch: Sequence[Record[VideoFrame]]) -> Sequence[Record[Any]]:
        """One observation or refusal for each frame, in the order of the batch; none before disclosure."""
        out: list[Record[Any] | None] = [None] * len(batch)
        detections: list[_Detection] = []
        for row, record in enumerate(batch):
            verdict = self._gate.verdict(record)
            if verdict.allowed:
                detections.append(_Detection(record, verdict, row))
                continue
            self._drop(record.key)
            out[row] = next(iter(self._gate.refused(record, verdict, record.payload.source_id)), None)
        if detections:
            stages = await asyncio.to_thread(self._read, detections)
            self._context.metrics.time("decode", stages.decode_ms)
            self._context.metrics.time("detect", stages.detect_ms)
            self._context.metrics.time("encode", stages.encode_ms)
        for detection in detections:
            out[detection.row] = self._output(detection)
        return [*(record for record in out if record is not None), *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or control; returns `absent` observations for the sessions whose reading it ends."""
        return self._gate.on_table(table, record)

    def needs_from(self, session_id: str) -> Origin | None:
        """None: no record is buffered between batches."""
        return None

    def forget(self, session_id: str) -> None:
        """Drop a session's tracks and decisions."""
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Release the model and the detector, drop all tracks."""
        self._engine = self._finder = None
        self._tracks.clear()
        self._lying.clear()

    def _drop(self, session_id: str) -> None:
        for key in [key for key in list(self._tracks) if key[0] == session_id]:  # a copy: a thread may be reading
            self._tracks.pop(key, None)
            self._lying.pop(key, None)

    def _load(self) -> None:
        import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

        cv2.setNumThreads(self._context.settings.threads)
        self._engine, self._input = load_with_input(self._params.model, self._context, model_input.face_input)
        named = self._params.detector
        detector = CascadeDetector() if named == "cascade" else YunetDetector(Path(named).expanduser())
        self._finder = FaceFinder(detector, min_px=self._params.min_face)
        self._finder.find(np.zeros((240, 320), np.uint8), 0, None)
        shape = (64, 64, 3) if self._input.colour else (64, 64)
        blank = self._input.cut(np.zeros(shape, np.uint8), Square(0, 0, shape[0]))
        for n in (1, 2, 4):
            model_input.run_model(self._engine, self._input, [blank] * n)

    def _read(self, detections: Sequence[_Detection]) -> _Stages:
        """Decode, detect and encode, filling in the detections; runs in a worker thread, one call at a time."""
        if self._engine is None or self._finder is None:
            raise RuntimeError("sense_face was not opened")
        perf_ms = self._context.clock.perf_ms
        stages = _Stages([], [], [])
        for detection in detections:
            begun = perf_ms()
            try:
                picture = _decoded(detection.record.payload, colour=self._input.colour)
            except JpegError as error:
                detection.problem = str(error)
                continue
            decoded = perf_ms()
            self._detect(self._finder, picture, detection)
            stages.decode_ms.append(decoded - begun)
            stages.detect_ms.append(perf_ms() - decoded)
        seen = [g for g in detections if g.face is not None]
        if seen:
            begun = perf_ms()
            reading = model_input.run_model(self._engine, self._input, [g.framed for g in seen])
            for row, detection in enumerate(seen):
                detection.emotions, detection.mapped = reading.emotions[row], float(reading.mapped_share[row])
                if reading.embeddings is not None:
                    detection.embedding = reading.embeddings[row].astype(np.float16)
            stages.encode_ms.extend([perf_ms() - begun] * len(seen))
        return stages

    def _detect(self, finder: FaceFinder, picture: NDArray[np.uint8], detection: _Detection) -> None:
        """Find or follow the face, and crop it where it may be read."""
        at_ms = detection.record.event_time_ms
        key = (detection.record.key, detection.record.payload.source_id)
        lying = self._lying.setdefault(key, _Lying())
        picture = turned(picture, lying.turn)
        grey = grey_of(picture) if self._input.colour else picture
        track = finder.find(grey, at_ms, self._tracks.get(key))
        if track.square is None and lying.look(finder, grey, track.misses):
            picture, grey = turned(picture, lying.last), turned(grey, lying.last)
            track = finder.find(grey, at_ms, None)
        self._tracks[key] = detection.track = track
        if len(self._tracks) > 1:
            tracks = list(self._tracks.items())
            for idle in [k for k, t in tracks if k[0] == key[0] and t.searched_ms < at_ms - _IDLE_MS]:
                self._tracks.pop(idle, None)
                self._lying.pop(idle, None)
        if track.square is not None and (track.faces <= 1 or not detection.verdict.single_subject):
            detection.face = crop(grey, track.square)
            detection.framed = self._input.cut(picture, track.square) if self._input.colour else detection.face

    def _output(self, detection: _Detection) -> Record[Any]:
        """The record to write for a frame that was read."""
        record, track = detection.record, detection.track
        if detection.problem is not None or track is None:
            return record.refuse("undecodable", f"VideoFrame.data: {detection.problem}")
        if detection.emotions is None or detection.face is None or track.square is None:
            reason = "bystander" if track.square is not None else "no_face"
            self._context.metrics.count("bystander" if track.square is not None else "no_face")
            absent = self._gate.absent(record, reason, record.payload.source_id)
            return record.derive(msgspec.structs.replace(absent, faces=track.faces, mode=detection.verdict.mode))
        return record.derive(self._observation(detection, track.square, track.faces))

    def _observation(self, detection: _Detection, square: Square, faces: int) -> Observation:
        if self._engine is None or detection.emotions is None or detection.face is None:
            raise RuntimeError("sense_face was not opened")
        record, spec = detection.record, self._engine.spec
        emotions = {name: float(p) for name, p in zip(spec.labels, detection.emotions, strict=True)}
        seen, chance = quality(detection.face, square), 1 / len(spec.labels)
        sure = chance + trust(seen) * detection.mapped * (float(detection.emotions.max()) - chance)
        if spec.classes:
            seen["known"] = round(detection.mapped, 4)
        observation = Observation(
            session_id=record.key,
            event_time_ms=record.event_time_ms,
            modality=self.modality,
            source_id=record.payload.source_id,
            start_ms=record.event_time_ms,
            end_ms=record.event_time_ms,
            confidence=sure,
            quality=seen,
            faces=faces,
            box=(round(square.x, 1), round(square.y, 1), round(square.side, 1), round(square.side, 1)),
            mode=detection.verdict.mode,
            model=spec.id,
            source_kafka_ms=record.kafka_ms,
        )
        if detection.verdict.mode == "expressions_only":
            shown = {"presence": 1.0}
            if "happiness" in emotions:
                shown["smiling"] = emotions["happiness"]
            return msgspec.structs.replace(observation, expressions=shown, confidence=0.0)
        valence, arousal, dominance = vad_of(emotions)
        embedding = None
        if self._context.settings.embeddings and detection.embedding is not None:
            embedding = detection.embedding.astype("<f2").tobytes()
        return msgspec.structs.replace(
            observation, emotions=emotions, embedding=embedding,
            valence=valence, arousal=arousal, dominance=dominance, vad_source="derived",
        )  # fmt: skip


def _decoded(frame: VideoFrame, *, colour: bool) -> NDArray[np.uint8]:
    """A frame's upright picture, grey or in colour.

    Raises:
        JpegError: it is too large, or not what the frame says.
    """
    if len(frame.data) > MAX_FRAME_BYTES:
        raise JpegError(f"{len(frame.data)} bytes, the limit is {MAX_FRAME_BYTES}")
    decode = decode_rgb if colour else decode_grey
    return decode(frame.data, width=frame.width, height=frame.height, rotation=frame.rotation)
