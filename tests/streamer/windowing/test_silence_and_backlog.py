"""Sessions that fall silent, and a backlog: the last windows are final in time, and speed changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from operators.payloads import AffectEvent
from streamer.brokers.partitioner import partition_for
from streamer.payloads import TICK_HEADER, encode
from tests.streamer.windowing.oracle import Rules
from tests.streamer.windowing.oracle_logs import SESSIONS, START_MS, Step, observation
from tests.streamer.windowing.scenarios import PARTITIONS, Day, Job, Outcome, expected, fusion, read_again, run

RULES = Rules(sparse=frozenset({"text"}), half_life_ms={"face": 1000, "voice": 2000, "text": 4000})
SILENT_MS, END_MS = 4000, 12_000


def job(delivery: str = "exactly_once") -> Job:
    return fusion().ruled(RULES, 64, delivery)


def seen(session: int, modality: Any, at_ms: int, number: int) -> tuple[int, Any]:
    """(Moment of appending, observation) for an event at `at_ms` after the start: it is 50 ms under way."""
    at = START_MS + at_ms
    return at + 50, observation(Step(0, session=session, modality=modality), at, number)


def check(outcome: Outcome) -> None:
    """Every final is the oracle's, none is missing."""
    for partition, (reading, finals) in expected(job(), outcome, RULES).items():
        assert reading.waiting == []
        assert [encode(f) for f in outcome.finals[partition]] == [encode(f) for f in finals]


def partition_of(session: int) -> int:
    return partition_for(SESSIONS[session].encode(), PARTITIONS)


NEIGHBOURS = [n for n in range(len(SESSIONS)) if partition_of(n) == partition_of(0)]
OTHERS = [n for n in range(len(SESSIONS)) if partition_of(n) != partition_of(0)]


@pytest.mark.parametrize(
    ("silent", "what"),
    [(NEIGHBOURS, "a whole partition"), (NEIGHBOURS[:1], "part of one"), (range(len(SESSIONS)), "everything")],
)
def test_when_sessions_fall_silent_their_last_windows_are_final_within_100_ms_of_their_instant(
    silent: list[int], what: str
) -> None:
    assert len(NEIGHBOURS) > 1, OTHERS
    said = [
        seen(session, modality, at_ms, at_ms)
        for at_ms in range(0, END_MS, 250)
        for session in range(len(SESSIONS))
        for modality in ("face", "voice")
        if session not in silent or at_ms < SILENT_MS
    ]
    outcome = run(job(), said, Day())
    check(outcome)
    ends = {event.window_end_ms - START_MS for event in events(outcome) if event.session_id == SESSIONS[silent[0]]}
    assert max(ends) == SILENT_MS - 250 + 2000 - (SILENT_MS - 250) % 500, what
    waits = [stamp - (event.closed_at_ms or 0) for event, stamp in zip(events(outcome), stamps(outcome), strict=True)]
    assert min(waits) >= 0
    assert max(waits) < 100


def events(outcome: Outcome) -> list[AffectEvent]:
    return [event for finals in outcome.finals.values() for event in finals if isinstance(event, AffectEvent)]


def stamps(outcome: Outcome) -> list[int]:
    return [stamp for stamps in outcome.stamps_ms.values() for stamp in stamps]


def ten_minutes() -> list[tuple[int, Any]]:
    """A face and a voice all along; a second face that comes and goes, with chat; one whose network hangs at times."""
    said = [seen(0, m, at, at) for at in range(0, 600_000, 500) for m in ("face", "voice")]
    said += [seen(1, "face", at, at) for at in range(0, 600_000, 500) if at // 7000 % 2]
    said += [seen(1, "text", at, at) for at in range(300, 600_000, 3700)]
    hangs = [seen(2, "voice", at, at) for at in range(0, 600_000, 1000)]
    said += [(at + (at // 100 * 37 % 40) * 100, o) for at, o in hangs]
    return sorted(said, key=lambda one: one[0])


def test_a_backlog_of_ten_minutes_read_at_full_speed_gives_the_finals_of_the_live_run() -> None:
    live = run(job(), ten_minutes(), Day())
    check(live)
    by_session = sorted(encode(e) for e in events(live))
    assert len(by_session) > 3000
    again = asyncio.run(read_again(job(), live.input, Day()))
    assert again.finals == live.finals
    untouched = [m for m in live.input if TICK_HEADER not in dict(m.headers)]  # as if nobody had been there
    assert len(untouched) < len(live.input)
    backlog = asyncio.run(read_again(job(), untouched, Day(poll=37, batch=5)))
    assert sorted(encode(e) for e in events(backlog)) == by_session
