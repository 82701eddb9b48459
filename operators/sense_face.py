"""Video frames in, face observations out: one for each frame, with an expression, or with why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels import model_input as framing
from kernels.engines import Engine
from kernels.face.crop import Square, crop, quality, trust
from kernels.face.detection import CascadeDetector, FaceFinder, Track, YunetDetector
from kernels.face.jpeg import JpegError, decode_grey, decode_rgb, grey_of
from kernels.vad import vad_of
from operators.consent import Gate, Verdict
from operators.encoders import load_framed
from operators.payloads import MAX_FRAME_BYTES, Observation, VideoFrame
from streamer.operator import Context
from streamer.records import Origin, Record

_SMALLEST_FACE_PX = 24
_IDLE_MS = 10_000


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
    """The model by name, the smallest face read, and the detector: OpenCV's `cascade`, or the path of a YuNet ONNX."""

    model: str = "face_affect"
    min_face: Pixels = Pixels(60)
    detector: str = "cascade"

    def __post_init__(self) -> None:
        if self.min_face < _SMALLEST_FACE_PX:
            raise ValueError(f"min_face must be {_SMALLEST_FACE_PX}px or more: a smaller face shows no expression")


@dataclass(slots=True)
class _Glance:
    """A frame that may be read, and what is made of it: a `problem`, or a `track`, and with one face, that.

    `face` is its grey square, by which its quality is judged, `framed` what the model is given, `known` the share of
    its probability on classes that have an emotion.
    """

    record: Record[Any]
    verdict: Verdict
    place: int
    problem: str | None = None
    track: Track | None = None
    face: NDArray[np.float32] | None = None
    framed: NDArray[np.float32] | None = None
    emotions: NDArray[np.float64] | None = None
    known: float = 1.0
    embedding: NDArray[np.float16] | None = None


class _Stages(NamedTuple):
    decode_ms: list[float]
    detect_ms: list[float]
    encode_ms: list[float]


