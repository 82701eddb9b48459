"""The in-process twin of Kafka: topics in lists, stamped by a clock it is given; for unit tests and simulated replay.

Deterministic: records are handed out in the order in which they were appended, over all partitions; keyless records go
round; nothing reads a wall clock. Readers see committed records only; a transaction that has outlived its timeout ends
at the next append or read. Compaction is not simulated: a reader of a table lets the latest record win.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Literal

from streamer.broker import (
    Committed,
    Consumer,
    Message,
    Outgoing,
    PartitionsChanged,
    Producer,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)
from streamer.brokers.limits import check_metadata
from streamer.brokers.memory.log import Disturbance, MemoryTopics
from streamer.errors import FencedError, StreamerError
from streamer.event_time import Clock

__all__ = ["Disturbance", "MemoryBroker"]


@dataclass(slots=True)
class _Group:
    """A consumer group: its members in the order in which they joined, and its commits."""

    name: str
    members: list[_MemoryConsumer] = field(default_factory=list)
    places: dict[TopicPartition, Committed] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def keep(self, places: Mapping[TopicPartition, Committed]) -> None:
        """Take places over, all or none."""
        check_metadata(places)
        self.places.update(places)


class MemoryBroker:
    """Topics in memory; `clock` gives the LogAppendTime, `disturbance` what a bad day makes of it."""

    def __init__(self, clock: Clock, disturbance: Disturbance | None = None) -> None:
        self._topics = MemoryTopics(clock, disturbance)
        self._groups: dict[str, _Group] = {}

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
        member_of = self._group(group) if group else None
        return _MemoryConsumer(self._topics, topics, member_of, start_at == "earliest", on_assigned, on_revoked)

    def producer(self) -> Producer:
        """A producer, see the protocol."""
        return _MemoryProducer(self._topics)

    def transactional(self, transactional_id: str, *, group: str) -> TransactionalProducer:
        """A producer of transactions, see the protocol."""
        return _MemoryTransactions(self._topics, transactional_id, self._group(group))

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing, check what is there, see the protocol."""
        self._topics.create(topics)

    async def close(self) -> None:
        """Nothing is held."""

    def messages(self, topic: str) -> list[Message]:
        """What a reader could see of a topic now, in the order in which it was appended."""
        return self._topics.messages(topic)

    def restore(self, message: Message) -> None:
        """Append a recorded record with the partition, offset and timestamp it has, see `MemoryTopics.restore`."""
        self._topics.restore(message)

    def _group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group(name))


