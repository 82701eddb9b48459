"""Topics in memory with Kafka's log semantics: offsets with gaps, transactions, retention, delayed visibility."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamer.broker import HeldBack, Message, Outgoing, TopicPartition, TopicSpec
from streamer.brokers import limits
from streamer.brokers.partitioner import partition_for
from streamer.brokers.protocol_errors import missing_partition, missing_topics, partitions_differ, topics_differ
from streamer.errors import MediaError
from streamer.event_time import Clock

RECORD_OVERHEAD_BYTES = 70  # of a batch with one record, about
EXPIRY_BATCH = 64  # expired records are deleted this many at once, so that appending stays cheap
IN_MEMORY = "in memory"  # where errors locate these topics


@dataclass(slots=True)
class MemoryLog:
    """One partition: records in offset order; `start` is the log start offset, `end` the log end offset.

    `messages`, `offsets` and `arrivals` are parallel lists: the i-th record, its offset, and its sequence number in the
    order of arrival over all partitions. Records of aborted transactions are removed, which leaves gaps in the offsets.
    """

    retention_ms: int | None
    start: int = 0
    end: int = 0
    messages: list[Message] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    open: dict[str, list[int]] = field(default_factory=dict)  # open transactions: id -> offsets, by first offset
    delayed: deque[tuple[int, int]] = field(default_factory=deque)  # (visible from, Unix ms; offset), by offset

    def append(
        self, message: Message, arrival: int, visible_ms: int | None = None, transactional_id: str | None = None
    ) -> None:
        """Store a record at its offset, which is not below `end`.

        It is visible from `visible_ms` on, and, with a `transactional_id`, not before `end_transaction`.
        """
        self.messages.append(message)
        self.offsets.append(message.offset)
        self.arrivals.append(arrival)
        self.end = message.offset + 1
        if transactional_id is not None:
            self.open.setdefault(transactional_id, []).append(message.offset)
        if visible_ms is not None:
            self.delayed.append((visible_ms, message.offset))
        if self.retention_ms is not None:
            self._delete_older_than(message.timestamp_ms - self.retention_ms)

    def end_transaction(self, transactional_id: str, committed: bool) -> None:
        """Make a transaction's records visible, or remove them; its control record takes an offset."""
        offsets = self.open.pop(transactional_id)
        if not committed:
            aborted = set(offsets)
            first = bisect_left(self.offsets, offsets[0])
            remaining = [i for i in range(first, len(self.offsets)) if self.offsets[i] not in aborted]
            self.messages[first:] = [self.messages[i] for i in remaining]
            self.arrivals[first:] = [self.arrivals[i] for i in remaining]
            self.offsets[first:] = [self.offsets[i] for i in remaining]
        self.end += 1

    def last_stable_offset(self, now_ms: int) -> int:
        """The offset up to which readers see records: the first one of an open transaction or delayed, or the end."""
        while self.delayed and self.delayed[0][0] <= now_ms:
            self.delayed.popleft()
        first_open = self._first_open_offset()
        return min(first_open, self.delayed[0][1]) if self.delayed else first_open

    def held_back(self) -> HeldBack:
        """What lies at and behind the first record of an open transaction."""
        return HeldBack(self._first_open_offset(), self.end - self._first_open_offset())

    def index(self, offset: int) -> int:
        """The index of the first record at or after an offset."""
        return bisect_left(self.offsets, offset)

    def _first_open_offset(self) -> int:
        return next(iter(self.open.values()))[0] if self.open else self.end

    def _delete_older_than(self, oldest_ms: int) -> None:
        if len(self.messages) > EXPIRY_BATCH and self.messages[EXPIRY_BATCH].timestamp_ms < oldest_ms:
            start = self.offsets[EXPIRY_BATCH]
            if start <= self._first_open_offset():
                del self.messages[:EXPIRY_BATCH], self.offsets[:EXPIRY_BATCH], self.arrivals[:EXPIRY_BATCH]
                self.start = start


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Clock errors and delays of a broker, for tests; both functions get an append's partition and time in Unix ms."""

    stamp_ms: Callable[[TopicPartition, int], int] = lambda _, now_ms: now_ms
    """The record's LogAppendTime: brokers' clocks differ, and step back."""
    delay_ms: Callable[[TopicPartition, int], int] = lambda _, now_ms: 0
    """For how long the record, and later ones of its partition, are invisible to readers."""


@dataclass(slots=True)
class _Transaction:
    """An open transaction: when it times out, and the logs with its records."""

    deadline_ms: int
    logs: list[MemoryLog] = field(default_factory=list)


