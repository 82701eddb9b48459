"""A slow oracle of DESIGN §5: a whole partition's log in; every final, refusal and closing instant it must give out.

It is written from the rules, not from the code under test, of which it imports nothing but payloads. It looks at the
log as a whole and asks of each window, each record and each Kafka time what the rules ask. Times are int milliseconds.

    log = [Entry(offset, stamp_ms, payload), ...]          # one partition, in offset order; see `Entry`
    rules = Rules(sparse=frozenset({"text"}), half_life_ms={"face": 1000, "voice": 2000, "text": 4000})
    finals = finals_of(log, rules)                         # in the order in which they must leave the partition
    reading = reading_of(log, rules)                       # also: refusals by offset, raising offsets, what still waits

`tests/streamer/windowing/oracle_affect.py` turns a final into the AffectEvent that `fuse_affect` must write.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_ALLOWED = ("no_consent", "minor", "age_not_said", "switched_off")
REACH_HALF_LIVES = 5


def takes_back(payload: Any) -> bool:
    """Whether an observation says that its modality may not be read: it drops that modality's earlier evidence."""
    return bool(payload.absent and payload.reason in NOT_ALLOWED)


@dataclass(frozen=True)
class Entry:
    """One record of the log: its offset, its LogAppendTime, and its observation.

    `payload` None is a tick, or any other record without an observation: its stamp counts as Kafka time, too.
    """

    offset: int
    stamp_ms: int
    payload: Any = None


@dataclass(frozen=True)
class Rules:
    """The numbers of a topology's window, in milliseconds; `revokes` says which payload takes back what was said."""

    size: int = 2000
    hop: int = 500
    lateness: int = 150
    idle_after: int = 1000
    max_open: int = 5000
    sparse: frozenset[str] = frozenset()
    max_skew: int = 5000
    max_delay: int = 15_000
    horizon: int = 60_000
    half_life_ms: Mapping[str, int] = field(default_factory=dict)
    revokes: Callable[[Any], bool] = takes_back


@dataclass(frozen=True)
class Final:
    """A window as it must be closed.

    `trigger` is an offset, `closed_at_ms` the closing instant c; `evidence` is (offset, weight, own) in offset order;
    `newest_ms` the newest event time of each modality's evidence before the window's end; `active` those active at c.
    """

    trigger: int
    closed_at_ms: int
    session_id: str
    window_start_ms: int
    window_end_ms: int
    evidence: tuple[tuple[int, float, bool], ...]
    active: frozenset[str]
    newest_ms: Mapping[str, int]


@dataclass(frozen=True)
class Reading:
    """All that a log says: `waiting` are (c, session, window end) of windows that no record of the log closes.

    `heard` are the offsets of what is evidence at all: `refused` says `late` of what is too old for that and of what
    only came after its windows alike. `completed` are the (session, window end) that their trigger, applied, closed.
    """

    finals: list[Final]
    refused: dict[int, str]
    heard: frozenset[int]
    raising: frozenset[int]
    completed: frozenset[tuple[str, int]]
    waiting: list[tuple[int, str, int]]


@dataclass(frozen=True)
class _Heard:
    """An observation that is evidence: neither a repeat nor refused; `index` is its place in the log."""

    index: int
    offset: int
    kafka_ms: int
    event_ms: int
    payload: Any


@dataclass(frozen=True)
class _Raises:
    """After some record: (Kafka time, event time) of each modality's last raise, and of the session's, and whose."""

    by_modality: Mapping[str, tuple[int, int]]
    last: tuple[int, int, str]


@dataclass(frozen=True)
class _Closing:
    first: int
    last: int  # index into the session's records of the last one applied
    instant_ms: int
    trigger: int | None
    applied: bool


def finals_of(log: Sequence[Entry], rules: Rules) -> list[Final]:
    """One partition's log, in offset order, to its finals in the order (trigger offset, c, session, window end)."""
    return reading_of(log, rules).finals


