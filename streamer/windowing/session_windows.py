"""One session's open windows and the evidence that they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamer.windowing.closing_rule import SessionClock
from streamer.windowing.evidence import REACH_HALF_LIVES, Evidence
from streamer.windowing.window_spec import WindowSpec


@dataclass(slots=True)
class Buffered:
    """A record that is evidence: its offset, Kafka time and payload, and whether it revokes earlier evidence."""

    offset: int
    kafka_ms: int
    payload: Any
    revokes: bool


class SessionWindows:
    """The windows and evidence of one session; what is older than the horizon is dropped.

    Attributes:
        open: end of each open window -> Kafka time of its first record.
        closed: end of each closed window -> its closing instant, for a horizon.
        seen: identity -> Kafka time of its last record, evidence or not, for a horizon.
        buffered: evidence that a window may still need, in offset order.
        expired: newest event times of evidence that no longer weighs anything, see `newest_expired_ms`.
        last_evidence_ms: Kafka time of the newest evidence; since then only time has passed.
        tidied_ms: Kafka time of the last `tidy`.
    """

    def __init__(self, session_id: str, spec: WindowSpec) -> None:
        self.id, self.spec = session_id, spec
        self.clock = SessionClock(spec.rule, spec.horizon)
        self.open: dict[int, int] = {}
        self.closed: dict[int, int] = {}
        self.seen: dict[tuple[str, str, int, int], int] = {}
        self.buffered: list[Buffered] = []
        self.expired: dict[tuple[str, bool], list[tuple[int, int]]] = {}
        self.last_evidence_ms = 0
        self.tidied_ms = 0

    def closing_instants_ms(self) -> dict[int, int]:
        """For each open window's end, the Kafka time at which it closes if no further record comes."""
        return {e: self.clock.closes_by_time_ms(e, first, self.last_evidence_ms) for e, first in self.open.items()}

    def is_duplicate(self, payload: Evidence, kafka_ms: int) -> bool:
        """Remember a record's identity; whether the same identity came within the horizon before it."""
        identity = (payload.modality, payload.source_id, payload.start_ms, payload.end_ms)
        before_ms, self.seen[identity] = self.seen.get(identity), kafka_ms
        return before_ms is not None and before_ms > kafka_ms - self.spec.horizon

    def newest_expired_ms(self, after_ms: int) -> dict[str, int]:
        """By modality, the newest event time among expired evidence that came after the Kafka time `after_ms`.

        `expired` holds, by (modality, whether it revokes), pairs of (Kafka time, event time): only those that no later
        record surpasses, so Kafka times rise and event times fall.
        """
        newest: dict[str, int] = {}
        for (modality, _), times in self.expired.items():
            event_ms = next((event_ms for kafka_ms, event_ms in times if kafka_ms > after_ms), None)
            if event_ms is not None:
                newest[modality] = max(event_ms, newest.get(modality, event_ms))
        return newest

    def revoke(self, modality: str) -> None:
        """Drop a modality's evidence; records that revoke stay, so that later windows know of the revocation."""
        self.buffered = [b for b in self.buffered if b.payload.modality != modality or b.revokes]
        self.expired.pop((modality, False), None)

    def tidy(self, kafka_ms: int, half_life_ms: Mapping[str, int]) -> None:
        """Drop what no window can need any more."""
        self.tidied_ms = kafka_ms
        oldest_ms = kafka_ms - self.spec.horizon
        self.seen = {k: t for k, t in self.seen.items() if t > oldest_ms}
        self.closed = {e: t for e, t in self.closed.items() if t > oldest_ms}
        earliest_end = min([kafka_ms - self.spec.max_delay, *self.open])

        def in_reach(record: Buffered) -> bool:
            reach = REACH_HALF_LIVES * half_life_ms.get(record.payload.modality, 0)
            return bool(record.payload.end_ms >= earliest_end - max(reach, self.spec.size))

        for record in self.buffered:
            if not in_reach(record):
                key = (record.payload.modality, record.revokes)
                self.expired.setdefault(key, []).append((record.kafka_ms, record.payload.end_ms))
        self.buffered = [b for b in self.buffered if in_reach(b)]
        self.expired = {k: left for k, times in self.expired.items() if (left := _unsurpassed(times, oldest_ms))}


def _unsurpassed(times: list[tuple[int, int]], after_ms: int) -> list[tuple[int, int]]:
    """(Kafka time, event time) pairs after a Kafka time, without those that a later one surpasses; Kafka times rise."""
    left: list[tuple[int, int]] = []
    for kafka_ms, event_ms in sorted(times, reverse=True):
        if kafka_ms > after_ms and (not left or event_ms > left[-1][1]):
            left.append((kafka_ms, event_ms))
    return left[::-1]
