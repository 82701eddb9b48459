"""The transactions of the broker contract, on Kafka and in memory.

A commit or an abort is final when it returns; its control records follow a moment later, and only then do readers and
the group's committed offsets show it. The next transaction waits for them, and so does the next owner of the same id.
"""

from __future__ import annotations

import asyncio

import pytest

from streamer.broker import (
    Broker,
    Committed,
    Consumer,
    HeldBack,
    Outgoing,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)
from streamer.brokers import limits
from streamer.errors import FencedError, PayloadError, StreamerError, TopicMismatchError
from tests.streamer.brokers.broker_steps import PARTITIONS, PATIENCE_MS, QUIET_MS, Own, Send, outgoing, polled, read


async def committed_offset(broker: Broker, topic: str, partition: int = 0) -> Committed | None:
    """The committed offset of the test's group."""
    return await broker.consumer([topic], group=topic).committed(TopicPartition(topic, partition))


async def wait_for_commit(broker: Broker, topic: str, expected: Committed, partition: int = 0) -> None:
    """Wait until the group's committed offset is the expected one, or fail."""
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while await committed_offset(broker, topic, partition) != expected:  # noqa: ASYNC110 - brokers send no events
            await asyncio.sleep(0.01)


def at(topic: str, committed: Committed, partition: int = 0) -> dict[TopicPartition, Committed]:
    return {TopicPartition(topic, partition): committed}


async def test_an_open_transaction_hides_its_records_and_those_behind_but_none_before(
    topic: str, send: Send, owner: TransactionalProducer, reader: Consumer
) -> None:
    await send(outgoing(topic, [b"before"], partition=1))
    await owner.send(outgoing(topic, [b"open", b"open too"], partition=1))
    await send([*outgoing(topic, [b"behind"], partition=1), *outgoing(topic, [b"elsewhere"], partition=2)])
    assert {m.value for m in await read(reader, 2)} == {b"before", b"elsewhere"}
    assert list(await reader.poll(10, QUIET_MS)) == []
    assert (await reader.end_offsets())[TopicPartition(topic, 1)] == 1
    assert reader.held_back() == {TopicPartition(topic, 1): HeldBack(1, 3)}
    await owner.commit({})
    assert [m.value for m in await read(reader, 3)] == [b"open", b"open too", b"behind"]
    assert list(await reader.poll(10, QUIET_MS)) == []
    assert reader.held_back() == {}


