"""Clocks and durations: the only file that reads the time. Times and durations are int milliseconds."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Protocol

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
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
