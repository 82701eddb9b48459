"""When a window closes: the closing rule's settings, and one session's clock, which applies it (DESIGN §5)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamer.event_time import Duration


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
