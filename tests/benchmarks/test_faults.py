"""Faults caused for real, in short, and the judge of `benchmarks.faults`: it must notice what it is there to notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks.faults.__main__ import measure, table
from benchmarks.faults.cases import Case, Cluster
from benchmarks.faults.expected import Expected
from benchmarks.faults.judge import Judgement, ReceivedFinal, closing_to_readable, judge, longest_gap_s
from benchmarks.faults.load import plan
from operators.payloads import AffectEvent
from streamer.brokers.partitioner import partition_for

TOPOLOGY = Path(__file__).parents[2] / "topology.yaml"
STOPPED_S = 11.5  # the session timeout is 10 s


def final(session: str, end_ms: int, **fields: object) -> AffectEvent:
    given = {
        "session_id": session, "event_time_ms": end_ms, "event_id": f"{session}:{end_ms}", "revision": 0, "final": True,
        "window_start_ms": end_ms - 2000, "window_end_ms": end_ms, "closed_at_ms": end_ms + 200, "confidence": 0.5,
        "source_kafka_ms": end_ms, "emitted_at_ms": end_ms + 210, **fields,
    }  # fmt: skip
    return AffectEvent(**given)  # type: ignore[arg-type] # keyword by keyword it fits


RIGHT = [final("a", 2000), final("b", 2000), final("a", 2500), final("b", 2500)]
DUE = Expected({0: RIGHT}, {0: []}, frozenset({("late_records", 0, 7)}))
REFUSED = [("late_records", 0, 7)]


def judged(got: Sequence[AffectEvent], refused: Sequence[tuple[str, int, int]] = REFUSED) -> Judgement:
    return judge(DUE, {0: got}, refused)


def test_a_final_that_differs_only_in_when_it_was_written_is_right() -> None:
    judgement = judged([msgspec.structs.replace(event, emitted_at_ms=9) for event in RIGHT])
    assert judgement == Judgement(4, 0, 0, 0, 0)
    assert judgement.good


def drop(finals: list[AffectEvent]) -> None:
    del finals[1]


def repeat(finals: list[AffectEvent]) -> None:
    finals.append(finals[0])


def repeat_and_alter(finals: list[AffectEvent]) -> None:
    finals.append(msgspec.structs.replace(finals[0], confidence=0.6))


def alter(finals: list[AffectEvent]) -> None:
    finals[2] = msgspec.structs.replace(finals[2], confidence=0.5 + 1e-6)


def close_later(finals: list[AffectEvent]) -> None:
    finals[2] = msgspec.structs.replace(finals[2], closed_at_ms=2701)


def invent(finals: list[AffectEvent]) -> None:
    finals.append(final("c", 2500))


def swap(finals: list[AffectEvent]) -> None:
    finals[1], finals[2] = finals[2], finals[1]


@pytest.mark.parametrize(
    ("harm", "amiss"),
    [
        (drop, Judgement(4, lost=1, repeated=0, wrong=0, disordered=0)),
        (repeat, Judgement(4, lost=0, repeated=1, wrong=0, disordered=0)),
        (repeat_and_alter, Judgement(4, lost=0, repeated=1, wrong=0, disordered=0)),
        (alter, Judgement(4, lost=0, repeated=0, wrong=1, disordered=0)),
        (close_later, Judgement(4, lost=0, repeated=0, wrong=1, disordered=0)),
        (invent, Judgement(4, lost=0, repeated=0, wrong=1, disordered=0)),
        (swap, Judgement(4, lost=0, repeated=0, wrong=0, disordered=1)),
    ],
)
def test_the_judge_notices_each_harm(harm: Callable[[list[AffectEvent]], None], amiss: Judgement) -> None:
    got = list(RIGHT)
    harm(got)
    judgement = judged(got)
    assert judgement.examples
    assert not judgement.good
    assert replace(judgement, examples=()) == amiss


@pytest.mark.parametrize("refused", [[], [*REFUSED, *REFUSED], [*REFUSED, ("dead_letters", 0, 9)]])
def test_the_judge_notices_a_refusal_that_is_missing_repeated_or_without_cause(
    refused: list[tuple[str, int, int]],
) -> None:
    judgement = judged(RIGHT, refused)
    assert judgement.refusals == 1
    assert not judgement.good


def test_a_window_that_nothing_closed_is_lost() -> None:
    assert judge(Expected({0: RIGHT}, {0: ["a:3000"]}, frozenset()), {0: RIGHT}).lost == 1


def test_nothing_at_all_is_not_good() -> None:
    assert not judge(Expected({}, {}, frozenset()), {}).good


def test_a_gap_is_of_the_partition_that_was_silent_the_longest_and_counts_to_the_end() -> None:
    quick = [ReceivedFinal(0, RIGHT[0], at) for at in range(0, 10_000, 500)]
    stuck = [ReceivedFinal(1, RIGHT[1], at) for at in (500, 1000, 4000)]
    assert longest_gap_s([*quick, *stuck], 0, 10_000) == 6.0
    assert longest_gap_s(quick, 0, 10_000) == 0.5
    assert longest_gap_s([], 0, 10_000) == 10.0


def test_a_wait_ends_with_the_first_of_repeated_finals() -> None:
    spread = closing_to_readable([ReceivedFinal(0, RIGHT[0], 2210), ReceivedFinal(0, RIGHT[0], 9000)])
    assert (spread.p50, spread.count) == (10, 1)


def test_a_load_is_the_same_each_time_and_every_partition_gets_its_kinds_of_sessions() -> None:
    once, again = (plan(20, 4, seed=3) for _ in range(2))
    assert once == again
    assert once != plan(20, 4, seed=4)
    for partition, planned in enumerate(once):
        assert {partition_for(s.session_id.encode(), 4) for s in planned} == {partition}
        assert {s.session_id.partition("-")[0] for s in planned} == {"steady", "moody", "brief"}
        assert [s.at_ms for s in planned] == sorted(s.at_ms for s in planned)


def logs_of_workers(folder: Path) -> str:
    return "".join(log.read_text() for log in folder.glob("*.log"))


async def kill_stop_and_double(cluster: Cluster, seconds: float) -> None:
    del seconds
    await asyncio.sleep(2.7)
    first, second = cluster.workers
    await first.kill()
    await first.start()
    await asyncio.sleep(1)
    second.pause()
    twin = cluster.twin_of(first)
    until = asyncio.create_task(asyncio.sleep(STOPPED_S))
    await twin.start()
    await asyncio.sleep(3)
    await first.kill()
    await until
    second.resume()


@pytest.mark.kafka
async def test_a_worker_killed_in_mid_window_a_zombie_and_two_of_one_name_harm_no_final(tmp_path: Path) -> None:
    case = Case("in short", kill_stop_and_double)
    run = await measure(case, TOPOLOGY, tmp_path, nodes=1, verification=False, seconds=20, seed=1)
    assert run.good, (run.died, run.judgement.examples)
    assert run.judgement.finals > 300
    assert run.gap_s > STOPPED_S - 3, "nobody was stopped"
    assert "somebody else owns it now" in logs_of_workers(tmp_path), "nobody was fenced"
    assert "| in short | 1 | off |" in "\n".join(table([run]))
