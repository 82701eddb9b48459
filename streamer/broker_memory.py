"""The in-process twin of Kafka: topics in lists, stamped by a clock it is given; for unit tests and simulated replay.

Deterministic: records are handed out in the order in which they were appended, over all partitions; keyless records go
round; nothing reads a wall clock. Compaction is not simulated: a reader of a table lets the latest record win.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from streamer.broker import (
    MAX_RECORD_BYTES,
    Committed,
    Consumer,
    Message,
    Outgoing,
    PartitionsChanged,
    Producer,
    TopicPartition,
    TopicSpec,
    partition_for,
)
from streamer.errors import FencedError, PayloadError, StreamerError, TopicMismatchError
from streamer.event_time import Clock

METADATA_BYTES = 4096  # Kafka's default for a commit's metadata
RECORD_OVERHEAD_BYTES = 70  # of a batch with one record, about
FORGET_AT_ONCE = 64  # expired records are dropped in lumps, so that appending stays cheap


@dataclass(slots=True)
class _Log:
    """One partition; `base` is the offset of its oldest record, `arrivals` the order over all partitions."""

    retention_ms: int | None
    base: int = 0
    messages: list[Message] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.base + len(self.messages)

    def append(self, message: Message, arrival: int) -> None:
        self.messages.append(message)
        self.arrivals.append(arrival)
        if self.retention_ms is not None:
            oldest_ms = message.timestamp_ms - self.retention_ms
            if len(self.messages) > FORGET_AT_ONCE and self.messages[FORGET_AT_ONCE].timestamp_ms < oldest_ms:
                del self.messages[:FORGET_AT_ONCE]
                del self.arrivals[:FORGET_AT_ONCE]
                self.base += FORGET_AT_ONCE


@dataclass(slots=True)
class _Group:
    """A consumer group: its members in the order in which they joined, and its commits."""

    members: list[_MemoryConsumer] = field(default_factory=list)
    places: dict[TopicPartition, Committed] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryBroker:
    """Topics in memory; `clock` gives the LogAppendTime."""

    def __init__(self, clock: Clock) -> None:
        self.specs: dict[str, TopicSpec] = {}
        self.logs: dict[TopicPartition, _Log] = {}
        self.groups: dict[str, _Group] = {}
        self.news = asyncio.Event()
        self._clock = clock
        self._arrivals = 0
        self._turns: dict[str, int] = {}

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None,
        start_at: Literal["earliest", "latest"] = "earliest",
        on_assigned: PartitionsChanged | None = None,
        on_revoked: PartitionsChanged | None = None,
    ) -> Consumer:
        """A consumer, see the protocol."""
        return _MemoryConsumer(self, topics, group, start_at == "earliest", on_assigned, on_revoked)

    def producer(self) -> Producer:
        """A producer, see the protocol."""
        return _MemoryProducer(self)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing, check what is there, see the protocol."""
        differences = []
        for spec in topics:
            there = self.specs.setdefault(spec.name, spec)
            if there.partitions != spec.partitions:
                differences.append(f"{spec.name} has {there.partitions} partitions, not {spec.partitions}")
            if there.compact != spec.compact:
                differences.append(f"{spec.name} has compact={there.compact}, not {spec.compact}")
            for number in range(there.partitions):
                self.logs.setdefault(TopicPartition(spec.name, number), _Log(there.retention_ms))
        if differences:
            lines = "\n".join(f"  {d}" for d in differences)
            raise TopicMismatchError(f"topics in memory are not as the topology says\n{lines}")

    async def close(self) -> None:
        """Nothing is held."""

    def require(self, topics: Sequence[str]) -> None:
        """Refuse topics that do not exist."""
        if missing := sorted(set(topics) - self.specs.keys()):
            raise TopicMismatchError(f"no topic {', '.join(missing)} in memory; create it, or check its name")

    def partitions(self, topic: str) -> list[TopicPartition]:
        """A topic's partitions in order."""
        return [TopicPartition(topic, number) for number in range(self.specs[topic].partitions)]

    def messages(self, topic: str) -> list[Message]:
        """What is stored of a topic, in the order in which it was appended."""
        logs = [self.logs[partition] for partition in self.partitions(topic)]
        arrived = [pair for log in logs for pair in zip(log.arrivals, log.messages, strict=True)]
        return [message for _, message in sorted(arrived, key=lambda pair: pair[0])]

    def append(self, outgoing: Outgoing) -> None:
        """Store a record at its partition's end."""
        self.require([outgoing.topic])
        count = self.specs[outgoing.topic].partitions
        number = outgoing.partition
        if number is None and outgoing.key is not None:
            number = partition_for(outgoing.key, count)
        elif number is None:
            number = self._turns.get(outgoing.topic, 0) % count
            self._turns[outgoing.topic] = number + 1
        elif number >= count:
            raise TopicMismatchError(f"topic {outgoing.topic} in memory has no partition {number}")
        log, now_ms = self.logs[TopicPartition(outgoing.topic, number)], self._clock.now_ms()
        key, value, headers = outgoing.key, outgoing.value, outgoing.headers
        log.append(Message(outgoing.topic, number, log.end, now_ms, key, value, headers), self._arrivals)
        self._arrivals += 1

    def announce(self) -> None:
        """Wake every consumer that waits for records."""
        news, self.news = self.news, asyncio.Event()
        news.set()


