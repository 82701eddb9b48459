"""What only the Kafka broker has: unreachable brokers, outages, credentials, static members, and the client log."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from streamer.broker import Committed, Outgoing, TopicPartition, TopicSpec
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.brokers.kafka.options import CONNECT_SECONDS, filter_client_log, topic_attributes
from streamer.errors import BrokerUnreachableError, ConfigurationError, FencedError, TopicMismatchError
from streamer.event_time import SystemClock
from streamer.settings import Settings, load_settings
from tests.streamer.brokers.broker_steps import NO_TEXT, damage_header_names, outgoing, polled, read


@pytest_asyncio.fixture
async def real(kafka: LocalKafka) -> AsyncIterator[KafkaBroker]:
    made = KafkaBroker(load_settings(), kafka.address)
    yield made
    await made.close()


@pytest.fixture
def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        yield int(deaf.getsockname()[1])


async def refusals(broker: KafkaBroker) -> list[BrokerUnreachableError]:
    """The error that each first request raises where no broker is."""
    found = []
    for request in (
        broker.ensure_topics([TopicSpec("t", 1)]),
        broker.consumer(["t"], group="g").start(),
        broker.producer().start(),
    ):
        with pytest.raises(BrokerUnreachableError) as refused:
            await request
        found.append(refused.value)
    await broker.close()
    return found


async def test_an_address_without_a_broker_is_refused_at_once_with_the_address_and_the_setting(free_port: int) -> None:
    clock = SystemClock()
    start_ms = clock.perf_ms()
    errors = await refusals(KafkaBroker(load_settings(brokers=f"127.0.0.1:{free_port}")))
    assert clock.perf_ms() - start_ms < 3000
    for error in errors:
        assert f"127.0.0.1:{free_port}" in str(error)
        assert "STREAMER_BROKERS" in str(error)
        assert error.exit_code == 69


async def test_an_address_that_never_answers_is_given_up_in_time(
    deaf_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CONNECT_SECONDS <= 5
    monkeypatch.setattr("streamer.brokers.kafka.options.CONNECT_SECONDS", 1.0)
    broker = KafkaBroker(load_settings(brokers=f"127.0.0.1:{deaf_port}"))
    clock = SystemClock()
    start_ms = clock.perf_ms()
    with pytest.raises(BrokerUnreachableError, match=f"127.0.0.1:{deaf_port}"):
        await broker.ensure_topics([TopicSpec("t", 1)])
    assert clock.perf_ms() - start_ms < 2000
    await broker.close()


def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="STREAMER_BROKERS"):
        KafkaBroker(load_settings(brokers=None))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"security_protocol": "SASL_PLAINTEXT"}, "STREAMER_SASL_USERNAME.*\n.*STREAMER_SASL_PASSWORD"),
        ({"security_protocol": "SSL", "ssl_cafile": Path("/nowhere/ca.pem")}, "STREAMER_SSL_CAFILE.*/nowhere/ca.pem"),
    ],
)
def test_incomplete_credentials_are_refused_by_variable(settings: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        KafkaBroker(load_settings(brokers="h:9092", **settings))


def test_a_password_is_not_in_what_is_printed() -> None:
    settings: Settings = load_settings(sasl_password=SecretStr("hunter2"))
    assert "hunter2" not in str(settings.printable())


@pytest.mark.kafka
async def test_a_topic_with_the_producers_timestamps_is_refused(
    real: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"message.timestamp.type": "CreateTime"}
    with monkeypatch.context() as somebody_else:
        somebody_else.setattr("streamer.brokers.kafka.broker.topic_attributes", lambda _: plain)
        with pytest.raises(TopicMismatchError, match=f"{unique} has message.timestamp.type=CreateTime"):
            await real.ensure_topics([TopicSpec(unique, 2)])
    with pytest.raises(TopicMismatchError, match=f"{unique} has message.timestamp.type=CreateTime"):
        await real.ensure_topics([TopicSpec(unique, 2)])


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"retention.ms": "30000"}, "has retention.ms=30000 (30s): alter it to 600000 (10m)"),
        ({"max.message.bytes": "1000"}, "has max.message.bytes=1000: alter it to 1048576 (1,024 KiB)"),
        ({"cleanup.policy": "compact,delete"}, "has cleanup.policy=compact,delete: alter it to delete"),
        ({"message.timestamp.type": "CreateTime"}, "has message.timestamp.type=CreateTime: alter it to LogAppendTime"),
    ],
)
async def test_a_topic_that_cannot_do_what_is_needed_is_refused_with_what_to_alter(
    real: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch, made: dict[str, str], says: str
) -> None:
    spec = TopicSpec(unique, 2, retention_ms=600_000, needs_ms=120_000)
    with monkeypatch.context() as somebody_else:
        attributes = topic_attributes(spec) | made
        somebody_else.setattr("streamer.brokers.kafka.broker.topic_attributes", lambda _: attributes)
        with pytest.raises(TopicMismatchError, match=f"{unique} {re.escape(says)}"):
            await real.ensure_topics([spec])


@pytest.mark.kafka
async def test_a_topic_that_is_kept_for_a_shorter_time_than_said_is_warned_of(
    real: KafkaBroker, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    await real.ensure_topics([TopicSpec(unique, 1, retention_ms=300_000, needs_ms=120_000)])
    assert "retention" not in caplog.text
    await real.ensure_topics([TopicSpec(unique, 1, retention_ms=600_000, needs_ms=120_000)])
    assert f"{unique} has retention.ms=300000 (5m); the topology says 10m" in caplog.text


@pytest.mark.kafka
async def test_two_processes_can_ensure_the_same_topics_at_once(
    real: KafkaBroker, kafka: LocalKafka, unique: str
) -> None:
    other = KafkaBroker(load_settings(), kafka.address)
    specs = [TopicSpec(f"{unique}-{n}", 4) for n in range(5)]
    await asyncio.gather(real.ensure_topics(specs), other.ensure_topics(specs))
    await other.close()


@pytest.mark.kafka
async def test_nothing_of_a_payload_is_logged_even_at_debug(
    real: KafkaBroker, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await real.ensure_topics([TopicSpec(unique, 1)])
    producer, consumer = real.producer(), real.consumer([unique], group=unique)
    await producer.start()
    await consumer.start()
    await producer.send([Outgoing(unique, b"SECRETKEY", b"SECRETVALUE", (("h", b"SECRETHEADER"),))])
    assert (await read(consumer, 1))[0].value == b"SECRETVALUE"
    await consumer.stop()
    await producer.stop()
    assert "SECRET" not in caplog.text


@pytest.mark.kafka
async def test_a_named_worker_that_restarts_gets_its_partitions_back_and_nobody_else_notices(
    kafka: LocalKafka, real: KafkaBroker, unique: str
) -> None:
    await real.ensure_topics([TopicSpec(unique, 4)])
    revoked: list[int] = []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        revoked.append(len(partitions))

    async with AsyncExitStack() as stack:
        one, two = (KafkaBroker(load_settings(worker=name), kafka.address) for name in ("one", "two"))
        before, after = (one.consumer([unique], group=unique) for _ in range(2))
        bystander = two.consumer([unique], group=unique, on_revoked=on_revoked)
        for part in (one.close, two.close, before.stop, after.stop, bystander.stop):
            stack.push_async_callback(part)
        await before.start()
        starting = asyncio.create_task(bystander.start())
        await polled(before, until=starting.done)
        await polled(before, bystander, until=lambda: len(before.assignment()) == len(bystander.assignment()) == 2)
        owned = before.assignment()
        await before.stop()
        await after.start()
        assert after.assignment() == owned
        await after.commit({p: Committed(2) for p in owned})
        assert revoked == []


@pytest.mark.kafka
async def test_a_broker_that_goes_away_and_comes_back_is_found_again(
    tmp_path: Path, unique: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.brokers.kafka.options.ANSWER_SECONDS", 2.0)
    settings, records = load_settings(), tmp_path / "records"
    async with local_kafka(settings, log_dirs=records) as running:
        port = int(running.address.rsplit(":", 1)[1])
        broker = KafkaBroker(settings, running.address)
        await broker.ensure_topics([TopicSpec(unique, 2)])
        producer, consumer = broker.producer(), broker.consumer([unique], group=unique)
        await producer.start()
        await consumer.start()
        await producer.send(outgoing(unique, [b"before"]))
        (message,) = await read(consumer, 1)
        partition = TopicPartition(unique, message.partition)
        await consumer.commit({partition: Committed(1, "kept")})
    caplog.clear()
    assert list(await consumer.poll(10, 1000)) == []
    with pytest.raises(BrokerUnreachableError, match=f"127.0.0.1:{port}"):
        await producer.send(outgoing(unique, [b"lost"]))
    with pytest.raises(BrokerUnreachableError, match=f"127.0.0.1:{port}"):
        await consumer.commit({partition: Committed(2)})
    lines = [r for r in caplog.records if r.name.startswith("aiokafka")]
    assert len(lines) < 40, "an outage is not one line for each attempt"
    async with local_kafka(settings, port=port, log_dirs=records):
        assert await consumer.committed(partition) == Committed(1, "kept")
        await producer.send(outgoing(unique, [b"after"]))
        while (await read(consumer, 1))[0].value != b"after":
            pass
        await consumer.stop()
        await producer.stop()
        await broker.close()


@pytest.mark.parametrize(
    ("logger", "said"),
    [
        ("aiokafka.consumer.fetcher", "Failed fetch offsets from %s: %s"),
        ("faust.transport.consumer", "exception performing seek when flow not active %s"),
    ],
)
def test_what_passes_by_itself_is_logged_only_where_it_goes_on(
    logger: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(logger), "filters", [])
    filter_client_log()
    said_at = []
    for now in (*range(100, 109), 200, 202):
        record = logging.makeLogRecord({"name": logger, "msg": said, "created": float(now), "levelno": logging.ERROR})
        if logging.getLogger(logger).filter(record):
            said_at.append(now)
    assert said_at == [105], "once, as it went on for 5 s; what comes long after is new"


async def test_a_record_whose_headers_name_is_no_text_is_handed_out_empty_and_its_neighbours_whole(
    real: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.ensure_topics([TopicSpec(unique, 2)])
    damage_header_names(monkeypatch)
    producer = real.producer()
    await producer.start()
    await producer.send(outgoing(unique, [b"other"], partition=1))
    await producer.send(outgoing(unique, [b"before"], partition=0))
    await producer.send([Outgoing(unique, b"s", b"bad", ((NO_TEXT, b"x"),), 0)])
    await producer.send(outgoing(unique, [b"after"], partition=0))
    await producer.stop()
    consumer = real.consumer([unique], group=None)
    await consumer.start()
    found = await read(consumer, 4)
    await consumer.stop()
    assert [(m.offset, m.value) for m in found if m.partition == 0] == [(0, b"before"), (1, b""), (2, b"after")]
    assert [m.value for m in found if m.partition == 1] == [b"other"]


@pytest.mark.kafka
async def test_an_owner_that_is_fenced_between_two_records_of_one_send_gets_a_fenced_error(
    real: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.ensure_topics([TopicSpec(unique, 1)])
    first, second = (real.transactional(unique, group=unique) for _ in range(2))
    await first.start()
    await second.start()
    append = AIOKafkaProducer.send

    async def append_late(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.2)
        return await append(*args, **options)

    monkeypatch.setattr(AIOKafkaProducer, "send", append_late)
    with pytest.raises(FencedError):
        await first.send(outgoing(unique, [b"one", b"two"]))
    await first.stop()
    await second.stop()
