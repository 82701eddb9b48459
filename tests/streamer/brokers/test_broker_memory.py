"""What only the in-memory broker has: restored offsets, gaps, disturbed time; and its readers against a plain model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.broker import Committed, Consumer, Message, Outgoing, Producer, TopicPartition, TopicSpec
from streamer.brokers import limits
from streamer.brokers.memory.broker import MemoryBroker
from streamer.brokers.memory.log import Disturbance
from streamer.errors import FencedError, MediaError, TopicMismatchError
from streamer.event_time import ManualClock, SystemClock
from tests.streamer.brokers.broker_steps import PATIENCE_MS, outgoing

TOPIC = "t"
FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
START = 1_700_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest_asyncio.fixture
async def broker(clock: ManualClock) -> MemoryBroker:
    return await made(MemoryBroker(clock))


async def made(broker: MemoryBroker, retention_ms: int | None = None) -> MemoryBroker:
    await broker.ensure_topics([TopicSpec(TOPIC, 2, retention_ms=retention_ms)])
    return broker


async def reading(broker: MemoryBroker) -> Consumer:
    consumer = broker.consumer([TOPIC], group=None)
    await consumer.start()
    return consumer


async def writing(broker: MemoryBroker) -> Producer:
    producer = broker.producer()
    await producer.start()
    return producer


def recorded(offset: int, partition: int = 0, at_ms: int = 5) -> Message:
    return Message(TOPIC, partition, offset, at_ms, b"k", b"%d" % offset, (("h", b"1"),))


def values(messages: Sequence[Message]) -> list[bytes | None]:
    return [m.value for m in messages]


async def test_a_restored_record_is_read_as_it_was_recorded(broker: MemoryBroker) -> None:
    log = [recorded(7, 1, at_ms=90), recorded(40, 0, at_ms=80), recorded(41, 0, at_ms=70), recorded(900, 1, at_ms=95)]
    for message in log:
        broker.restore(message)
    consumer = await reading(broker)
    assert [m for _ in log for m in await consumer.poll(1, 0)] == log
    assert broker.messages(TOPIC) == log
    assert await consumer.end_offsets() == {FIRST: 42, SECOND: 901}


async def test_a_record_sent_after_a_restored_one_follows_it(broker: MemoryBroker) -> None:
    broker.restore(recorded(40))
    await (await writing(broker)).send(outgoing(TOPIC, [b"x"], partition=0))
    assert [(m.offset, m.timestamp_ms) for m in broker.messages(TOPIC)] == [(40, 5), (41, START)]


async def test_a_restored_record_wakes_a_waiting_reader(broker: MemoryBroker) -> None:
    waiting = asyncio.create_task((await reading(broker)).poll(1, PATIENCE_MS))
    await asyncio.sleep(0)
    broker.restore(recorded(3))
    assert values(await waiting) == [b"3"]


@pytest.mark.parametrize("offset", [0, 6, 7])
async def test_a_record_that_cannot_follow_is_not_restored(broker: MemoryBroker, offset: int) -> None:
    broker.restore(recorded(7))
    with pytest.raises(MediaError, match=rf"t\[0\]: offset {offset}.* at 8"):
        broker.restore(recorded(offset))


async def test_a_record_of_another_topic_or_partition_is_not_restored(broker: MemoryBroker) -> None:
    with pytest.raises(TopicMismatchError, match="no partition 2"):
        broker.restore(recorded(0, partition=2))
    with pytest.raises(TopicMismatchError, match="no topic u"):
        broker.restore(Message("u", 0, 0, 0, b"k", b"v"))


async def test_a_position_in_a_gap_goes_on_at_the_next_record_and_one_outside_of_the_log_starts_over(
    broker: MemoryBroker,
) -> None:
    for offset in (10, 20, 30):
        broker.restore(recorded(offset))
    consumer = await reading(broker)
    for offset, expected in [(11, 20), (20, 20), (21, 30), (0, 10), (32, 10), (99, 10)]:
        consumer.seek(FIRST, offset)
        assert [m.offset for m in await consumer.poll(1, 0)] == [expected]
        assert consumer.position(FIRST) == expected + 1
    consumer.seek(FIRST, 31)
    assert list(await consumer.poll(1, 0)) == []


async def test_the_log_stamps_records_by_the_clock_of_their_partition(clock: ManualClock) -> None:
    def stamp_ms(partition: TopicPartition, now_ms: int) -> int:
        return now_ms + 1000 if partition == SECOND else now_ms - 50 * (now_ms > START)

    broker = await made(MemoryBroker(clock, Disturbance(stamp_ms=stamp_ms)))
    producer = await writing(broker)
    for at_ms in (START, START + 10):
        clock.set_ms(at_ms)
        await producer.send([*outgoing(TOPIC, [b"a"], partition=0), *outgoing(TOPIC, [b"b"], partition=1)])
    stamps = [(m.partition, m.timestamp_ms - START) for m in broker.messages(TOPIC)]
    assert stamps == [(0, 0), (1, 1000), (0, -40), (1, 1010)]


async def test_a_delayed_record_and_later_ones_are_invisible_until_its_time(clock: ManualClock) -> None:
    delays = iter([0, 30, 0, 0, 5])
    broker = await made(MemoryBroker(clock, Disturbance(delay_ms=lambda *_: next(delays))))
    producer, consumer = await writing(broker), await reading(broker)
    await producer.send(outgoing(TOPIC, [b"seen", b"hidden", b"behind"], partition=0))
    await producer.send(outgoing(TOPIC, [b"aside"], partition=1))
    clock.set_ms(START + 20)
    await producer.send(outgoing(TOPIC, [b"last"], partition=0))
    assert values(await consumer.poll(9, 0)) == values(broker.messages(TOPIC)) == [b"seen", b"aside"]
    assert await consumer.end_offsets() == {FIRST: 1, SECOND: 1}
    assert consumer.caught_up(FIRST)
    clock.set_ms(START + 29)
    assert list(await consumer.poll(9, 0)) == []
    clock.set_ms(START + 30)
    assert not consumer.caught_up(FIRST)
    assert values(await consumer.poll(9, 0)) == [b"hidden", b"behind", b"last"]
    assert (await consumer.end_offsets())[FIRST] == 4


async def test_a_reader_that_has_read_the_last_record_has_read_the_end_of_its_transaction(broker: MemoryBroker) -> None:
    owner, consumer = broker.transactional("one", group="g"), await reading(broker)
    await owner.start()
    await owner.send(outgoing(TOPIC, [b"a"], partition=0))
    await owner.commit({})
    assert not consumer.caught_up(FIRST)
    assert values(await consumer.poll(9, 0)) == [b"a"]
    assert consumer.caught_up(FIRST)
    assert consumer.position(FIRST) == 2
    assert not consumer.caught_up(TopicPartition(TOPIC, 2))


async def test_a_waiting_reader_wakes_when_a_delay_is_over() -> None:
    broker = await made(MemoryBroker(SystemClock(), Disturbance(delay_ms=lambda *_: 60)))
    consumer = await reading(broker)
    await (await writing(broker)).send(outgoing(TOPIC, [b"x"]))
    assert list(await consumer.poll(1, 20)) == []
    async with asyncio.timeout(1):
        assert values(await consumer.poll(1, PATIENCE_MS)) == [b"x"]


async def test_a_waiting_reader_wakes_when_a_transaction_outlives_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRANSACTION_MS", 60)
    broker = await made(MemoryBroker(SystemClock()))
    owner = broker.transactional("one", group="g")
    await owner.start()
    await owner.send(outgoing(TOPIC, [b"dropped"], partition=0))
    await (await writing(broker)).send(outgoing(TOPIC, [b"behind"], partition=0))
    async with asyncio.timeout(1):
        assert values(await (await reading(broker)).poll(9, PATIENCE_MS)) == [b"behind"]


async def test_a_transaction_may_take_10_s_from_its_first_record_and_no_longer(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    owner = broker.transactional("one", group="g")
    await owner.start()
    clock.set_ms(START + 60_000)
    await owner.send(outgoing(TOPIC, [b"kept"]))
    clock.set_ms(START + 70_000)
    await owner.send(outgoing(TOPIC, [b"kept"]))
    await owner.commit({})
    await owner.send(outgoing(TOPIC, [b"dropped"]))
    clock.set_ms(START + 80_001)
    with pytest.raises(FencedError):
        await owner.commit({FIRST: Committed(1)})
    assert values(broker.messages(TOPIC)) == [b"kept", b"kept"]
    assert await broker.consumer([TOPIC], group="g").committed(FIRST) is None


async def test_records_are_handed_out_as_they_arrived_whenever_they_were_committed(broker: MemoryBroker) -> None:
    owner, producer, consumer = broker.transactional("one", group="g"), await writing(broker), await reading(broker)
    await owner.start()
    await owner.send(outgoing(TOPIC, [b"1"], partition=0))
    await producer.send(outgoing(TOPIC, [b"2"], partition=1))
    await owner.send(outgoing(TOPIC, [b"3"], partition=1))
    await producer.send([*outgoing(TOPIC, [b"4"], partition=0), *outgoing(TOPIC, [b"5"], partition=1)])
    await owner.commit({})
    assert values(await consumer.poll(9, 0)) == [b"1", b"2", b"3", b"4", b"5"]


async def test_expired_records_are_forgotten_but_none_of_an_open_transaction(clock: ManualClock) -> None:
    broker = await made(MemoryBroker(clock), retention_ms=1000)
    producer, owner = await writing(broker), broker.transactional("one", group="g")
    await owner.start()
    await producer.send(outgoing(TOPIC, [b"old"] * 100, partition=0))
    await owner.send(outgoing(TOPIC, [b"open"], partition=0))
    await producer.send(outgoing(TOPIC, [b"old"] * 100, partition=0))
    clock.set_ms(START + 2000)
    for _ in range(5):
        await producer.send(outgoing(TOPIC, [b"new"], partition=0))
    await owner.commit({})
    kept = values(broker.messages(TOPIC))
    assert kept.count(b"open") == 1
    assert kept.count(b"old") < 200
    assert values(await (await reading(broker)).poll(999, 0)) == kept


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["plain", "send a", "send b"]), st.integers(0, 1)),
        st.tuples(
            st.sampled_from(["commit a", "commit b", "abort a", "abort b", "restart a", "restart b"]), st.just(0)
        ),
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("pass"), st.sampled_from([1, 20, 6000, 12_000])),
    ),
    min_size=20,
    max_size=60,
)


class World:
    """Two transactional producers, a plain one and a reader, with a list of the appended records and their outcomes."""

    def __init__(self, delays: list[int]) -> None:
        self.clock, turn = ManualClock(START), count()
        self.broker = MemoryBroker(self.clock, Disturbance(delay_ms=lambda *_: delays[next(turn) % len(delays)]))
        self.owners = {name: self.broker.transactional(name, group="g") for name in "ab"}
        self.logs: dict[int, list[bytes]] = {0: [], 1: []}
        self.seen: dict[int, list[bytes]] = {0: [], 1: []}
        self.committed: dict[bytes, bool] = {}  # record -> outcome, absent while its transaction is open
        self.open: dict[str, list[bytes]] = {}
        self.began_ms: dict[str, int] = {}
        self.fenced: set[str] = set()

    async def start(self) -> None:
        await made(self.broker)
        self.producer, self.consumer = await writing(self.broker), await reading(self.broker)
        for owner in self.owners.values():
            await owner.start()

    def decide(self, name: str, committed: bool) -> None:
        self.committed.update(dict.fromkeys(self.open.pop(name, []), committed))

    async def read(self, limit: int) -> int:
        found = await self.consumer.poll(limit, 0)
        for m in found:
            self.seen[m.partition].append(m.value or b"")
        return len(found)

    def visible(self, partition: int) -> list[bytes]:
        log = self.logs[partition]
        undecided = next((i for i, value in enumerate(log) if value not in self.committed), None)
        return [value for value in log[:undecided] if self.committed[value]]

    async def run(self, step: str, number: int, value: bytes) -> None:
        verb, _, name = step.partition(" ")
        if verb == "read":
            await self.read(number)
        elif verb == "pass":
            self.clock.set_ms(self.clock.now_ms() + number)
            for timed_out in [n for n in self.open if self.clock.now_ms() > self.began_ms[n] + limits.TRANSACTION_MS]:
                self.decide(timed_out, committed=False)
                self.fenced.add(timed_out)
        elif verb == "plain":
            self.logs[number].append(value)
            self.committed[value] = True
            await self.producer.send([Outgoing(TOPIC, b"k", value, partition=number)])
        elif verb == "restart":
            self.decide(name, committed=False)
            self.fenced.discard(name)
            await self.owners[name].stop()
            await self.owners[name].start()
        elif name in self.fenced:
            with pytest.raises(FencedError):
                await self.owners[name].commit({FIRST: Committed(1)})
        elif verb == "send":
            self.logs[number].append(value)
            if name not in self.open:
                self.began_ms[name] = self.clock.now_ms()
            self.open.setdefault(name, []).append(value)
            await self.owners[name].send([Outgoing(TOPIC, b"k", value, partition=number)])
        else:
            self.decide(name, verb == "commit")
            await (self.owners[name].commit({}) if verb == "commit" else self.owners[name].abort())


@settings(deadline=None)
@given(steps=STEPS, delays=st.lists(st.integers(-50, 50), min_size=1, max_size=5))
def test_readers_see_each_committed_record_once_in_order_and_no_other(
    steps: list[tuple[str, int]], delays: list[int]
) -> None:
    asyncio.run(follow(steps, delays))


async def follow(steps: list[tuple[str, int]], delays: list[int]) -> None:
    world = World(delays)
    await world.start()
    for n, (step, number) in enumerate(steps):
        await world.run(step, number, b"%d" % n)
        for partition, seen in world.seen.items():
            assert seen == world.visible(partition)[: len(seen)]
    for name in world.owners:
        await world.run(f"restart {name}", 0, b"")
    await world.run("pass", 50, b"")
    while await world.read(3):
        pass
    assert world.seen == {partition: world.visible(partition) for partition in world.logs}
    reader = world.consumer
    assert {p: reader.position(p) for p in reader.assignment()} == await reader.end_offsets()
