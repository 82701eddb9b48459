"""A consumer of a real Kafka: topics in, messages out, in a group or without one. Imports aiokafka.

aiokafka's rough edges are smoothed here and pinned by the contract suite: `committed()` drops the metadata, an error in
a rebalance callback is swallowed, a client whose broker is gone cannot be stopped.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, errors, structs
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streamer.broker import Committed, Message, PartitionsChanged, TopicPartition
from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.kafka.producers import ended
from streamer.brokers.limits import MAX_RECORD_BYTES
from streamer.errors import FencedError, StreamerError

JOIN_SECONDS = 60.0  # a group's other members may be draining
SESSION_MS = 10_000
HEARTBEAT_MS = 500  # how soon a member learns of a rebalance
FETCH_WAIT_MS = 100  # a fetch under way keeps a partition that has just been drained waiting for up to this long


class Cluster(Protocol):
    """What a consumer asks of its broker besides records."""

    def answering(self, seconds: float) -> AbstractAsyncContextManager[None]:
        """Translate what goes wrong within."""
        ...

    async def require(self, topics: Sequence[str]) -> None:
        """Refuse topics that do not exist."""
        ...

    async def committed(self, group: str, partition: TopicPartition) -> Committed | None:
        """A group's commit with its metadata."""
        ...


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka's types do not reach mypy
    """One aiokafka consumer; partitions stay paused until `on_assigned` has returned."""

    def __init__(
        self,
        broker: Cluster,
        topics: Sequence[str],
        options: Mapping[str, Any],
        worker: str | None,
        on_assigned: PartitionsChanged | None,
        on_revoked: PartitionsChanged | None,
    ) -> None:
        self._broker, self._topics, self._options = broker, topics, options
        self._stays = worker is not None  # in the group after `stop`, for its next start
        self._member = (worker or uuid.uuid4().hex) if options["group_id"] else None  # its own again after an outage
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._failure: BaseException | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Join; on_assigned may run after this, but before the first record."""
        await self._broker.require(self._topics)
        consumer = self._consumer = AIOKafkaConsumer(
            fetch_min_bytes=1, fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=MAX_RECORD_BYTES,
            enable_auto_commit=False, isolation_level="read_committed",
            group_instance_id=self._member, session_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=(RangePartitionAssignor,), **self._options,
        )  # fmt: skip
        consumer.subscribe(list(self._topics), listener=self)
        try:
            async with self._broker.answering(JOIN_SECONDS):
                await consumer.start()
            if self._on_assigned and not self._options["group_id"]:
                await self._on_assigned(self.assignment())
        except BaseException:
            await self.stop()
            raise

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        """See the protocol; a failed callback raises here."""
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        async with self._broker.answering(JOIN_SECONDS + timeout_ms / 1000):  # getmany waits for a rebalance to end
            consumer = self._running()
            before = await self._positions_within(timeout_ms)
            held = _assignment(consumer)
            if held and not before:
                return []
            try:
                batches = await consumer.getmany(*before, timeout_ms=timeout_ms, max_records=max_records)
            except UnicodeDecodeError:
                if (
                    _assignment(consumer) is not held
                ):  # what was drained with it can't be found again but from the commit
                    raise FencedError("a rebalance came between, so it is read again") from None
                batches = await around_the_unreadable(consumer, before, max_records)
        return [
            Message(
                r.topic,
                r.partition,
                r.offset,
                r.timestamp,
                r.key,
                r.value,
                tuple((name, value or b"") for name, value in r.headers),  # Kafka's headers may be null
            )  # fmt: skip
            for records in batches.values()
            for r in records
        ]

    async def _positions_within(self, timeout_ms: int) -> dict[structs.TopicPartition, int]:
        """Where each partition continues, as far as that gets known in time: a fetch that fails goes back there."""
        consumer, known = self._running(), positions(self._running())
        with suppress(TimeoutError, errors.IllegalStateError):  # the latter of one that has just been taken away
            async with asyncio.timeout(timeout_ms / 1000):
                for tp in consumer.assignment() - known.keys():
                    known[tp] = await consumer.position(tp)
        return known

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this consumer reads now."""
        return frozenset(TopicPartition(*tp) for tp in self._running().assignment())

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """For each assigned partition the offset up to which committed records can be read."""
        async with self._broker.answering(kafka_options.ANSWER_SECONDS):
            ends = await self._running().end_offsets([_theirs(p) for p in self.assignment()])
        return {TopicPartition(*tp): offset for tp, offset in ends.items()}

    def position(self, partition: TopicPartition) -> int | None:
        """Where the next poll continues; aiokafka's own `position` is a coroutine that waits until it is known."""
        return positions(self._running()).get(_theirs(partition))

    def caught_up(self, partition: TopicPartition) -> bool:
        """Whether the next record would be one that no fetch has told of."""
        position = self.position(partition)
        end = self._running().last_stable_offset(_theirs(partition)) if position is not None else None
        return position is not None and end is not None and position >= end

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue reading a partition at `offset`."""
        try:
            self._running().seek(_theirs(partition), offset)
        except errors.IllegalStateError:
            raise FencedError(f"{partition.topic}[{partition.partition}] is not assigned to this member") from None

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's commit, None without one or without a group."""
        group = self._options["group_id"]
        return await self._broker.committed(group, partition) if group else None

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """Store the group's places."""
        if self._options["group_id"] is None:
            raise StreamerError("a consumer without a group cannot commit")
        offsets = {_theirs(p): structs.OffsetAndMetadata(c.offset, c.metadata) for p, c in places.items()}
        try:
            async with self._broker.answering(kafka_options.ANSWER_SECONDS):
                if offsets:
                    await self._running().commit(offsets)
        except (errors.IllegalStateError, errors.CommitFailedError):
            group = f"group {self._options['group_id']} has moved on without this member"
            raise FencedError(f"{group}: drop the partitions' state and rejoin") from None

    async def stop(self) -> None:
        """Leave the group, unless its worker has a name to come back by; on_revoked is not called."""
        consumer, self._consumer = self._consumer, None
        if consumer and not self._stays:
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - or aiokafka says no goodbye
        if consumer:
            await ended(consumer.stop(), lambda: drop(consumer))

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise StreamerError(f"this consumer of {', '.join(self._topics)} has not been started, or was stopped")
        return self._consumer

    async def on_partitions_revoked(self, revoked: set[structs.TopicPartition]) -> None:
        """Called by aiokafka: what the group takes away, before it is joined again."""
        if self._consumer:
            await self._call(self._on_revoked, revoked)

    async def on_partitions_assigned(self, assigned: set[structs.TopicPartition]) -> None:
        """Called by aiokafka: what the group gives; nothing of it flows until the owner is ready."""
        if consumer := self._consumer:
            consumer.pause(*assigned)
            await self._call(self._on_assigned, assigned)
            consumer.resume(*(assigned & consumer.assignment()))

    async def _call(self, callback: PartitionsChanged | None, partitions: set[structs.TopicPartition]) -> None:
        if callback and partitions:
            try:
                await callback(frozenset(TopicPartition(*tp) for tp in partitions))
            except Exception as error:  # noqa: BLE001 - aiokafka would only log it; poll raises it
                self._failure = error


