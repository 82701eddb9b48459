"""The consumer groups of the broker contract, on Kafka and in memory."""

from __future__ import annotations

import asyncio

import pytest

from streamer.broker import Broker, Committed, Consumer, Message, Outgoing, TopicPartition, TopicSpec
from streamer.errors import FencedError, StreamerError
from tests.streamer.brokers.broker_steps import PARTITIONS, PATIENCE_MS, QUIET_MS, Send, outgoing, polled, read


async def test_a_commit_comes_back_with_its_metadata(broker: Broker, topic: str, unique: str) -> None:
    consumer = broker.consumer([topic], group=unique)
    await consumer.start()
    offsets = {TopicPartition(topic, 1): Committed(7, '{"T": 12, "ä": 1}'), TopicPartition(topic, 2): Committed(3)}
    assert await consumer.committed(TopicPartition(topic, 1)) is None
    await consumer.commit(offsets)
    for partition, committed in offsets.items():
        assert await consumer.committed(partition) == committed
    assert await consumer.committed(TopicPartition(topic, 0)) is None
    await consumer.stop()


async def test_a_commits_metadata_beyond_4_kib_is_refused(broker: Broker, topic: str, unique: str) -> None:
    consumer = broker.consumer([topic], group=unique)
    await consumer.start()
    with pytest.raises(StreamerError):
        await consumer.commit({TopicPartition(topic, 1): Committed(7, "x" * 4097)})
    await consumer.stop()


async def test_a_commit_without_a_group_is_refused(reader: Consumer, topic: str) -> None:
    assert await reader.committed(TopicPartition(topic, 0)) is None
    with pytest.raises(StreamerError):
        await reader.commit({TopicPartition(topic, 0): Committed(1)})


async def test_a_new_member_resumes_after_the_commit(broker: Broker, topic: str, unique: str, send: Send) -> None:
    await send(outgoing(topic, [b"%d" % n for n in range(10)], partition=2))
    first = broker.consumer([topic], group=unique)
    await first.start()
    await read(first, 8)
    await first.commit({TopicPartition(topic, 2): Committed(6)})
    await first.stop()
    second = broker.consumer([topic], group=unique)
    await second.start()
    assert [m.offset for m in await read(second, 4)] == [6, 7, 8, 9]
    await second.stop()


async def test_groups_read_independently(broker: Broker, topic: str, unique: str, send: Send) -> None:
    await send(outgoing(topic, [b"a"]))
    for group in ("one", "two"):
        consumer = broker.consumer([topic], group=f"{unique}-{group}")
        await consumer.start()
        assert [m.value for m in await read(consumer, 1)] == [b"a"]
        await consumer.commit({p: Committed(1) for p in consumer.assignment()})
        await consumer.stop()


