"""The Faust host on a real Kafka of its own: answers, restarts, failures, tables in force, and a clean end."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from operators.payloads import CandidateList, Control, Item, Mood
from streamer.broker import Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.errors import RefusedUseError, StreamerError
from streamer.payloads import WorkerReport, encode
from streamer.records import Record
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.streamer.brokers.broker_steps import NO_TEXT, damage_header_names
from tests.streamer.runtime.faust_bench import BASE, LIFTED, TOPOLOGY, Bench, held, now_ms, order

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60, func_only=True)]


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[LocalKafka]:
    """A Kafka whose tables (controls, for one) no other test sees."""
    with asyncio.Runner() as runner:
        context = local_kafka(load_settings())
        yield runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


@pytest_asyncio.fixture
async def bench(own_kafka: LocalKafka, tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    made = Bench(own_kafka, load_topology(tmp_path / "topology.yaml"))
    await made.start()
    yield made
    await made.stop()


async def test_candidates_are_answered_and_ranked_again_when_affect_moves(bench: Bench) -> None:
    async with bench.running() as host:
        await bench.request()
        (first,) = await bench.lists(1)
        await asyncio.sleep(0.6)
        await bench.feel(-0.6)
        _, second = await bench.lists(2)
        reports = await bench.until(1, 5.0, lambda: bench.payloads("worker_reports", WorkerReport))
    assert (first.revision, first.cause, order(first)) == (0, "request", BASE)
    assert (second.revision, second.cause, order(second)) == (1, "affect", LIFTED)
    assert second.affect_event_id == "e"
    assert host.context.metrics.totals["unknown_item"] == 1
    assert (reports[0].operator, reports[0].partitions) == ("rank_items", [0, 1, 2, 3])


async def test_what_a_transaction_took_back_moves_no_list(bench: Bench) -> None:
    transactions = bench.broker.transactional(f"{bench.session}.0", group="nobody")
    await transactions.start()
    plain, bench.producer = bench.producer, transactions
    async with bench.running():
        await bench.request()
        await transactions.commit({})
        assert len(await bench.lists(1)) == 1
        await asyncio.sleep(0.6)
        await bench.feel(-0.6)
        assert len(await bench.settle(1.0)) == 1
        reports = functools.partial(bench.payloads, "worker_reports", WorkerReport)
        await bench.until(1, 5.0, lambda: [r for r in reports() if r.held_back == 1])
        await transactions.abort()
        assert len(await bench.settle(1.0)) == 1
        await bench.feel(-0.6)
        await transactions.commit({})
        _, second = await bench.lists(2)
    bench.producer = plain
    await transactions.stop()
    assert order(second) == LIFTED


async def test_an_item_a_consent_and_a_control_are_in_force_within_a_second(bench: Bench) -> None:
    async with bench.running():
        await bench.feel(-0.6)
        await bench.request("r1")
        (lifted,) = await bench.lists(1)
        mood = Mood(valence=0.9, arousal=0.1)
        await bench.send("catalogue_items", Item(event_time_ms=now_ms(), item_id="filler", text="new", mood=mood))
        await asyncio.sleep(0.9)
        await bench.feel(-0.6)
        await bench.request("r2")
        _, with_new = await bench.lists(2)
        await bench.send("controls", Control(event_time_ms=now_ms(), app="app", ranking_off=True))
        *_, switched_off = await bench.lists(3, wait_s=1.0)
        await bench.send("controls", Control(event_time_ms=now_ms(), app="app"))
        *_, switched_on = await bench.lists(4, wait_s=1.0)
        await bench.consent(affect_ranking=False)
        withdrawn = (await bench.lists(5, wait_s=1.0))[-1]
    assert order(lifted) == LIFTED
    assert "affect" in next(i for i in with_new.items if i.item_id == "filler").reasons
    assert (order(switched_off), switched_off.policy) == (BASE, "noop@1")
    assert order(switched_on) == order(with_new)
    assert (withdrawn.revision, order(withdrawn)) == (3, BASE)


async def test_bad_records_become_dead_letters_and_the_next_one_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_header_names(monkeypatch)
    key = bench.session.encode()
    whole = encode(
        CandidateList(session_id=bench.session, event_time_ms=now_ms(), request_id="r", user_id="u", items=[])
    )
    schema = (("schema", b"CandidateList/9"),)
    bad = [
        Outgoing("candidates", key, whole[: len(whole) // 2]),
        Outgoing("candidates", key, None),
        Outgoing("candidates", key, whole, schema),
        Outgoing("candidates", b"another", whole),
        Outgoing("candidates", key, whole, ((NO_TEXT, b""),)),
        Outgoing("affect_live", None, b"\xc1"),
    ]
    async with bench.running():
        await bench.producer.send(bad)
        letters = await bench.letters(len(bad))
        await bench.request()
        assert len(await bench.lists(1)) == 1
    assert sorted(letter.reason for letter in letters) == ["undecodable"] * 5 + ["unknown_version"]
    assert all(letter.operator == "rank_items" for letter in letters)


async def test_state_and_place_survive_a_restart_and_nothing_is_answered_twice(bench: Bench) -> None:
    async with bench.running():
        await bench.request()
        await bench.lists(1)
    async with bench.running() as second:
        assert f"{bench.session}\0request" in second.context.tables["state"]
        await asyncio.sleep(0.5)
        await bench.feel(-0.6)
        lists = await bench.lists(2)
        assert await bench.settle() == lists
    assert [(one.revision, one.cause) for one in lists] == [(0, "request"), (1, "affect")]


async def test_a_consent_withdrawn_while_nobody_ran_restores_the_base_order_at_start(bench: Bench) -> None:
    async with bench.running() as host:
        await bench.feel(-0.6)
        await bench.until(1, 10.0, lambda: sorted(held(host) & {bench.session}))  # of two topics either may come first
        await bench.request()
        await bench.lists(1)
    await bench.consent(affect_ranking=False)
    async with bench.running():
        lists = await bench.lists(2)
    assert [order(one) for one in lists] == [LIFTED, BASE]


async def test_when_one_of_two_workers_leaves_the_other_goes_on_with_its_sessions(bench: Bench) -> None:
    sessions = [f"{bench.session}-{i}" for i in range(8)]
    async with AsyncExitStack() as stays:
        async with bench.running() as leaves:
            remains = await stays.enter_async_context(bench.running())
            for session in sessions:
                bench.session = session
                await bench.consent(affect_ranking=True)
            for session in sessions:
                await bench.request(session=session)
            for session in sessions:
                bench.session = session
                assert len(await bench.lists(1)) == 1
            assert held(leaves) | held(remains) >= set(sessions)
            assert not held(leaves) & held(remains)
        await bench.until(len(sessions), 20.0, lambda: sorted(held(remains) & set(sessions)))
        assert held(remains) >= set(sessions)
        await asyncio.sleep(1.0)  # a standby holds them before they are its own; what is felt before that may be stale
        for session in sessions:
            bench.session = session
            await bench.feel(-0.6)
        for session in sessions:
            bench.session = session
            lists = await bench.lists(2)
            if lists[-1].cause == "request":  # at least once: a list whose answer was not committed is answered again
                lists = await bench.lists(3)
            assert (lists[0].revision, order(lists[0])) == (0, BASE)
            assert (lists[-1].cause, order(lists[-1])) == ("affect", LIFTED)
            assert [one.revision for one in lists] == list(range(len(lists)))


class FailsOnce:
    """An operator that breaks on its first record as a broker that has gone would; `done` when it has seen "b"."""

    def __init__(self, session: str, taken: list[str], done: asyncio.Event) -> None:
        self.session, self.taken, self.done = session, taken, done

    async def open(self) -> None: ...

    async def process(self, batch: Sequence[Record[Any]]) -> Sequence[Record[Any]]:
        mine = [r.payload.request_id for r in batch if r.key == self.session]
        self.taken += mine
        if mine and len(self.taken) == 1:
            raise StreamerError("gone")
        if {"a", "b"} <= set(self.taken[1:]):
            self.done.set()
        return ()

    def needs_from(self, session_id: str) -> None: ...

    def forget(self, session_id: str) -> None: ...

    async def close(self) -> None: ...


async def test_a_record_whose_output_could_not_be_written_comes_again(bench: Bench) -> None:
    taken: list[str] = []
    done = asyncio.Event()

    def build(_params: object, _context: object) -> FailsOnce:
        return FailsOnce(bench.session, taken, done)

    found = dataclasses.replace(bench.spec.found, build=build)
    spec = dataclasses.replace(bench.spec, found=found, reads=("candidates",))
    first = bench.host(spec)
    await first.open()
    await bench.request("a")
    await bench.request("b")
    with pytest.raises(StreamerError, match="gone"):
        await asyncio.wait_for(first.run(), 10)
    assert taken == ["a"]
    async with bench.running(spec):
        await asyncio.wait_for(done.wait(), 10)
    assert taken == ["a", "a", "b"]


async def test_it_ends_within_two_seconds_and_leaves_no_task_thread_or_file(bench: Bench) -> None:
    def files() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob("affectstream-faust-*"))

    handlers, files_before = list(logging.getLogger().handlers), files()
    threads_before = {t.name for t in threading.enumerate()}
    host = bench.host()
    await host.open()
    running = asyncio.create_task(host.run())
    await bench.request()
    await bench.lists(1)
    begun = time.monotonic()
    host.close()
    await running
    assert time.monotonic() - begun < 2
    await bench.stop()
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert files() == files_before
    assert {t.name for t in threading.enumerate()} - threads_before <= {"asyncio_0", "asyncio_1"}
    assert logging.getLogger().handlers == handlers


async def test_faust_does_not_listen_to_variables_that_other_programs_set(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BROKER_URL": "kafka://127.0.0.1:1", "APP_DATADIR": "/nowhere", "WEB_ENABLED": "1"}.items():
        monkeypatch.setenv(name, value)
    async with bench.running():
        await bench.request()
        assert len(await bench.lists(1)) == 1


async def test_a_refused_use_does_not_start_and_leaves_nothing(bench: Bench) -> None:
    tasks = asyncio.all_tasks()
    with pytest.raises(RefusedUseError):
        await bench.host(context="advertising").open()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks


async def test_a_candidate_list_is_answered_in_a_few_milliseconds(bench: Bench) -> None:
    async with bench.running():
        await bench.request("warm")
        await bench.lists(1)
        waits = []
        for n in range(40):
            begun = time.perf_counter()
            await bench.request(f"r{n}")
            await bench.lists(n + 2)
            waits.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(0.02)
    p50, p95 = statistics.median(waits), statistics.quantiles(waits, n=20)[18]
    logging.getLogger("t").warning("candidates -> ranked items: p50 %.1f ms, p95 %.1f ms", p50, p95)
    assert p50 < 200, "alone on a machine it is below 15 ms"
