"""Topics in memory, as Kafka keeps them: offsets with gaps, transactions, records that cannot be seen yet."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamer.broker import Message, Outgoing, TopicPartition, TopicSpec
from streamer.brokers.limits import MAX_RECORD_BYTES
from streamer.brokers.partitioner import partition_for
from streamer.errors import MediaError, PayloadError, TopicMismatchError
from streamer.event_time import Clock

RECORD_OVERHEAD_BYTES = 70  # of a batch with one record, about
TRANSACTION_MS = 10_000  # a transaction open for longer is aborted, and its owner fenced
FORGET_AT_ONCE = 64  # expired records are dropped in lumps, so that appending stays cheap


@dataclass(slots=True)
class MemoryLog:
    """Records in offset order; `base` is where the oldest stands, `end` the offset that the next one gets.

    `messages`, `offsets` and `arrivals` run side by side: index i is one record, its offset, and its place in the order
    of arrival over all partitions. What an aborted transaction held is taken out, which leaves a gap.
    """

    retention_ms: int | None
    base: int = 0
    end: int = 0
    messages: list[Message] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    held: dict[str, list[int]] = field(default_factory=dict)  # open transactional id -> offsets, by its first offset
    hidden: deque[tuple[int, int]] = field(default_factory=deque)  # (visible from, offset), by offset

    def append(self, message: Message, arrival: int, visible_ms: int | None = None, held_by: str | None = None) -> None:
        """Store a record at its offset, which is not below `end`; hidden until `visible_ms`, held until `release`."""
        self.messages.append(message)
        self.offsets.append(message.offset)
        self.arrivals.append(arrival)
        self.end = message.offset + 1
        if held_by is not None:
            self.held.setdefault(held_by, []).append(message.offset)
        if visible_ms is not None:
            self.hidden.append((visible_ms, message.offset))
        if self.retention_ms is not None:
            self._forget(message.timestamp_ms - self.retention_ms)

    def release(self, transactional_id: str, committed: bool) -> None:
        """End a transaction: its records may be seen, or are taken out; its end marker takes an offset."""
        offsets = self.held.pop(transactional_id)
        if not committed:
            gone = set(offsets)
            first = bisect_left(self.offsets, offsets[0])
            kept = [i for i in range(first, len(self.offsets)) if self.offsets[i] not in gone]
            self.messages[first:] = [self.messages[i] for i in kept]
            self.arrivals[first:] = [self.arrivals[i] for i in kept]
            self.offsets[first:] = [self.offsets[i] for i in kept]
        self.end += 1

    def stable(self, now_ms: int) -> int:
        """The offset before which everything is decided and visible at a moment: readers go no further."""
        while self.hidden and self.hidden[0][0] <= now_ms:
            self.hidden.popleft()
        undecided = next(iter(self.held.values()))[0] if self.held else self.end
        return min(undecided, self.hidden[0][1]) if self.hidden else undecided

    def index(self, offset: int) -> int:
        """The index of the first record at or after an offset."""
        return bisect_left(self.offsets, offset)

    def _forget(self, oldest_ms: int) -> None:
        if len(self.messages) > FORGET_AT_ONCE and self.messages[FORGET_AT_ONCE].timestamp_ms < oldest_ms:
            oldest = self.offsets[FORGET_AT_ONCE]
            if not self.held or oldest <= next(iter(self.held.values()))[0]:
                del self.messages[:FORGET_AT_ONCE], self.offsets[:FORGET_AT_ONCE], self.arrivals[:FORGET_AT_ONCE]
                self.base = oldest


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What goes wrong with time in a broker, for tests; both are asked at each append, with its partition and time."""

    stamp_ms: Callable[[TopicPartition, int], int] = lambda _, now_ms: now_ms
    """The LogAppendTime that a record gets: clocks of brokers differ, and step back."""
    delay_ms: Callable[[TopicPartition, int], int] = lambda _, now_ms: 0
    """For how long a record is not to be seen by readers, nor anything behind it in its partition."""


@dataclass(slots=True)
class _Transaction:
    """An open transaction: the last moment at which it may end, and the logs that hold records of it."""

    deadline_ms: int
    logs: list[MemoryLog] = field(default_factory=list)


