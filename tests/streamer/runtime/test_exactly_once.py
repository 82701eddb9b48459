"""Finals that leave in transactions: once each, whoever is restarted, or believes that it still is the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer.broker import Committed, Outgoing, TopicPartition
from streamer.errors import BrokerUnreachableError, FencedError
from streamer.records import Origin, Record
from streamer.runtime.pipeline import Pipeline
from streamer.runtime.runner import Runner
from streamer.runtime.transactions import PartitionTransactions
from streamer.runtime.window_operator import written_up_to
from tests.streamer.runtime.small_world import START, TINY, World, settle, until
from tests.tiny_operators.payloads import Count

EXACT = TINY.replace("    writes: totals\n", "    writes: totals\n    delivery: exactly_once\n")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, EXACT)


async def count(world: World, ms: int, session: str = "s", letters: int = 1) -> None:
    at = START + ms
    world.clock.set_ms(at)
    counted = Count(session_id=session, event_time_ms=at, start_ms=at, end_ms=at, letters=letters)
    await world.publish(counted, "counts")


def finals(world: World) -> list[tuple[int, int]]:
    return [(t.event_time_ms - START, t.letters) for t in world.read("totals")]


async def undisturbed(folder: Path) -> list[tuple[int, int]]:
    """The finals of ten seconds of counts that nothing disturbs."""
    world = World(folder, EXACT)
    pipeline = await world.start("sum_counts")
    for ms in range(0, 10_000, 100):
        await count(world, ms)
        await settle(pipeline)
    await until(world, pipeline, 14_000)
    return finals(world)


async def test_finals_and_their_place_appear_together(world: World) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 4000, 100):
        await count(world, ms)
        await settle(pipeline)
    partition = TopicPartition("counts", world.broker.messages("counts")[0].partition)
    place = world.broker._groups["tiny.sum_counts"].offsets[partition]  # noqa: SLF001 - without joining it
    assert written_up_to(place.metadata) == 37, "the record that completes the window ending at 3500 ms"
    await pipeline.runners[0]._commit()  # noqa: SLF001 - as it does each second, with finals or without
    await pipeline.runners[0].flush()
    place = world.broker._groups["tiny.sum_counts"].offsets[partition]  # noqa: SLF001
    assert written_up_to(place.metadata) == 39
    assert len(finals(world)) == 7


@pytest.mark.parametrize("crash_at_ms", [600, 700, 2600, 3300, 5000])
async def test_a_crash_at_any_moment_loses_no_final_and_repeats_none(
    world: World, tmp_path: Path, crash_at_ms: int
) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 10_000, 100):
        await count(world, ms)
        if ms == crash_at_ms:  # what it has read is processed, and not yet written
            runner = pipeline.runners[0]
            await runner.step(wait_ms=0)
            await _die(runner)
            pipeline = await world.start("sum_counts")
        await settle(pipeline)
    await until(world, pipeline, 14_000)
    assert finals(world) == await undisturbed(tmp_path)


async def test_what_recovery_reads_again_and_is_gone_is_said_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 3000, 100):
        await count(world, ms)
        await settle(pipeline)
    await pipeline.runners[0]._commit()  # noqa: SLF001 - as it does each second
    await pipeline.runners[0].flush()
    await _die(pipeline.runners[0])
    logs = world.broker._topics.logs  # noqa: SLF001 - retention deletes whole batches, which would take long here
    (log,) = [log for tp, log in logs.items() if tp.topic == "counts" and log.messages]
    log.start = log.offsets[10]
    del log.messages[:10], log.offsets[:10], log.arrivals[:10]
    again = await world.start("sum_counts")
    await settle(again)
    assert again.runners[0].context.metrics.totals["gone"] == log.start
    assert f"sum_counts: {log.start} records of counts[" in caplog.text
    assert "that recovery reads again are gone" in caplog.text


async def _die(runner: Runner) -> None:
    """End a runner as SIGKILL would: nothing is flushed, nothing committed."""
    await runner.stop()


async def test_a_zombie_that_wakes_up_writes_nothing_more(world: World, tmp_path: Path) -> None:
    """It slept through a rebalance: the group has given its partition away, and it has not heard of that yet."""
    zombie, expected = await world.start("sum_counts"), await undisturbed(tmp_path)
    for ms in range(0, 3000, 100):
        await count(world, ms)
        await settle(zombie)
    before = finals(world)
    asleep = await _fall_asleep(world, zombie)
    owner = await world.start("sum_counts")
    await settle(owner)
    for ms in range(3000, 4000, 100):
        await count(world, ms)
    with pytest.raises(FencedError, match="tiny.sum_counts"):
        await settle(asleep)
    assert finals(world) == before, "the new owner has not read on yet, and nobody else may write"
    for ms in range(4000, 10_000, 100):
        await count(world, ms)
        await settle(owner)
    await until(world, owner, 14_000)
    assert finals(world) == expected


async def _fall_asleep(world: World, pipeline: Pipeline) -> Pipeline:
    """Take a pipeline's member out of its group without its noticing."""
    world.broker._groups["tiny.sum_counts"].members.clear()  # noqa: SLF001 - nobody does this on purpose
    return pipeline


