"""The runner on the in-memory broker: from messages to messages, with every drop counted and nothing else lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streamer.broker import Outgoing, TopicPartition
from streamer.brokers import limits
from streamer.errors import CircuitOpenError, ConfigurationError
from streamer.payloads import DeadLetter, LateRecord, encode, headers_for
from streamer.runtime.runner import Runner
from tests.streamer.runtime.small_world import START, TINY, World, settle, until
from tests.tiny_operators.payloads import Count, Word


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_words_become_counts_and_counts_become_totals(world: World) -> None:
    pipeline = await world.start()
    await world.say("hello")
    await until(world, pipeline, 4000)
    assert [t.letters for t in world.read("totals")] == [5, 5, 5, 5]
    assert [t.event_time_ms for t in world.read("totals")] == [START + ms for ms in (500, 1000, 1500, 2000)]


async def test_the_last_windows_of_a_quiet_partition_close_within_100_ms_of_their_instant(world: World) -> None:
    pipeline = await world.start()
    await world.say("hello")
    await until(world, pipeline, 4000)
    stamps = [m.timestamp_ms - START for m in world.broker.messages("totals")]
    instants = [1000, 1150, 1650, 2150]  # idle_after, then end + lateness by the pace of Kafka time
    assert all(0 <= at - c < 100 for at, c in zip(stamps, instants, strict=True))


async def test_a_tick_is_an_empty_map_without_a_key_on_its_own_partition(world: World) -> None:
    pipeline = await world.start()
    await world.say("hello")
    await until(world, pipeline, 1100)
    ticks = [m for m in world.broker.messages("counts") if m.headers == (("tick/1", b""),)]
    assert ticks
    assert {(m.key, m.value) for m in ticks} == {(None, b"\x80")}
    assert {m.partition for m in ticks} == {world.broker.messages("counts")[0].partition}


async def test_bad_records_end_as_dead_letters_and_their_neighbours_pass(world: World) -> None:
    pipeline = await world.start()
    good = encode(Word(session_id="s", event_time_ms=START, text="x"))
    await world.say("before")
    await world.raw("words", b"s", good[:-3])
    await world.raw("words", b"s", None)
    await world.raw("words", b"s", good, (("schema", b"Word/2"),))
    await world.raw("words", b"other", good)
    await world.raw("words", None, good)
    await world.raw("words", b"s", b"\x81\xaasession_id\xa1s")
    await world.say("far", at_ms=START + 5001)
    await world.say("past", at_ms=-1)
    await world.raw("words", b"", encode(Word(session_id="", event_time_ms=START, text="x")))
    await world.say("odd")
    await world.say("after", at_ms=START + 1)
    await settle(pipeline)
    letters: list[DeadLetter] = world.read("dead_letters")
    reasons = [letter.reason for letter in letters]
    assert sorted(reasons) == sorted(["undecodable"] * 8 + ["unknown_version", "clock_skew"])
    assert [c.letters for c in world.read("counts")] == [6, 5]
    assert all(letter.operator == "stumble" and letter.topic == "words" for letter in letters)
    assert all(b"before" not in encode(letter) for letter in letters)
    assert pipeline.runners[0].context.metrics.totals["dead_lettered"] == 10


async def test_a_passing_failure_is_retried_and_nothing_is_lost(world: World) -> None:
    pipeline = await world.start()
    await world.say("trip")
    await settle(pipeline)
    assert [c.letters for c in world.read("counts")] == [4]
    assert world.read("dead_letters") == []


async def test_the_record_that_keeps_failing_is_dead_lettered_alone(world: World) -> None:
    pipeline = await world.start()
    for n, text in enumerate(["one", "fall secret", "three"]):
        await world.say(text, at_ms=START + n)
    await settle(pipeline)
    assert [c.letters for c in world.read("counts")] == [3, 5]
    (letter,) = world.read("dead_letters")
    assert (letter.reason, letter.offset) == ("failed", 1)
    assert "secret" not in letter.detail
    assert "ValueError" in letter.detail


async def test_an_operator_that_fails_for_nearly_everything_is_stopped(world: World) -> None:
    pipeline = await world.start()
    for n in range(40):
        await world.say("fall", at_ms=START + n)
    with pytest.raises(CircuitOpenError, match="stumble: 20 of the last 20 records failed"):
        await settle(pipeline)


async def test_then_stop_raises_the_operators_own_error(tmp_path: Path) -> None:
    world = World(tmp_path, TINY.replace("then: dead_letter", "then: stop"))
    pipeline = await world.start()
    await world.say("fall")
    with pytest.raises(ValueError, match="fall"):
        await settle(pipeline)


async def test_a_record_after_its_windows_is_reported_late_and_counted(world: World) -> None:
    pipeline = await world.start()
    for ms in range(0, 6000, 100):
        world.clock.set_ms(START + ms)
        await world.say("tick", session="s")
        await settle(pipeline)
    await world.say("slow", at_ms=START + 105)
    await world.say("slower", at_ms=START - 20_000)
    await settle(pipeline)
    late: list[LateRecord] = world.read("late_records")
    assert [r.reason for r in late] == ["late", "late"]
    assert pipeline.runners[1].context.metrics.totals["late"] == 2


async def test_a_repeat_is_counted_and_changes_nothing(world: World) -> None:
    pipeline = await world.start("sum_counts")
    count = Count(session_id="s", event_time_ms=START, start_ms=START, end_ms=START, letters=3)
    await world.publish(count, "counts")
    await world.publish(count, "counts")
    await until(world, pipeline, 4000)
    assert [t.letters for t in world.read("totals")] == [3, 3, 3, 3]
    assert pipeline.runners[0].context.metrics.totals["duplicate"] == 1


async def test_a_worker_that_starts_again_repeats_no_final_and_changes_none(world: World) -> None:
    whole = await world.start("sum_counts")
    for ms in range(0, 5000, 100):
        world.clock.set_ms(START + ms)
        at = START + ms
        await world.publish(Count(session_id="s", event_time_ms=at, start_ms=at, end_ms=at, letters=1), "counts")
        await settle(whole)
        if ms == 2500:
            whole.runners[0].close()
            await whole.runners[0].run()  # commits and leaves
            whole = await world.start("sum_counts")
    await until(world, whole, 9000)
    finals = [(t.event_time_ms - START, t.letters) for t in world.read("totals")]
    assert len(finals) == len({end for end, _ in finals}) == 13
    assert dict(finals)[3000] == 30  # it reaches 5 s back: the records at 0, 100, ... 2900


async def test_records_polled_before_a_rebalance_are_read_again_by_whoever_owns_them_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = await world.start("sum_counts")
    runner = pipeline.runners[0]
    for ms in range(0, 5000, 100):
        at = START + ms
        world.clock.set_ms(at)
        await world.publish(Count(session_id="s", event_time_ms=at, start_ms=at, end_ms=at, letters=1), "counts")
        if 2500 <= ms < 3400:
            continue  # a batch of ten, polled at once
        if ms == 3400:
            other = world.broker.consumer(["counts"], group="tiny.sum_counts")
            refresh = runner._tables.refresh  # noqa: SLF001 - the await between poll and process

            async def join_and_leave() -> Any:
                monkeypatch.setattr(runner._tables, "refresh", refresh)  # noqa: B023, SLF001
                await other.start()  # noqa: B023
                await other.stop()  # noqa: B023
                return ()

            monkeypatch.setattr(runner._tables, "refresh", join_and_leave)  # noqa: SLF001
        await settle(pipeline)
    await until(world, pipeline, 9000)
    finals = {t.event_time_ms - START: t.letters for t in world.read("totals")}
    assert finals == {end: min(end, 5000) // 100 - max(end - 5000, 0) // 100 for end in range(500, 7000, 500)}


async def test_commits_stay_below_what_an_operator_holds(world: World) -> None:
    pipeline = await world.start("stumble")
    await world.say("hold")
    await world.say("more", at_ms=START + 1)
    await settle(pipeline)
    pipeline.runners[0].close()
    await pipeline.runners[0].run()
    partition = TopicPartition("words", world.broker.messages("words")[0].partition)
    consumer = world.broker.consumer(["words"], group="tiny.stumble")
    await consumer.start()
    committed = await consumer.committed(partition)
    assert committed is not None
    assert committed.offset == 0


async def test_a_session_unheard_of_for_ten_minutes_is_forgotten(world: World) -> None:
    pipeline = await world.start("stumble")
    await world.say("hold", session="old")
    await settle(pipeline)
    world.clock.set_ms(START + 11 * 60_000)
    for session in ("a", "b", "c", "d"):
        await world.say("new", session=session)
    await settle(pipeline)
    operator: Any = pipeline.runners[0].operator
    assert operator.forgotten == ["old"]


async def test_provisionals_are_at_most_25_a_second_and_the_newest_is_never_withheld(world: World) -> None:
    pipeline = await world.start("sum_counts")
    for ms in range(0, 1000, 5):
        world.clock.set_ms(START + ms)
        at = START + ms
        await world.publish(Count(session_id="s", event_time_ms=at, start_ms=at, end_ms=at, letters=1), "counts")
        await settle(pipeline)
    burst, rate = 5, 25
    assert len(world.read("totals_live")) <= burst + rate
    await until(world, pipeline, 1100)
    newest = world.read("totals_live")[-1]
    assert newest.letters == 200


async def test_every_second_a_worker_reports_what_it_did(world: World) -> None:
    pipeline = await world.start("stumble")
    await world.say("odd")
    await world.say("even")
    await settle(pipeline)
    await until(world, pipeline, 1000)
    report = world.read("worker_reports")[0]
    assert report.operator == "stumble"
    assert report.counts["read"] == 2
    assert report.counts["undecodable"] == 1
    assert report.latency_ms["process"]["count"] == 1


async def test_a_hanging_transaction_is_no_lag_of_the_worker_and_is_reported_and_warned_of(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRANSACTION_MS", 600_000)
    pipeline = await world.start("stumble")
    await world.say("before")
    owner = world.broker.transactional("a platform's", group="g")
    await owner.start()
    hanging = Word(session_id="s", event_time_ms=START, text="hanging")
    await owner.send([Outgoing("words", b"s", encode(hanging), headers_for(hanging))])
    await world.say("behind")
    await until(world, pipeline, 1000)
    (report,) = world.read("worker_reports")
    assert (report.counts["read"], report.lag, report.held_back) == (1, 0, 2)
    assert "held back" not in caplog.text
    await until(world, pipeline, 32_000, step_ms=500)
    assert caplog.text.count("of words has been held back for 30 s by a transaction") == 1
    await owner.commit({})
    await until(world, pipeline, 34_000, step_ms=500)
    assert [c.letters for c in world.read("counts")] == [6, 7, 6]
    assert world.read("worker_reports")[-1].held_back == 0


async def test_the_steady_offset_of_a_sessions_clock_is_in_the_worker_reports(world: World) -> None:
    pipeline = await world.start("stumble")
    for ms in range(0, 30_000, 500):
        world.clock.set_ms(START + ms)
        await world.say("right", at_ms=START + ms - 30)
        await world.say("behind", at_ms=START + ms - 180_040 - ms % 1500, session="browser")
        await world.say("ahead", at_ms=START + ms + 7_200_000, session="local time")
        await settle(pipeline)
    report = world.read("worker_reports")[-1]
    assert report.clock_offsets_ms == {"browser": -180_040, "local time": 7_200_000}


async def test_an_operator_that_is_not_there_is_named(world: World) -> None:
    with pytest.raises(ConfigurationError, match="no such operator; there are stumble, sum_counts"):
        await world.start("sum_count")


async def test_close_finishes_what_is_in_hand(world: World) -> None:
    runner: Runner = (await world.start("stumble")).runners[0]
    await world.say("hello")
    await runner.step(wait_ms=0)
    runner.close()
    await runner.run()
    assert [c.letters for c in world.read("counts")] == [5]


class Stuck:
    """A host that neither finishes nor fails."""

    name = "stuck"

    async def open(self) -> None:
        """Nothing to do."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        """It does not listen."""

    async def stop(self) -> None:
        """Nothing to release."""


async def test_an_operator_that_cannot_finish_does_not_hold_the_others_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.runtime.pipeline.DRAIN_S", 0.05)
    pipeline = await world.start("stumble")
    pipeline.hosts.append(Stuck())
    pipeline.close()
    async with asyncio.timeout(2):
        await pipeline.run()
