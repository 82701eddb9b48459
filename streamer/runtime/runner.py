"""The main loop of one operator: poll, decode, admit, process, write, commit.

`close` ends it after what was polled has been processed; cancelling drops that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from streamer.broker import Broker, Message, TopicPartition
from streamer.errors import ConfigurationError, FencedError, Problem, StreamerError
from streamer.operator import Context, Operator
from streamer.payloads import Refusal, Tick
from streamer.records import Record
from streamer.runtime.dead_letters import RetryPolicy
from streamer.runtime.decoding import MAX_SKEW_MS, admit, to_record
from streamer.runtime.emitting import Emitter
from streamer.runtime.offset_tracking import OffsetTracker
from streamer.runtime.reports import Reporter
from streamer.runtime.tables import Tables
from streamer.runtime.transactions import Transactions
from streamer.runtime.window_operator import WindowedOperator
from streamer.topology.topology import OperatorSpec, Topology

IDLE_WAIT_MS = 100
COMMIT_EVERY_MS = 1000
POLL_RECORDS = 500


class Runner:
    """Runs one operator of a topology on a broker.

    Args:
        spec: the operator's part of the topology.
        topology: for payload types and partitions.
        broker: where the topics are.
        context: the operator's; its `tables` are filled here.
    """

    def __init__(self, spec: OperatorSpec, topology: Topology, broker: Broker, context: Context) -> None:
        self.name, self.context, self._spec, self._topology = spec.name, context, spec, topology
        built = spec.found.build(spec.params, context)
        self._windowed = WindowedOperator(built, spec, context) if spec.window is not None else None
        self.operator: Operator = self._windowed or built
        self._payloads = {name: topology.topics[name].type for name in spec.reads}
        self._skew_ms = MAX_SKEW_MS if spec.window is None else None
        self._consumer = broker.consumer(
            spec.reads,
            group=f"{topology.app}.{spec.name}",
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )
        tables = {name: topology.topics[name].type for name in spec.tables}
        self._tables = Tables(broker, tables, topology.partitions, context, built)
        self._emitter = Emitter(broker.producer(), spec, context)
        exact = spec.delivery == "exactly_once"
        self._transactions = Transactions(broker, f"{topology.app}.{spec.name}", self._emitter) if exact else None
        self._reporter = Reporter(spec, topology, context)
        self._retry_policy = RetryPolicy(spec.on_failure, context)
        self._offsets = OffsetTracker(self.operator)
        self._committed_ms = context.clock.now_ms()
        self._closing = asyncio.Event()
        self._generation = 0  # of the assignment; records polled in an earlier one are read again, not processed

    def close(self) -> None:
        """Poll no more; `run` processes what was polled and returns."""
        self._closing.set()

    async def open(self) -> None:
        """Connect, open the operator, read its tables to their end, join the group.

        Raises:
            StreamerError: what is missing, and what to do.
        """
        await self._emitter.start()
        try:
            await self.operator.open()
        except StreamerError:
            raise
        except ValueError as error:  # a model or parameter it can't use: the user's to mend
            raise ConfigurationError(f"operators.{self._spec.name}", [Problem("open", str(error))]) from error
        await self._emitter.write(await self._tables.load())
        await self._consumer.start()

    async def run(self) -> None:
        """Step until `close`, then commit and leave the group."""
        try:
            while not self._closing.is_set():
                await self.step()
            await self._commit()
            await self.flush()
        finally:
            await self.stop()

    async def step(self, wait_ms: int | None = None) -> int:
        """One turn of the loop; returns how many records it read and how many ticks and provisionals it sent."""
        messages = await self._consumer.poll(POLL_RECORDS, self._wait_ms() if wait_ms is None else wait_ms)
        generation = self._generation  # a poll returns records of the assignment in force when it returns
        if messages and len(messages) < self._spec.batch.max and self._spec.batch.wait:
            more = await self._consumer.poll(self._spec.batch.max, self._spec.batch.wait)
            messages = [*messages, *more] if generation == self._generation else more
            generation = self._generation
        await self._emitter.write(await self._tables.refresh())
        records = self._decode(messages)
        admitted = records if self._windowed is not None else await self._admit(records)
        for start in range(0, len(admitted), self._spec.batch.max):
            if generation == self._generation:
                await self._process(admitted[start : start + self._spec.batch.max])
        timed = await self._windowed.on_time(self._consumer.caught_up) if self._windowed is not None else ()
        await self._emitter.write(timed)
        if generation == self._generation:
            self._offsets.read(records)
        if self.context.clock.now_ms() >= self._committed_ms + COMMIT_EVERY_MS:
            await self._commit()
        if self._reporter.is_due():
            held_back = {**self._consumer.held_back(), **self._tables.held_back()}
            await self._emitter.write(self._reporter.report(self._offsets.partitions(), await self._lag(), held_back))
        return len(messages) + len(timed)

    async def flush(self) -> None:
        """Wait until the output of all steps so far is committed."""
        if self._transactions is not None:
            await self._transactions.flush()

    def _decode(self, messages: Sequence[Message]) -> list[Record[Any]]:
        self.context.metrics.count("read", len(messages))
        partitions = self._topology.partitions
        return [to_record(m, self._payloads, partitions, self.context, self._skew_ms) for m in messages]

    async def _admit(self, records: Sequence[Record[Any]]) -> list[Record[Any]]:
        """Write refused records as dead letters, drop others by the queue policy, return the rest."""
        await self._emitter.write([r for r in records if isinstance(r.payload, Refusal)])
        return admit([r for r in records if not isinstance(r.payload, Refusal | Tick)], self._spec, self.context)

    async def _process(self, batch: Sequence[Record[Any]]) -> None:
        generation, begin, now_ms = self._generation, self.context.clock.perf_ms(), self.context.clock.now_ms()
        self.context.metrics.time("wait", [now_ms - r.kafka_ms for r in batch if not isinstance(r.payload, Tick)])
        if self._windowed is not None:  # its windows have advanced once it was called: only its pure `fuse` is retried
            outputs = await self._windowed.process(batch)
        else:
            outputs = await self._retry_policy.run(self.operator.process, batch, _refuse)
        processed = self.context.clock.perf_ms()
        if self._transactions is None or self._windowed is None:
            await self._emitter.write(outputs)
        else:
            await self._emitter.write([r for r in outputs if self._windowed.provisional(r)])
            if generation == self._generation:  # else the partitions' next owner computes the same
                finals = [r for r in outputs if not self._windowed.provisional(r)]
                await self._transactions.add(finals, self._windowed.commit_offset)
        self.context.metrics.count("processed", len(batch))
        self.context.metrics.time("process", [processed - begin])
        self.context.metrics.time("produce", [self.context.clock.perf_ms() - processed])

    async def _commit(self) -> None:
        """Commit how far each partition has been read; with exactly-once an offset alone is a transaction too."""
        self._committed_ms = self.context.clock.now_ms()
        commit_offset = (self._windowed or self._offsets).commit_offset
        if self._transactions is not None:
            await self._transactions.add_offsets(commit_offset)
            return
        found = {partition: commit_offset(partition) for partition in self._consumer.assignment()}
        offsets = {partition: offset for partition, offset in found.items() if offset is not None}
        if offsets:
            try:
                await self._consumer.commit(offsets)
            except FencedError:  # the group has moved on: `_revoked` drops the state, the new owner reads again
                self.context.log.warning("%s: another worker owns its partitions now", self._spec.name)

    async def stop(self) -> None:
        """Leave the group, drop the state of its partitions and release everything; it can be opened again."""
        exact = [self._transactions.close()] if self._transactions is not None else []
        await asyncio.gather(self._consumer.stop(), self._tables.stop(), self._emitter.stop(), *exact)
        self._drop(frozenset(TopicPartition(t, n) for t in self._payloads for n in range(self._topology.partitions)))
        await self.operator.close()

    def wake_ms(self) -> int | None:
        """When there is something to do without a record, in Unix milliseconds; None: never."""
        return self._windowed.wake_ms() if self._windowed is not None else None

    def _wait_ms(self) -> int:
        wake = self.wake_ms()
        return IDLE_WAIT_MS if wake is None else min(max(wake - self.context.clock.now_ms(), 1), IDLE_WAIT_MS)

    async def _lag(self) -> int:
        ends = await self._consumer.end_offsets()
        return sum(max(end - (self._consumer.position(tp) or 0), 0) for tp, end in ends.items())

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self._generation += 1
        await asyncio.gather(*(self._take(partition) for partition in partitions))

    async def _take(self, partition: TopicPartition) -> None:
        """Take over a partition: fence its earlier owner, then read where that one stopped, then seek there."""
        if self._transactions is not None:
            await self._transactions.open(partition)
        if self._windowed is not None:
            committed = await self._consumer.committed(partition)
            end = (await self._consumer.end_offsets()).get(partition, 0)
            offset = self._windowed.resume(partition, committed, end)
            if offset is not None:
                self._consumer.seek(partition, offset)
                self._warn_of_what_is_gone(partition, offset, await self._consumer.begin_offset(partition))

    def _warn_of_what_is_gone(self, partition: TopicPartition, offset: int, begin: int) -> None:
        """Say and count what recovery should read again and Kafka has deleted: windows may come out otherwise."""
        if begin > offset:
            self.context.metrics.count("gone", begin - offset)
            self.context.log.warning(
                "%s: %d records of %s[%d] that recovery reads again are gone: finals of that time may be missing or "
                "differ; keep the topic longer", self._spec.name, begin - offset, partition.topic, partition.partition,
            )  # fmt: skip

    async def _revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self._generation += 1
        if self._transactions is not None:
            await self._transactions.lose(partitions)
        elif self._windowed is None:  # whose offset may be that of windows being fused at this moment
            await self._commit()
        self._drop(partitions)

    def _drop(self, partitions: frozenset[TopicPartition]) -> None:
        for partition in partitions:
            self._offsets.lose(partition)
            if self._windowed is not None:
                self._windowed.lose(partition)


def _refuse(record: Record[Any], why: Refusal) -> Record[Any]:
    return record.refuse(why.reason, why.detail)
