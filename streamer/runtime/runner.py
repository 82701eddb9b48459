"""The main loop of one operator: consume -> admit -> process -> produce -> commit.

Three words for stopping: `close` takes no more, the loop then finishes what is in hand, and cancelling drops it.
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
from streamer.runtime.dead_letters import Attempts
from streamer.runtime.decoding import MAX_SKEW_MS, admit, to_record
from streamer.runtime.emitting import Outlet
from streamer.runtime.offset_tracking import Sessions
from streamer.runtime.reports import Reporter
from streamer.runtime.tables import Tables
from streamer.runtime.transactions import Ledgers
from streamer.runtime.window_operator import Windowed
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
        self._windowed = Windowed(built, spec, context) if spec.window is not None else None
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
        self._outlet = Outlet(broker.producer(), spec, context)
        exact = spec.delivery == "exactly_once"
        self._ledgers = Ledgers(broker, f"{topology.app}.{spec.name}", self._outlet) if exact else None
        self._reporter = Reporter(spec, topology, context)
        self._attempts = Attempts(spec.on_failure, context)
        self._sessions = Sessions(self.operator)
        self._committed_ms = context.clock.now_ms()
        self._closing = asyncio.Event()
        self._generation = 0  # of the assignment; what was polled in an earlier one is read again, not processed

    def close(self) -> None:
        """Take no more; `run` finishes what is in hand and returns."""
        self._closing.set()

    async def open(self) -> None:
        """Connect, warm up, read the tables to their end.

        Raises:
            StreamerError: what is missing, and what to do.
        """
        await self._outlet.start()
        try:
            await self.operator.open()
        except StreamerError:
            raise
        except ValueError as error:  # a model or parameter it can't use: the user's to mend
            raise ConfigurationError(f"operators.{self._spec.name}", [Problem("open", str(error))]) from error
        await self._outlet.write(await self._tables.load())
        await self._consumer.start()

    async def run(self) -> None:
        """Until `close`: step after step; then commit and leave the group."""
        try:
            while not self._closing.is_set():
                await self.step()
            await self._commit()
            await self.flush()
        finally:
            await self.stop()

    async def step(self, wait_ms: int | None = None) -> int:
        """One turn of the loop; how many messages it took and how many ticks and the like it sent: 0 if it was idle."""
        messages = await self._consumer.poll(POLL_RECORDS, self._wait_ms() if wait_ms is None else wait_ms)
        generation = self._generation  # a poll hands out what belongs to the assignment that stands when it returns
        if messages and len(messages) < self._spec.batch.max and self._spec.batch.wait:
            more = await self._consumer.poll(self._spec.batch.max, self._spec.batch.wait)
            messages = [*messages, *more] if generation == self._generation else more
            generation = self._generation
        await self._outlet.write(await self._tables.refresh())
        records = self._decode(messages)
        admitted = records if self._windowed is not None else await self._admit(records)
        for start in range(0, len(admitted), self._spec.batch.max):
            if generation == self._generation:
                await self._process(admitted[start : start + self._spec.batch.max])
        timed = await self._windowed.on_time(self._consumer.caught_up) if self._windowed is not None else ()
        await self._outlet.write(timed)
        if generation == self._generation:
            self._sessions.read(records)
        if self.context.clock.now_ms() >= self._committed_ms + COMMIT_EVERY_MS:
            await self._commit()
        await self._outlet.write(self._reporter.due(self._sessions.partitions(), await self._lag()))
        return len(messages) + len(timed)

    async def flush(self) -> None:
        """Return when what the steps so far have made is written for good."""
        if self._ledgers is not None:
            await self._ledgers.flush()

    def _decode(self, messages: Sequence[Message]) -> list[Record[Any]]:
        self.context.metrics.count("read", len(messages))
        partitions = self._topology.partitions
        return [to_record(m, self._payloads, partitions, self.context, self._skew_ms) for m in messages]

    async def _admit(self, records: Sequence[Record[Any]]) -> list[Record[Any]]:
        """Records to those that are processed: refused ones become dead letters, the queue policy drops others."""
        await self._outlet.write([r for r in records if isinstance(r.payload, Refusal)])
        return admit([r for r in records if not isinstance(r.payload, Refusal | Tick)], self._spec, self.context)

    async def _process(self, batch: Sequence[Record[Any]]) -> None:
        generation, begin, now_ms = self._generation, self.context.clock.perf_ms(), self.context.clock.now_ms()
        self.context.metrics.time("wait", [now_ms - r.kafka_ms for r in batch if not isinstance(r.payload, Tick)])
        if self._windowed is not None:  # it has advanced once it was called; only its pure `fuse` is tried again
            outputs = await self._windowed.process(batch)
        else:
            outputs = await self._attempts.run(self.operator.process, batch, _refuse)
        processed = self.context.clock.perf_ms()
        if self._ledgers is None or self._windowed is None:
            await self._outlet.write(outputs)
        else:
            await self._outlet.write([r for r in outputs if self._windowed.provisional(r)])
            if generation == self._generation:  # else the partitions' next owner comes to the same
                finals = [r for r in outputs if not self._windowed.provisional(r)]
                await self._ledgers.add(finals, self._windowed.place)
        self.context.metrics.count("processed", len(batch))
        self.context.metrics.time("process", [processed - begin])
        self.context.metrics.time("produce", [self.context.clock.perf_ms() - processed])

    async def _commit(self) -> None:
        """Store how far each partition has been read; exactly-once, a place alone is a transaction too."""
        self._committed_ms = self.context.clock.now_ms()
        place = self._windowed.place if self._windowed is not None else self._sessions.place
        if self._ledgers is not None:
            await self._ledgers.mark(place)
            return
        stand = {partition: place(partition) for partition in self._consumer.assignment()}
        places = {partition: found for partition, found in stand.items() if found is not None}
        if places:
            try:
                await self._consumer.commit(places)
            except FencedError:  # the group has moved on: `_revoked` drops the state, the new owner reads again
                self.context.log.warning("%s: another worker owns its partitions now", self._spec.name)

    async def stop(self) -> None:
        """Leave the group, drop what is known of its partitions and release everything; it can be opened again."""
        exact = [self._ledgers.close()] if self._ledgers is not None else []
        await asyncio.gather(self._consumer.stop(), self._tables.stop(), self._outlet.stop(), *exact)
        self._drop(frozenset(TopicPartition(t, n) for t in self._payloads for n in range(self._topology.partitions)))
        await self.operator.close()

    def wake_ms(self) -> int | None:
        """When there is something to do without a record, in Unix milliseconds."""
        return self._windowed.wake_ms() if self._windowed is not None else None

    def _wait_ms(self) -> int:
        wake = self.wake_ms()
        return IDLE_WAIT_MS if wake is None else min(max(wake - self.context.clock.now_ms(), 1), IDLE_WAIT_MS)

    async def _lag(self) -> int:
        if not self._reporter.is_due():
            return 0
        ends = await self._consumer.end_offsets()
        return sum(max(end - (self._consumer.position(tp) or 0), 0) for tp, end in ends.items())

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self._generation += 1
        await asyncio.gather(*(self._take(partition) for partition in partitions))

    async def _take(self, partition: TopicPartition) -> None:
        """Own a partition: fence whoever did before, then see where it stood, then go there."""
        if self._ledgers is not None:
            await self._ledgers.open(partition)
        if self._windowed is not None:
            committed = await self._consumer.committed(partition)
            end = (await self._consumer.end_offsets()).get(partition, 0)
            place = self._windowed.resume(partition, committed, end)
            if place is not None:
                self._consumer.seek(partition, place)

    async def _revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self._generation += 1
        if self._ledgers is not None:
            await self._ledgers.lose(partitions)
        elif self._windowed is None:  # whose place may stand for windows that are being fused this moment
            await self._commit()
        self._drop(partitions)

    def _drop(self, partitions: frozenset[TopicPartition]) -> None:
        for partition in partitions:
            self._sessions.lose(partition)
            if self._windowed is not None:
                self._windowed.lose(partition)


def _refuse(record: Record[Any], why: Refusal) -> Record[Any]:
    return record.refuse(why.reason, why.detail)
