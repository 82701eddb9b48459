"""Hopping windows, evidence and dedupe: records of one partition in, closed and provisional windows out.

Everything here is a pure function of the log: of offsets, Kafka times and payloads, never of a wall clock or a batch's
borders. Reading the log again gives the same windows (DESIGN §5).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.event_time import Duration
from streamer.metrics import Reason
from streamer.operator import Piece, Window
from streamer.windowing.closing_rule import ClosingRule, SessionClock
from streamer.windowing.evidence import REACH_HALF_LIVES, Evidence, fade

_TIDY_EVERY_MS = 1000


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A topology's `window`: half-open windows [end - size, end) at multiples of hop, and when they close."""

    size: Duration = Duration(2000)
    hop: Duration = Duration(500)
    rule: ClosingRule = field(default_factory=ClosingRule)
    provisional: str | None = None
    max_skew: Duration = Duration(5000)
    max_delay: Duration = Duration(15_000)
    horizon: Duration = Duration(60_000)

    def ends_ms(self, event_time_ms: int) -> range:
        """The ends of the windows that hold a moment, earliest first."""
        first = (event_time_ms // self.hop + 1) * self.hop
        return range(first, first + self.size, self.hop)


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one record: the windows it closed, and the reason where it is no evidence or came late."""

    closed: tuple[Window, ...] = ()
    refused: Reason | None = None


@dataclass(slots=True)
class _Held:
    offset: int
    kafka_ms: int
    payload: Any
    takes_back: bool


class _Session:
    """One session's windows; forgets what is older than the horizon."""

    def __init__(self, session_id: str, spec: WindowSpec) -> None:
        self.id, self.spec = session_id, spec
        self.clock = SessionClock(spec.rule, spec.horizon)
        self.open: dict[int, int] = {}  # window end -> Kafka time of its first record
        self.closed: dict[int, int] = {}  # window end -> closing instant
        self.seen: dict[tuple[str, str, int, int], int] = {}  # identity -> Kafka time of its last record, used or not
        self.held: list[_Held] = []
        self.faded: dict[tuple[str, bool], list[tuple[int, int]]] = {}  # see `newest_faded_ms`
        self.heard_ms = 0  # Kafka time of its last evidence: until more comes nothing but time changes
        self.tidied_ms = 0

    def instants_ms(self) -> dict[int, int]:
        """For each open window its closing instant if no further record comes."""
        return {e: self.clock.closes_by_time_ms(e, first, self.heard_ms) for e, first in self.open.items()}

    def repeats(self, payload: Evidence, kafka_ms: int) -> bool:
        """Take note of a record; whether one of its identity, used or not, came within the horizon before it."""
        identity = (payload.modality, payload.source_id, payload.start_ms, payload.end_ms)
        before_ms, self.seen[identity] = self.seen.get(identity), kafka_ms
        return before_ms is not None and before_ms > kafka_ms - self.spec.horizon

    def newest_faded_ms(self, after_ms: int) -> dict[str, int]:
        """By modality the newest event time of evidence that weighs nothing any more, of Kafka times after `after_ms`.

        `faded` has, by modality and whether it takes back, its (Kafka time, event time), only what a later record
        has not surpassed: Kafka times rise, event times fall.
        """
        newest: dict[str, int] = {}
        for (modality, _), times in self.faded.items():
            event_ms = next((event_ms for kafka_ms, event_ms in times if kafka_ms > after_ms), None)
            if event_ms is not None:
                newest[modality] = max(event_ms, newest.get(modality, event_ms))
        return newest

    def take_back(self, modality: str) -> None:
        """Drop what a modality has said; what takes back too stays, so that later windows still tell of it."""
        self.held = [h for h in self.held if h.payload.modality != modality or h.takes_back]
        self.faded.pop((modality, False), None)

    def tidy(self, kafka_ms: int, half_life_ms: Mapping[str, int]) -> None:
        """Drop what no rule can ask for any more."""
        self.tidied_ms = kafka_ms
        old = kafka_ms - self.spec.horizon
        self.seen = {k: t for k, t in self.seen.items() if t > old}
        self.closed = {e: t for e, t in self.closed.items() if t > old}
        earliest_end = min([kafka_ms - self.spec.max_delay, *self.open])

        def reaches(held: _Held) -> bool:
            reach = REACH_HALF_LIVES * half_life_ms.get(held.payload.modality, 0)
            return bool(held.payload.end_ms >= earliest_end - max(reach, self.spec.size))

        for held in self.held:
            if not reaches(held):
                key = (held.payload.modality, held.takes_back)
                self.faded.setdefault(key, []).append((held.kafka_ms, held.payload.end_ms))
        self.held = [h for h in self.held if reaches(h)]
        self.faded = {k: kept for k, times in self.faded.items() if (kept := _unsurpassed(times, old))}


def _unsurpassed(times: list[tuple[int, int]], after_ms: int) -> list[tuple[int, int]]:
    """(Kafka time, event time) after a Kafka time, without those that a later one surpasses; Kafka times rise."""
    kept: list[tuple[int, int]] = []
    for kafka_ms, event_ms in sorted(times, reverse=True):
        if kafka_ms > after_ms and (not kept or event_ms > kept[-1][1]):
            kept.append((kafka_ms, event_ms))
    return kept[::-1]


class PartitionWindows:
    """The windows of one partition: feed it records and ticks in offset order.

    Args:
        spec: sizes and rules.
        half_life_ms: by modality; how fast its evidence fades. A modality without one reaches no later window.
        revokes: whether a payload takes back all earlier evidence of its modality.
    """

    def __init__(self, spec: WindowSpec, half_life_ms: Mapping[str, int], revokes: Callable[[Any], bool]) -> None:
        self._spec, self._half_life_ms, self._revokes = spec, half_life_ms, revokes
        self._sessions: dict[str, _Session] = {}
        self._due: list[tuple[int, str]] = []  # heap; an entry is stale where the session's own due differs
        self._due_of: dict[str, int] = {}
        self._expiries: list[tuple[int, str]] = []  # heap: when to look whether a session is over
        self.kafka_ms = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def next_due_ms(self) -> int | None:
        """The Kafka time at which the next window closes if no record comes: when a tick is due."""
        while self._due and self._due_of.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def tick(self, offset: int, stamp_ms: int) -> Applied:
        """Let Kafka time pass to a record's stamp: windows that are due close, in order of (c, session, end)."""
        self.kafka_ms = max(self.kafka_ms, stamp_ms)
        closing: list[tuple[int, str, int]] = []
        while (due := self.next_due_ms()) is not None and due <= self.kafka_ms:
            session = self._sessions[heapq.heappop(self._due)[1]]
            self._due_of.pop(session.id)
            instants = session.instants_ms()
            closing += [(c, session.id, end) for end, c in instants.items() if c <= self.kafka_ms]
        closed = tuple(self._close(self._sessions[s], end, c, offset) for c, s, end in sorted(closing))
        for session_id in dict.fromkeys(s for _, s, _ in closing):
            self._reschedule(self._sessions[session_id])
        self._expire()
        return Applied(closed)

    def apply(self, offset: int, stamp_ms: int, payload: Evidence) -> Applied:
        """One record: windows due by time close, then it is judged and applied, then windows it completes close."""
        closed = self.tick(offset, stamp_ms).closed
        session, takes_back = self._session(payload.session_id), self._revokes(payload)
        if takes_back:  # whatever its clock says: a withdrawal that is late or repeated takes back, too
            session.take_back(payload.modality)
        if self.kafka_ms >= session.tidied_ms + _TIDY_EVERY_MS:
            session.tidy(self.kafka_ms, self._half_life_ms)
        if session.repeats(payload, self.kafka_ms):
            return Applied(closed, "duplicate")
        if payload.end_ms > self.kafka_ms + self._spec.max_skew:
            return Applied(closed, "clock_skew")
        if payload.end_ms < self.kafka_ms - self._spec.max_delay:
            return Applied(closed, "late")
        session.heard_ms = self.kafka_ms
        session.held.append(_Held(offset, self.kafka_ms, payload, takes_back))
        session.clock.observe(payload.modality, payload.end_ms, self.kafka_ms)
        in_time = [end for end in self._spec.ends_ms(payload.end_ms) if end not in session.closed]
        for end in in_time:
            session.open.setdefault(end, self.kafka_ms)
        reached = [end for end in session.open if session.clock.reached(end, self.kafka_ms)]
        closed += tuple(self._close(session, end, self.kafka_ms, offset) for end in reached)
        self._reschedule(session)
        return Applied(tuple(sorted(closed, key=_departure)), None if in_time else "late")

    def provisional(self, session_id: str) -> Window | None:
        """The earliest-ending open window that holds a session's newest evidence, as it stands now."""
        session = self._sessions.get(session_id)
        if session is None or not session.held:
            return None
        newest = max(session.held, key=lambda h: (h.payload.end_ms, h.offset))
        ends = [end for end in self._spec.ends_ms(newest.payload.end_ms) if end in session.open]
        return self._snapshot(session, ends[0], None, session.held[-1].offset) if ends else None

    def _session(self, session_id: str) -> _Session:
        if session_id not in self._sessions:
            self._sessions[session_id] = _Session(session_id, self._spec)
            heapq.heappush(self._expiries, (self.kafka_ms + self._spec.horizon, session_id))
        return self._sessions[session_id]

    def _reschedule(self, session: _Session) -> None:
        due = min(session.instants_ms().values(), default=None)
        if due is None:
            self._due_of.pop(session.id, None)
        elif self._due_of.get(session.id) != due:
            self._due_of[session.id] = due
            heapq.heappush(self._due, (due, session.id))

    def _expire(self) -> None:
        """Forget sessions without an open window that nothing was heard of for a horizon."""
        while self._expiries and self._expiries[0][0] <= self.kafka_ms:
            _, session_id = heapq.heappop(self._expiries)
            session = self._sessions[session_id]
            session.tidy(self.kafka_ms, self._half_life_ms)
            known = [*session.seen.values(), *session.closed.values(), *(self.kafka_ms for _ in session.open)]
            if known:
                heapq.heappush(self._expiries, (max(known) + self._spec.horizon, session_id))
            else:
                del self._sessions[session_id]

    def _close(self, session: _Session, end_ms: int, instant_ms: int, trigger: int) -> Window:
        window = self._snapshot(session, end_ms, instant_ms, trigger)
        del session.open[end_ms]
        session.closed[end_ms] = instant_ms
        return window

    def _snapshot(self, session: _Session, end_ms: int, closed_at_ms: int | None, trigger: int) -> Window:
        at_ms = self.kafka_ms if closed_at_ms is None else closed_at_ms
        start_ms, source_kafka_ms = end_ms - self._spec.size, 0
        pieces: list[Piece] = []
        newest = session.newest_faded_ms(at_ms - self._spec.horizon)
        for held in session.held:
            payload = held.payload
            age_ms = end_ms - payload.end_ms
            if age_ms <= 0 or held.kafka_ms <= at_ms - self._spec.horizon:
                continue
            newest[payload.modality] = max(payload.end_ms, newest.get(payload.modality, payload.end_ms))
            own = payload.end_ms >= start_ms
            weight = fade(age_ms, self._half_life_ms.get(payload.modality, 0))
            if weight > 0 or own:
                pieces.append(Piece(payload, weight, own, held.offset))
                source_kafka_ms = max(source_kafka_ms, payload.source_kafka_ms)
        final = closed_at_ms is not None
        return Window(
            session.id, start_ms, end_ms, final, closed_at_ms, 0 if final else trigger, tuple(pieces), newest,
            session.clock.active(at_ms), source_kafka_ms, trigger,
        )  # fmt: skip


def _departure(window: Window) -> tuple[int, str, int]:
    """In what order the windows of one trigger leave: by closing instant, session and end."""
    return window.closed_at_ms or 0, window.session_id, window.end_ms