class MemoryTopics:
    """All topics; `clock` gives the LogAppendTime, `disturbance` what a bad day makes of it."""

    def __init__(self, clock: Clock, disturbance: Disturbance | None) -> None:
        self.logs: dict[TopicPartition, MemoryLog] = {}
        self.news = asyncio.Event()
        self._specs: dict[str, TopicSpec] = {}
        self._owners: dict[str, object] = {}  # of each transactional id who may use it: the last one to start
        self._transactions: dict[str, _Transaction] = {}
        self._clock, self._disturbance = clock, disturbance
        self._arrivals = 0
        self._turns: dict[str, int] = {}

    def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing, check what is there."""
        differences = []
        for spec in topics:
            there = self._specs.setdefault(spec.name, spec)
            if there.partitions != spec.partitions:
                differences.append(f"{spec.name} has {there.partitions} partitions, not {spec.partitions}")
            if there.compact != spec.compact:
                differences.append(f"{spec.name} has compact={there.compact}, not {spec.compact}")
            for number in range(there.partitions):
                self.logs.setdefault(TopicPartition(spec.name, number), MemoryLog(there.retention_ms))
        if differences:
            lines = "\n".join(f"  {d}" for d in differences)
            raise TopicMismatchError(f"topics in memory are not as the topology says\n{lines}")

    def require(self, topics: Sequence[str]) -> None:
        """Refuse topics that do not exist."""
        if missing := sorted(set(topics) - self._specs.keys()):
            raise TopicMismatchError(f"no topic {', '.join(missing)} in memory; create it, or check its name")

    def partitions(self, topic: str) -> list[TopicPartition]:
        """A topic's partitions in order."""
        return [TopicPartition(topic, number) for number in range(self._specs[topic].partitions)]

    def messages(self, topic: str) -> list[Message]:
        """What a reader could see of a topic now, in the order in which it was appended."""
        now_ms = self.now_ms()
        logs = [self.logs[partition] for partition in self.partitions(topic)]
        shown = [(log, log.index(log.stable(now_ms))) for log in logs]
        arrived = [pair for log, n in shown for pair in zip(log.arrivals[:n], log.messages[:n], strict=True)]
        return [message for _, message in sorted(arrived, key=lambda pair: pair[0])]

    def append(self, outgoing: Outgoing, transactional_id: str | None = None) -> None:
        """Store a record at its partition's end, held back until its transaction ends."""
        if outgoing.key is None and outgoing.value is None:
            raise PayloadError("empty", f"a record of topic {outgoing.topic} has neither key nor value")
        key, value, headers = outgoing.key, outgoing.value, outgoing.headers
        size = len(key or b"") + len(value or b"") + sum(len(k) + len(v) for k, v in headers)
        if size + RECORD_OVERHEAD_BYTES > MAX_RECORD_BYTES:
            detail = f"a record of {len(value or b'')} bytes is more than topic {outgoing.topic} takes"
            raise PayloadError("too_large", detail)
        partition = self._partition_of(outgoing)
        now_ms = self._clock.now_ms() if transactional_id else self.now_ms()  # `owned` looks after its own transaction
        log, stamp_ms, visible_ms = self.logs[partition], now_ms, None
        if self._disturbance:
            stamp_ms = self._disturbance.stamp_ms(partition, now_ms)
            delay_ms = self._disturbance.delay_ms(partition, now_ms)
            visible_ms = now_ms + delay_ms if delay_ms > 0 else None
        if transactional_id is not None and transactional_id not in log.held:
            self._transactions[transactional_id].logs.append(log)
        message = Message(partition.topic, partition.partition, log.end, stamp_ms, key, value, headers)
        log.append(message, self._arrivals, visible_ms, transactional_id)
        self._arrivals += 1

    def restore(self, message: Message) -> None:
        """Append a recorded record with the partition, offset and timestamp it has.

        Raises:
            MediaError: its offset is below the end of its partition.
            TopicMismatchError: no such topic or partition.
        """
        self.require([message.topic])
        partition = TopicPartition(message.topic, message.partition)
        if (log := self.logs.get(partition)) is None:
            raise TopicMismatchError(f"topic {message.topic} in memory has no partition {message.partition}")
        if message.offset < log.end:
            place = f"{message.topic}[{message.partition}]"
            raise MediaError(f"{place}: offset {message.offset} can't follow, the log goes on at {log.end}")
        log.append(message, self._arrivals)
        self._arrivals += 1
        self.announce()

    def own(self, transactional_id: str, owner: object) -> None:
        """Make `owner` the only one who may use an id; what is open under it is dropped."""
        self._owners[transactional_id] = owner
        self.end(transactional_id, committed=False)

    def owned(self, transactional_id: str, owner: object) -> bool:
        """Whether `owner` still may use an id."""
        self.now_ms()
        return self._owners.get(transactional_id) is owner

    def begin(self, transactional_id: str) -> None:
        """Open a transaction where none is open."""
        if transactional_id not in self._transactions:
            self._transactions[transactional_id] = _Transaction(self._clock.now_ms() + TRANSACTION_MS)

    def end(self, transactional_id: str, committed: bool) -> None:
        """End a transaction, if one is open: its records are seen at once, or never."""
        if transaction := self._transactions.pop(transactional_id, None):
            for log in transaction.logs:
                log.release(transactional_id, committed)
            self.announce()

    def now_ms(self) -> int:
        """The broker's time; transactions that have outlived it are aborted, their owners fenced."""
        now_ms = self._clock.now_ms()
        for late in [name for name, open_ in self._transactions.items() if now_ms > open_.deadline_ms]:
            del self._owners[late]
            self.end(late, committed=False)
        return now_ms

    def changes_ms(self) -> int | None:
        """The moment at which readers may see more though nothing is appended, None if there is none ahead."""
        hidden = [log.hidden[0][0] for log in self.logs.values() if log.hidden] if self._disturbance else []
        return min([*hidden, *(open_.deadline_ms + 1 for open_ in self._transactions.values())], default=None)

    def announce(self) -> None:
        """Wake every consumer that waits for records."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    def _partition_of(self, outgoing: Outgoing) -> TopicPartition:
        self.require([outgoing.topic])
        count, number = self._specs[outgoing.topic].partitions, outgoing.partition
        if number is None and outgoing.key is not None:
            number = partition_for(outgoing.key, count)
        elif number is None:
            number = self._turns.get(outgoing.topic, 0) % count
            self._turns[outgoing.topic] = number + 1
        elif number >= count:
            raise TopicMismatchError(f"topic {outgoing.topic} in memory has no partition {number}")
        return TopicPartition(outgoing.topic, number)