def reading_of(log: Sequence[Entry], rules: Rules) -> Reading:
    """One partition's log to all that the rules say of it."""
    kafka_ms = _kafka_times(log)
    refused = _unfit(log, kafka_ms, rules)
    sessions: dict[str, list[_Heard]] = defaultdict(list)
    for i, entry in enumerate(log):
        if entry.payload is not None and entry.offset not in refused:
            one = _Heard(i, entry.offset, kafka_ms[i], entry.payload.end_ms, entry.payload)
            sessions[entry.payload.session_id].append(one)
    finals: list[Final] = []
    waiting: list[tuple[int, str, int]] = []
    raising: set[int] = set()
    completed: set[tuple[str, int]] = set()
    for session_id, records in sessions.items():
        heard = tuple(records)
        raises = _raising(heard, rules)
        raising |= raises
        standing = _standing(heard, raises)
        withdrawals = _withdrawals(session_id, log, rules)
        closings = {
            end: _closing(end, heard, standing, log, kafka_ms, rules)
            for end in sorted({end for h in heard for end in _ends(h.event_ms, rules)})
        }
        for one in heard:
            if all(_is_past(closings[end], one.offset) for end in _ends(one.event_ms, rules)):
                refused[one.offset] = "late"
        completed |= {(session_id, end) for end, closing in closings.items() if closing.applied}
        for end, closing in closings.items():
            if closing.trigger is None:
                waiting.append((closing.instant_ms, session_id, end))
            else:
                finals.append(_final(session_id, end, closing, heard, standing[closing.last], withdrawals, rules))
    finals.sort(key=lambda f: (f.trigger, f.closed_at_ms, f.session_id, f.window_end_ms))
    evidence = frozenset(h.offset for records in sessions.values() for h in records)
    return Reading(finals, refused, evidence, frozenset(raising), frozenset(completed), sorted(waiting))


def _kafka_times(log: Sequence[Entry]) -> list[int]:
    """A record's Kafka time is the running maximum of its partition's LogAppendTime."""
    times: list[int] = []
    for entry in log:
        times.append(max([entry.stamp_ms, *times[-1:]]))
    return times


def _unfit(log: Sequence[Entry], kafka_ms: Sequence[int], rules: Rules) -> dict[int, str]:
    """Offset to reason of what is no evidence.

    A repeat has the identity of any record of the session, used or not, with Kafka time in (own - horizon, own].
    """
    reasons: dict[int, str] = {}
    last: dict[tuple[str, str, str, int, int], int] = {}
    for entry, now_ms in zip(log, kafka_ms, strict=True):
        o = entry.payload
        if o is None:
            continue
        identity = (o.session_id, o.modality, o.source_id, o.start_ms, o.end_ms)
        if identity in last and last[identity] > now_ms - rules.horizon:
            reasons[entry.offset] = "duplicate"
        elif o.end_ms > now_ms + rules.max_skew:
            reasons[entry.offset] = "clock_skew"
        elif o.end_ms < now_ms - rules.max_delay:
            reasons[entry.offset] = "late"
        last[identity] = now_ms
    return reasons


