"""The windows of one partition: records and ticks go in, closed and provisional windows come out.

Reading the same log again gives the same windows (DESIGN §5).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamer.metrics import Reason
from streamer.operator import Piece, Window
from streamer.windowing.evidence import Evidence, decay
from streamer.windowing.session_windows import Buffered, SessionWindows
from streamer.windowing.window_spec import WindowSpec

_TIDY_EVERY_MS = 1000


@dataclass(frozen=True, slots=True)
class Applied:
    """The windows that a record closed, and why it is no evidence, or late; None where it is evidence in time."""

    closed: tuple[Window, ...] = ()
    refused: Reason | None = None


class PartitionWindows:
    """The windows of all sessions of one partition: give it records and ticks in offset order.

    Args:
        spec: sizes and rules.
        half_life_ms: by modality, the age at which its evidence weighs half; one without is evidence in its own windows
            only.
        revokes: whether a payload takes back all earlier evidence of its modality.
    """

    def __init__(self, spec: WindowSpec, half_life_ms: Mapping[str, int], revokes: Callable[[Any], bool]) -> None:
        self._spec, self._half_life_ms, self._revokes = spec, half_life_ms, revokes
        self._sessions: dict[str, SessionWindows] = {}
        self._due: list[tuple[int, str]] = []  # heap; an entry is stale where `_due_of` differs
        self._due_of: dict[str, int] = {}
        self._expiries: list[tuple[int, str]] = []  # heap: when to check whether a session is over
        self.kafka_ms = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def next_due_ms(self) -> int | None:
        """The Kafka time at which the next window closes if no record comes, so that a tick is due."""
        while self._due and self._due_of.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def tick(self, offset: int, stamp_ms: int) -> Applied:
        """Advance Kafka time to a record's timestamp and close the windows due, by (closing instant, session, end)."""
        self.kafka_ms = max(self.kafka_ms, stamp_ms)
        closing: list[tuple[int, str, int]] = []
        while (due := self.next_due_ms()) is not None and due <= self.kafka_ms:
            session = self._sessions[heapq.heappop(self._due)[1]]
            self._due_of.pop(session.id)
            instants = session.closing_instants_ms()
            closing += [(c, session.id, end) for end, c in instants.items() if c <= self.kafka_ms]
        closed = tuple(self._close(self._sessions[s], end, c, offset) for c, s, end in sorted(closing))
        for session_id in dict.fromkeys(s for _, s, _ in closing):
            self._reschedule(self._sessions[session_id])
        self._expire()
        return Applied(closed)

    def apply(self, offset: int, stamp_ms: int, payload: Evidence) -> Applied:
        """Process a record: close windows due by time, check and buffer it, close the windows that it completes."""
        closed = self.tick(offset, stamp_ms).closed
        session, revokes = self._session(payload.session_id), self._revokes(payload)
        if revokes:  # even where its own clock is wrong, or it is late or a duplicate
            session.revoke(payload.modality)
        if self.kafka_ms >= session.tidied_ms + _TIDY_EVERY_MS:
            session.tidy(self.kafka_ms, self._half_life_ms)
        if session.is_duplicate(payload, self.kafka_ms):
            return Applied(closed, "duplicate")
        if payload.end_ms > self.kafka_ms + self._spec.max_skew:
            return Applied(closed, "clock_skew")
        if payload.end_ms < self.kafka_ms - self._spec.max_delay:
            return Applied(closed, "late")
        session.last_evidence_ms = self.kafka_ms
        session.buffered.append(Buffered(offset, self.kafka_ms, payload, revokes))
        session.clock.observe(payload.modality, payload.end_ms, self.kafka_ms)
        in_time = [end for end in self._spec.ends_ms(payload.end_ms) if end not in session.closed]
        for end in in_time:
            session.open.setdefault(end, self.kafka_ms)
        reached = [end for end in session.open if session.clock.reached(end, self.kafka_ms)]
        closed += tuple(self._close(session, end, self.kafka_ms, offset) for end in reached)
        self._reschedule(session)
        return Applied(tuple(sorted(closed, key=_departure)), None if in_time else "late")

    def provisional(self, session_id: str) -> Window | None:
        """A session's earliest-ending open window that contains its newest evidence, as it would close now."""
        session = self._sessions.get(session_id)
        if session is None or not session.buffered:
            return None
        newest = max(session.buffered, key=lambda b: (b.payload.end_ms, b.offset))
        ends = [end for end in self._spec.ends_ms(newest.payload.end_ms) if end in session.open]
        return self._snapshot(session, ends[0], None, session.buffered[-1].offset) if ends else None

    def _session(self, session_id: str) -> SessionWindows:
        if session_id not in self._sessions:
            self._sessions[session_id] = SessionWindows(session_id, self._spec)
            heapq.heappush(self._expiries, (self.kafka_ms + self._spec.horizon, session_id))
        return self._sessions[session_id]

    def _reschedule(self, session: SessionWindows) -> None:
        due = min(session.closing_instants_ms().values(), default=None)
        if due is None:
            self._due_of.pop(session.id, None)
        elif self._due_of.get(session.id) != due:
            self._due_of[session.id] = due
            heapq.heappush(self._due, (due, session.id))

    def _expire(self) -> None:
        """Drop sessions that have no open window and no record within a horizon."""
        while self._expiries and self._expiries[0][0] <= self.kafka_ms:
            _, session_id = heapq.heappop(self._expiries)
            session = self._sessions[session_id]
            session.tidy(self.kafka_ms, self._half_life_ms)
            remembered = [*session.seen.values(), *session.closed.values(), *(self.kafka_ms for _ in session.open)]
            if remembered:
                heapq.heappush(self._expiries, (max(remembered) + self._spec.horizon, session_id))
            else:
                del self._sessions[session_id]

    def _close(self, session: SessionWindows, end_ms: int, instant_ms: int, trigger: int) -> Window:
        window = self._snapshot(session, end_ms, instant_ms, trigger)
        del session.open[end_ms]
        session.closed[end_ms] = instant_ms
        return window

    def _snapshot(self, session: SessionWindows, end_ms: int, closed_at_ms: int | None, trigger: int) -> Window:
        at_ms = self.kafka_ms if closed_at_ms is None else closed_at_ms
        start_ms, source_kafka_ms = end_ms - self._spec.size, 0
        pieces: list[Piece] = []
        newest = session.newest_expired_ms(at_ms - self._spec.horizon)
        for buffered in session.buffered:
            payload = buffered.payload
            age_ms = end_ms - payload.end_ms
            if age_ms <= 0 or buffered.kafka_ms <= at_ms - self._spec.horizon:
                continue
            newest[payload.modality] = max(payload.end_ms, newest.get(payload.modality, payload.end_ms))
            inside = payload.end_ms >= start_ms
            weight = decay(age_ms, self._half_life_ms.get(payload.modality, 0))
            if weight > 0 or inside:
                pieces.append(Piece(payload, weight, inside, buffered.offset))
                source_kafka_ms = max(source_kafka_ms, payload.source_kafka_ms)
        final = closed_at_ms is not None
        return Window(
            session.id, start_ms, end_ms, final, closed_at_ms, 0 if final else trigger, tuple(pieces), newest,
            session.clock.active(at_ms), source_kafka_ms, trigger,
        )  # fmt: skip


def _departure(window: Window) -> tuple[int, str, int]:
    """The order of windows that one record closes: closing instant, session, end."""
    return window.closed_at_ms or 0, window.session_id, window.end_ms
