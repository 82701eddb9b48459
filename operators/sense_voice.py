"""Senses voices: an observation on every half hop of event time, of how the voice sounds or that nobody speaks.

webrtcvad finds what may be speech, a network confirms it: what isn't is `absent`, as `noise` or `music`.

Chunks may have any length up to 10 s. A chunk that begins within 60 ms of the previous one's end continues it (clients
stamp with jitter). One that begins later leaves a gap, and segmentation starts anew. Of one that begins earlier only
the new part is used, so repeats and stragglers change nothing. Chunks that a client sends in one go may bear one stamp:
where `seq` goes on and the stamp hardly does, they follow each other. The first observation comes one to two half hops
after a stream's first sample.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels import model_input
from kernels.engines import Engine
from kernels.vad import vad_of
from kernels.voice.confirm import Sound, check_detector, classify, speech_probability
from kernels.voice.segments import PER_MS, Segment, SegmenterParams, SpeechSegmenter, first_origin_ms
from kernels.voice.speech import AcousticMeasures, SpeechClip, measure_acoustics, track_pitch
from kernels.voice.trust import trust
from operators.consent import ConsentGate, Verdict
from operators.encoders import load_with_input
from operators.payloads import AudioChunk, Observation
from streamer.event_time import Duration
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record

LONGEST_CHUNK_MS = 10_000
JITTER_MS = 60
BURST_MS = 5
"""The stamps of chunks that are sent in one go differ by at most this."""
IDLE_MS = 10_000
BUFFERED_MS = 45_000
_LARGEST_BATCH = 32


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of the model and of the one that confirms speech, and how a stream is segmented.

    `aggressiveness` (0 to 3) is webrtcvad's own parameter.
    """

    model: str = "voice_affect"
    detector: str = "silero_vad"
    hop: Duration = Duration(500)
    shortest: Duration = Duration(600)
    longest: Duration = Duration(3000)
    aggressiveness: int = 2

    def __post_init__(self) -> None:
        wrong = []
        if self.hop % 2 or not 100 <= self.hop <= 2000:  # noqa: PLR2004 - live, and not for every frame
            wrong.append("hop must be an even number of milliseconds from 100ms to 2s")
        if not 200 <= self.shortest <= self.longest <= 3000:  # noqa: PLR2004 - the model reads 3 s at once
            wrong.append("shortest and longest must lie between 200ms and 3s, shortest first")
        if self.aggressiveness not in range(4):
            wrong.append("aggressiveness must be 0, 1, 2 or 3")
        if wrong:
            raise ValueError("; ".join(wrong))


class _Segment(NamedTuple):
    """A segment of speech to classify: the row of its observation, and the chunk that completed it."""

    place: int
    record: Record[Any]
    verdict: Verdict
    segment: Segment


class _Prediction(NamedTuple):
    """The model's output for a segment: p of its emotions, the share of p on classes that map to one, the embedding."""

    emotions: dict[str, float]
    mapped: float
    embedding: NDArray[np.float16] | None


class _Stream:
    """One source of a session: its buffered samples, and the chunk from which it would have to be read again."""

    def __init__(self, record: Record[Any], rules: SegmenterParams) -> None:
        self.seq: int | None = None
        self.stamp_ms = record.event_time_ms
        self.segments = SpeechSegmenter(record.event_time_ms, rules)
        self.needs_from = record.origin
        self.newest_kafka_ms = record.kafka_ms
        self._needs_ms = record.event_time_ms
        self._step_ms = rules.step_ms
        self._chunks: deque[tuple[int, int, Origin]] = deque()

    def in_burst(self, record: Record[AudioChunk]) -> bool:
        """Whether a chunk was sent in one go with the one before: its `seq` follows, its stamp has hardly moved on."""
        seq, moved_ms = record.payload.seq, record.event_time_ms - self.stamp_ms
        follows = seq is not None and self.seq is not None and seq == self.seq + 1
        ahead_ms = self.segments.end_sample / PER_MS - record.event_time_ms
        return follows and 0 <= moved_ms <= BURST_MS and ahead_ms <= LONGEST_CHUNK_MS

    def repeats(self, record: Record[AudioChunk]) -> bool:
        """Whether a chunk has the very stamp and `seq` of the one before."""
        return record.event_time_ms == self.stamp_ms and record.payload.seq == self.seq

    def push(self, record: Record[AudioChunk], samples: NDArray[np.int16], *, in_burst: bool) -> list[Segment]:
        """Add the new samples of the next chunk; returns what has become due."""
        self.newest_kafka_ms = max(self.newest_kafka_ms, record.kafka_ms)
        self.seq, self.stamp_ms = record.payload.seq, record.event_time_ms
        if not in_burst:  # whose place isn't its stamp's: no stream can begin at it
            origin_ms = first_origin_ms(record.event_time_ms, self._step_ms)
            self._chunks.append((origin_ms, record.event_time_ms, record.origin))
        segments = self.segments.push(samples)
        self._forget_chunks(record.event_time_ms)
        return segments

    def _forget_chunks(self, now_ms: int) -> None:
        """Drop earlier chunks: a stream that began at a chunk with this very origin would yield the same."""
        while self._chunks and self._chunks[0][0] <= self.segments.origin_ms:
            origin_ms, start_ms, origin = self._chunks.popleft()
            if origin_ms == self.segments.origin_ms:
                self.needs_from, self._needs_ms = origin, start_ms
        while self._chunks and self._needs_ms < now_ms - BUFFERED_MS:  # longer than any promise: commits must move on
            _, self._needs_ms, self.needs_from = self._chunks.popleft()


