"""What should have come out and what did, in; lost, repeated, wrong and disordered finals, gaps and latencies out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import msgspec

from benchmarks.faults.expected import Expected
from benchmarks.latency import Spread, spread
from operators.payloads import AffectEvent

Partitions = Mapping[int, Sequence[AffectEvent]]
"""The finals of each partition in the order of its log."""

EXAMPLES = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judgement:
    """Finals that should be there and what is amiss with those that are.

    `refusals` counts late records and dead letters that are missing, repeated or without cause; `examples` names what
    is amiss, for people.
    """

    finals: int
    lost: int
    repeated: int
    wrong: int
    disordered: int
    refusals: int = 0
    examples: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether each final is there once, right and in its place."""
        return self.finals > 0 and not any((self.lost, self.repeated, self.wrong, self.disordered, self.refusals))


@dataclass(frozen=True, slots=True)
class Seen:
    """A final of a partition, and when (Unix ms) a read_committed consumer had it."""

    partition: int
    event: AffectEvent
    at_ms: int


def judge(expected: Expected, got: Partitions, refused: Iterable[tuple[str, int, int]] = ()) -> Judgement:
    """Compare what is on `affect_events` with what the log of observations demands.

    Lost: expected, or of a window that nothing closed, and not there. Repeated: there more than once, each time beyond
    the first. Wrong: the first of an `event_id` differs from the one expected in any field but `emitted_at_ms`, or
    nobody expected it. Disordered: among first ones, neighbours in a partition that stand the wrong way round.

    Args:
        expected: what the oracle says.
        got: what is there.
        refused: (topic, partition, offset) of what `late_records` and `dead_letters` tell of.
    """
    finals = lost = repeated = wrong = disordered = 0
    told: list[str] = []
    for partition in sorted(expected.finals.keys() | got.keys()):
        due = {event.event_id: event for event in expected.finals.get(partition, ())}
        place = {event_id: n for n, event_id in enumerate(due)}
        first = {event.event_id: event for event in reversed(got.get(partition, ()))}
        missing = [i for i in (*due, *expected.open.get(partition, ())) if i not in first]
        again = _again(event.event_id for event in got.get(partition, ()))
        differing = [i for i, event in first.items() if i not in due or _what(event) != _what(due[i])]
        in_order = [i for i in dict.fromkeys(e.event_id for e in got.get(partition, ())) if i in place]
        swapped = [b for a, b in pairwise(in_order) if place[a] > place[b]]
        finals, lost, repeated = finals + len(due), lost + len(missing), repeated + len(again)
        wrong, disordered = wrong + len(differing), disordered + len(swapped)
        told += [f"[{partition}] lost {i}" for i in missing]
        told += [f"[{partition}] repeated {i}" for i in again]
        told += [f"[{partition}] wrong {i}: {_difference(due.get(i), first[i])}" for i in differing]
        told += [f"[{partition}] too late in the order {i}" for i in swapped]
    there = list(refused)
    untold, causeless, twice = expected.refusals - set(there), set(there) - expected.refusals, _again(there)
    told += [f"{what} in {r[0]}: [{r[1]}]@{r[2]}" for r, what in _named(untold, causeless, twice)]
    amiss = len(untold) + len(causeless) + len(twice)
    return Judgement(finals, lost, repeated, wrong, disordered, amiss, tuple(told))


def longest_gap_s(seen: Sequence[Seen], from_ms: int, to_ms: int) -> float:
    """The longest time, in seconds, that a partition showed no new final between two moments (Unix ms)."""
    gaps = []
    for partition in {s.partition for s in seen}:
        moments = [s.at_ms for s in seen if s.partition == partition and from_ms < s.at_ms < to_ms]
        gaps += [b - a for a, b in pairwise([from_ms, *moments, to_ms])]
    return round(max(gaps, default=to_ms - from_ms) / 1000, 2)


def waits(seen: Sequence[Seen]) -> Spread:
    """Milliseconds from each final's closing instant until it could be read, the first time."""
    first = {s.event.event_id: s for s in reversed(seen)}
    return spread([s.at_ms - s.event.closed_at_ms for s in first.values() if s.event.closed_at_ms is not None], 0)


def _again(of: Iterable[T]) -> list[T]:
    """Each beyond its first time."""
    return [one for one, n in Counter(of).items() for _ in range(n - 1)]


def _named(untold: Iterable[T], causeless: Iterable[T], twice: Iterable[T]) -> list[tuple[T, str]]:
    named = [(r, "missing") for r in untold] + [(r, "without cause") for r in causeless]
    return named + [(r, "repeated") for r in twice]


def _what(event: AffectEvent) -> AffectEvent:
    return msgspec.structs.replace(event, emitted_at_ms=0)


def _difference(expected: AffectEvent | None, got: AffectEvent) -> str:
    if expected is None:
        return "nobody expected it"
    names = [n for n in got.__struct_fields__ if n != "emitted_at_ms" and getattr(expected, n) != getattr(got, n)]
    return ", ".join(f"{n} {getattr(got, n)!r}, expected {getattr(expected, n)!r}" for n in names)[:500]
