"""The in-memory broker with its consumers and producers.

Deterministic: consumers get records in the order in which they were appended, over all partitions; records without a
key are distributed round robin; time comes from an injected clock. Consumers read committed records only; a transaction
that timed out is aborted at the next append or read. Topics are not compacted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import ClassVar, Literal

from streamer.broker import (
    Committed,
    Consumer,
    HeldBack,
    Message,
    Outgoing,
    PartitionsChanged,
    Producer,
    Right,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)
from streamer.brokers.limits import check_metadata
from streamer.brokers.memory.log import Disturbance, MemoryTopics
from streamer.brokers.protocol_errors import no_group, no_longer_member, not_assigned, not_started, producer_fenced
from streamer.brokers.rebalance import RebalanceCallbacks
from streamer.event_time import Clock


@dataclass(slots=True)
class _Group:
    """A consumer group: its members in the order in which they joined, and its committed offsets."""

    name: str
    members: list[_MemoryConsumer] = field(default_factory=list)
    offsets: dict[TopicPartition, Committed] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        check_metadata(offsets)
        self.offsets.update(offsets)


class MemoryBroker:
    """Topics, groups and transactions in memory.

    Args:
        clock: gives each record's LogAppendTime, and times transactions out.
        disturbance: clock errors and delays, none unless given.
    """

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
        callbacks = RebalanceCallbacks(on_assigned, on_revoked)
        return _MemoryConsumer(
            self._topics, topics, self._group(group) if group else None, start_at == "earliest", callbacks
        )

    def producer(self) -> Producer:
        """A producer, see the protocol."""
        return _MemoryProducer(self._topics)

    def transactional(self, transactional_id: str, *, group: str) -> TransactionalProducer:
        """A producer of transactions, see the protocol."""
        return _MemoryTransactions(self._topics, transactional_id, self._group(group))

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics and check existing ones, see the protocol."""
        self._topics.create(topics)

    async def require_rights(self, rights: Sequence[Right]) -> None:
        """Everybody may do everything."""

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def messages(self, topic: str) -> list[Message]:
        """A topic's visible records, see `MemoryTopics.messages`."""
        return self._topics.messages(topic)

    def restore(self, message: Message) -> None:
        """Append a recorded message as it is, see `MemoryTopics.restore`."""
        self._topics.restore(message)

    def _group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group(name))


class _MemoryClient:
    """What consumers and producers share: they are used between `start` and `stop` only."""

    _kind: ClassVar[str]

    def __init__(self, stored: MemoryTopics) -> None:
        self._stored, self._started = stored, False

    def _require_started(self) -> None:
        if not self._started:
            raise not_started(self._kind)


