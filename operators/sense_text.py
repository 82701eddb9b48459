"""Chat messages in, text observations out: emotions, VAD, session intents and a calibrated confidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels import intents
from kernels.calibration import softmax
from kernels.engines import Arrays, Engine, ModelFolderError
from kernels.model_input import WordPiece, emotions, text_framing
from kernels.text_tokens import LENGTH_STEP, TextTokens
from kernels.vad import vad_of
from operators.consent import Gate
from operators.encoders import load_encoder, load_framed
from operators.payloads import ChatMessage, Observation
from streamer.errors import ModelError
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record

_SPECIAL_TOKENS = 2


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models by name and the longest message in tokens; a longer one keeps its beginning and is marked `truncated`.

    Without a `vad_model` (null), valence, arousal and dominance are derived from the emotions; without an
    `intent_model` (null) observations have no intents.
    """

    model: str = "text_affect"
    vad_model: str | None = "text_vad"
    intent_model: str | None = "text_intent"
    max_tokens: int = 64

    def __post_init__(self) -> None:
        if not 8 <= self.max_tokens <= 512:  # noqa: PLR2004 - the encoder has 512 positions
            raise ValueError("max_tokens must be between 8 and 512")


class Readings(NamedTuple):
    """What the models made of n messages.

    `emotions` float64 n x labels, rows sum to 1; `known` float64 n, the share of probability on classes that have a
    label; `vad` float64 n x 3 in [-1, 1]; `intents` float64 n x 10, rows sum to 1, None where no model reads them;
    `embeddings` float16 n x 384, None of an encoder without; `quality` one map for each message.
    """

    emotions: NDArray[np.float64]
    known: NDArray[np.float64]
    vad: NDArray[np.float64]
    intents: NDArray[np.float64] | None
    embeddings: NDArray[np.float16] | None
    quality: list[dict[str, float]]


