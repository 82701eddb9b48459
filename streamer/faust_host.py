"""Runs an operator that the topology marks `host: faust` on faust-streaming; the only file that imports faust.

Faust reads the topics, keeps the operator's state in a plain table with a changelog and a standby, and commits; codec,
tables, failures, dead letters and output are the runner's own. It runs as a service inside the running event loop,
which was tried and is reliable: no signal handlers, no logging of its own, no web server, no windows, no files left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import replace
from typing import Any

from streamer.broker import Broker, Message, TopicSpec, partition_for
from streamer.errors import BrokerUnreachableError
from streamer.failures import Attempts
from streamer.inlet import admit, to_record
from streamer.kafka_options import connection_options
from streamer.operator import Context, Operator
from streamer.outlet import Outlet
from streamer.payloads import Refusal
from streamer.records import Record
from streamer.reports import Reporter
from streamer.settings import Settings
from streamer.tables import Tables
from streamer.topology import OperatorSpec, Topology

STATE = "state"
"""The table an operator finds in its context besides its own: text keys to bytes, kept in a changelog topic.

A key is a session's id, or that, a zero byte and the name of a part; the session's id decides the partition.
"""

FETCH_WAIT_MS = 100
"""A fetch under way may hold back a partition that was drained meanwhile for this long; Faust's own value is 1500."""
TABLES_EVERY_MS = 50
READY_S = 30.0
STOP_S, QUEUE_STOP_S = 5.0, 1.0
SESSION_S, HEARTBEAT_S, COMMIT_EVERY_S = 10.0, 0.5, 1.0
POLL_S = 0.1


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
        self._state = _State(topology.partitions)
        self.context = context = replace(context, tables={**context.tables, STATE: self._state})
        self.operator: Operator = spec.found.build(spec.params, context)
        self._payloads = {name: topology.topics[name].type for name in spec.reads}
        tables = {name: topology.topics[name].type for name in spec.tables}
        self._tables = Tables(broker, tables, topology.partitions, context, self.operator)
        self._outlet = Outlet(broker.producer(), spec, context)
        self._reporter = Reporter(spec, topology, context)
        self._attempts = Attempts(spec.on_failure, context)
        self._flowing, self._closing, self._broken = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._in_hand = asyncio.Lock()
        self._failure: BaseException | None = None
        self._app: Any = None
        self._folder = contextlib.ExitStack()

    def close(self) -> None:
        """Take no more; `run` finishes what is in hand and returns."""
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
        chores = asyncio.create_task(self._chores())
        try:
            await self._app.wait_first(self._closing.wait(), self._broken.wait(), chores)
        finally:
            self._flowing.clear()
            chores.cancel()
            await asyncio.gather(chores, return_exceptions=True)
            await self.stop()
        if chores.done() and not chores.cancelled():
            chores.result()
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
            await _stopped(self._app)
        await self._tables.stop()
        await self._outlet.stop()
        await self.operator.close()
        self._folder.close()

    async def _open(self) -> None:
        self._failure, self._in_hand = None, asyncio.Lock()
        self._flowing.clear()
        self._broken.clear()
        await self._outlet.start()
        await self.operator.open()
        name = f"{self._topology.app}-{self._spec.name}"
        changelog = TopicSpec(f"{name}-{STATE}-changelog", self._topology.partitions, compact=True)
        await self._broker.ensure_topics([changelog])
        folder = self._folder.enter_context(tempfile.TemporaryDirectory(prefix="affectstream-faust-"))
        self._app = _faust_app(name, self._address, folder, self.context.settings)
        self._state.table = _state_table(self._app, self._topology.partitions)
        self._state.owned = self._partitions
        self._app.agent(self._app.topic(*self._spec.reads, **_RAW), name=self._spec.name)(self._agent)
        try:
            async with asyncio.timeout(READY_S):
                await self._app.start()
        except TimeoutError:
            raise BrokerUnreachableError(
                f"{self._spec.name} did not join its group at {self._address} within {READY_S:g} s: "
                "is the Kafka there, and may this user use groups and its topics?"
            ) from None
        await self._outlet.write(await self._tables.load())
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
            await self._outlet.write([record])
            return
        batch = admit([record], self._spec, self.context)
        if not batch:
            return
        begun_ms = clock.perf_ms()
        metrics.time("wait", [clock.now_ms() - record.kafka_ms])
        outputs = await self._attempts.run(self.operator.process, batch, _refuse)
        processed_ms = clock.perf_ms()
        metrics.count("processed")
        metrics.time("process", [processed_ms - begun_ms])
        if outputs:
            await self._outlet.write(outputs)
            metrics.time("produce", [clock.perf_ms() - processed_ms])

    async def _chores(self) -> None:
        """Take in what came for the tables, and report each second."""
        while True:
            await self._outlet.write(await self._tables.refresh())
            if self._reporter.is_due():
                await self._outlet.write(self._reporter.due(self._partitions(), self._lag()))
            await self.context.clock.sleep_ms(TABLES_EVERY_MS)

    def _partitions(self) -> list[int]:
        return sorted({tp.partition for tp in self._app.consumer.assignment() if tp.topic in self._spec.reads})

    def _lag(self) -> int:
        """Records behind, over the partitions read so far."""
        ends, read = self._app.monitor.tp_end_offsets, self._app.monitor.tp_read_offsets
        return sum(max(end - 1 - read.get(tp, end - 1), 0) for tp, end in ends.items() if tp.topic in self._spec.reads)


_RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


class _State(MutableMapping[str, bytes]):
    """A Faust table of bytes as a mapping from text; empty until Faust has made the table.

    Faust keeps standby copies and what was of lost partitions in the same table: iteration leaves them out.
    """

    def __init__(self, partitions: int) -> None:
        self.table: MutableMapping[bytes, bytes] = {}
        self.owned: Callable[[], Collection[int]] = tuple
        self._partitions = partitions

    def __getitem__(self, key: str) -> bytes:
        return self.table[_bytes(key)]

    def __setitem__(self, key: str, value: bytes) -> None:
        self.table[_bytes(key)] = value

    def __delitem__(self, key: str) -> None:
        del self.table[_bytes(key)]

    def __iter__(self) -> Iterator[str]:
        owned = self.owned()
        keys = [key for key in self.table if _partition_of(key, self._partitions) in owned]
        return (key.decode(errors="surrogateescape") for key in keys)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogateescape")


def _partition_of(key: bytes, partitions: int) -> int:
    return partition_for(key.partition(b"\0")[0], partitions)


async def _stopped(app: Any) -> None:
    """Stop a Faust app; one that waits for a broker that has gone is left, but not its thread: it would come back."""
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.wait([stopping], timeout=STOP_S)
    if not stopping.done():
        thread = app.consumer._thread  # noqa: SLF001 - Faust has no other way to its consumer's thread
        thread.thread_loop.call_soon_threadsafe(thread._stopped.set)  # noqa: SLF001
        await asyncio.wait([stopping], timeout=STOP_S)
        stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)


def _refuse(record: Record[Any], why: Refusal) -> Record[Any]:
    return record.refuse(why.reason, why.detail)


