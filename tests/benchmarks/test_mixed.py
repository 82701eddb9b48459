"""Honest sessions beside everything awkward, on a real Kafka: nothing of theirs is lost, and a loss would be seen."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.mixed import Result, mix
from tests.shipped import TOPOLOGY


@pytest.mark.kafka
@pytest.mark.timeout(240, func_only=True)
async def test_no_honest_session_loses_an_observation_to_awkward_ones() -> None:
    result = await mix(TOPOLOGY.source, sessions=2, loops=3)
    kinds = Counter(key[0] for key in result.alone)
    assert {"face", "voice", "text", "final"} <= set(kinds)
    assert min(kinds["face"], kinds["voice"], kinds["final"]) > 50
    assert result.awkward > 1000
    assert {"undecodable", "clock_unit", "too_large", "unknown_version"} <= set(result.letters)
    assert result.lost() == Counter()


def test_what_came_only_the_first_time_is_lost() -> None:
    a, b = ("text", "0", "m1", "500", "500"), ("text", "0", "m2", "1500", "1500")
    assert Result(Counter([a, b]), Counter([a])).lost() == Counter([b])
    assert Result(Counter([a]), Counter([a, b])).lost() == Counter()