async def test_two_members_share_the_partitions_and_one_left_alone_takes_all(
    broker: Broker, topic: str, unique: str, send: Send
) -> None:
    everything = {TopicPartition(topic, n) for n in range(PARTITIONS)}
    first, second = (broker.consumer([topic], group=unique) for _ in range(2))
    await first.start()
    starting = asyncio.create_task(second.start())
    await polled(first, until=starting.done)
    await starting
    both = (first, second)
    await polled(*both, until=lambda: all(len(c.assignment()) == PARTITIONS // 2 for c in both))
    assert first.assignment() | second.assignment() == everything
    await send([Outgoing(topic, b"%d" % n, b"%d" % n) for n in range(40)])
    got: list[list[Message]] = [[], []]
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while sum(map(len, got)) < 40:
            for messages, consumer in zip(got, both, strict=True):
                messages.extend(await consumer.poll(100, 20))
    for messages, consumer in zip(got, both, strict=True):
        assert {TopicPartition(m.topic, m.partition) for m in messages} <= consumer.assignment()
    assert {m.value for messages in got for m in messages} == {b"%d" % n for n in range(40)}
    await second.stop()
    await polled(first, until=lambda: first.assignment() == everything)
    await first.stop()


async def test_topics_of_one_application_are_divided_alike(broker: Broker, unique: str) -> None:
    topics = [f"{unique}-one", f"{unique}-two"]
    await broker.ensure_topics([TopicSpec(name, 3) for name in topics])  # with an even number round robin does the same
    first, second = (broker.consumer(topics, group=unique) for _ in range(2))
    await first.start()
    starting = asyncio.create_task(second.start())
    await polled(first, until=starting.done)
    await polled(first, second, until=lambda: sorted(len(c.assignment()) for c in (first, second)) == [2, 4])
    for consumer in (first, second):
        numbers = [{p.partition for p in consumer.assignment() if p.topic == name} for name in topics]
        assert numbers[0] == numbers[1]
        await consumer.stop()


async def test_callbacks_come_before_the_first_record_and_may_seek(
    broker: Broker, topic: str, unique: str, send: Send
) -> None:
    await send(outgoing(topic, [b"%d" % n for n in range(10)], partition=0))
    happened: list[str] = []

    async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
        happened.append(f"assigned {len(partitions)}")
        assert await consumer.committed(TopicPartition(topic, 0)) is None
        await asyncio.sleep(0.3)  # long enough for a fetch, if there were one
        consumer.seek(TopicPartition(topic, 0), 8)
        happened.append("ready")

    consumer = broker.consumer([topic], group=unique, on_assigned=on_assigned)
    await consumer.start()
    happened += [f"record {m.offset}" for m in await read(consumer, 2)]
    assert happened == [f"assigned {PARTITIONS}", "ready", "record 8", "record 9"]
    assert list(await consumer.poll(10, QUIET_MS)) == []
    await consumer.stop()


async def test_a_reader_without_a_group_may_seek_when_assigned(broker: Broker, topic: str, send: Send) -> None:
    await send(outgoing(topic, [b"a", b"b", b"c"], partition=0))

    async def on_assigned(_: frozenset[TopicPartition]) -> None:
        consumer.seek(TopicPartition(topic, 0), 2)

    consumer = broker.consumer([topic], group=None, on_assigned=on_assigned)
    await consumer.start()
    assert [m.value for m in await read(consumer, 1)] == [b"c"]
    await consumer.stop()


async def test_a_rebalance_revokes_while_a_commit_still_counts(
    broker: Broker, topic: str, unique: str, send: Send
) -> None:
    happened: list[str] = []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        happened.append(f"revoked {len(partitions)}")
        await first.commit({p: Committed(5, "last words") for p in partitions})

    async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
        happened.append(f"assigned {len(partitions)}")

    await send([Outgoing(topic, None, b"x", partition=p) for p in range(PARTITIONS) for _ in range(6)])
    first = broker.consumer([topic], group=unique, on_assigned=on_assigned, on_revoked=on_revoked)
    second = broker.consumer([topic], group=unique)
    await first.start()
    await read(first, 6 * PARTITIONS)
    starting = asyncio.create_task(second.start())
    await polled(first, until=starting.done)
    assert happened[:2] == [f"assigned {PARTITIONS}", f"revoked {PARTITIONS}"]
    assert [m.offset for m in await read(second, 2)] == [5, 5]
    mine = next(iter(second.assignment()))
    assert await second.committed(mine) == Committed(5, "last words")
    with pytest.raises(FencedError):
        await first.commit({mine: Committed(0)})
    await second.stop()
    await first.stop()


async def test_an_error_in_a_callback_is_raised_by_the_next_poll(broker: Broker, topic: str, unique: str) -> None:
    async def on_assigned(_: frozenset[TopicPartition]) -> None:
        raise LookupError(unique)

    consumer = broker.consumer([topic], group=unique, on_assigned=on_assigned)
    await consumer.start()
    with pytest.raises(LookupError, match=unique):
        await polled(consumer, until=lambda: False)
    await consumer.stop()
