"""Clocks, durations and the closing rule: the only file that reads time. Times and durations are int milliseconds."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass
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
    """Where an operator gets its time from."""

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
    """A clock that stands until it is set: file-to-file replay and tests. It never goes backwards."""

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


@dataclass(frozen=True, slots=True)
class ClosingRule:
    """When a window closes (DESIGN §5); all in milliseconds. `sparse` modalities are never active."""

    lateness: Duration = Duration(150)
    idle_after: Duration = Duration(1000)
    max_open: Duration = Duration(5000)
    sparse: frozenset[str] = frozenset()


class SessionClock:
    """One session's event time per modality, as its partition's Kafka time goes by.

    A record *raises* when its event time is the newest of its modality among the records of the last `horizon_ms` of
    Kafka time. A modality that is not sparse is active at Kafka time S if it raised within (S - idle_after, S].
    """

    def __init__(self, rule: ClosingRule, horizon_ms: int) -> None:
        self._rule, self._horizon_ms = rule, horizon_ms
        # per modality (Kafka time, event time), event times strictly falling: the front is the newest of the horizon
        self._recent: dict[str, deque[tuple[int, int]]] = {}
        self._raised_at: dict[str, int] = {}
        self._last_raise: tuple[int, int, bool] | None = None

    def observe(self, modality: str, event_time_ms: int, kafka_ms: int) -> bool:
        """Take note of a record; whether it raised its modality's newest event time."""
        recent = self._recent.setdefault(modality, deque())
        self._forget(recent, kafka_ms)
        raises = not recent or event_time_ms > recent[0][1]
        while recent and recent[-1][1] <= event_time_ms:
            recent.pop()
        recent.append((kafka_ms, event_time_ms))
        if raises:
            self._raised_at[modality] = kafka_ms
            self._last_raise = (kafka_ms, event_time_ms, modality in self._rule.sparse)
        return raises

    def newest_ms(self, modality: str, kafka_ms: int) -> int | None:
        """The newest event time of a modality at a Kafka time; None where it has none within the horizon."""
        recent = self._recent.get(modality, deque())
        self._forget(recent, kafka_ms)
        return recent[0][1] if recent else None

    def active(self, kafka_ms: int) -> frozenset[str]:
        """The modalities that are active at a Kafka time."""
        return frozenset(m for m, until in self._active_until().items() if kafka_ms < until)

    def last_heard_ms(self) -> int:
        """The Kafka time of the last raising record."""
        return self._last_raise[0] if self._last_raise else 0

    def reached(self, window_end_ms: int, kafka_ms: int) -> bool:
        """Whether any modality is active at a Kafka time and all that are have reached `window_end + lateness`."""
        active = self.active(kafka_ms)
        return bool(active) and not self._behind(active, window_end_ms, kafka_ms)

    def closes_by_time_ms(self, window_end_ms: int, first_kafka_ms: int, now_kafka_ms: int) -> int:
        """The Kafka time at which a window closes if no further record comes (its closing instant by time alone).

        Args:
            window_end_ms: the window's end, in event time.
            first_kafka_ms: the Kafka time of the window's first record.
            now_kafka_ms: the partition's Kafka time.
        """
        if self._last_raise is None:
            return first_kafka_ms + self._rule.max_open
        until = {m: t for m, t in self._active_until().items() if t > now_kafka_ms}
        behind = self._behind(frozenset(until), window_end_ms, now_kafka_ms)
        last_behind = max((until[m] for m in behind), default=now_kafka_ms)
        if any(t > last_behind for m, t in until.items() if m not in behind):
            instant = last_behind
        else:
            raised_kafka, raised_event, sparse = self._last_raise
            wait = 0 if sparse else self._rule.idle_after
            alone = raised_kafka + max(wait, window_end_ms + self._rule.lateness - raised_event)
            instant = max(alone, *until.values(), first_kafka_ms)
        return min(instant, first_kafka_ms + self._rule.max_open)

    def _active_until(self) -> dict[str, int]:
        idle_after = self._rule.idle_after
        return {m: t + idle_after for m, t in self._raised_at.items() if m not in self._rule.sparse}

    def _behind(self, modalities: frozenset[str], window_end_ms: int, kafka_ms: int) -> frozenset[str]:
        due = window_end_ms + self._rule.lateness
        return frozenset(m for m in modalities if (self.newest_ms(m, kafka_ms) or -1) < due)

    def _forget(self, recent: deque[tuple[int, int]], kafka_ms: int) -> None:
        while recent and recent[0][0] <= kafka_ms - self._horizon_ms:
            recent.popleft()
