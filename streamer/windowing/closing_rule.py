"""When a window closes: the rule's settings, and the clock of one session that applies them (DESIGN §5)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamer.event_time import Duration


@dataclass(frozen=True, slots=True)
class ClosingRule:
    """The settings of the closing rule (DESIGN §5).

    Args:
        lateness: a modality completes a window once its event time is this far past the window's end.
        idle_after: a modality whose event time has not advanced for this long, in Kafka time, is no longer active.
        max_open: a window closes this long after its first record, in Kafka time, at the latest.
        sparse: modalities that are never active, so that no window waits for them.
    """

    lateness: Duration = Duration(150)
    idle_after: Duration = Duration(1000)
    max_open: Duration = Duration(5000)
    sparse: frozenset[str] = frozenset()


class SessionClock:
    """The event time of each modality of one session, as its partition's Kafka time goes by.

    A record *advances* its modality when its event time is the newest of the modality's records of the last
    `horizon_ms` of Kafka time (DESIGN says "raises"). A modality that isn't sparse is *active* at Kafka time S if it
    was advanced within (S - idle_after, S].
    """

    def __init__(self, rule: ClosingRule, horizon_ms: int) -> None:
        self._rule, self._horizon_ms = rule, horizon_ms
        # per modality (Kafka time, event time), event times strictly falling: the front is the newest of the horizon
        self._recent: dict[str, deque[tuple[int, int]]] = {}
        self._advanced_at: dict[str, int] = {}
        self._last_advance: tuple[int, int, bool] | None = None

    def observe(self, modality: str, event_time_ms: int, kafka_ms: int) -> bool:
        """Take in a record; returns whether it advanced its modality."""
        recent = self._recent.setdefault(modality, deque())
        self._forget(recent, kafka_ms)
        advances = not recent or event_time_ms > recent[0][1]
        while recent and recent[-1][1] <= event_time_ms:
            recent.pop()
        recent.append((kafka_ms, event_time_ms))
        if advances:
            self._advanced_at[modality] = kafka_ms
            self._last_advance = (kafka_ms, event_time_ms, modality in self._rule.sparse)
        return advances

    def newest_ms(self, modality: str, kafka_ms: int) -> int | None:
        """The newest event time of a modality at a Kafka time; None where it has none within the horizon."""
        recent = self._recent.get(modality, deque())
        self._forget(recent, kafka_ms)
        return recent[0][1] if recent else None

    def active(self, kafka_ms: int) -> frozenset[str]:
        """The modalities that are active at a Kafka time."""
        return frozenset(m for m, until in self._active_until().items() if kafka_ms < until)

    def reached(self, window_end_ms: int, kafka_ms: int) -> bool:
        """Whether any modality is active at a Kafka time and all that are have reached `window_end + lateness`."""
        active = self.active(kafka_ms)
        return bool(active) and not self._behind(active, window_end_ms, kafka_ms)

    def closes_by_time_ms(self, window_end_ms: int, first_kafka_ms: int, now_kafka_ms: int) -> int:
        """The Kafka time at which a window closes if no further record comes.

        Args:
            window_end_ms: the window's end, in event time.
            first_kafka_ms: the Kafka time of the window's first record.
            now_kafka_ms: the partition's Kafka time.
        """
        if self._last_advance is None:
            return first_kafka_ms + self._rule.max_open
        until = {m: t for m, t in self._active_until().items() if t > now_kafka_ms}
        behind = self._behind(frozenset(until), window_end_ms, now_kafka_ms)
        last_behind = max((until[m] for m in behind), default=now_kafka_ms)
        if any(t > last_behind for m, t in until.items() if m not in behind):
            instant = last_behind
        else:
            advanced_kafka, advanced_event, sparse = self._last_advance
            wait = 0 if sparse else self._rule.idle_after
            alone = advanced_kafka + max(wait, window_end_ms + self._rule.lateness - advanced_event)
            instant = max(alone, *until.values(), first_kafka_ms)
        return min(instant, first_kafka_ms + self._rule.max_open)

    def _active_until(self) -> dict[str, int]:
        idle_after = self._rule.idle_after
        return {m: t + idle_after for m, t in self._advanced_at.items() if m not in self._rule.sparse}

    def _behind(self, modalities: frozenset[str], window_end_ms: int, kafka_ms: int) -> frozenset[str]:
        due = window_end_ms + self._rule.lateness
        return frozenset(m for m in modalities if (self.newest_ms(m, kafka_ms) or -1) < due)

    def _forget(self, recent: deque[tuple[int, int]], kafka_ms: int) -> None:
        while recent and recent[0][0] <= kafka_ms - self._horizon_ms:
            recent.popleft()