class SenseVoice:
    """Segments speech by session and source; one call of the encoder for each batch of records.

    Without consent nothing is buffered or encoded: the session's buffer is dropped and, where the person has been
    informed of the sensing, `absent` observations keep the cadence.
    """

    modality = "voice"

    def __init__(self, params: Params, context: Context) -> None:
        self._params = params
        self._context = context
        self._gate = ConsentGate(context, self.modality, drop=self._drop)
        self._rules = SegmenterParams(params.hop // 2, int(params.shortest), int(params.longest), params.aggressiveness)
        self._streams: dict[str, dict[str, _Stream]] = {}
        self._encoder: Engine | None = None
        self._detector: Engine | None = None
        self._input: model_input.VoiceInput = model_input.LogMel()

    async def open(self) -> None:
        """Check the declared use and the model's licence, compile the model and warm it up.

        Raises:
            RefusedUseError: this use, or the model's licence state, is not accepted here.
            ModelError: the model folder is incomplete or altered, or nothing on this machine runs it.
        """
        self._gate.open()
        await asyncio.to_thread(self._load)

    async def process(self, batch: Sequence[Record[AudioChunk]]) -> Sequence[Record[Observation | Refusal]]:
        """The observations due after each chunk, and refusals, in the order of the batch."""
        self._drop_idle(batch)
        out: list[Record[Any]] = []
        segments: list[_Segment] = []
        for record in batch:
            problem = _problem(record.payload)
            if problem is not None:
                out.append(record.refuse("undecodable", problem))
                continue
            verdict = self._gate.verdict(record)
            if not verdict.allowed:
                self._drop(record.key)
                out += self._without_consent(record, verdict)
                continue
            for segment in self._segment(record):
                observation = self._silence(record, verdict, segment)
                if segment.samples is not None:
                    segments.append(_Segment(len(out), record, verdict, segment))
                out.append(record.derive(observation))
        for start in range(0, len(segments), _LARGEST_BATCH):
            part = segments[start : start + _LARGEST_BATCH]
            begun_ms = self._context.clock.perf_ms()
            try:
                observations = await asyncio.to_thread(self._read, part)
            except Exception:
                for record in batch:  # a retry pushes these chunks again: they must not count as duplicates
                    self._drop(record.key)
                raise
            self._context.metrics.time("encode", [self._context.clock.perf_ms() - begun_ms] * len(part))
            for one, observation in zip(part, observations, strict=True):
                out[one.place] = one.record.derive(observation)
                if observation.absent:
                    self._context.metrics.count("music" if observation.reason == "music" else "noise")
        return [*out, *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or control; returns `absent` observations for the sessions whose reading it ends."""
        return self._gate.on_table(table, record)

    def needs_from(self, session_id: str) -> Origin | None:
        """The chunk from which reading again gives the observations still due; None where nothing is buffered."""
        return min((s.needs_from for s in self._streams.get(session_id, {}).values()), default=None)

    def forget(self, session_id: str) -> None:
        """Drop a session's buffered sound and decisions."""
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Release the model, drop all buffered sound."""
        self._encoder = self._detector = None
        self._streams.clear()

    def _drop(self, session_id: str) -> None:
        self._streams.pop(session_id, None)

    def _load(self) -> None:
        self._encoder, self._input = load_with_input(self._params.model, self._context, model_input.voice_input)
        self._detector, _ = load_with_input(self._params.detector, self._context, check_detector)
        warm = track_pitch(np.zeros(self._params.longest * PER_MS, np.float32))
        speech_probability(self._detector, warm.samples)
        for n in (1, 2, 4):
            self._infer([warm] * n)

    def _drop_idle(self, batch: Sequence[Record[Any]]) -> None:
        """Drop sources that sent nothing for 10 s of their partition's Kafka time, so that they hold back no commit."""
        newest_ms: dict[int, int] = {}
        for record in batch:
            partition = record.origin.partition
            newest_ms[partition] = max(record.kafka_ms, newest_ms.get(partition, 0))
        for session_id in list(self._streams):
            streams = self._streams[session_id]
            for source_id, stream in list(streams.items()):
                if stream.newest_kafka_ms < newest_ms.get(stream.needs_from.partition, 0) - IDLE_MS:
                    del streams[source_id]
            if not streams:
                self._drop(session_id)

    def _segment(self, record: Record[Any]) -> list[Segment]:
        """Append a well-formed chunk to its stream, resolving gaps and overlaps; returns what has become due."""
        chunk: AudioChunk = record.payload
        samples = np.frombuffer(chunk.data, "<i2")
        streams = self._streams.setdefault(record.key, {})
        stream = streams.get(chunk.source_id)
        start = record.event_time_ms * PER_MS
        if stream is not None and stream.repeats(record):
            self._context.metrics.count("duplicate")
            return []
        in_burst = stream is not None and stream.in_burst(record)
        if stream is not None and not in_burst and abs(start - stream.segments.end_sample) > JITTER_MS * PER_MS:
            ahead = stream.segments.end_sample - start
            if ahead >= len(samples):
                self._context.metrics.count("duplicate")
                return []
            if ahead > 0:
                samples = samples[ahead:]
            else:
                stream = None
        if stream is None:
            stream = streams[chunk.source_id] = _Stream(record, self._rules)
        return stream.push(record, samples, in_burst=in_burst)

    def _without_consent(self, record: Record[Any], verdict: Verdict) -> list[Record[Any]]:
        """An `absent` observation with the reason for each step that a chunk completes; none before disclosure."""
        if not verdict.disclosed or verdict.reason is None:
            return []
        step_ms, chunk = self._rules.step_ms, record.payload
        end_ms = record.event_time_ms + len(chunk.data) // 2 // PER_MS
        steps = range(record.event_time_ms // step_ms + 1, end_ms // step_ms + 1)
        refusals = [self._absent(record, verdict, (n - 1) * step_ms, n * step_ms, verdict.reason) for n in steps]
        return [record.derive(refusal) for refusal in refusals]

    def _silence(self, record: Record[Any], verdict: Verdict, segment: Segment) -> Observation:
        if segment.samples is None:
            self._context.metrics.count("no_speech")
        return self._absent(record, verdict, segment.start_ms, segment.end_ms, "no_speech")

    def _absent(self, record: Record[Any], verdict: Verdict, start_ms: int, end_ms: int, reason: str) -> Observation:
        return Observation(
            session_id=record.key,
            event_time_ms=end_ms,
            modality=self.modality,
            source_id=record.payload.source_id,
            start_ms=start_ms,
            end_ms=end_ms,
            absent=True,
            reason=reason,
            mode=verdict.mode,
            expressions={"speaking": 0.0} if verdict.mode == "expressions_only" and verdict.allowed else None,
            source_kafka_ms=record.kafka_ms,
        )

    def _read(self, segments: Sequence[_Segment]) -> list[Observation]:
        """The observations of segments of speech; runs in a worker thread, so it touches nothing of the event loop."""
        assert self._detector is not None  # noqa: S101 - opened before it hears
        sounds = [track_pitch(np.asarray(one.segment.samples, np.float32) / np.float32(32768)) for one in segments]
        heard: list[Sound] = [
            classify(sound, speech_probability(self._detector, sound.samples), one.segment.speech_ms)
            for sound, one in zip(sounds, segments, strict=True)
        ]
        spoken = [i for i, sound in enumerate(heard) if sound == "speech"]
        full = [i for i in spoken if segments[i].verdict.mode == "full"]
        predictions = dict(zip(full, self._infer([sounds[i] for i in full]), strict=True)) if full else {}
        found = {i: self._observation(segments[i], measure_acoustics(sounds[i]), predictions.get(i)) for i in spoken}
        return [found.get(i) or self._no_speech(one, heard[i]) for i, one in enumerate(segments)]

    def _no_speech(self, one: _Segment, reason: str) -> Observation:
        return self._absent(one.record, one.verdict, one.segment.start_ms, one.segment.end_ms, reason)

    def _infer(self, pieces: Sequence[SpeechClip]) -> list[_Prediction]:
        """Run the model on segments; probabilities are rounded to 1e-4."""
        assert self._encoder is not None  # noqa: S101 - opened before it hears
        spec = self._encoder.spec
        reading = model_input.run_model(self._encoder, self._input, pieces)
        p = np.round(reading.emotions, 4)
        p /= p.sum(axis=1, keepdims=True)
        embeddings = [None] * len(p) if reading.embeddings is None else list(reading.embeddings.astype("<f2"))
        return [
            _Prediction(dict(zip(spec.labels, row.tolist(), strict=True)), round(float(mapped), 4), embedding)
            for row, mapped, embedding in zip(p, reading.mapped_share, embeddings, strict=True)
        ]

    def _observation(self, one: _Segment, sound: AcousticMeasures, prediction: _Prediction | None) -> Observation:
        record, segment = one.record, one.segment
        quality = {
            "speech_s": segment.speech_ms / 1000,
            "voiced": round(sound.voiced, 3),
            "clipped": round(sound.clipped, 4),
            "range_db": round(sound.range_db, 1),
        }
        expressions = None
        if prediction is None:
            expressions = {
                "speaking": 1.0,
                "loudness": round(sound.loudness_dbfs, 1),
                "pitch": round(sound.pitch_hz, 1),
                "rate": round(sound.rate_hz, 2),
            }
        assert self._encoder is not None  # noqa: S101 - opened before it hears
        emotions, embedding, certainty = None, None, 0.0
        if prediction is not None:
            emotions = prediction.emotions
            certainty = confidence(max(emotions.values()), len(emotions), quality, prediction.mapped)
            if self._encoder.spec.classes:
                quality["known"] = prediction.mapped
            if self._context.settings.embeddings and prediction.embedding is not None:
                embedding = prediction.embedding.tobytes()
        valence, arousal, dominance = vad_of(emotions) if emotions else (None, None, None)
        return Observation(
            session_id=record.key,
            event_time_ms=segment.end_ms,
            modality=self.modality,
            source_id=record.payload.source_id,
            start_ms=segment.start_ms,
            end_ms=segment.end_ms,
            emotions=emotions,
            valence=valence,
            arousal=arousal,
            dominance=dominance,
            vad_source="derived" if emotions else "none",
            embedding=embedding,
            confidence=certainty,
            quality=quality,
            mode=one.verdict.mode,
            expressions=expressions,
            model=self._encoder.spec.id if emotions else "",
            source_kafka_ms=record.kafka_ms,
        )


def confidence(top: float, classes: int, quality: dict[str, float], mapped: float = 1.0) -> float:
    """A confidence in [1 / classes, top] from the top class's calibrated p; poor sound lowers it.

    How far short, noisy or clipped speech is to be trusted was fitted (kernels/voice/trust.py); the share of
    probability on classes that are no emotion's (all but `mapped`) counts against it too.
    """
    trusted = mapped * trust(quality["speech_s"], quality["range_db"], quality["clipped"])
    chance = 1.0 / classes
    return round(chance + (top - chance) * trusted, 4)


def _problem(chunk: AudioChunk) -> str | None:
    """Why a chunk can't be used, naming the field and what it must be; None where it can."""
    if chunk.format != "pcm_s16le":
        return "AudioChunk.format must be pcm_s16le"
    if chunk.sample_rate_hz != PER_MS * 1000:
        return f"AudioChunk.sample_rate_hz is {chunk.sample_rate_hz}; it must be 16000"
    if chunk.channels != 1:
        return f"AudioChunk.channels is {chunk.channels}; it must be 1"
    if not chunk.data or len(chunk.data) % 2:
        return f"AudioChunk.data has {len(chunk.data)} bytes; it must be whole 16-bit samples, at least one"
    if len(chunk.data) // 2 > LONGEST_CHUNK_MS * PER_MS:
        return f"AudioChunk.data holds {len(chunk.data) // 2 // PER_MS} ms; at most {LONGEST_CHUNK_MS} ms are taken"
    return None