async def test_an_owner_is_fenced_before_its_place_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could commit between the two, and what it wrote would be written again."""
    old = await world.start("sum_counts")
    for ms in range(0, 3000, 100):
        await count(world, ms)
        await settle(old)
    for ms in range(3000, 4000, 100):
        await count(world, ms)
    await _fall_asleep(world, old)
    new = Pipeline(world.topology, world.settings, world.broker, clock=world.clock, only=["sum_counts"])
    consumer: Any = new.runners[0]._consumer  # noqa: SLF001 - between its two questions is where the old owner acts
    committed = consumer.committed

    async def last_words_of_the_old_owner(partition: TopicPartition) -> Committed | None:
        place: Committed | None = await committed(partition)
        if place is not None:
            with pytest.raises(FencedError):
                await settle(old)
        return place

    monkeypatch.setattr(consumer, "committed", last_words_of_the_old_owner)
    await new.open()
    await settle(new)
    await until(world, new, 8000)
    ends = [end for end, _ in finals(world)]
    assert ends == sorted(set(ends))


async def test_dead_letters_and_late_records_of_a_window_operator_are_not_repeated_by_a_re_read(world: World) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 5000, 100):
        await count(world, ms)
        await settle(pipeline)
    await world.raw("counts", b"s", b"\x81\xa1a", (("schema", b"Count/1"),))
    late = Count(session_id="s", event_time_ms=START + 155, start_ms=START + 155, end_ms=START + 155, letters=1)
    await world.publish(late, "counts")
    ahead = Count(session_id="s", event_time_ms=START + 20_000, start_ms=0, end_ms=START + 20_000, letters=1)
    await world.publish(ahead, "counts")
    await settle(pipeline)
    told = [[letter.reason for letter in world.read(topic)] for topic in ("dead_letters", "late_records")]
    assert told == [["undecodable", "clock_skew"], ["late"]]
    await _die(pipeline.runners[0])
    again = await world.start("sum_counts")
    await until(world, again, 9000)
    assert [[letter.reason for letter in world.read(topic)] for topic in ("dead_letters", "late_records")] == told


@pytest.mark.parametrize("note", ["", "set by hand", '{"T": "?"}', "[]"])
async def test_a_group_whose_offsets_were_set_by_hand_reads_from_there_and_writes_all(world: World, note: str) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 3000, 100):
        await count(world, ms)
        await settle(pipeline)
    once = finals(world)
    await _die(pipeline.runners[0])
    partition = TopicPartition("counts", world.broker.messages("counts")[0].partition)
    tool = world.broker.consumer(["counts"], group="tiny.sum_counts")
    await tool.start()
    await tool.commit({partition: Committed(0, note)})
    await tool.stop()
    await settle(await world.start("sum_counts"))
    assert finals(world) == [*once, *once]


async def test_a_log_that_was_lost_is_read_anew_though_the_group_stood_further(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.broker.ensure_topics(world.topology.topic_specs())
    await count(world, 0)
    partition = TopicPartition("counts", world.broker.messages("counts")[0].partition)
    tool = world.broker.consumer(["counts"], group="tiny.sum_counts")
    await tool.start()
    await tool.commit({partition: Committed(900, '{"T": 1000, "K_T": 1}')})
    await tool.stop()
    pipeline = await world.start("sum_counts")
    await until(world, pipeline, 4000)
    assert [letters for _, letters in finals(world)] == [1, 1, 1, 1]
    assert "its log was lost" in caplog.text


async def test_provisionals_do_not_wait_for_transactions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = await world.start("sum_counts")
    slow = asyncio.Event()
    monkeypatch.setattr("streamer.runtime.emitting.Emitter.transact", lambda *_: slow.wait())
    for ms in range(0, 1000, 100):
        await count(world, ms)
        await pipeline.runners[0].step(wait_ms=0)
    assert len(world.read("totals_live")) == 10
    assert finals(world) == []
    slow.set()


async def test_ticks_are_not_sent_ahead_of_a_backlog(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 20_000, 100):
        await count(world, ms)
    monkeypatch.setattr("streamer.runtime.runner.POLL_RECORDS", 10)
    for _ in range(19):
        await pipeline.runners[0].step(wait_ms=0)
    assert pipeline.runners[0].context.metrics.totals["ticks"] == 0
    await until(world, pipeline, 24_000)
    assert len(finals(world)) == 43
    assert pipeline.runners[0].context.metrics.totals["ticks"] > 0


class Recorder:
    """A transactional producer that keeps what it is told, and can be held up or broken."""

    def __init__(self) -> None:
        self.transactions: list[tuple[list[bytes | None], dict[TopicPartition, Committed]]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.failure: Exception | None = None
        self._sent: list[bytes | None] = []

    async def start(self) -> None: ...

    async def send(self, messages: Sequence[Outgoing]) -> None:
        await self.free.wait()
        self._sent += [m.value for m in messages]

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        if self.failure:
            raise self.failure
        self.transactions.append((self._sent, dict(offsets)))
        self._sent = []

    async def abort(self) -> None: ...

    async def stop(self) -> None: ...


P = TopicPartition("counts", 0)


async def _ledger(world: World) -> tuple[PartitionTransactions, Recorder]:
    runner = (await world.start("sum_counts")).runners[0]
    producer = Recorder()
    transactions = PartitionTransactions(producer, P, runner._emitter)  # noqa: SLF001 - the part of a runner that encodes
    await transactions.open()
    return transactions, producer


def _final(n: int) -> Record[Any]:
    at = START + n
    payload = Count(session_id="s", event_time_ms=at, start_ms=at, end_ms=at, letters=n)
    return Record("s", at, at, payload, Origin("counts", 0, n))


async def test_what_gathers_during_a_transaction_goes_into_the_next_one(world: World) -> None:
    transactions, producer = await _ledger(world)
    producer.free.clear()
    for n in range(5):
        await transactions.add([_final(n)], Committed(0, f"T{n}"))
        await asyncio.sleep(0)
    producer.free.set()
    await transactions.flush()
    assert [(len(values), offsets[P].metadata) for values, offsets in producer.transactions] == [(1, "T0"), (4, "T4")]
    await transactions.close()


async def test_a_place_alone_is_written_once(world: World) -> None:
    transactions, producer = await _ledger(world)
    for metadata in ("T1", "T1", "T2"):
        await transactions.add((), Committed(0, metadata))
        await transactions.flush()
    assert [offsets[P].metadata for _, offsets in producer.transactions] == ["T1", "T2"]
    await transactions.close()


async def test_a_transaction_that_fails_is_raised_and_nothing_follows_it(world: World) -> None:
    transactions, producer = await _ledger(world)
    producer.failure = BrokerUnreachableError("gone")
    await transactions.add([_final(1)], Committed(0, "T1"))
    with pytest.raises(BrokerUnreachableError):
        await transactions.flush()
    producer.failure = None
    with pytest.raises(BrokerUnreachableError):
        await transactions.add([_final(2)], Committed(0, "T2"))
    assert producer.transactions == []
    await transactions.close()


async def test_very_many_records_that_wait_hold_up_who_adds_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.runtime.transactions.MAX_QUEUED", 3)
    transactions, producer = await _ledger(world)
    producer.free.clear()
    adding = asyncio.create_task(transactions.add([_final(n) for n in range(4)], Committed(0, "T")))
    await asyncio.sleep(0.01)
    assert not adding.done()
    producer.free.set()
    await adding
    assert len(producer.transactions) == 1
    await transactions.close()