class MemoryTopics:
    """All topics of a broker, see `MemoryBroker` for the arguments."""

    def __init__(self, clock: Clock, disturbance: Disturbance | None) -> None:
        self.logs: dict[TopicPartition, MemoryLog] = {}
        self.changed = asyncio.Event()  # set once, and replaced, at every change that readers can see
        self._specs: dict[str, TopicSpec] = {}
        self._owners: dict[str, object] = {}  # transactional id -> the producer that started last
        self._transactions: dict[str, _Transaction] = {}
        self._clock, self._disturbance = clock, disturbance
        self._arrivals = 0
        self._round_robin: dict[str, int] = {}  # topic -> partition of the next record without a key

    def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics and check existing ones, see `Broker.ensure_topics`."""
        differences: list[str] = []
        for spec in topics:
            existing = self._specs.setdefault(spec.name, spec)
            differences += partitions_differ(spec, existing.partitions)
            if existing.compact != spec.compact:
                differences.append(f"{spec.name} has compact={existing.compact}, not {spec.compact}")
            for number in range(existing.partitions):
                self.logs.setdefault(TopicPartition(spec.name, number), MemoryLog(existing.retention_ms))
        if differences:
            raise topics_differ(differences, IN_MEMORY)

    def require(self, topics: Sequence[str]) -> None:
        """Check that topics exist.

        Raises:
            TopicMismatchError: some do not.
        """
        if missing := sorted(set(topics) - self._specs.keys()):
            raise missing_topics(missing, IN_MEMORY)

    def partitions(self, topic: str) -> list[TopicPartition]:
        """A topic's partitions in order."""
        return [TopicPartition(topic, number) for number in range(self._specs[topic].partitions)]

    def messages(self, topic: str) -> list[Message]:
        """A topic's visible records, in the order in which they were appended over all partitions."""
        now_ms = self.now_ms()
        logs = [self.logs[partition] for partition in self.partitions(topic)]
        visible = [(log, log.index(log.last_stable_offset(now_ms))) for log in logs]
        arrived = [pair for log, n in visible for pair in zip(log.arrivals[:n], log.messages[:n], strict=True)]
        return [message for _, message in sorted(arrived, key=lambda pair: pair[0])]

    def append(self, outgoing: Outgoing, transactional_id: str | None = None) -> None:
        """Append a record; with a `transactional_id`, to its open transaction."""
        limits.check_not_empty(outgoing)
        key, value, headers = outgoing.key, outgoing.value, outgoing.headers
        size = len(key or b"") + len(value or b"") + sum(len(k) + len(v) for k, v in headers)
        if size + RECORD_OVERHEAD_BYTES > limits.MAX_RECORD_BYTES:
            raise limits.too_large(outgoing)
        partition = self._partition_of(outgoing)
        now_ms = self._clock.now_ms() if transactional_id else self.now_ms()  # `is_owner` has checked timeouts
        log, stamp_ms, visible_ms = self.logs[partition], now_ms, None
        if self._disturbance:
            stamp_ms = self._disturbance.stamp_ms(partition, now_ms)
            delay_ms = self._disturbance.delay_ms(partition, now_ms)
            visible_ms = now_ms + delay_ms if delay_ms > 0 else None
        if transactional_id is not None and transactional_id not in log.open:
            self._transactions[transactional_id].logs.append(log)
        message = Message(partition.topic, partition.partition, log.end, stamp_ms, key, value, headers)
        log.append(message, self._arrivals, visible_ms, transactional_id)
        self._arrivals += 1

    def restore(self, message: Message) -> None:
        """Append a recorded message, with its recorded partition, offset and timestamp.

        Raises:
            MediaError: its offset is below the end of its partition.
            TopicMismatchError: no such topic or partition.
        """
        self.require([message.topic])
        partition = TopicPartition(message.topic, message.partition)
        if (log := self.logs.get(partition)) is None:
            raise missing_partition(message.topic, message.partition, IN_MEMORY)
        if message.offset < log.end:
            where = f"{message.topic}[{message.partition}]"
            raise MediaError(f"{where}: offset {message.offset} can't follow, the log goes on at {log.end}")
        log.append(message, self._arrivals)
        self._arrivals += 1
        self.wake_readers()

    def set_owner(self, transactional_id: str, owner: object) -> None:
        """Fence earlier owners of a transactional id and abort its open transaction."""
        self._owners[transactional_id] = owner
        self.end(transactional_id, committed=False)

    def is_owner(self, transactional_id: str, owner: object) -> bool:
        """Whether `owner` still owns a transactional id."""
        self.now_ms()
        return self._owners.get(transactional_id) is owner

    def begin(self, transactional_id: str) -> None:
        """Open a transaction, unless one is open."""
        if transactional_id not in self._transactions:
            self._transactions[transactional_id] = _Transaction(self._clock.now_ms() + limits.TRANSACTION_MS)

    def end(self, transactional_id: str, committed: bool) -> None:
        """Commit or abort the open transaction, if there is one."""
        if transaction := self._transactions.pop(transactional_id, None):
            for log in transaction.logs:
                log.end_transaction(transactional_id, committed)
            self.wake_readers()

    def now_ms(self) -> int:
        """Abort timed out transactions, fence their owners, and return the broker's time in Unix milliseconds."""
        now_ms = self._clock.now_ms()
        for timed_out in [name for name, open_ in self._transactions.items() if now_ms > open_.deadline_ms]:
            del self._owners[timed_out]
            self.end(timed_out, committed=False)
        return now_ms

    def next_change_ms(self) -> int | None:
        """When time alone next makes records visible (a delay or a timeout ends), in Unix milliseconds, or None."""
        delayed = [log.delayed[0][0] for log in self.logs.values() if log.delayed] if self._disturbance else []
        return min([*delayed, *(open_.deadline_ms + 1 for open_ in self._transactions.values())], default=None)

    def wake_readers(self) -> None:
        """Wake every consumer that waits for records."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _partition_of(self, outgoing: Outgoing) -> TopicPartition:
        self.require([outgoing.topic])
        count, number = self._specs[outgoing.topic].partitions, outgoing.partition
        if number is None and outgoing.key is not None:
            number = partition_for(outgoing.key, count)
        elif number is None:
            number = self._round_robin.get(outgoing.topic, 0) % count
            self._round_robin[outgoing.topic] = number + 1
        elif number >= count:
            raise missing_partition(outgoing.topic, number, IN_MEMORY)
        return TopicPartition(outgoing.topic, number)
