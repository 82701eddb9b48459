"""Emitting: records to messages on their topics, with headers; refusals to dead letters, ticks to their partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamer.broker import Committed, Outgoing, Producer, TopicPartition, TransactionalProducer
from streamer.brokers.limits import MAX_RECORD_BYTES
from streamer.errors import PayloadError
from streamer.operator import Context
from streamer.payloads import TICK_HEADER, Keyed, Refusal, Tick, encode, headers_for
from streamer.records import Record
from streamer.runtime.dead_letters import dead_letter
from streamer.topology.topology import OperatorSpec

DEAD_LETTERS = "dead_letters"
_EMPTY_MAP = b"\x80"
_LARGEST_VALUE = MAX_RECORD_BYTES - 4096  # leaves room for the key, the headers and the framing


class Emitter:
    """Writes the records that an operator returned."""

    def __init__(self, producer: Producer, spec: OperatorSpec, context: Context) -> None:
        self._producer, self._spec, self._context = producer, spec, context

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is left."""
        await self._producer.stop()

    async def write(self, records: Sequence[Record[Any]]) -> None:
        """Append every record to its topic and wait until all are acknowledged.

        A refusal goes to `dead_letters`, and so does an output that can't be encoded.
        """
        if records:
            await self._producer.send([self._message(record) for record in records])
            self._count(records)

    async def transact(
        self,
        producer: TransactionalProducer,
        records: Sequence[Record[Any]],
        offsets: Mapping[TopicPartition, Committed],
    ) -> None:
        """Append every record as `write` does, in one transaction with the group's offsets."""
        await producer.send([self._message(record) for record in records])
        await producer.commit(offsets)
        self._count(records)

    def _count(self, records: Sequence[Record[Any]]) -> None:
        now_ms = self._context.clock.now_ms()
        self._context.metrics.count("written", len(records))
        ages = [now_ms - r.event_time_ms for r in records if not isinstance(r.payload, Refusal | Tick)]
        self._context.metrics.time("end_to_end", ages)

    def _message(self, record: Record[Any]) -> Outgoing:
        if isinstance(record.payload, Tick):
            return Outgoing(self._spec.reads[0], None, _EMPTY_MAP, ((TICK_HEADER, b""),), record.origin.partition)
        if isinstance(record.payload, Refusal):
            return self._refused(record, record.payload)
        try:
            value = encode(record.payload)
        except PayloadError as error:
            return self._refused(record, Refusal("failed", error.detail))
        if len(value) > _LARGEST_VALUE:
            detail = f"an answer of {len(value)} bytes is more than a topic takes"
            return self._refused(record, Refusal("failed", detail))
        headers = headers_for(record.payload, record.traceparent)
        key = record.key.encode(errors="surrogateescape")
        return Outgoing(record.to or self._spec.writes, key, value, headers)

    def _refused(self, record: Record[Any], refusal: Refusal) -> Outgoing:
        self._context.metrics.count("dead_lettered")
        self._context.metrics.count(refusal.reason)  # type: ignore[arg-type] # an operator's reason is one of Reason
        letter: Keyed = dead_letter(record, refusal, self._context)
        return Outgoing(DEAD_LETTERS, record.key.encode(errors="surrogateescape"), encode(letter), headers_for(letter))
