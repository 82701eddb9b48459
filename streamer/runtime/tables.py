"""Tables: compacted topics as live mappings of key to latest payload; never committed.

A key's latest record is the one with the newest Kafka time. Its partition doesn't matter: a platform whose producers
use two partitioners writes one key to two partitions, each with an order of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, cast

from streamer.broker import Broker, HeldBack, Message, TopicPartition
from streamer.errors import PayloadError, StreamerError
from streamer.operator import Context, TableWatcher
from streamer.payloads import DeadLetter, Keyed, Refusal, decode
from streamer.records import Origin, Record
from streamer.runtime.decoding import to_record
from streamer.runtime.emitting import DEAD_LETTERS

REMEMBER_DELETED_MS = 300_000
"""For so long, by Kafka time, an older record from another partition doesn't bring a deleted key back."""
_BATCH = 500


class Tables:
    """One operator's tables: `load` reads them from the beginning to their end, `refresh` takes in what came since.

    Args:
        broker: where the topics are.
        payloads: table name to the struct its records hold.
        partitions: of every topic.
        context: the operator's; its `tables` are filled in place.
        watcher: the operator, which may have an `on_table`.
    """

    def __init__(
        self,
        broker: Broker,
        payloads: Mapping[str, type[Keyed]],
        partitions: int,
        context: Context,
        watcher: object,
    ) -> None:
        self._broker, self._payloads, self._partitions, self._context = broker, payloads, partitions, context
        self._on_table = cast(TableWatcher, watcher).on_table if hasattr(watcher, "on_table") else None
        self._consumer = broker.consumer(list(payloads), group=None) if payloads else None
        # of each topic and key the Kafka time of the latest record, and the partitions that have one of that time
        self._latest: dict[tuple[str, str], tuple[int, frozenset[int]]] = {}
        self._deleted: dict[tuple[str, str], int] = {}  # Kafka time at which a key was removed, oldest first

    async def load(self) -> Sequence[Record[Any]]:
        """Read every table to its end; returns the records that the operator writes because of the latest ones.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        if self._consumer is None:
            return ()
        for name in self._payloads:  # after an outage: compaction may have removed what was deleted meanwhile
            self._context.tables[name].clear()
        self._latest.clear()
        self._deleted.clear()
        await self._consumer.start()
        ends = await self._consumer.end_offsets()
        messages: list[Message] = []
        while any((self._consumer.position(tp) or 0) < end for tp, end in ends.items()):
            messages += await self._consumer.poll(_BATCH, timeout_ms=200)
        return await self._not_reported_yet(self._take(messages))

    async def _not_reported_yet(self, outputs: Sequence[Record[Any]]) -> Sequence[Record[Any]]:
        """Leave out refused records that an earlier start has reported: a table is read anew at each."""
        refused = {r.origin for r in outputs if isinstance(r.payload, Refusal)}
        if not refused:
            return outputs
        try:
            reported = await self._reported()
        except StreamerError as error:  # a user may do without the right to read them: then they are reported again
            self._context.log.warning("what was reported before can't be read (%s): it is reported again", error)
            return outputs
        return [r for r in outputs if not (isinstance(r.payload, Refusal) and r.origin in reported)]

    async def _reported(self) -> set[Origin]:
        """The places of the records in tables that dead letters tell of."""
        consumer, found = self._broker.consumer([DEAD_LETTERS], group=None), set[Origin]()
        try:
            await consumer.start()
            ends = await consumer.end_offsets()
            while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
                for message in await consumer.poll(_BATCH, timeout_ms=200):
                    with suppress(PayloadError):
                        letter = decode(message.value, DeadLetter)
                        found.add(Origin(letter.topic, letter.partition, letter.offset))
        finally:
            await consumer.stop()
        return found

    async def refresh(self) -> Sequence[Record[Any]]:
        """Take in new records without waiting; returns the records that the operator writes because of them."""
        return () if self._consumer is None else self._take(await self._consumer.poll(_BATCH, timeout_ms=0))

    def held_back(self) -> Mapping[TopicPartition, HeldBack]:
        """What open transactions keep from being read, see `Consumer.held_back`."""
        return {} if self._consumer is None else self._consumer.held_back()

    async def stop(self) -> None:
        """Release the consumer."""
        if self._consumer is not None:
            await self._consumer.stop()

    def _take(self, messages: Sequence[Message]) -> Sequence[Record[Any]]:
        outputs: list[Record[Any]] = []
        latest: dict[tuple[str, str], Record[Any]] = {}
        for message in messages:
            table, key = self._context.tables[message.topic], (message.key or b"").decode(errors="surrogateescape")
            tombstone = message.value is None  # compaction's way to delete
            record = to_record(message, self._payloads, self._partitions, self._context)
            refused = isinstance(record.payload, Refusal)
            if tombstone and not _is_text(message.key):  # no session's or item's: nothing to delete
                continue
            fails_closed = self._payloads[message.topic].FAILS_CLOSED
            if refused and not tombstone:
                if message.topic not in self._context.reported_elsewhere:
                    outputs.append(record)
                else:
                    self._context.metrics.count(record.payload.reason)
                if not fails_closed:
                    continue
            order = self._order(message, key)
            if order == "older":
                continue
            self._deleted.pop((message.topic, key), None)
            if refused or (order == "undecided" and fails_closed):
                table.pop(key, None)
                self._deleted[message.topic, key] = message.timestamp_ms
                record = replace(record, payload=None)
            else:
                table[key] = record.payload
            latest[message.topic, key] = record
        self._forget_deleted(max((message.timestamp_ms for message in messages), default=0))
        if self._on_table is not None:
            outputs += [out for (topic, _), r in latest.items() for out in self._on_table(topic, r)]
        return outputs

    def _forget_deleted(self, now_ms: int) -> None:
        """Drop what is remembered of keys deleted long ago: no partition is read so much later than another."""
        while self._deleted and self._deleted[oldest := next(iter(self._deleted))] < now_ms - REMEMBER_DELETED_MS:
            del self._deleted[oldest], self._latest[oldest]

    def _order(self, message: Message, key: str) -> Literal["newer", "older", "undecided"]:
        """Whether a record replaces the key's latest one; undecided: another partition has one of the same Kafka time.

        Within a partition the order of offsets counts, whatever the times.
        """
        at_ms, partition = message.timestamp_ms, message.partition
        latest_ms, partitions = self._latest.get((message.topic, key), (-1, frozenset()))
        if at_ms > latest_ms or partitions == {partition}:
            self._latest[message.topic, key] = (at_ms, frozenset({partition}))
            return "newer"
        if at_ms < latest_ms:
            return "older"
        self._latest[message.topic, key] = (at_ms, partitions | {partition})
        return "undecided"


def _is_text(key: bytes | None) -> bool:
    try:
        (key or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
