"""Clocks and durations: the only file that reads the time. Times and durations are int milliseconds."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
PERIOD_MS = 10_000
FEWEST_RECORDS = 3
"""A session's clock is judged by periods with at least so many records."""
STEADY_MS = 500
OFF_MS = 2000
"""A clock is off by at least this; less is no more than the delay of a slow connection."""
MOST_CLOCKS = 10_000
MOST_REPORTED = 20
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")


class Duration(int):
    """A length of time in milliseconds; in YAML a number with its unit: `4ms`, `2s`, `10m`, `24h`, `7d`."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """`"500ms"` to 500.

        Raises:
            ValueError: no unit, an unknown one, or not a whole number.
        """
        if isinstance(value, cls):
            return value
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a duration: write a whole number and a unit, such as 500ms, 2s, 10m")
        return cls(int(match[1]) * _UNITS_MS[match[2]])

    def __str__(self) -> str:
        for unit, size in reversed(_UNITS_MS.items()):
            if self and self % size == 0:
                return f"{int(self) // size}{unit}"
        return f"{int(self)}ms"


def utc_text(at_ms: int) -> str:
    """Unix milliseconds to the second they lie in, as people read it: `2026-01-31 12:00:00Z`."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@dataclass(slots=True)
class _Offset:
    """What is known of one session's clock in one topic; differences are event time less Kafka time, in ms."""

    period: int
    count: int = 0
    greatest_ms: int = 0
    before_ms: int | None = None
    """The greatest difference of the period before; None where that had too few records."""
    steady_ms: int | None = None
    """The offset, where the last two whole periods agree."""

    def begin(self, period: int) -> None:
        """End the period under way."""
        whole_ms = self.greatest_ms if self.count >= FEWEST_RECORDS else None
        agree = whole_ms is not None and self.before_ms is not None and abs(whole_ms - self.before_ms) <= STEADY_MS
        self.steady_ms = whole_ms if agree else None
        self.before_ms = whole_ms if period == self.period + 1 else None
        self.period, self.count = period, 0

    def add(self, ahead_ms: int) -> None:
        """Take in a record's difference."""
        self.greatest_ms = ahead_ms if self.count == 0 else max(self.greatest_ms, ahead_ms)
        self.count += 1


class ClockOffsets:
    """By how much the clocks of sessions differ from Kafka's, estimated from what they send.

    A record reaches Kafka some time after it was stamped, so that event time less Kafka time is at most the clock's
    offset; the greatest such difference of many records is the offset less the shortest delay on the way. It is taken
    over periods of 10 s of Kafka time, and is *steady* where two in succession agree: that of a session which
    catches up after an outage isn't. What is always sent late by the same time looks as if its clock ran behind.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], _Offset] = {}  # by session and topic, the one heard of longest ago first
        self._newest = 0

    def observe(self, session_id: str, topic: str, event_time_ms: int, kafka_ms: int) -> None:
        """Take in a record: when it was stamped, and when Kafka appended it."""
        period = kafka_ms // PERIOD_MS
        self._newest = max(self._newest, period)
        found = self._sessions.pop((session_id, topic), None) or _Offset(period)
        self._sessions[session_id, topic] = found
        if period > found.period:
            found.begin(period)
        found.add(event_time_ms - kafka_ms)
        if len(self._sessions) > MOST_CLOCKS:
            del self._sessions[next(iter(self._sessions))]

    def off(self) -> dict[str, int]:
        """Session id to offset in ms, of the sessions heard of lately that are steadily off; the greatest 20."""
        found: dict[str, int] = {}
        for (session_id, _), offset in self._sessions.items():
            steady_ms = offset.steady_ms
            if steady_ms is not None and abs(steady_ms) >= OFF_MS and offset.period >= self._newest - 1:
                found[session_id] = max(steady_ms, found.get(session_id, 0), key=abs)
        return dict(sorted(found.items(), key=lambda kv: -abs(kv[1]))[:MOST_REPORTED])


class Clock(Protocol):
    """The clock that an operator is given."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        ...

    def perf_ms(self) -> float:
        """A monotonic reading in milliseconds, for durations."""
        ...

    async def sleep_ms(self, duration_ms: float) -> None:
        """Return after `duration_ms`."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def perf_ms(self) -> float:
        """A monotonic reading in milliseconds."""
        return time.perf_counter_ns() / 1e6

    async def sleep_ms(self, duration_ms: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(max(duration_ms, 0) / 1000)


class ManualClock:
    """A clock that is set by its owner, for file-to-file replay and tests; it never goes backwards."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def set_ms(self, now_ms: int) -> None:
        """Move on to `now_ms`, or stay where it is later already."""
        self._now_ms = max(self._now_ms, now_ms)

    def now_ms(self) -> int:
        """The moment it was set to."""
        return self._now_ms

    def perf_ms(self) -> float:
        """The same moment: in simulated time, work takes none."""
        return float(self._now_ms)

    async def sleep_ms(self, duration_ms: float) -> None:
        """Yield once; simulated time is moved on by whoever owns the clock."""
        del duration_ms
        await asyncio.sleep(0)