def _ends(event_ms: int, rules: Rules) -> list[int]:
    """The ends of the half-open windows [end - size, end) at multiples of hop that hold a moment."""
    near = range(event_ms // rules.hop, (event_ms + rules.size) // rules.hop + 1)
    return [n * rules.hop for n in near if n * rules.hop - rules.size <= event_ms < n * rules.hop]


def _raising(heard: Sequence[_Heard], rules: Rules) -> set[int]:
    """Offsets that raise: newer in event time than all of their modality with Kafka time in (own - horizon, own]."""
    raises: set[int] = set()
    for modality in {h.payload.modality for h in heard}:
        own = [h for h in heard if h.payload.modality == modality]
        times, events = [h.kafka_ms for h in own], [h.event_ms for h in own]
        for i, h in enumerate(own):
            before = events[bisect_right(times, h.kafka_ms - rules.horizon) : i]
            if not before or h.event_ms > max(before):
                raises.add(h.offset)
    return raises


def _standing(heard: Sequence[_Heard], raises: set[int]) -> list[_Raises]:
    """After each record of a session: who raised last, and when."""
    standing: list[_Raises] = []
    for h in heard:
        if h.offset in raises:
            before = standing[-1].by_modality if standing else {}
            now = (h.kafka_ms, h.event_ms)
            standing.append(_Raises({**before, h.payload.modality: now}, (*now, h.payload.modality)))
        else:
            standing.append(standing[-1])  # a session's first record raises
    return standing


def _active(raises: _Raises, at_ms: int, rules: Rules) -> frozenset[str]:
    """The modalities, sparse ones apart, that raised within (at - idle_after, at]."""
    return frozenset(
        modality
        for modality, (kafka_ms, _) in raises.by_modality.items()
        if modality not in rules.sparse and at_ms - rules.idle_after < kafka_ms <= at_ms
    )


def _reached(end: int, raises: _Raises, active: frozenset[str], rules: Rules) -> bool:
    return all(raises.by_modality[modality][1] >= end + rules.lateness for modality in active)


def _alone_ms(end: int, raises: _Raises, rules: Rules) -> int:
    """K + max(w, window_end + lateness - E): when a window closes with no modality active."""
    kafka_ms, event_ms, modality = raises.last
    wait = 0 if modality in rules.sparse else rules.idle_after
    return kafka_ms + max(wait, end + rules.lateness - event_ms)


def _closes_at(end: int, at_ms: int, first_ms: int, raises: _Raises, rules: Rules) -> bool:
    """The closing rule, asked at one Kafka time, with no further record known."""
    if at_ms >= first_ms + rules.max_open:
        return True
    active = _active(raises, at_ms, rules)
    return _reached(end, raises, active, rules) if active else at_ms >= _alone_ms(end, raises, rules)


def _instant_ms(end: int, from_ms: int, first_ms: int, raises: _Raises, rules: Rules) -> int:
    """The first Kafka time from `from_ms` on at which the rule holds: it can only begin to at one of these."""
    expiries = [kafka_ms + rules.idle_after for kafka_ms, _ in raises.by_modality.values()]
    candidates = [from_ms, *expiries, _alone_ms(end, raises, rules), first_ms + rules.max_open]
    return min(at for at in candidates if at >= from_ms and _closes_at(end, at, first_ms, raises, rules))


def _closing(
    end: int,
    heard: Sequence[_Heard],
    standing: Sequence[_Raises],
    log: Sequence[Entry],
    kafka_ms: Sequence[int],
    rules: Rules,
) -> _Closing:
    """A window's closing instant and trigger: from its first record on, after each record of the session.

    Either a record completes it (every active modality has reached its end + lateness, the record applied), or time
    does: at the first later record of the partition, of whatever session, that is not before the instant.
    """
    first = next(i for i, h in enumerate(heard) if end - rules.size <= h.event_ms < end)
    first_ms, instant = heard[first].kafka_ms, 0
    for i in range(first, len(heard)):
        here, raises = heard[i], standing[i]
        active = _active(raises, here.kafka_ms, rules)
        if active and _reached(end, raises, active, rules):
            return _Closing(first, i, here.kafka_ms, here.offset, applied=True)
        instant = _instant_ms(end, here.kafka_ms, first_ms, raises, rules)
        shown = bisect_left(kafka_ms, instant, lo=here.index + 1)
        following = heard[i + 1].index if i + 1 < len(heard) else len(log) - 1
        if shown <= following:
            return _Closing(first, i, instant, log[shown].offset, applied=False)
    return _Closing(first, len(heard) - 1, instant, None, applied=False)


def _is_past(closing: _Closing, offset: int) -> bool:
    """Whether a window was closed before the record at this offset was applied."""
    if closing.trigger is None:
        return False
    return offset > closing.trigger or (offset == closing.trigger and not closing.applied)


def _final(
    session_id: str,
    end: int,
    closing: _Closing,
    heard: Sequence[_Heard],
    raises: _Raises,
    withdrawals: Sequence[tuple[int, str]],
    rules: Rules,
) -> Final:
    oldest = bisect_right([h.kafka_ms for h in heard], closing.instant_ms - rules.horizon)
    known = [h for h in heard[oldest : closing.last + 1] if h.event_ms < end]
    taken_back = {m: offset for offset, m in withdrawals if not _is_past(closing, offset)}  # the last of each modality
    kept = [h for h in known if rules.revokes(h.payload) or taken_back.get(h.payload.modality, -1) < h.offset]
    evidence: list[tuple[int, float, bool]] = []
    for h in kept:
        half_life, age = rules.half_life_ms.get(h.payload.modality, 0), end - h.event_ms
        weight = 2.0 ** (-age / half_life) if 0 < half_life and age <= REACH_HALF_LIVES * half_life else 0.0
        own = h.event_ms >= end - rules.size
        if own or weight > 0:
            evidence.append((h.offset, weight, own))
    modalities = {h.payload.modality for h in kept}
    newest = {m: max(h.event_ms for h in kept if h.payload.modality == m) for m in sorted(modalities)}
    return Final(
        closing.trigger if closing.trigger is not None else -1,
        closing.instant_ms,
        session_id,
        end - rules.size,
        end,
        tuple(evidence),
        _active(raises, closing.instant_ms, rules),
        newest,
    )


def _withdrawals(session_id: str, log: Sequence[Entry], rules: Rules) -> list[tuple[int, str]]:
    """(offset, modality) of what takes back in a session, be it refused or a repeat itself."""
    return [
        (entry.offset, entry.payload.modality)
        for entry in log
        if entry.payload is not None and entry.payload.session_id == session_id and rules.revokes(entry.payload)
    ]