class SenseFace:
    """Follows one face for each session and source; one batched encoder call for each batch of records.

    A frame that may not be read is neither decoded nor encoded. A mirrored frame is read as it is: the network was
    trained on both sides. An observation's `box` is (left, top, width, height) in pixels of the upright frame.
    """

    modality = "face"

    def __init__(self, params: Params, context: Context) -> None:
        self._params = params
        self._context = context
        self._gate = Gate(context, self.modality)
        self._engine: Engine | None = None
        self._framing: framing.FaceFraming = framing.FaceGreyCrop()
        self._finder: FaceFinder | None = None
        self._tracks: dict[tuple[str, str], Track] = {}

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
        """Frame records in, observation records and refusals out, in the order of the batch."""
        out: list[Record[Any] | None] = [None] * len(batch)
        glances: list[_Glance] = []
        for place, record in enumerate(batch):
            verdict = self._gate.verdict(record)
            if verdict.allowed:
                glances.append(_Glance(record, verdict, place))
                continue
            self._drop(record.key)
            if verdict.disclosed and verdict.reason is not None:
                out[place] = record.derive(self._gate.absent(record, verdict.reason, record.payload.source_id))
        if glances:
            stages = await asyncio.to_thread(self._read, glances)
            self._context.metrics.time("decode", stages.decode_ms)
            self._context.metrics.time("detect", stages.detect_ms)
            self._context.metrics.time("encode", stages.encode_ms)
        for glance in glances:
            out[glance.place] = self._answer(glance)
        return [*(record for record in out if record is not None), *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """A consent or control in; an `absent` observation out, and the face let go, where it ends a reading."""
        answers = self._gate.on_table(table, record)
        for answer in answers:
            if isinstance(answer.payload, Observation):
                self._drop(answer.key)
        return answers

    def needs_from(self, session_id: str) -> Origin | None:
        """No input is held between batches: None."""
        return None

    def forget(self, session_id: str) -> None:
        """Drop where a session's faces were, and what was decided of it."""
        self._drop(session_id)
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Let the model, the detector and all faces go."""
        self._engine = self._finder = None
        self._tracks.clear()

    def _drop(self, session_id: str) -> None:
        for key in [key for key in list(self._tracks) if key[0] == session_id]:  # a copy: a thread may be reading
            self._tracks.pop(key, None)

    def _load(self) -> None:
        import cv2  # noqa: PLC0415 - heavy libraries are imported where they are first needed

        cv2.setNumThreads(self._context.settings.threads)
        self._engine, self._framing = load_framed(self._params.model, self._context, framing.face_framing)
        named = self._params.detector
        detector = CascadeDetector() if named == "cascade" else YunetDetector(Path(named).expanduser())
        self._finder = FaceFinder(detector, min_px=self._params.min_face)
        self._finder.find(np.zeros((240, 320), np.uint8), 0, None)
        shape = (64, 64, 3) if self._framing.colour else (64, 64)
        blank = self._framing.cut(np.zeros(shape, np.uint8), Square(0, 0, shape[0]))
        for n in (1, 2, 4):
            framing.read(self._engine, self._framing, [blank] * n)

    def _read(self, glances: Sequence[_Glance]) -> _Stages:
        """Fill in what each frame shows; runs in a worker thread, one call at a time."""
        if self._engine is None or self._finder is None:
            raise RuntimeError("sense_face was not opened")
        perf_ms = self._context.clock.perf_ms
        stages = _Stages([], [], [])
        for glance in glances:
            begun = perf_ms()
            try:
                picture = _decoded(glance.record.payload, colour=self._framing.colour)
            except JpegError as error:
                glance.problem = str(error)
                continue
            decoded = perf_ms()
            self._look(self._finder, picture, glance)
            stages.decode_ms.append(decoded - begun)
            stages.detect_ms.append(perf_ms() - decoded)
        seen = [g for g in glances if g.face is not None]
        if seen:
            begun = perf_ms()
            reading = framing.read(self._engine, self._framing, [g.framed for g in seen])
            for row, glance in enumerate(seen):
                glance.emotions, glance.known = reading.emotions[row], float(reading.known[row])
                if reading.embeddings is not None:
                    glance.embedding = reading.embeddings[row].astype(np.float16)
            stages.encode_ms.extend([perf_ms() - begun] * len(seen))
        return stages

    def _look(self, finder: FaceFinder, picture: NDArray[np.uint8], glance: _Glance) -> None:
        """Follow the face, and cut it out where it may be read."""
        grey = grey_of(picture) if self._framing.colour else picture
        at_ms = glance.record.event_time_ms
        key = (glance.record.key, glance.record.payload.source_id)
        track = finder.find(grey, at_ms, self._tracks.get(key))
        self._tracks[key] = glance.track = track
        if len(self._tracks) > 1:
            tracks = list(self._tracks.items())
            for idle in [k for k, t in tracks if k[0] == key[0] and t.searched_ms < at_ms - _IDLE_MS]:
                self._tracks.pop(idle, None)
        if track.square is not None and (track.faces <= 1 or not glance.verdict.single_subject):
            glance.face = crop(grey, track.square)
            glance.framed = self._framing.cut(picture, track.square) if self._framing.colour else glance.face

    def _answer(self, glance: _Glance) -> Record[Any]:
        """What is written for a frame that was read."""
        record, track = glance.record, glance.track
        if glance.problem is not None or track is None:
            return record.refuse("undecodable", f"VideoFrame.data: {glance.problem}")
        if glance.emotions is None or glance.face is None or track.square is None:
            reason = "bystander" if track.square is not None else "no_face"
            self._context.metrics.count("bystander" if track.square is not None else "no_face")
            absent = self._gate.absent(record, reason, record.payload.source_id)
            return record.derive(msgspec.structs.replace(absent, faces=track.faces, mode=glance.verdict.mode))
        return record.derive(self._observation(glance, track.square, track.faces))

    def _observation(self, glance: _Glance, square: Square, faces: int) -> Observation:
        if self._engine is None or glance.emotions is None or glance.face is None:
            raise RuntimeError("sense_face was not opened")
        record, spec = glance.record, self._engine.spec
        emotions = {name: float(p) for name, p in zip(spec.labels, glance.emotions, strict=True)}
        seen, chance = quality(glance.face, square), 1 / len(spec.labels)
        sure = chance + trust(seen) * glance.known * (float(glance.emotions.max()) - chance)
        if spec.classes:
            seen["known"] = round(glance.known, 4)
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
            mode=glance.verdict.mode,
            model=spec.id,
            source_kafka_ms=record.kafka_ms,
        )
        if glance.verdict.mode == "expressions_only":
            shown = {"presence": 1.0}
            if "happiness" in emotions:
                shown["smiling"] = emotions["happiness"]
            return msgspec.structs.replace(observation, expressions=shown, confidence=0.0)
        valence, arousal, dominance = vad_of(emotions)
        embedding = None
        if self._context.settings.embeddings and glance.embedding is not None:
            embedding = glance.embedding.astype("<f2").tobytes()
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
