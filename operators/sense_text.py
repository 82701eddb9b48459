"""Senses chat: emotions, VAD, intents of the session and a calibrated confidence for each message of the user."""

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
from kernels.model_input import WordPiece, emotions, text_input
from kernels.text.readable import Unreadable, unreadable
from kernels.text.tokens import LENGTH_STEP, MAX_CHARACTERS, TextTokens
from kernels.vad import vad_of
from operators.consent import ConsentGate
from operators.encoders import load_encoder, load_with_input
from operators.payloads import ChatMessage, Observation
from streamer.errors import ModelError
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record

_SPECIAL_TOKENS = 2
UNDECLARED = ("", "und", "mul", "zxx", "auto", "unknown")
"""What clients send that declare no language: BCP 47's undetermined, several, none; and libraries' own words."""
ENGLISH = ("en", "eng", "english")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The models' names, and the longest message in tokens; of a longer one only the beginning is read (`truncated`).

    Without a `vad_model` (null), valence, arousal and dominance are derived from the emotions; without an
    `intent_model` (null), observations have no intents.
    """

    model: str = "text_affect"
    vad_model: str | None = "text_vad"
    intent_model: str | None = "text_intent"
    max_tokens: int = 64

    def __post_init__(self) -> None:
        if not 8 <= self.max_tokens <= 512:  # noqa: PLR2004 - the encoder has 512 positions
            raise ValueError("max_tokens must be between 8 and 512")


class TextOutputs(NamedTuple):
    """The models' outputs for n messages.

    Args:
        emotions: float64, n x labels, rows sum to 1.
        mapped: float64, n; the share of probability on classes that map to a label.
        vad: float64, n x 3, in [-1, 1].
        intents: float64, n x 10, rows sum to 1; None without an intent model.
        embeddings: float16, n x 384; None where the encoder has none.
        quality: one map for each message.
    """

    emotions: NDArray[np.float64]
    mapped: NDArray[np.float64]
    vad: NDArray[np.float64]
    intents: NDArray[np.float64] | None
    embeddings: NDArray[np.float16] | None
    quality: list[dict[str, float]]


class SenseText:
    """One observation for each message that may be read; one call of the encoder for each batch of records.

    A message of anyone but the user is never encoded (`bystander`), nor is one without consent: where the person has
    been informed of the sensing, an `absent` observation is written. The models read English: a message in another
    language, declared or told by its letters and words, gives an `absent` observation with the reason `language`; one
    that holds nothing to read, one with the reason `nothing_readable`.
    """

    modality = "text"

    def __init__(self, params: Params, context: Context) -> None:
        self._params = params
        self._context = context
        self._gate = ConsentGate(context, self.modality)
        self._encoder: Engine | None = None
        self._input = WordPiece()
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
        """One observation or refusal for each message that may be read, in the order of the batch."""
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
            found = await asyncio.to_thread(self._read, [record.payload.text for _, record in readable])
            self._context.metrics.time("encode", [self._context.clock.perf_ms() - begun_ms] * len(readable))
            for row, (place, record) in enumerate(readable):
                out[place] = record.derive(self._observation(record, found, row))
        return [*(record for record in out if record is not None), *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or control; returns `absent` observations for the sessions whose reading it ends."""
        return self._gate.on_table(table, record)

    def needs_from(self, session_id: str) -> Origin | None:
        """None: no record is buffered between batches."""
        return None

    def forget(self, session_id: str) -> None:
        """Drop a session's decisions; nothing else is kept."""
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Release the models."""
        self._encoder = self._vad = self._intents = self._tokens = None

    def _load(self) -> None:
        self._encoder, self._input = load_with_input(self._params.model, self._context, text_input)
        self._vad = self._load_head("vad_model", self._params.vad_model, self._encoder)
        self._intents = self._load_head("intent_model", self._params.intent_model, self._encoder)
        try:
            self._tokens = self._input.tokens(self._encoder.spec.folder, self._params.max_tokens)
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
            problem = f"{head.spec.id} was fitted on {head.spec.input.get('of')}, not on {encoder.spec.id}"
            raise ModelError(f"{problem}: say {param}: null, or name one that was")
        return head

    def _without_encoder(self, record: Record[Any]) -> list[Record[Any]] | None:
        """The records to write for a message that is not encoded (perhaps none); None where it is to be encoded."""
        message: ChatMessage = record.payload
        if message.speaker != "user":
            self._context.metrics.count("bystander")
            return []
        verdict = self._gate.verdict(record)
        if not verdict.allowed:
            return self._gate.refused(record, verdict, message.message_id)
        if not message.text.strip():
            return [record.refuse("undecodable", "ChatMessage.text is empty or white space")]
        if verdict.mode == "expressions_only":
            return [record.derive(self._presence(record))]
        language = (message.language or "").strip().lower()
        english = language.replace("_", "-").partition("-")[0] in ENGLISH
        why: Unreadable | None = "language"
        if english or language in UNDECLARED:  # declared English is often the client's language, not the message's
            why = unreadable(message.text[:MAX_CHARACTERS])
        if why is not None:
            self._context.metrics.count(why)
            return [record.derive(self._gate.absent(record, why, message.message_id))]
        return None

    def _read(self, texts: Sequence[str]) -> TextOutputs:
        """Run the models on messages; in a worker thread, so it touches nothing of the event loop."""
        if self._encoder is None or self._tokens is None:
            raise RuntimeError("sense_text was not opened")
        tokens = self._tokens.encode(texts)
        outputs = self._encoder.infer(self._input.arrays(tokens))
        p, mapped = emotions(self._encoder.spec, outputs["logits"])
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
            for one, share in zip(quality, mapped, strict=True):
                one["known"] = round(float(share), 4)
        embeddings = outputs["embedding"].astype("<f2") if self._encoder.spec.embedding_width else None
        vad = np.clip(np.asarray(vad, dtype=np.float64), -1.0, 1.0)
        return TextOutputs(p, mapped, vad, intent_p, embeddings, quality)

    def _observation(self, record: Record[Any], found: TextOutputs, row: int) -> Observation:
        assert self._encoder is not None  # noqa: S101 - process has read with it
        p, quality = found.emotions[row], found.quality[row]
        valence, arousal, dominance = (float(value) for value in found.vad[row])
        embedding = None
        if self._context.settings.embeddings and found.embeddings is not None:
            embedding = found.embeddings[row].tobytes()
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
            intents=None if found.intents is None else intents.to_wire(found.intents[row]),
            embedding=embedding,
            # Unknown tokens were not read, and classes that map to no emotion predict none: neither counts.
            confidence=float(p.max()) * (1.0 - quality["unknown"]) * float(found.mapped[row]),
            quality=quality,
            model=self._encoder.spec.id,
            source_kafka_ms=record.kafka_ms,
        )

    def _presence(self, record: Record[Any]) -> Observation:
        """The observation of a message in the mode `expressions_only`: that there was one. It is not encoded."""
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
    """The outputs of a head that reads one of the encoder's outputs."""
    reads = str(head.spec.input.get("reads", "embedding"))
    return head.infer({reads: outputs[reads]})
