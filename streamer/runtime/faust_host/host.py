"""Runs an operator that the topology marks `host: faust` on faust-streaming.

Faust reads the topics, keeps the operator's state in a plain table with a changelog and a standby, and commits; codec,
tables, failures, dead letters and output are the runner's own. It runs as a service inside the running event loop,
which was tried and is reliable: no signal handlers, no logging of its own, no web server, no windows, no files left.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import replace
from typing import Any

from streamer.broker import Broker, Message, TopicSpec
from streamer.errors import BrokerUnreachableError
from streamer.operator import Context, Operator
from streamer.payloads import Refusal
from streamer.records import Record
from streamer.runtime.dead_letters import RetryPolicy
from streamer.runtime.decoding import admit, to_record
from streamer.runtime.emitting import Emitter
from streamer.runtime.faust_host.app import RAW, STOP_S, consumer_held_back, faust_app, state_table, stopped
from streamer.runtime.faust_host.state import STATE, State
from streamer.runtime.reports import Reporter
from streamer.runtime.tables import Tables
from streamer.topology.topology import OperatorSpec, Topology

TABLES_EVERY_MS = 50
READY_S = 30.0


class FaustHost:
    """One operator on Faust, with the calls of the runner: open, run, close.

    Its table and its group are `<app>-<operator>`. A record is acknowledged once what came of it is written, so a crash
    repeats records and loses none. A table's record may be taken in while `process` waits for something.

    Args:
        spec: the operator's part of the topology.
        topology: for payload types and partitions.
        broker: where the topics are; Faust reads by itself, tables are read and outputs written here.
        context: the operator's; its `tables` must be filled in place, the table `state` is added.
        address: host:port[,host:port] of the same Kafka.
    """

    def __init__(self, spec: OperatorSpec, topology: Topology, broker: Broker, context: Context, address: str) -> None:
        self.name = spec.name
        self._spec, self._topology, self._broker, self._address = spec, topology, broker, address
        self._state = State(topology.partitions)
        self.context = context = replace(context, tables={**context.tables, STATE: self._state})
        self.operator: Operator = spec.found.build(spec.params, context)
        self._payloads = {name: topology.topics[name].type for name in spec.reads}
        tables = {name: topology.topics[name].type for name in spec.tables}
        self._tables = Tables(broker, tables, topology.partitions, context, self.operator)
        self._emitter = Emitter(broker.producer(), spec, context)
        self._reporter = Reporter(spec, topology, context)
        self._retry_policy = RetryPolicy(spec.on_failure, context)
        self._flowing, self._closing, self._broken = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._in_hand = asyncio.Lock()
        self._failure: BaseException | None = None
        self._app: Any = None
        self._folder = contextlib.ExitStack()

    def close(self) -> None:
        """Take no more; `run` finishes the record being processed and returns."""
        self._closing.set()

    async def open(self) -> None:
        """Connect, warm up, restore the state from its changelog, read the tables to their end; then let records flow.

        Raises:
            BrokerUnreachableError: the group was not joined in time.
            StreamerError: what is missing, and what to do.
        """
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise

    async def run(self) -> None:
        """Until `close` or a failure; then commit, leave the group and release everything.

        Raises:
            StreamerError: an output could not be written, or nearly every record fails; the record in hand comes again.
        """
        background = asyncio.create_task(self._background())
        try:
            await self._app.wait_first(self._closing.wait(), self._broken.wait(), background)
        finally:
            self._flowing.clear()
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
            await self.stop()
        if background.done() and not background.cancelled():
            background.result()
        if self._failure is not None:
            raise self._failure
        if self._app.crash_reason is not None:  # Faust's own: what an operator raises ends up in `_failure`
            why = f"{self._spec.name}: Faust stopped ({self._app.crash_reason!r})"
            raise BrokerUnreachableError(why) from self._app.crash_reason

    async def stop(self) -> None:
        """Finish what is in hand, commit, leave the group, remove Faust's folder."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S), self._in_hand:
                self._flowing.clear()
        if self._app is not None:
            await stopped(self._app)
        await self._tables.stop()
        await self._emitter.stop()
        await self.operator.close()
        self._folder.close()

    async def _open(self) -> None:
        self._failure, self._in_hand = None, asyncio.Lock()
        self._flowing.clear()
        self._broken.clear()
        await self._emitter.start()
        await self.operator.open()
        name = f"{self._topology.app}-{self._spec.name}"
        changelog = TopicSpec(f"{name}-{STATE}-changelog", self._topology.partitions, compact=True)
        await self._broker.ensure_topics([changelog])
        folder = self._folder.enter_context(tempfile.TemporaryDirectory(prefix="affectstream-faust-"))
        self._app = faust_app(name, self._address, folder, self.context.settings)
        self._state.table = state_table(self._app, self._topology.partitions)
        self._state.owned = self._partitions
        self._app.agent(self._app.topic(*self._spec.reads, **RAW), name=self._spec.name)(self._agent)
        try:
            async with asyncio.timeout(READY_S):
                await self._app.start()
        except TimeoutError:
            raise BrokerUnreachableError(
                f"{self._spec.name} did not join its group at {self._address} within {READY_S:g} s: "
                "is the Kafka there, and may this user use groups and its topics?"
            ) from None
        await self._emitter.write(await self._tables.load())
        self._flowing.set()

    async def _agent(self, stream: Any) -> None:
        """Records one by one, each acknowledged when its outputs are."""
        async for event in stream.noack().events():
            await self._flowing.wait()
            try:
                async with self._in_hand:
                    await self._take(event.message)
                    await stream.ack(event)
            except Exception as failure:  # noqa: BLE001 - Faust would go on with the next record; `run` raises it
                self._failure = failure
                self._flowing.clear()
                self._broken.set()
                await asyncio.Event().wait()

    async def _take(self, message: Any) -> None:
        """One record: decode, admit, process, write; the same steps as the runner's."""
        clock, metrics = self.context.clock, self.context.metrics
        taken = Message(
            message.topic, message.partition, message.offset, round(message.timestamp * 1000),
            message.key, message.value, tuple(message.headers or ()),
        )  # fmt: skip
        record = to_record(taken, self._payloads, self._topology.partitions, self.context)
        metrics.count("read")
        if isinstance(record.payload, Refusal):
            await self._emitter.write([record])
            return
        batch = admit([record], self._spec, self.context)
        if not batch:
            return
        begun_ms = clock.perf_ms()
        metrics.time("wait", [clock.now_ms() - record.kafka_ms])
        outputs = await self._retry_policy.run(self.operator.process, batch, _refuse)
        processed_ms = clock.perf_ms()
        metrics.count("processed")
        metrics.time("process", [processed_ms - begun_ms])
        if outputs:
            await self._emitter.write(outputs)
            metrics.time("produce", [clock.perf_ms() - processed_ms])

    async def _background(self) -> None:
        """Take in new table records, and report each second."""
        while True:
            await self._emitter.write(await self._tables.refresh())
            if self._reporter.is_due():
                held_back = {**consumer_held_back(self._app), **self._tables.held_back()}
                await self._emitter.write(self._reporter.report(self._partitions(), self._lag(), held_back))
            await self.context.clock.sleep_ms(TABLES_EVERY_MS)

    def _partitions(self) -> list[int]:
        return sorted({tp.partition for tp in self._app.consumer.assignment() if tp.topic in self._spec.reads})

    def _lag(self) -> int:
        """Records behind, over the partitions read so far."""
        ends, read = self._app.monitor.tp_end_offsets, self._app.monitor.tp_read_offsets
        return sum(max(end - 1 - read.get(tp, end - 1), 0) for tp, end in ends.items() if tp.topic in self._spec.reads)


def _refuse(record: Record[Any], why: Refusal) -> Record[Any]:
    return record.refuse(why.reason, why.detail)