class _MemoryConsumer:
    """A member of a group, or a reader of everything."""

    def __init__(
        self,
        stored: MemoryTopics,
        topics: Sequence[str],
        group: _Group | None,
        earliest: bool,
        on_assigned: PartitionsChanged | None,
        on_revoked: PartitionsChanged | None,
    ) -> None:
        self.topics = frozenset(topics)
        self._stored, self._group, self._earliest = stored, group, earliest
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._positions: dict[TopicPartition, int] = {}
        self._ready = False  # whether on_assigned has returned for what is assigned
        self._failure: Exception | None = None
        self._started = False

    async def start(self) -> None:
        """Join; every member's callbacks have returned when this does."""
        self._stored.require(sorted(self.topics))
        self._started = True
        if self._group is None:
            await self.give([p for topic in sorted(self.topics) for p in self._stored.partitions(topic)])
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
        news = self._stored.news
        if not (found := self._take(max_records)) and timeout_ms > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1000):
                    while not found:
                        await self._wait(news)
                        news = self._stored.news
                        found = self._take(max_records)
        return found

    async def _wait(self, news: asyncio.Event) -> None:
        """Until something was appended or decided, or time alone lets more be seen."""
        changes_ms = self._stored.changes_ms()
        ahead_s = None if changes_ms is None else max(changes_ms - self._stored.now_ms(), 1) / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(ahead_s):
                await news.wait()

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this consumer reads now."""
        self._require_started()
        return frozenset(self._positions)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """For each assigned partition the offset up to which committed records can be read."""
        now_ms = self._stored.now_ms()
        return {p: self._stored.logs[p].stable(now_ms) for p in self.assignment()}

    def position(self, partition: TopicPartition) -> int | None:
        """Where the next poll continues."""
        return self._positions.get(partition)

    def caught_up(self, partition: TopicPartition) -> bool:
        """Whether everything that can be seen of a partition has been read."""
        position = self._positions.get(partition)
        return position is not None and position >= self._stored.logs[partition].stable(self._stored.now_ms())

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
            group = f"group {self._group.name} has moved on without this member"
            raise FencedError(f"{group}: drop the partitions' state and rejoin")
        self._group.keep(places)

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
        self._stored.announce()

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
                partitions = self._stored.partitions(topic)
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
        log, place = self._stored.logs[partition], self._group.places.get(partition) if self._group else None
        return place.offset if place else log.base if self._earliest else log.stable(self._stored.now_ms())

    def _take(self, max_records: int) -> list[Message]:
        """Up to `max_records`, in the order of their arrival over all assigned partitions.

        A position outside of its log starts over, one in a gap goes on behind it, both as Kafka's does.
        """
        found: list[Message] = []
        if not self._ready:
            return found
        heads, now_ms, logs, positions = [], self._stored.now_ms(), self._stored.logs, self._positions
        for partition in positions:
            log = logs[partition]
            if (position := positions[partition]) == log.end:
                continue
            stable = log.stable(now_ms)
            if not log.base <= position <= log.end:
                positions[partition] = position = log.base if self._earliest else stable
            index, seen = log.index(position), log.index(stable)
            if index < seen:
                heads.append((log.arrivals[index], partition, index, seen, stable))
            elif position < stable:
                positions[partition] = stable
        heapify(heads)
        while heads and len(found) < max_records:
            _, partition, index, seen, stable = heads[0]
            log = logs[partition]
            found.append(log.messages[index])
            if index + 1 < seen:
                positions[partition] = log.offsets[index] + 1
                heapreplace(heads, (log.arrivals[index + 1], partition, index + 1, seen, stable))
            else:
                positions[partition] = stable
                heappop(heads)
        return found

    def _require_started(self) -> None:
        if not self._started:
            raise StreamerError("this consumer has not been started, or was stopped")


class _MemoryProducer:
    """Appends at once."""

    def __init__(self, stored: MemoryTopics) -> None:
        self._stored, self._started = stored, False

    async def start(self) -> None:
        """Nothing to connect to."""
        self._started = True

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all, see the protocol."""
        if not self._started:
            raise StreamerError("this producer has not been started, or was stopped")
        try:
            for m in messages:
                self._stored.append(m)
        finally:
            self._stored.announce()

    async def stop(self) -> None:
        """Nothing is left to send."""
        self._started = False


class _MemoryTransactions:
    """Appends that are held back until they are committed; the last one to start with an id owns it."""

    def __init__(self, stored: MemoryTopics, transactional_id: str, group: _Group) -> None:
        self._stored, self._id, self._group = stored, transactional_id, group
        self._started = self._open = False

    async def start(self) -> None:
        """Fence earlier owners; what they had begun is dropped."""
        self._started, self._open = True, False
        self._stored.own(self._id, self)

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all to the open transaction, see the protocol."""
        self._require_owner()
        self._stored.begin(self._id)
        self._open = True
        for m in messages:
            self._stored.append(m, self._id)

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """Show what was sent and store the group's places, in one step."""
        self._require_started()
        if self._open or places:
            self._require_owner()
            self._group.keep(places)
            self._end(committed=True)

    async def abort(self) -> None:
        """Drop what was sent since the last commit."""
        if self._open:
            self._require_owner()
            self._end(committed=False)

    async def stop(self) -> None:
        """Abort what is open and let go."""
        if self._open and self._stored.owned(self._id, self):
            self._end(committed=False)
        self._started = self._open = False

    def _end(self, committed: bool) -> None:
        self._stored.end(self._id, committed)
        self._open = False

    def _require_started(self) -> None:
        if not self._started:
            raise StreamerError("this producer has not been started, or was stopped")

    def _require_owner(self) -> None:
        self._require_started()
        if not self._stored.owned(self._id, self):
            raise FencedError(f"transactional id {self._id}: somebody else owns it now, or its transaction timed out")
