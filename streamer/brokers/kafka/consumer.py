"""A Kafka consumer, in a group or without one.

Works around aiokafka, as the contract suite checks: its `committed()` drops the metadata, it only logs an error of a
rebalance callback, and a client whose broker is gone cannot be stopped.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, errors, structs
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streamer.broker import Committed, HeldBack, Message, TopicPartition
from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.kafka.client import kafka_offsets, kafka_partition, stop_client
from streamer.brokers.limits import MAX_RECORD_BYTES
from streamer.brokers.protocol_errors import no_group, no_longer_member, not_assigned, not_started
from streamer.brokers.rebalance import RebalanceCallbacks
from streamer.errors import FencedError

JOIN_SECONDS = 60.0  # the group's other members may still be draining their partitions
SESSION_MS = 10_000
HEARTBEAT_MS = 500  # how soon a member learns of a rebalance
FETCH_WAIT_MS = 100  # a partition that has just been read to its end waits for up to this long for the fetch under way


class Cluster(Protocol):
    """What a consumer needs of `KafkaBroker`."""

    def answer_within(self, seconds: float) -> AbstractAsyncContextManager[None]:
        """Limit the time of a request and translate its errors."""
        ...

    async def require(self, topics: Sequence[str]) -> None:
        """Check that topics exist."""
        ...

    async def committed(self, group: str, partition: TopicPartition) -> Committed | None:
        """A group's committed offset with its metadata."""
        ...


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka's types do not reach mypy
    """One aiokafka consumer; partitions stay paused until `on_assigned` has returned."""

    def __init__(
        self,
        broker: Cluster,
        topics: Sequence[str],
        options: Mapping[str, Any],
        worker: str | None,
        callbacks: RebalanceCallbacks,
    ) -> None:
        self._broker, self._topics, self._options, self._callbacks = broker, topics, options, callbacks
        self._group: str | None = options["group_id"]
        self._static = worker is not None  # stays in the group after `stop`, for the worker's next start
        self._instance_id = (worker or uuid.uuid4().hex) if self._group else None  # to rejoin as itself after an outage
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Join; `on_assigned` is called before the first record, perhaps after this returns."""
        await self._broker.require(self._topics)
        consumer = self._consumer = AIOKafkaConsumer(
            fetch_min_bytes=1, fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=MAX_RECORD_BYTES,
            enable_auto_commit=False, isolation_level="read_committed",
            group_instance_id=self._instance_id, session_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=(RangePartitionAssignor,), **self._options,
        )  # fmt: skip
        consumer.subscribe(list(self._topics), listener=self)
        try:
            async with self._broker.answer_within(JOIN_SECONDS):
                await consumer.start()
            if not self._group:
                await self._callbacks.assigned(self.assignment())
                self._callbacks.raise_error()
        except BaseException:
            await self.stop()
            raise

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        """Return records, see `Consumer.poll`."""
        self._callbacks.raise_error()
        async with self._broker.answer_within(JOIN_SECONDS + timeout_ms / 1000):  # getmany waits for a rebalance to end
            consumer = self._running()
            before = await self._positions_within(timeout_ms)
            assignment = _assignment(consumer)
            if assignment and not before:
                return []
            try:
                batches = await consumer.getmany(*before, timeout_ms=timeout_ms, max_records=max_records)
            except UnicodeDecodeError:
                if _assignment(consumer) is not assignment:  # the records lost with it can only be read from the commit
                    raise FencedError("a rebalance came between, so it is read again") from None
                batches = await read_around_undecodable(consumer, before, max_records)
        return [_message(record) for records in batches.values() for record in records]

    async def _positions_within(self, timeout_ms: int) -> dict[structs.TopicPartition, int]:
        """The position in each partition, if Kafka answers in time: a fetch that fails is repeated from there."""
        consumer = self._running()
        found = positions(consumer)
        with suppress(TimeoutError, errors.IllegalStateError):  # the latter of a partition that has just been revoked
            async with asyncio.timeout(timeout_ms / 1000):
                for tp in consumer.assignment() - found.keys():
                    found[tp] = await consumer.position(tp)
        return found

    def assignment(self) -> frozenset[TopicPartition]:
        """The assigned partitions."""
        return frozenset(TopicPartition(*tp) for tp in self._running().assignment())

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The last stable offset of each assigned partition."""
        async with self._broker.answer_within(kafka_options.ANSWER_SECONDS):
            ends = await self._running().end_offsets([kafka_partition(p) for p in self.assignment()])
        return {TopicPartition(*tp): offset for tp, offset in ends.items()}

    async def begin_offset(self, partition: TopicPartition) -> int:
        """The offset of the first record that the partition still has."""
        asked = kafka_partition(partition)
        async with self._broker.answer_within(kafka_options.ANSWER_SECONDS):
            return int((await self._running().beginning_offsets([asked]))[asked])

    def held_back(self) -> Mapping[TopicPartition, HeldBack]:
        """What open transactions keep from readers, as of the last fetch."""
        return held_back(self._running())

    def position(self, partition: TopicPartition) -> int | None:
        """The next poll's offset, without waiting for it as aiokafka's `position` does."""
        return positions(self._running()).get(kafka_partition(partition))

    def caught_up(self, partition: TopicPartition) -> bool:
        """Whether the position has reached the last stable offset that a fetch returned."""
        position = self.position(partition)
        end = self._running().last_stable_offset(kafka_partition(partition)) if position is not None else None
        return position is not None and end is not None and position >= end

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Set a partition's position."""
        try:
            self._running().seek(kafka_partition(partition), offset)
        except errors.IllegalStateError:
            raise not_assigned(partition) from None

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's committed offset; None without one or without a group."""
        return await self._broker.committed(self._group, partition) if self._group else None

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the group's offsets."""
        if self._group is None:
            raise no_group()
        try:
            async with self._broker.answer_within(kafka_options.ANSWER_SECONDS):
                if offsets:
                    await self._running().commit(kafka_offsets(offsets))
        except (errors.IllegalStateError, errors.CommitFailedError):
            raise no_longer_member(self._group) from None

    async def stop(self) -> None:
        """Disconnect; leave the group, unless as a static member."""
        consumer, self._consumer = self._consumer, None
        if consumer and not self._static:
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - else aiokafka does not leave the group
        if consumer:
            await stop_client(consumer.stop(), lambda: drop(consumer))

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise not_started(f"consumer of {', '.join(self._topics)}")
        return self._consumer

    async def on_partitions_revoked(self, revoked: set[structs.TopicPartition]) -> None:
        """Called by aiokafka before it rejoins the group."""
        if self._consumer:
            await self._callbacks.revoked(TopicPartition(*tp) for tp in revoked)

    async def on_partitions_assigned(self, assigned: set[structs.TopicPartition]) -> None:
        """Called by aiokafka: the new partitions stay paused until `on_assigned` has returned."""
        if consumer := self._consumer:
            consumer.pause(*assigned)
            await self._callbacks.assigned(TopicPartition(*tp) for tp in assigned)
            consumer.resume(*(assigned & consumer.assignment()))