class _MemoryConsumer:
    """A member of a group, or a reader of everything."""

    def __init__(
        self,
        broker: MemoryBroker,
        topics: Sequence[str],
        group: str | None,
        earliest: bool,
        on_assigned: PartitionsChanged | None,
        on_revoked: PartitionsChanged | None,
    ) -> None:
        self.topics = frozenset(topics)
        self._broker, self._group_name, self._earliest = broker, group, earliest
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._group = broker.groups.setdefault(group, _Group()) if group else None
        self._positions: dict[TopicPartition, int] = {}
        self._ready = False  # whether on_assigned has returned for what is assigned
        self._failure: Exception | None = None
        self._started = False

    async def start(self) -> None:
        """Join; every member's callbacks have returned when this does."""
        self._broker.require(sorted(self.topics))
        self._started = True
        if self._group is None:
            await self.give([p for topic in sorted(self.topics) for p in self._broker.partitions(topic)])
        else:
            self._group.members.append(self)
            await self._rebalance(self._group)
        if self._group is None and self._failure:
            failure, self._failure = self._failure, None
            raise failure

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        """See the protocol; the wait is the event loop's."""
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        self._require_started()
        news = self._broker.news
        if not (found := self._take(max_records)) and timeout_ms > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1000):
                    while not found:
                        await news.wait()
                        news = self._broker.news
                        found = self._take(max_records)
        return found

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this consumer reads now."""
        self._require_started()
        return frozenset(self._positions)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """For each assigned partition the offset that its next record will get."""
        return {p: self._broker.logs[p].end for p in self.assignment()}

    def position(self, partition: TopicPartition) -> int | None:
        """Where the next poll continues."""
        return self._positions.get(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue reading a partition at `offset`."""
        if partition not in self._positions:
            raise FencedError(f"{partition.topic}[{partition.partition}] is not assigned to this member")
        self._positions[partition] = offset

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's commit, None without one or without a group."""
        return self._group.places.get(partition) if self._group else None

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """Store the group's places."""
        self._require_started()
        if self._group is None:
            raise StreamerError("a consumer without a group cannot commit")
        if not places.keys() <= self._positions.keys():
            group = f"group {self._group_name} has moved on without this member"
            raise FencedError(f"{group}: drop the partitions' state and rejoin")
        if any(len(c.metadata.encode()) > METADATA_BYTES for c in places.values()):
            raise StreamerError(f"a commit's metadata is longer than {METADATA_BYTES} bytes")
        self._group.places.update(places)

    async def stop(self) -> None:
        """Leave the group; on_revoked is not called on this member."""
        self._positions.clear()
        if self._started and self._group and self in self._group.members:
            self._group.members.remove(self)
            await self._rebalance(self._group)
        self._started = False

    async def give(self, partitions: Sequence[TopicPartition]) -> None:
        """Take over partitions: where the group committed, else where `start_at` says; on_assigned may seek."""
        self._ready = False
        self._positions = {p: self._first(p) for p in partitions}
        await self._call(self._on_assigned)
        self._ready = True
        self._broker.announce()

    async def take_back(self) -> None:
        """Give everything back; the owner may still commit."""
        await self._call(self._on_revoked)
        self._positions = {}

    async def _rebalance(self, group: _Group) -> None:
        """Revoke everything, then divide each topic into ranges, as Kafka's range assignor does."""
        async with group.lock:
            for member in list(group.members):
                await member.take_back()
            shares: dict[int, list[TopicPartition]] = {id(member): [] for member in group.members}
            for topic in sorted({t for member in group.members for t in member.topics}):
                readers = [member for member in group.members if topic in member.topics]
                partitions = self._broker.partitions(topic)
                each, more = divmod(len(partitions), len(readers))
                for n, member in enumerate(readers):
                    first = n * each + min(n, more)
                    shares[id(member)] += partitions[first : first + each + (n < more)]
            for member in list(group.members):
                await member.give(shares[id(member)])

    async def _call(self, callback: PartitionsChanged | None) -> None:
        if callback and self._positions:
            try:
                await callback(frozenset(self._positions))
            except Exception as error:  # noqa: BLE001 - it is its owner's, not another member's: poll raises it
                self._failure = error

    def _first(self, partition: TopicPartition) -> int:
        log, place = self._broker.logs[partition], self._group.places.get(partition) if self._group else None
        return place.offset if place else log.base if self._earliest else log.end

    def _take(self, max_records: int) -> list[Message]:
        """Up to `max_records`, in the order of their arrival over all assigned partitions."""
        found: list[Message] = []
        heads = {p: self._within(p) for p in self._positions} if self._ready else {}
        while len(found) < max_records:
            ready = [(self._broker.logs[p].arrivals[i], p, i) for p, i in heads.items() if self._has(p, i)]
            if not ready:
                break
            _, partition, index = min(ready)
            message = self._broker.logs[partition].messages[index]
            found.append(message)
            heads[partition] = index + 1
            self._positions[partition] = message.offset + 1
        return found

    def _within(self, partition: TopicPartition) -> int:
        """The index of a partition's next record; a position outside of it starts over, as Kafka's does."""
        log, position = self._broker.logs[partition], self._positions[partition]
        if not log.base <= position <= log.end:
            self._positions[partition] = position = log.base if self._earliest else log.end
        return position - log.base

    def _has(self, partition: TopicPartition, index: int) -> bool:
        return index < len(self._broker.logs[partition].messages)

    def _require_started(self) -> None:
        if not self._started:
            raise StreamerError("this consumer has not been started, or was stopped")


class _MemoryProducer:
    """Appends at once."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker, self._started = broker, False

    async def start(self) -> None:
        """Nothing to connect to."""
        self._started = True

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all, see the protocol."""
        if not self._started:
            raise StreamerError("this producer has not been started, or was stopped")
        for m in messages:
            if m.key is None and m.value is None:
                raise PayloadError("empty", f"a record of topic {m.topic} has neither key nor value")
            size = len(m.key or b"") + len(m.value or b"") + sum(len(k) + len(v) for k, v in m.headers)
            if size + RECORD_OVERHEAD_BYTES > MAX_RECORD_BYTES:
                detail = f"a record of {len(m.value or b'')} bytes is more than topic {m.topic} takes"
                raise PayloadError("too_large", detail)
            self._broker.append(m)
        self._broker.announce()

    async def stop(self) -> None:
        """Nothing is left to send."""
        self._started = False
