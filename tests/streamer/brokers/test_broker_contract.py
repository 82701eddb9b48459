"""The records, topics and positions of the broker contract, on Kafka and in memory.

The fixtures, which choose the broker, are in tests/conftest.py.
"""

from __future__ import annotations

import asyncio

import pytest

from streamer.broker import Broker, Consumer, Outgoing, TopicPartition, TopicSpec
from streamer.brokers.partitioner import partition_for
from streamer.errors import FencedError, PayloadError, StreamerError, TopicMismatchError
from streamer.event_time import SystemClock
from tests.streamer.brokers.broker_steps import PARTITIONS, PATIENCE_MS, QUIET_MS, Send, outgoing, polled, read


async def test_records_of_a_key_keep_their_order(topic: str, send: Send, reader: Consumer) -> None:
    values = [b"%d" % n for n in range(200)]
    for start in range(0, 200, 7):
        await send(outgoing(topic, values[start : start + 7]))
    assert [m.value for m in await read(reader, 200)] == values


async def test_offsets_count_from_zero_without_gaps(topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"a", b"b", b"c"], partition=2))
    assert [(m.partition, m.offset) for m in await read(reader, 3)] == [(2, 0), (2, 1), (2, 2)]


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
async def test_a_key_goes_where_kafkas_java_client_sends_it(
    topic: str, send: Send, reader: Consumer, key: bytes, murmur2: int
) -> None:
    # hashes from Apache Kafka's own UtilsTest.testMurmur2
    assert partition_for(key, PARTITIONS) == (murmur2 & 0x7FFFFFFF) % PARTITIONS
    await send(outgoing(topic, [b"x"], key))
    assert (await read(reader, 1))[0].partition == (murmur2 & 0x7FFFFFFF) % PARTITIONS


async def test_any_key_goes_to_the_partition_of_partition_for(topic: str, send: Send, reader: Consumer) -> None:
    keys = [bytes(range(n)) for n in range(33)] + [f"session-{n}".encode() for n in range(67)]
    await send([Outgoing(topic, key, b"x") for key in keys])
    found = {m.key: m.partition for m in await read(reader, 100)}
    assert found == {key: partition_for(key, PARTITIONS) for key in keys}


async def test_a_record_without_a_key_is_taken(topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"a", b"b"], key=None))
    assert sorted((m.key, m.value) for m in await read(reader, 2)) == [(None, b"a"), (None, b"b")]


async def test_a_partition_may_be_given(topic: str, send: Send, reader: Consumer) -> None:
    await send([*outgoing(topic, [b"a"], b"abc", 3), *outgoing(topic, [b"tick"], None, 1)])
    assert {m.value: m.partition for m in await read(reader, 2)} == {b"a": 3, b"tick": 1}


async def test_a_partition_that_does_not_exist_is_refused(topic: str, send: Send) -> None:
    with pytest.raises(TopicMismatchError, match=f"{topic}.*no partition 9"):
        await send(outgoing(topic, [b"a"], partition=9))


async def test_headers_arrive_in_order_and_repeated(topic: str, send: Send, reader: Consumer) -> None:
    headers = (("schema", b"VideoFrame/1"), ("tick", b""), ("schema", b"\xff\x00"))
    await send([Outgoing(topic, b"s", b"x", headers)])
    assert (await read(reader, 1))[0].headers == headers


async def test_a_tombstone_arrives_without_a_value(topic: str, send: Send, reader: Consumer) -> None:
    await send([Outgoing(topic, b"s", None)])
    assert (await read(reader, 1))[0].value is None


async def test_a_record_with_neither_key_nor_value_is_refused(topic: str, send: Send) -> None:
    with pytest.raises(PayloadError, match="neither key nor value"):
        await send([Outgoing(topic, None, None)])


async def test_timestamps_say_when_the_log_took_the_record(topic: str, send: Send, reader: Consumer) -> None:
    clock, bounds = SystemClock(), []
    for value in (b"a", b"b"):
        before_ms = clock.now_ms()
        await send(outgoing(topic, [value]))
        bounds.append((before_ms, clock.now_ms()))
        await clock.sleep_ms(15)
    for message, (before_ms, after_ms) in zip(await read(reader, 2), bounds, strict=True):
        assert before_ms <= message.timestamp_ms <= after_ms


async def test_a_poll_without_records_comes_back_empty_in_time(reader: Consumer) -> None:
    clock = SystemClock()
    start_ms = clock.perf_ms()
    assert list(await reader.poll(10, QUIET_MS)) == []
    assert QUIET_MS - 20 <= clock.perf_ms() - start_ms < QUIET_MS + 1000
    assert list(await reader.poll(10, 0)) == []


async def test_a_waiting_poll_returns_with_the_first_record(topic: str, send: Send, reader: Consumer) -> None:
    waiting = asyncio.create_task(reader.poll(10, PATIENCE_MS))
    await asyncio.sleep(0.2)
    await send(outgoing(topic, [b"a"]))
    async with asyncio.timeout(1):
        assert [m.value for m in await waiting] == [b"a"]


async def test_a_poll_gives_no_more_than_asked_for(topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"%d" % n for n in range(10)]))
    assert len(await reader.poll(3, PATIENCE_MS)) == 3
    assert [m.value for m in await read(reader, 7)] == [b"%d" % n for n in range(3, 10)]


async def test_a_record_of_512_kib_fits(topic: str, send: Send, reader: Consumer) -> None:
    value = bytes(range(256)) * 2048
    await send([Outgoing(topic, b"s", value, (("schema", b"VideoFrame/1"),))])
    assert (await read(reader, 1))[0].value == value


