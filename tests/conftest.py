"""Fixtures that every test may use: one embedded Kafka for the whole run, and each broker in turn."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import cache

import pytest
import pytest_asyncio
from hypothesis import settings

from kernels import engines
from streamer.broker import Broker, Consumer, TopicSpec, TransactionalProducer
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.brokers.memory.broker import MemoryBroker
from streamer.event_time import SystemClock
from streamer.settings import load_settings
from tests.streamer.brokers.broker_steps import PARTITIONS, MakeBroker, Own, Send
from tests.streamer.compliance.media_witness import put_media

# What may land must not hang on a draw: each run tries the same examples. HYPOTHESIS_PROFILE=deep draws others.
settings.register_profile("same", derandomize=True)
if os.environ.get("HYPOTHESIS_PROFILE") != "deep":
    settings.load_profile("same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the time limit count from the test on: the first to ask for Kafka may wait for its download.

    What waits for time to pass comes last: by then it has. Tests that export with torch and transformers (several GB
    that nothing which runs here needs) are deselected unless asked for: `pip install -e '.[dev,train]'`, then
    `pytest -m train`. What an export makes lies in tests/tiny_encoders, so all that comes after it is tested anyway.
    """
    if "train" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("train")])
        items[:] = [item for item in items if not item.get_closest_marker("train")]
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    for item in items:
        if item.get_closest_marker("kafka") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Operators of one run share their compiled models: the real ones, compiled at first use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "load", cache(engines.load))
        yield


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[LocalKafka]:
    """A real Kafka on loopback, started once; its jars are kept in STREAMER_CACHE."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def show(what: str, fraction: float | None) -> None:
        if reporter and (fraction is None or fraction == 1):
            reporter.write_line(f" [{what}]")

    with asyncio.Runner() as runner:
        context = local_kafka(load_settings(), progress=show)
        running = runner.run(context.__aenter__())
        runner.run(put_media(running))
        yield running
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def unique() -> str:
    """A name that no other test uses: topics and groups of one Kafka are shared by the whole run."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    """Each broker in turn."""
    if request.param == "memory":
        return lambda: MemoryBroker(SystemClock())
    running: LocalKafka = request.getfixturevalue("kafka")
    return lambda: KafkaBroker(load_settings(), running.address)


@pytest_asyncio.fixture
async def broker(make_broker: MakeBroker) -> AsyncIterator[Broker]:
    """A broker, closed in the end."""
    made = make_broker()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def topic(broker: Broker, unique: str) -> str:
    """A topic of its own."""
    await broker.ensure_topics([TopicSpec(unique, PARTITIONS, retention_ms=60_000)])
    return unique


@pytest_asyncio.fixture
async def send(broker: Broker) -> AsyncIterator[Send]:
    """A producer's `send`."""
    producer = broker.producer()
    await producer.start()
    yield producer.send
    await producer.stop()


@pytest_asyncio.fixture
async def reader(broker: Broker, topic: str) -> AsyncIterator[Consumer]:
    """A reader of the whole topic, without a group."""
    consumer = broker.consumer([topic], group=None)
    await consumer.start()
    yield consumer
    await consumer.stop()


@pytest_asyncio.fixture
async def own(broker: Broker, unique: str) -> AsyncIterator[Own]:
    """Starts a producer of transactions with an id of this test, for the group that is named as the test's topic."""
    started = []

    async def start(name: str) -> TransactionalProducer:
        producer = broker.transactional(f"{unique}-{name}", group=unique)
        await producer.start()
        started.append(producer)
        return producer

    yield start
    for producer in started:
        await producer.stop()


@pytest_asyncio.fixture
async def owner(own: Own) -> TransactionalProducer:
    """The first to start with the id `one`."""
    return await own("one")
