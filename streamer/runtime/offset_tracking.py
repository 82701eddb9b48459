"""Tracks what an operator has read: which offset may be committed, and which sessions have expired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.broker import Committed, TopicPartition
from streamer.operator import Operator
from streamer.records import Record

FORGET_AFTER_MS = 10 * 60_000
"""A session without a record for this long, by Kafka time, has expired."""


class OffsetTracker:
    """The commit offset of each partition: never above a record that the operator still has buffered."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._next: dict[TopicPartition, int] = {}
        self._seen: dict[TopicPartition, dict[str, int]] = {}  # session -> Kafka time, oldest first

    def read(self, records: Sequence[Record[Any]]) -> None:
        """Take note of records that are done: processed, dropped or refused."""
        for record in records:
            partition = record.origin.source
            self._next[partition] = record.origin.offset + 1
            seen = self._seen.setdefault(partition, {})
            seen.pop(record.key, None)
            seen[record.key] = record.kafka_ms
        for seen in self._seen.values():
            newest = next(reversed(seen.values()), 0)
            while seen and (oldest := next(iter(seen))) and newest - seen[oldest] > FORGET_AFTER_MS:
                del seen[oldest]
                self._operator.forget(oldest)

    def partitions(self) -> list[int]:
        """The partitions that records were read from."""
        return sorted({tp.partition for tp in self._next})

    def commit_offset(self, partition: TopicPartition) -> Committed | None:
        """The next offset to read, or that of the oldest record that the operator has buffered."""
        if partition not in self._next:
            return None
        buffered = (self._operator.needs_from(session) for session in self._seen[partition])
        offsets = [o.offset for o in buffered if o is not None and o.source == partition]
        return Committed(min([self._next[partition], *offsets]))

    def lose(self, partition: TopicPartition) -> None:
        """Forget a partition's sessions: it went to another worker."""
        self._next.pop(partition, None)
        for session in self._seen.pop(partition, {}):
            self._operator.forget(session)