def _faust_app(name: str, address: str, folder: str, settings: Settings) -> Any:
    """A Faust app that does as little as possible by itself."""
    import faust
    from faust.transport.drivers import aiokafka as driver

    from streamer.kafka_consumer import around_the_unreadable, drop, positions
    from streamer.kafka_producers import ended

    class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust publishes no types to mypy here
        _consumer: Any

        def _create_worker_consumer(self, transport: Any) -> Any:
            consumer = super()._create_worker_consumer(transport)
            consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
            consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust's own setting would make it transact too
            return consumer

        async def _fetch_records(self, consumer: Any, *args: Any, max_records: int | None = None, **kwargs: Any) -> Any:
            before = positions(consumer)
            try:
                return await super()._fetch_records(consumer, *args, max_records=max_records, **kwargs)
            except UnicodeDecodeError:
                return await around_the_unreadable(consumer, before, max_records or 1)

        async def on_thread_stop(self) -> None:
            """Stop aiokafka's consumer, whether its broker answers or not; Faust would wait for it for ever."""
            consumer, self._consumer = self._consumer, None
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(super().on_thread_stop(), QUEUE_STOP_S)
            if consumer is not None:
                await ended(consumer.stop(), lambda: drop(consumer))

    class QuickConsumer(driver.Consumer):  # type: ignore[misc]  # faust publishes no types to mypy here
        def _new_consumer_thread(self) -> Any:
            return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

        async def on_partitions_revoked(self, revoked: Any) -> None:
            """Commit what is done before another worker may get it; Faust would forget it: it would be done again."""
            await self.commit()
            await super().on_partitions_revoked(revoked)

        async def perform_seek(self) -> None:
            """Go back to what is committed; where nothing is, Faust's own would stay where it had read to."""
            await super().perform_seek()
            data = [tp for tp in self.assignment() if not self._is_changelog_tp(tp) and not self._committed_offset[tp]]
            if data:
                await self.seek_wait({tp: max(at, 0) for tp, at in (await self.earliest_offsets(*data)).items()})

        async def _wait_next_records(self, timeout: float) -> Any:
            if not self.flow_active:
                idle.set()
                await self.wait(self.can_resume_flow)
            idle.clear()
            return await super()._wait_next_records(min(timeout, POLL_S))

    idle = asyncio.Event()
    idle.set()

    class Transport(driver.Transport):  # type: ignore[misc]  # faust publishes no types to mypy here
        Consumer = QuickConsumer

    for logger in ("faust", "mode", __name__):  # the services below log under this file's name
        logging.getLogger(logger).setLevel(logging.WARNING)  # DEBUG holds payload, INFO each step of a rebalance
    app = faust.App(
        name,
        broker=[f"kafka://{one.strip()}" for one in address.split(",")],
        broker_credentials=_credentials(address, settings),
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_commit_interval=COMMIT_EVERY_S,
        consumer_auto_offset_reset="earliest",
        datadir=folder,
        producer_linger=0.0,
        stream_wait_empty=False,  # the record in hand is waited for here
        table_standby_replicas=1,
        topic_allow_declare=False,  # every topic exists before Faust starts
        topic_disable_leader=True,
        web_enabled=False,
        env={},  # or its environment variables (BROKER_URL, WEB_ENABLED) would win over what is said here
        **({"consumer_group_instance_id": settings.worker} if settings.worker else {}),
    )
    app.transport = Transport(app.conf.broker_consumer, app)

    async def hold_still(*_: object, **__: object) -> None:
        """Stop reading while Faust goes back to the committed offsets after a rebalance; it starts again by itself.

        Faust lets records flow before it seeks, then empties its buffers: what came in between would be lost.
        """
        app.consumer.stop_flow()
        await asyncio.wait_for(idle.wait(), SESSION_S)

    app.on_rebalance_complete.connect(hold_still, weak=False)
    return app


def _state_table(app: Any, partitions: int) -> Any:
    """The table of the state; its changelog is partitioned as the topics are, whoever writes and when."""
    from faust.tables.table import Table

    class StateTable(Table):  # type: ignore[misc]  # faust publishes no types to mypy here
        def partition_for_key(self, key: bytes) -> int:
            return _partition_of(key, partitions)

    table = StateTable(app, name=STATE, key_type=bytes, value_type=bytes, partitions=partitions)
    return app.tables.add(table)


def _credentials(address: str, settings: Settings) -> Any:
    """What the settings say of TLS and SASL, as Faust wants it; None for a plain connection."""
    from faust import SASLCredentials, SSLCredentials

    options = connection_options(settings, address)
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return SASLCredentials(
            username=options["sasl_plain_username"], password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"], ssl_context=context,
        )  # fmt: skip
    return SSLCredentials(context) if context is not None else None