def _message(r: structs.ConsumerRecord[bytes | None, bytes | None]) -> Message:
    headers = tuple((name, value or b"") for name, value in r.headers)  # Kafka's header values may be null
    return Message(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, headers)


def positions(consumer: AIOKafkaConsumer) -> dict[structs.TopicPartition, int]:
    """A consumer's position in each assigned partition that has one yet."""
    assignment = _assignment(consumer)
    states = {tp: assignment.state_value(tp) for tp in assignment.tps} if assignment else {}
    return {tp: int(s.position) for tp, s in states.items() if s is not None and s.has_valid_position}


def held_back(consumer: AIOKafkaConsumer) -> dict[TopicPartition, HeldBack]:
    """The assigned partitions whose high watermark is past their last stable offset."""
    ends = {tp: (consumer.last_stable_offset(tp), consumer.highwater(tp)) for tp in consumer.assignment()}
    return {
        TopicPartition(*tp): HeldBack(stable, high - stable)
        for tp, (stable, high) in ends.items()
        if stable is not None and high > stable >= 0
    }


def _assignment(consumer: AIOKafkaConsumer) -> Any:
    subscription = consumer._subscription.subscription  # noqa: SLF001 - no public way without waiting
    return subscription.assignment if subscription is not None else None


async def read_around_undecodable(
    consumer: AIOKafkaConsumer, before: Mapping[structs.TopicPartition, int], max_records: int
) -> dict[structs.TopicPartition, list[structs.ConsumerRecord[bytes | None, bytes | None]]]:
    """Read again from `before`, one record at a time, after a UnicodeDecodeError.

    aiokafka decodes the names of headers as UTF-8 before it returns a record, and would fail at the same record for
    ever. Such a record is replaced by an empty one with timestamp 0.
    """
    found: dict[structs.TopicPartition, list[structs.ConsumerRecord[bytes | None, bytes | None]]] = {}
    for tp, position in before.items():
        consumer.seek(tp, position)
    for tp, position in before.items():
        records = found.setdefault(tp, [])
        try:
            while len(records) < max_records and (
                one := await consumer.getmany(tp, timeout_ms=FETCH_WAIT_MS, max_records=1)
            ):
                records += one[tp]
        except UnicodeDecodeError:
            offset = positions(consumer).get(tp, position)
            consumer.seek(tp, offset + 1)
            empty = structs.ConsumerRecord(tp.topic, tp.partition, offset, 0, 1, None, b"", None, -1, 0, ())
            records.append(empty)
    return found


async def drop(consumer: AIOKafkaConsumer) -> None:
    """End what aiokafka's `stop` leaves running when its broker does not answer; it would rejoin the group later."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001 - no public way without a request
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    tasks = {task for name in names if (task := getattr(coordinator, name, None)) is not None}
    tasks |= {fetcher._fetch_task, *fetcher._pending_tasks}  # noqa: SLF001
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=kafka_options.CONNECT_SECONDS)
    await consumer._client.close()  # noqa: SLF001