class _MemoryConsumer(_MemoryClient):
    """A `Consumer`: a member of a group, or a reader of all partitions."""

    _kind = "consumer"

    def __init__(
        self,
        stored: MemoryTopics,
        topics: Sequence[str],
        group: _Group | None,
        earliest: bool,
        callbacks: RebalanceCallbacks,
    ) -> None:
        super().__init__(stored)
        self.topics = frozenset(topics)
        self._group, self._earliest, self._callbacks = group, earliest, callbacks
        self._positions: dict[TopicPartition, int] = {}
        self._ready = False  # whether on_assigned has returned for the current assignment

    async def start(self) -> None:
        """Join; the callbacks of all members have returned when this does."""
        self._stored.require(sorted(self.topics))
        self._started = True
        if self._group is None:
            await self.assign([p for topic in sorted(self.topics) for p in self._stored.partitions(topic)])
            self._callbacks.raise_error()
        else:
            self._group.members.append(self)
            await self._rebalance(self._group)

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        self._callbacks.raise_error()
        self._require_started()
        changed = self._stored.changed
        if not (found := self._fetch(max_records)) and timeout_ms > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1000):
                    while not found:
                        await self._wait(changed)
                        changed = self._stored.changed
                        found = self._fetch(max_records)
        return found

    async def _wait(self, changed: asyncio.Event) -> None:
        """Wait for an append or the end of a transaction, or until time alone makes records visible."""
        change_ms = self._stored.next_change_ms()
        wait_s = None if change_ms is None else max(change_ms - self._stored.now_ms(), 1) / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await changed.wait()

    def assignment(self) -> frozenset[TopicPartition]:
        self._require_started()
        return frozenset(self._positions)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        now_ms = self._stored.now_ms()
        return {p: self._stored.logs[p].last_stable_offset(now_ms) for p in self.assignment()}

    async def begin_offset(self, partition: TopicPartition) -> int:
        return self._stored.logs[partition].start

    def held_back(self) -> Mapping[TopicPartition, HeldBack]:
        found = {p: self._stored.logs[p].held_back() for p in self.assignment()}
        return {p: held for p, held in found.items() if held.records}

    def position(self, partition: TopicPartition) -> int | None:
        return self._positions.get(partition)

    def caught_up(self, partition: TopicPartition) -> bool:
        if (position := self._positions.get(partition)) is None:
            return False
        return position >= self._stored.logs[partition].last_stable_offset(self._stored.now_ms())

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self._positions:
            raise not_assigned(partition)
        self._positions[partition] = offset

    async def committed(self, partition: TopicPartition) -> Committed | None:
        return self._group.offsets.get(partition) if self._group else None

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self._require_started()
        if self._group is None:
            raise no_group()
        if not offsets.keys() <= self._positions.keys():
            raise no_longer_member(self._group.name)
        self._group.commit(offsets)

    async def stop(self) -> None:
        self._positions.clear()
        if self._started and self._group and self in self._group.members:
            self._group.members.remove(self)
            await self._rebalance(self._group)
        self._started = False

    async def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Assign partitions, at the group's committed offsets or else at `start_at`; on_assigned may seek."""
        self._ready = False
        self._positions = {p: self._start_offset(p) for p in partitions}
        await self._callbacks.assigned(self._positions)
        self._ready = True
        self._stored.wake_readers()

    async def revoke(self) -> None:
        """Revoke all partitions; on_revoked may commit."""
        await self._callbacks.revoked(self._positions)
        self._positions = {}

    async def _rebalance(self, group: _Group) -> None:
        """Revoke all partitions, then assign each topic in ranges, like Kafka's range assignor (eager rebalance)."""
        async with group.lock:
            for member in list(group.members):
                await member.revoke()
            shares: dict[int, list[TopicPartition]] = {id(member): [] for member in group.members}
            for topic in sorted({t for member in group.members for t in member.topics}):
                readers = [member for member in group.members if topic in member.topics]
                partitions = self._stored.partitions(topic)
                each, more = divmod(len(partitions), len(readers))
                for n, member in enumerate(readers):
                    first = n * each + min(n, more)
                    shares[id(member)] += partitions[first : first + each + (n < more)]
            for member in list(group.members):
                await member.assign(shares[id(member)])

    def _start_offset(self, partition: TopicPartition) -> int:
        if self._group and (committed := self._group.offsets.get(partition)):
            return committed.offset
        log = self._stored.logs[partition]
        return log.start if self._earliest else log.last_stable_offset(self._stored.now_ms())

    def _fetch(self, max_records: int) -> list[Message]:
        """Return up to `max_records`, in the order of their arrival over all assigned partitions.

        As in Kafka, a position outside of its log is reset to `start_at`, and one in a gap continues behind the gap.
        """
        found: list[Message] = []
        if not self._ready:
            return found
        heads, now_ms, logs, positions = [], self._stored.now_ms(), self._stored.logs, self._positions
        for partition in positions:
            log = logs[partition]
            if (position := positions[partition]) == log.end:
                continue
            stable = log.last_stable_offset(now_ms)
            if not log.start <= position <= log.end:
                positions[partition] = position = log.start if self._earliest else stable
            index, visible = log.index(position), log.index(stable)
            if index < visible:
                heads.append((log.arrivals[index], partition, index, visible, stable))
            elif position < stable:
                positions[partition] = stable
        heapify(heads)
        while heads and len(found) < max_records:
            _, partition, index, visible, stable = heads[0]
            log = logs[partition]
            found.append(log.messages[index])
            if index + 1 < visible:
                positions[partition] = log.offsets[index] + 1
                heapreplace(heads, (log.arrivals[index + 1], partition, index + 1, visible, stable))
            else:
                positions[partition] = stable
                heappop(heads)
        return found


class _MemoryProducer(_MemoryClient):
    """A `Producer` that appends at once."""

    _kind = "producer"

    async def start(self) -> None:
        self._started = True

    async def send(self, messages: Sequence[Outgoing]) -> None:
        self._require_started()
        try:
            for m in messages:
                self._stored.append(m)
        finally:
            self._stored.wake_readers()

    async def stop(self) -> None:
        self._started = False


class _MemoryTransactions(_MemoryProducer):
    """A `TransactionalProducer`; its records are appended at once, and visible once they are committed."""

    def __init__(self, stored: MemoryTopics, transactional_id: str, group: _Group) -> None:
        super().__init__(stored)
        self._id, self._group, self._open = transactional_id, group, False

    async def start(self) -> None:
        await super().start()
        self._open = False
        self._stored.set_owner(self._id, self)

    async def send(self, messages: Sequence[Outgoing]) -> None:
        self._require_owner()
        self._stored.begin(self._id)
        self._open = True
        for m in messages:
            self._stored.append(m, self._id)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self._require_started()
        if self._open or offsets:
            self._require_owner()
            self._group.commit(offsets)
            self._end(committed=True)

    async def abort(self) -> None:
        if self._open:
            self._require_owner()
            self._end(committed=False)

    async def stop(self) -> None:
        if self._open and self._stored.is_owner(self._id, self):
            self._end(committed=False)
        self._open = False
        await super().stop()

    def _end(self, committed: bool) -> None:
        self._stored.end(self._id, committed)
        self._open = False

    def _require_owner(self) -> None:
        self._require_started()
        if not self._stored.is_owner(self._id, self):
            raise producer_fenced(self._id)
