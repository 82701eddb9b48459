"""A new modality in one file: heart rate samples of a wristband, sensed as a weak sign of arousal.

Put this file into `operators/` and declare in topology.yaml its topic, the modality and the operator, as
`pulse.yaml` beside it does: nothing else has to change. The numbers are made up; it is an example, not a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from operators.consent import ConsentGate
from operators.payloads import Observation
from streamer.operator import Context
from streamer.payloads import Media, Refusal
from streamer.records import Origin, Record

MODEL = "pulse_rule@1"


class PulseSample(Media, frozen=True, kw_only=True):
    """The heart rate over the second before `event_time_ms`, in beats per minute."""

    source_id: str  # which device measured it
    beats_per_minute: float  # the mean over that second


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The heart rate at rest, in beats per minute."""

    resting: float = 65.0


class SensePulse:
    """One observation for each sample that may be read."""

    modality = "pulse"

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context
        self._gate = ConsentGate(context, self.modality)
        context.runs.models["pulse"] = MODEL

    async def open(self) -> None:
        """Check the declared use."""
        self._gate.open()

    async def process(self, batch: Sequence[Record[PulseSample]]) -> Sequence[Record[Observation | Refusal]]:
        """One observation or refusal for each sample, in the order of the batch."""
        out: list[Record[Any]] = []
        for record in batch:
            sample, verdict = record.payload, self._gate.verdict(record)
            if not verdict.allowed:
                out += self._gate.refused(record, verdict, sample.source_id)
            elif not sample.beats_per_minute > 0:
                out.append(record.refuse("undecodable", "PulseSample.beats_per_minute is not above 0"))
            else:
                out.append(record.derive(self._observation(record)))
        return [*out, *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or control; returns `absent` observations for the sessions whose reading it ends."""
        return self._gate.on_table(table, record)

    def needs_from(self, session_id: str) -> Origin | None:
        """None: no record is buffered between batches."""

    def forget(self, session_id: str) -> None:
        """Drop a session's decisions."""
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Nothing to release."""

    def _observation(self, record: Record[PulseSample]) -> Observation:
        sample = record.payload
        above = min(max(sample.beats_per_minute / self._params.resting - 1.0, 0.0), 1.0)
        surprise = round(0.5 + 0.4 * above, 4)
        return Observation(
            session_id=record.key,
            event_time_ms=record.event_time_ms,
            modality=self.modality,
            source_id=sample.source_id,
            start_ms=record.event_time_ms - 1000,
            end_ms=record.event_time_ms,
            emotions={"surprise": surprise, "neutral": 1.0 - surprise},
            confidence=max(surprise, 1.0 - surprise),
            model=MODEL,
            source_kafka_ms=record.kafka_ms,
        )
