"""The runner against the oracle: however a day goes, its finals are those that the rules derive from its log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from streamer.payloads import encode
from tests.streamer.windowing.oracle import Rules
from tests.streamer.windowing.oracle_logs import Step, clocks_ms, examples, rules, said, steps
from tests.streamer.windowing.scenarios import Day, Job, Outcome, days, expected, fusion, run, sums

pytestmark = pytest.mark.timeout(600)  # a failing day takes up to five minutes to shrink


def check_refusals(job: Job, outcome: Outcome, rules: Rules, *, exactly: bool) -> None:
    told = {(p, o): why for p, o, why in outcome.refused if why != "undecodable"}
    for partition, (reading, _) in expected(job, outcome, rules).items():
        due = {(partition, o): why for o, why in reading.refused.items() if why != "duplicate"}
        assert {place: why for place, why in told.items() if place[0] == partition} == due
    if exactly:
        assert set(outcome.refused.values()) <= {1}


@examples(60)
@given(steps, clocks_ms, rules, days)
def test_exactly_once_loses_and_repeats_no_final_and_each_is_the_oracles_byte_for_byte(
    script: list[Step], clocks: tuple[int, ...], rules: Rules, day: Day
) -> None:
    job = fusion().ruled(rules, day.batch, "exactly_once")
    outcome = run(job, said(script, clocks), day)
    for partition, (reading, finals) in expected(job, outcome, rules).items():
        assert reading.waiting == []
        assert [encode(f) for f in outcome.finals[partition]] == [encode(f) for f in finals]
    check_refusals(job, outcome, rules, exactly=True)


@examples(60)
@given(steps, clocks_ms, rules, days)
def test_at_least_once_loses_no_final_and_repeats_one_only_as_it_was(
    script: list[Step], clocks: tuple[int, ...], rules: Rules, day: Day
) -> None:
    job = sums().ruled(rules, day.batch, "at_least_once")
    outcome = run(job, said(script, clocks), day)
    for partition, (reading, finals) in expected(job, outcome, rules).items():
        assert reading.waiting == []
        once: dict[tuple[str, int], Any] = {}
        for total in outcome.finals[partition]:
            found: Any = total
            assert once.setdefault((found.session_id, found.event_time_ms), total) == total
        assert list(once.values()) == finals
    check_refusals(job, outcome, rules, exactly=False)
