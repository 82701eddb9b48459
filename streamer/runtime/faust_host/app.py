"""The Faust app that hosts one operator: its consumer, table and credentials. The only file that imports faust.

It runs as a service inside the running event loop, which was tried and is reliable: no signal handlers, no logging of
its own, no web server, no windows, no files left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from streamer.broker import HeldBack, TopicPartition
from streamer.brokers.kafka.options import connection_options
from streamer.runtime.faust_host.state import STATE, partition_of
from streamer.settings import Settings

FETCH_WAIT_MS = 100
"""A fetch under way may hold back a partition that was drained meanwhile for this long; Faust's own value is 1500."""
STOP_S, QUEUE_STOP_S = 5.0, 1.0
SESSION_S, HEARTBEAT_S, COMMIT_EVERY_S = 10.0, 0.5, 1.0
POLL_S = 0.1
RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
"""How topics are read: keys and values as the bytes that they are."""


def faust_app(name: str, address: str, folder: str, settings: Settings) -> Any:
    """A Faust app that does as little as possible by itself."""
    import faust
    from faust.transport.drivers import aiokafka as driver

    from streamer.brokers.kafka.client import stop_client
    from streamer.brokers.kafka.consumer import drop, positions, read_around_undecodable

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
                return await read_around_undecodable(consumer, before, max_records or 1)

        async def on_thread_stop(self) -> None:
            """Stop aiokafka's consumer, whether its broker answers or not; Faust would wait for it for ever."""
            consumer, self._consumer = self._consumer, None
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(super().on_thread_stop(), QUEUE_STOP_S)
            if consumer is not None:
                await stop_client(consumer.stop(), lambda: drop(consumer))

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


def state_table(app: Any, partitions: int) -> Any:
    """The table of the state; its changelog is partitioned as the topics are, whoever writes and when."""
    from faust.tables.table import Table

    class StateTable(Table):  # type: ignore[misc]  # faust publishes no types to mypy here
        def partition_for_key(self, key: bytes) -> int:
            return partition_of(key, partitions)

    table = StateTable(app, name=STATE, key_type=bytes, value_type=bytes, partitions=partitions)
    return app.tables.add(table)


def consumer_held_back(app: Any) -> dict[TopicPartition, HeldBack]:
    """What open transactions keep from the app's consumer, see `Consumer.held_back`."""
    from streamer.brokers.kafka.consumer import held_back

    consumer = app.consumer._thread._consumer  # noqa: SLF001 - Faust has no other way to it
    return held_back(consumer) if consumer is not None else {}


async def stopped(app: Any) -> None:
    """Stop a Faust app; one that waits for a broker that has gone is left, but not its thread: it would come back."""
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.wait([stopping], timeout=STOP_S)
    if not stopping.done():
        thread = app.consumer._thread  # noqa: SLF001 - Faust has no other way to its consumer's thread
        thread.thread_loop.call_soon_threadsafe(thread._stopped.set)  # noqa: SLF001
        await asyncio.wait([stopping], timeout=STOP_S)
        stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)


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