async def test_a_commit_makes_all_records_visible_and_stores_the_offsets_with_their_metadata(
    broker: Broker, topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.send(outgoing(topic, [b"a", b"b"], partition=1))
    await owner.send(outgoing(topic, [b"c"], partition=1))
    assert await committed_offset(broker, topic) is None
    await owner.commit(at(topic, Committed(7, '{"T": 12, "ä": 1}')) | at(topic, Committed(3), 2))
    assert [m.value for m in await read(reader, 3)] == [b"a", b"b", b"c"]
    await wait_for_commit(broker, topic, Committed(7, '{"T": 12, "ä": 1}'))
    await wait_for_commit(broker, topic, Committed(3), 2)
    assert await committed_offset(broker, topic, 1) is None


async def test_an_abort_discards_records_leaves_the_offsets_and_later_records_are_read(
    broker: Broker, topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.send(outgoing(topic, [b"kept"], partition=0))
    await owner.commit(at(topic, Committed(1)))
    await owner.send(outgoing(topic, [b"dropped"], partition=0))
    await owner.abort()
    await owner.send(outgoing(topic, [b"after"], partition=0))
    await owner.commit({})
    assert [m.value for m in await read(reader, 2)] == [b"kept", b"after"]
    await wait_for_commit(broker, topic, Committed(1))


async def test_an_abort_makes_the_records_behind_it_visible(
    topic: str, send: Send, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.send(outgoing(topic, [b"dropped"], partition=0))
    await send(outgoing(topic, [b"behind"], partition=0))
    waiting = asyncio.create_task(reader.poll(10, PATIENCE_MS))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await owner.abort()
    assert [m.value for m in await waiting] == [b"behind"]


@pytest.mark.parametrize("step", ["send", "commit", "abort"])
async def test_a_fenced_owner_can_do_nothing_and_what_it_had_open_is_dropped(
    broker: Broker, topic: str, own: Own, reader: Consumer, step: str
) -> None:
    first = await own("one")
    await first.send(outgoing(topic, [b"first's"], partition=0))
    await first.commit(at(topic, Committed(1, "first")))
    await first.send(outgoing(topic, [b"dropped"], partition=0))
    second = await own("one")
    steps = {
        "send": lambda: first.send(outgoing(topic, [b"never"], partition=0)),
        "commit": lambda: first.commit(at(topic, Committed(9, "never"))),
        "abort": first.abort,
    }
    for name in (step, "send"):
        with pytest.raises(FencedError):
            await steps[name]()
    await second.send(outgoing(topic, [b"second's"], partition=0))
    await second.commit(at(topic, Committed(2, "second")))
    assert [m.value for m in await read(reader, 2)] == [b"first's", b"second's"]
    await wait_for_commit(broker, topic, Committed(2, "second"))


async def test_a_fenced_owner_cannot_begin_again_or_commit_an_offset(broker: Broker, topic: str, own: Own) -> None:
    first, second = await own("one"), await own("one")
    with pytest.raises(FencedError):
        await first.commit(at(topic, Committed(9, "never")))
    with pytest.raises(FencedError):
        await first.send(outgoing(topic, [b"never"]))
    await second.commit(at(topic, Committed(1)))
    await wait_for_commit(broker, topic, Committed(1))


async def test_a_fenced_owner_that_stops_leaves_what_its_successor_has_open(
    topic: str, own: Own, reader: Consumer
) -> None:
    first = await own("one")
    await first.send(outgoing(topic, [b"dropped"], partition=0))
    second = await own("one")
    await second.send(outgoing(topic, [b"kept"], partition=0))
    await first.stop()
    await second.send(outgoing(topic, [b"kept too"], partition=0))
    await second.commit({})
    assert [m.value for m in await read(reader, 2)] == [b"kept", b"kept too"]


async def test_an_owner_that_was_fenced_can_stop_and_start_anew(topic: str, own: Own, reader: Consumer) -> None:
    first = await own("one")
    await first.send(outgoing(topic, [b"dropped"]))
    await (await own("one")).stop()
    with pytest.raises(FencedError):
        await first.commit({})
    await first.stop()
    await first.start()
    await first.send(outgoing(topic, [b"again"]))
    await first.commit({})
    assert [m.value for m in await read(reader, 1)] == [b"again"]


async def test_a_new_owner_finds_the_last_offset_as_soon_as_it_has_started(
    broker: Broker, topic: str, own: Own, send: Send
) -> None:
    for n in range(1, 8):
        producer = await own("one")
        assert await committed_offset(broker, topic) == (Committed(n - 1, "x" * n) if n > 1 else None)
        await producer.send([Outgoing(topic, b"%d" % k, b"x") for k in range(40)])
        await producer.commit(at(topic, Committed(n, "x" * (n + 1))))


async def test_offsets_alone_are_a_transaction_too(
    broker: Broker, topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.commit(at(topic, Committed(4, "quiet")))
    await wait_for_commit(broker, topic, Committed(4, "quiet"))
    assert set((await reader.end_offsets()).values()) == {0}


async def test_ending_nothing_does_nothing(topic: str, own: Own, reader: Consumer) -> None:
    first = await own("one")
    for _ in range(2):
        await first.commit({})
        await first.abort()
        await own("one")  # nor is there anything to be fenced from
    assert not any((await reader.end_offsets()).values())


async def test_metadata_beyond_4_kib_is_refused_and_the_transaction_stays(
    broker: Broker, topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.send(outgoing(topic, [b"a"]))
    with pytest.raises(StreamerError, match="metadata"):
        await owner.commit(at(topic, Committed(1, "ä" * 2049)))
    await owner.commit(at(topic, Committed(1, "ä" * 2048)))
    assert [m.value for m in await read(reader, 1)] == [b"a"]
    await wait_for_commit(broker, topic, Committed(1, "ä" * 2048))


async def test_offsets_are_accepted_from_an_owner_that_is_no_member_of_the_group(
    broker: Broker, topic: str, owner: TransactionalProducer
) -> None:
    member = broker.consumer([topic], group=topic)
    await member.start()
    await polled(member, until=lambda: len(member.assignment()) == PARTITIONS)
    await owner.commit(at(topic, Committed(5, "foreign")))
    await wait_for_commit(broker, topic, Committed(5, "foreign"))
    await member.commit(at(topic, Committed(6, "own")))
    assert await committed_offset(broker, topic) == Committed(6, "own")
    await member.stop()


async def test_two_ids_do_not_disturb_each_other(
    broker: Broker, topic: str, own: Own, owner: TransactionalProducer, reader: Consumer
) -> None:
    other = await own("two")
    await owner.send(outgoing(topic, [b"one's"], partition=0))
    await other.send([*outgoing(topic, [b"two's"], partition=0), *outgoing(topic, [b"aside"], partition=1)])
    await other.commit(at(topic, Committed(1), 1))
    assert [m.value for m in await read(reader, 1)] == [b"aside"]
    assert list(await reader.poll(10, QUIET_MS)) == []
    await owner.abort()
    assert [m.value for m in await read(reader, 1)] == [b"two's"]
    await wait_for_commit(broker, topic, Committed(1), 1)
    assert await committed_offset(broker, topic, 0) is None


async def test_records_of_a_partition_keep_their_order_over_transactions(
    topic: str, send: Send, own: Own, reader: Consumer
) -> None:
    owners = [await own("one"), await own("two")]
    expected = []
    for n in range(30):
        values = [b"%d.%d" % (n, k) for k in range(n % 4 + 1)]
        if n % 5 == 4:
            await send(outgoing(topic, values, partition=2))
        else:
            await owners[n % 2].send(outgoing(topic, values, partition=2))
            if n % 3 == 2:
                await owners[n % 2].abort()
                continue
            await owners[n % 2].commit({})
        expected += values
    messages = await read(reader, len(expected))
    assert [m.value for m in messages] == expected
    assert [m.offset for m in messages] == sorted({m.offset for m in messages})


async def test_a_transaction_spans_partitions_and_topics(
    broker: Broker, topic: str, owner: TransactionalProducer
) -> None:
    other = f"{topic}-other"
    await broker.ensure_topics([TopicSpec(other, PARTITIONS)])
    consumer = broker.consumer([topic, other], group=None)
    await consumer.start()
    records = [Outgoing(name, b"s", b"x", partition=n) for name in (topic, other) for n in range(PARTITIONS)]
    await owner.send(records)
    await owner.abort()
    await owner.send(records)
    assert list(await consumer.poll(10, QUIET_MS)) == []
    await owner.commit({})
    found = {(m.topic, m.partition, m.offset) for m in await read(consumer, len(records))}
    assert found == {(r.topic, r.partition, 2) for r in records}
    await consumer.stop()


async def test_the_end_of_a_transaction_takes_an_offset_in_each_partition_it_touched(
    topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    for end in (owner.commit({}), owner.abort(), owner.commit({})):
        await owner.send(outgoing(topic, [b"x"], partition=1))
        await end
    await owner.send(outgoing(topic, [b"x"], partition=2))
    await owner.commit({})
    assert sorted((m.partition, m.offset) for m in await read(reader, 3)) == [(1, 0), (1, 4), (2, 0)]
    assert (await reader.end_offsets())[TopicPartition(topic, 1)] == 6


@pytest.mark.parametrize("committed", [True, False])
async def test_a_reader_can_tell_that_it_has_read_everything_behind_a_transaction(
    topic: str, owner: TransactionalProducer, reader: Consumer, committed: bool
) -> None:
    await owner.send([Outgoing(topic, b"%d" % n, b"x") for n in range(50)])
    if committed:
        await owner.commit({})
        await read(reader, 50)
    else:
        await owner.abort()
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while sum((ends := await reader.end_offsets()).values()) < 50 + PARTITIONS:  # noqa: ASYNC110 - brokers send no events
            await asyncio.sleep(0.01)
    await polled(reader, until=lambda: all(reader.position(p) == end for p, end in ends.items()))
    await polled(reader, until=lambda: all(reader.caught_up(p) for p in ends))


async def test_an_offset_between_records_continues_at_the_next_one(
    broker: Broker, topic: str, send: Send, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.send(outgoing(topic, [b"a"], partition=0))
    await owner.commit(at(topic, Committed(1)))
    await owner.send(outgoing(topic, [b"dropped", b"dropped"], partition=0))
    await owner.abort()
    await send(outgoing(topic, [b"b"], partition=0))
    member = broker.consumer([topic], group=topic)
    await wait_for_commit(broker, topic, Committed(1))
    await member.start()
    assert [m.value for m in await read(member, 1)] == [b"b"]
    await member.stop()
    _, last = await read(reader, 2)
    for offset in range(1, last.offset + 1):
        reader.seek(TopicPartition(topic, 0), offset)
        assert await read(reader, 1) == [last]


async def test_a_reader_that_begins_at_the_end_begins_before_what_is_open(
    broker: Broker, topic: str, send: Send, owner: TransactionalProducer
) -> None:
    await send(outgoing(topic, [b"before"], partition=0))
    await owner.send(outgoing(topic, [b"open"], partition=0))
    consumer = broker.consumer([topic], group=None, start_at="latest")
    await consumer.start()
    await polled(consumer, until=lambda: consumer.position(TopicPartition(topic, 0)) is not None)
    await owner.commit({})
    assert [m.value for m in await read(consumer, 1)] == [b"open"]
    await consumer.stop()


async def test_a_record_that_is_refused_leaves_the_rest_of_the_transaction(
    topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    await owner.send(outgoing(topic, [b"kept"]))
    with pytest.raises(PayloadError, match=f"too_large.*{topic}"):
        await owner.send(outgoing(topic, [bytes(2_000_000)]))
    with pytest.raises(PayloadError, match="neither key nor value"):
        await owner.send([Outgoing(topic, None, None)])
    await owner.commit({})
    assert [m.value for m in await read(reader, 1)] == [b"kept"]


async def test_a_transaction_that_a_record_spoilt_can_be_dropped_and_the_next_one_counts(
    topic: str, owner: TransactionalProducer, reader: Consumer
) -> None:
    with pytest.raises(PayloadError):
        await owner.send([*outgoing(topic, [b"dropped"]), *outgoing(topic, [bytes(2_000_000)])])
    await owner.abort()
    with pytest.raises(TopicMismatchError, match=f"{topic}.*no partition 9"):
        await owner.send([*outgoing(topic, [b"dropped"]), *outgoing(topic, [b"x"], partition=9)])
    await owner.abort()
    await owner.send(outgoing(topic, [b"next"]))
    await owner.commit({})
    assert [m.value for m in await read(reader, 1)] == [b"next"]


async def test_a_transaction_that_outlives_its_timeout_is_dropped_and_its_owner_fenced(
    broker: Broker, topic: str, own: Own, send: Send, reader: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRANSACTION_MS", 300)
    late = await own("late")
    await late.send(outgoing(topic, [b"dropped"], partition=0))
    await send(outgoing(topic, [b"behind"], partition=0))
    async with asyncio.timeout(20):  # by default Kafka checks every 10 s
        while not (found := await reader.poll(10, 1000)):
            pass
    assert [m.value for m in found] == [b"behind"]
    with pytest.raises(FencedError):
        await late.commit(at(topic, Committed(1)))
    assert await committed_offset(broker, topic) is None
    again = await own("late")
    await again.commit(at(topic, Committed(2)))
    await wait_for_commit(broker, topic, Committed(2))


async def test_stopping_drops_what_is_open_and_may_be_repeated(
    broker: Broker, topic: str, own: Own, send: Send, reader: Consumer
) -> None:
    producer = await own("one")
    await producer.send(outgoing(topic, [b"dropped"], partition=0))
    await send(outgoing(topic, [b"behind"], partition=0))
    for _ in range(2):
        await producer.stop()
    assert [m.value for m in await read(reader, 1)] == [b"behind"]
    await broker.transactional("never started", group=topic).stop()


async def test_a_producer_that_was_not_started_or_was_stopped_refuses(broker: Broker, topic: str) -> None:
    producer = broker.transactional(f"{topic}-one", group=topic)
    for _ in range(2):
        with pytest.raises(StreamerError, match="not been started, or was stopped"):
            await producer.send(outgoing(topic, [b"x"]))
        with pytest.raises(StreamerError, match="not been started, or was stopped"):
            await producer.commit(at(topic, Committed(1)))
        await producer.start()
        await producer.stop()