class SenseText:
    """One observation for each message that may be read; one batched encoder call for each batch of records.

    A message of anyone but the user is never encoded (`bystander`); without consent it isn't either, and where the
    person has been told of the sensing an `absent` observation says so. The models read English: a message declared to
    be in another language gives an `absent` observation with the reason `language`.
    """

    modality = "text"

    def __init__(self, params: Params, context: Context) -> None:
        self._params = params
        self._context = context
        self._gate = Gate(context, self.modality)
        self._encoder: Engine | None = None
        self._framing = WordPiece()
        self._vad: Engine | None = None
        self._intents: Engine | None = None
        self._tokens: TextTokens | None = None

    async def open(self) -> None:
        """Check the declared use and the models' licences, compile the models and warm them up.

        Raises:
            RefusedUseError: this use, or a model's licence state, is not accepted here.
            ModelError: a model folder is incomplete or altered, nothing on this machine runs it, or `vad_model` or
                `intent_model` wasn't fitted on this encoder.
        """
        self._gate.open()
        await asyncio.to_thread(self._load)

    async def process(self, batch: Sequence[Record[ChatMessage]]) -> Sequence[Record[Observation | Refusal]]:
        """Chat records in, observation records and refusals out, in the order of the batch."""
        out: list[Record[Any] | None] = []
        readable: list[tuple[int, Record[Any]]] = []
        for record in batch:
            answer = self._without_encoder(record)
            if answer is None:
                readable.append((len(out), record))
                out.append(None)
            else:
                out += answer
        if readable:
            begun_ms = self._context.clock.perf_ms()
            readings = await asyncio.to_thread(self._read, [record.payload.text for _, record in readable])
            self._context.metrics.time("encode", [self._context.clock.perf_ms() - begun_ms] * len(readable))
            for row, (place, record) in enumerate(readable):
                out[place] = record.derive(self._observation(record, readings, row))
        return [*(record for record in out if record is not None), *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """A consent in; an `absent` observation out where it leaves text out."""
        return self._gate.on_table(table, record)

    def needs_from(self, session_id: str) -> Origin | None:
        """Nothing is held between batches: None."""
        return None

    def forget(self, session_id: str) -> None:
        """Drop what was decided of a session: nothing else is kept."""
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Let the compiled models go."""
        self._encoder = self._vad = self._intents = self._tokens = None

    def _load(self) -> None:
        self._encoder, self._framing = load_framed(self._params.model, self._context, text_framing)
        self._vad = self._load_head("vad_model", self._params.vad_model, self._encoder)
        self._intents = self._load_head("intent_model", self._params.intent_model, self._encoder)
        try:
            self._tokens = self._framing.tokens(self._encoder.spec.folder, self._params.max_tokens)
        except ModelFolderError as error:
            raise ModelError(str(error)) from error
        # The first message of each width pays for preparing that width: let none of a person's messages be it.
        for width in range(LENGTH_STEP, self._params.max_tokens + 1, LENGTH_STEP):
            self._read(["word " * (width - _SPECIAL_TOKENS)])

    def _load_head(self, param: str, name: str | None, encoder: Engine) -> Engine | None:
        if name is None:
            return None
        head = load_encoder(name, self._context)
        if head.spec.input.get("of_sha256") != encoder.spec.sha256:
            told = f"{head.spec.id} was fitted on {head.spec.input.get('of')}, not on {encoder.spec.id}"
            raise ModelError(f"{told}: say {param}: null, or name one that was")
        return head

    def _without_encoder(self, record: Record[Any]) -> list[Record[Any]] | None:
        """What to write for a record no encoder may or can read (perhaps nothing); None where one has to."""
        message: ChatMessage = record.payload
        if message.speaker != "user":
            self._context.metrics.count("bystander")
            return []
        verdict = self._gate.verdict(record)
        if verdict.reason is not None:
            absent = self._gate.absent(record, verdict.reason, message.message_id)
            return [record.derive(absent)] if verdict.disclosed else []
        if not message.text.strip():
            return [record.refuse("undecodable", "ChatMessage.text is empty or white space")]
        if verdict.mode == "expressions_only":
            return [record.derive(self._presence(record))]
        if message.language is not None and not message.language.lower().startswith("en"):
            return [record.derive(self._gate.absent(record, "language", message.message_id))]
        return None

    def _read(self, texts: Sequence[str]) -> Readings:
        """Texts in, readings out; runs in a worker thread and touches nothing of the event loop's."""
        if self._encoder is None or self._tokens is None:
            raise RuntimeError("sense_text was not opened")
        tokens = self._tokens.encode(texts)
        outputs = self._encoder.infer(self._framing.arrays(tokens))
        p, known = emotions(self._encoder.spec, outputs["logits"])
        if self._vad is None:
            vad = np.array([vad_of(dict(zip(self._encoder.spec.labels, row, strict=True))) for row in p.tolist()])
        else:
            vad = _of_head(self._vad, outputs)["vad"]
        intent_p = None
        if self._intents is not None:
            intent_p = softmax(_of_head(self._intents, outputs)["logits"], self._intents.spec.temperature)
        quality = [
            {"tokens": float(count), "truncated": float(cut), "unknown": round(float(unknown), 4)}
            for count, cut, unknown in zip(tokens.counts, tokens.truncated, tokens.unknown, strict=True)
        ]
        if self._encoder.spec.classes:
            for one, share in zip(quality, known, strict=True):
                one["known"] = round(float(share), 4)
        embeddings = outputs["embedding"].astype("<f2") if self._encoder.spec.embedding_width else None
        vad = np.clip(np.asarray(vad, dtype=np.float64), -1.0, 1.0)
        return Readings(p, known, vad, intent_p, embeddings, quality)

    def _observation(self, record: Record[Any], readings: Readings, row: int) -> Observation:
        assert self._encoder is not None  # noqa: S101 - process has read with it
        p, quality = readings.emotions[row], readings.quality[row]
        valence, arousal, dominance = (float(value) for value in readings.vad[row])
        embedding = None
        if self._context.settings.embeddings and readings.embeddings is not None:
            embedding = readings.embeddings[row].tobytes()
        return Observation(
            session_id=record.key,
            event_time_ms=record.event_time_ms,
            modality=self.modality,
            source_id=record.payload.message_id,
            start_ms=record.event_time_ms,
            end_ms=record.event_time_ms,
            emotions=dict(zip(self._encoder.spec.labels, p.tolist(), strict=True)),
            valence=valence,
            arousal=arousal,
            dominance=dominance,
            vad_source="derived" if self._vad is None else "measured",
            intents=None if readings.intents is None else intents.to_wire(readings.intents[row]),
            embedding=embedding,
            # What the vocabulary can't spell the encoder has not read, and what it takes for a class that is no
            # emotion's it can't say: the confidence covers only the rest.
            confidence=float(p.max()) * (1.0 - quality["unknown"]) * float(readings.known[row]),
            quality=quality,
            model=self._encoder.spec.id,
            source_kafka_ms=record.kafka_ms,
        )

    def _presence(self, record: Record[Any]) -> Observation:
        """What `expressions_only` may say of a message: that there was one. No encoder is called for it."""
        return Observation(
            session_id=record.key,
            event_time_ms=record.event_time_ms,
            modality=self.modality,
            source_id=record.payload.message_id,
            start_ms=record.event_time_ms,
            end_ms=record.event_time_ms,
            mode="expressions_only",
            expressions={"presence": 1.0},
            source_kafka_ms=record.kafka_ms,
        )


def _of_head(head: Engine, outputs: Arrays) -> Arrays:
    """A head on the encoder and the encoder's outputs in, the head's outputs out."""
    reads = str(head.spec.input.get("reads", "embedding"))
    return head.infer({reads: outputs[reads]})