def positions(consumer: AIOKafkaConsumer) -> dict[structs.TopicPartition, int]:
    """Where a consumer's next fetch continues, for each assigned partition in which that is known."""
    assignment = _assignment(consumer)
    states = {tp: assignment.state_value(tp) for tp in assignment.tps} if assignment else {}
    return {tp: int(s.position) for tp, s in states.items() if s is not None and s.has_valid_position}


def _assignment(consumer: AIOKafkaConsumer) -> Any:
    subscription = consumer._subscription.subscription  # noqa: SLF001 - no public way to look without waiting
    return subscription.assignment if subscription is not None else None


async def around_the_unreadable(
    consumer: AIOKafkaConsumer, before: Mapping[structs.TopicPartition, int], max_records: int
) -> dict[structs.TopicPartition, list[structs.ConsumerRecord[bytes | None, bytes | None]]]:
    """Read again after a UnicodeDecodeError, one by one: in place of what can't be read an empty record, stamped 0.

    aiokafka reads the names of headers before anyone sees the record, and one that isn't UTF-8 would stop it for ever.
    """
    found: dict[structs.TopicPartition, list[structs.ConsumerRecord[bytes | None, bytes | None]]] = {}
    for tp, position in before.items():
        consumer.seek(tp, position)
    for tp, position in before.items():
        own = found.setdefault(tp, [])
        try:
            while len(own) < max_records and (
                one := await consumer.getmany(tp, timeout_ms=FETCH_WAIT_MS, max_records=1)
            ):
                own += one[tp]
        except UnicodeDecodeError:
            offset = positions(consumer).get(tp, position)
            consumer.seek(tp, offset + 1)
            empty = structs.ConsumerRecord(tp.topic, tp.partition, offset, 0, 1, None, b"", None, -1, 0, ())
            own.append(empty)
    return found


async def drop(consumer: AIOKafkaConsumer) -> None:
    """End what aiokafka's `stop` leaves running when its broker does not answer: it would come back as a ghost."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001 - no public way without a goodbye
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    tasks = {task for name in names if (task := getattr(coordinator, name, None)) is not None}
    tasks |= {fetcher._fetch_task, *fetcher._pending_tasks}  # noqa: SLF001
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=kafka_options.CONNECT_SECONDS)
    await consumer._client.close()  # noqa: SLF001


def _theirs(partition: TopicPartition) -> structs.TopicPartition:
    return structs.TopicPartition(partition.topic, partition.partition)