async def test_a_record_that_is_too_large_is_refused_and_the_next_one_is_taken(
    topic: str, send: Send, reader: Consumer
) -> None:
    with pytest.raises(PayloadError, match=f"too_large.*{topic}") as refused:
        await send(outgoing(topic, [bytes(2_000_000)]))
    assert refused.value.reason == "too_large"
    await send(outgoing(topic, [b"small"]))
    assert [m.value for m in await read(reader, 1)] == [b"small"]


async def test_a_topic_that_does_not_exist_is_refused_by_name(broker: Broker, unique: str) -> None:
    consumer = broker.consumer([f"{unique}-none"], group=None)
    with pytest.raises(TopicMismatchError, match=f"{unique}-none"):
        await consumer.start()
    await consumer.stop()


async def test_a_reader_without_a_group_sees_everything(
    broker: Broker, topic: str, send: Send, reader: Consumer
) -> None:
    keys = [b"%d" % n for n in range(20)]
    await send([Outgoing(topic, key, key) for key in keys])
    second = broker.consumer([topic], group=None)
    await second.start()
    for consumer in (reader, second):
        assert consumer.assignment() == {TopicPartition(topic, n) for n in range(PARTITIONS)}
        assert {m.value for m in await read(consumer, 20)} == set(keys)
    await second.stop()


async def test_a_reader_of_two_topics_reads_both(broker: Broker, topic: str, send: Send) -> None:
    other = f"{topic}-other"
    await broker.ensure_topics([TopicSpec(other, PARTITIONS)])
    consumer = broker.consumer([topic, other], group=None)
    await consumer.start()
    await send([Outgoing(topic, b"s", b"a"), Outgoing(other, b"s", b"b")])
    assert {(m.topic, m.value) for m in await read(consumer, 2)} == {(topic, b"a"), (other, b"b")}
    await consumer.stop()


async def test_a_reader_may_begin_at_the_end(broker: Broker, topic: str, send: Send) -> None:
    await send(outgoing(topic, [b"before"]))
    consumer = broker.consumer([topic], group=None, start_at="latest")
    await consumer.start()
    assert list(await consumer.poll(10, QUIET_MS)) == []
    await send(outgoing(topic, [b"after"]))
    assert [m.value for m in await read(consumer, 1)] == [b"after"]
    await consumer.stop()


async def test_seek_goes_back_and_forth(topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"%d" % n for n in range(10)], partition=1))
    partition = TopicPartition(topic, 1)
    await read(reader, 10)
    reader.seek(partition, 4)
    assert [m.offset for m in await read(reader, 6)] == [4, 5, 6, 7, 8, 9]
    reader.seek(partition, 9)
    assert [m.offset for m in await read(reader, 1)] == [9]


async def test_seek_of_a_partition_that_is_not_assigned_is_refused(reader: Consumer, topic: str) -> None:
    with pytest.raises(FencedError, match="not assigned"):
        reader.seek(TopicPartition(topic, 77), 0)


async def test_position_follows_what_was_read(topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"a", b"b", b"c"], partition=1))
    partition = TopicPartition(topic, 1)
    await read(reader, 2)
    assert reader.position(partition) == 2
    reader.seek(partition, 0)
    assert reader.position(partition) == 0
    assert reader.position(TopicPartition(topic, 77)) is None


async def test_end_offsets_say_where_each_partition_ends(topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"a", b"b"], partition=1))
    ends = await reader.end_offsets()
    assert ends == {TopicPartition(topic, n): 2 if n == 1 else 0 for n in range(PARTITIONS)}


async def test_a_reader_can_tell_that_it_has_read_everything(topic: str, send: Send, reader: Consumer) -> None:
    await send([Outgoing(topic, b"%d" % n, b"x") for n in range(50)])
    ends = await reader.end_offsets()
    await polled(reader, until=lambda: all(reader.position(p) == end for p, end in ends.items()))


async def test_a_client_that_was_not_started_or_was_stopped_refuses_work(broker: Broker, topic: str) -> None:
    consumer, producer = broker.consumer([topic], group=None), broker.producer()
    for _ in range(2):
        with pytest.raises(StreamerError, match="not been started, or was stopped"):
            await consumer.poll(1, 0)
        with pytest.raises(StreamerError, match="not been started, or was stopped"):
            await producer.send(outgoing(topic, [b"x"]))
        await consumer.start()
        await consumer.stop()
        await producer.start()
        await producer.stop()


async def test_stopping_twice_and_closing_twice_is_allowed(broker: Broker, topic: str, unique: str) -> None:
    consumer, producer = broker.consumer([topic], group=unique), broker.producer()
    await consumer.start()
    await producer.start()
    for _ in range(2):
        await consumer.stop()
        await producer.stop()
        await broker.close()


async def test_topics_can_be_ensured_again(broker: Broker, topic: str, send: Send, reader: Consumer) -> None:
    await send(outgoing(topic, [b"kept"]))
    await broker.ensure_topics([TopicSpec(topic, PARTITIONS, retention_ms=60_000)])
    assert [m.value for m in await read(reader, 1)] == [b"kept"]


async def test_topics_that_differ_are_refused_all_at_once_by_name(broker: Broker, topic: str) -> None:
    table = f"{topic}-table"
    await broker.ensure_topics([TopicSpec(table, 2, compact=True)])
    wanted = [TopicSpec(topic, PARTITIONS + 1), TopicSpec(table, 2), TopicSpec(f"{topic}-new", 1)]
    with pytest.raises(TopicMismatchError) as refused:
        await broker.ensure_topics(wanted)
    message = str(refused.value)
    assert f"{topic} has {PARTITIONS} partitions, not {PARTITIONS + 1}" in message
    assert f"{table} has " in message
    assert "compact" in message
    assert f"{topic}-new" not in message
