"""Compare the finals on the topic with the expected ones: lost, repeated, wrong, out of order; gaps and latencies."""

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

EXAMPLES_PRINTED = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The number of expected finals, and of each kind of error.

    `refusals` counts late records and dead letters that are missing, repeated or without cause; `examples` describes
    every error in a line.
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
        """Whether each final is there once, correct and in order."""
        return self.finals > 0 and not any((self.lost, self.repeated, self.wrong, self.disordered, self.refusals))


@dataclass(frozen=True, slots=True)
class ReceivedFinal:
    """A final of a partition, and when (Unix ms) a read_committed consumer received it."""

    partition: int
    event: AffectEvent
    at_ms: int


def judge(expected: Expected, got: Partitions, refused: Iterable[tuple[str, int, int]] = ()) -> Judgement:
    """Compare what is on `affect_events` with what the log of observations demands.

    Lost: expected, or of a window that was never closed, and not on the topic. Repeated: every occurrence of an
    `event_id` after the first. Wrong: the first occurrence differs from the expected final in any field but
    `emitted_at_ms`, or none is expected. Disordered: neighbours in a partition, repeats aside, in the wrong order.

    Args:
        expected: the oracle's finals and refusals.
        got: the finals on the topic.
        refused: (topic, partition, offset) of the observations that `late_records` and `dead_letters` name.
    """
    finals = lost = repeated = wrong = disordered = 0
    examples: list[str] = []
    for partition in sorted(expected.finals.keys() | got.keys()):
        due = {event.event_id: event for event in expected.finals.get(partition, ())}
        position = {event_id: n for n, event_id in enumerate(due)}
        first = {event.event_id: event for event in reversed(got.get(partition, ()))}
        missing = [i for i in (*due, *expected.open.get(partition, ())) if i not in first]
        again = _duplicates(event.event_id for event in got.get(partition, ()))
        differing = [i for i, event in first.items() if i not in due or _comparable(event) != _comparable(due[i])]
        in_order = [i for i in dict.fromkeys(e.event_id for e in got.get(partition, ())) if i in position]
        swapped = [b for a, b in pairwise(in_order) if position[a] > position[b]]
        finals, lost, repeated = finals + len(due), lost + len(missing), repeated + len(again)
        wrong, disordered = wrong + len(differing), disordered + len(swapped)
        examples += [f"[{partition}] lost {i}" for i in missing]
        examples += [f"[{partition}] repeated {i}" for i in again]
        examples += [f"[{partition}] wrong {i}: {_difference(due.get(i), first[i])}" for i in differing]
        examples += [f"[{partition}] too late in the order {i}" for i in swapped]
    there = list(refused)
    errors = [
        *((refusal, "missing") for refusal in expected.refusals - set(there)),
        *((refusal, "without cause") for refusal in set(there) - expected.refusals),
        *((refusal, "repeated") for refusal in _duplicates(there)),
    ]
    examples += [f"{error} in {topic}: [{partition}]@{offset}" for (topic, partition, offset), error in errors]
    return Judgement(finals, lost, repeated, wrong, disordered, len(errors), tuple(examples))


def longest_gap_s(received: Sequence[ReceivedFinal], from_ms: int, to_ms: int) -> float:
    """The longest time, in seconds, without a new final in a partition between two moments (Unix ms)."""
    gaps = []
    for partition in {r.partition for r in received}:
        moments = [r.at_ms for r in received if r.partition == partition and from_ms < r.at_ms < to_ms]
        gaps += [b - a for a, b in pairwise([from_ms, *moments, to_ms])]
    return round(max(gaps, default=to_ms - from_ms) / 1000, 2)


def closing_to_readable(received: Sequence[ReceivedFinal]) -> Spread:
    """Milliseconds from each final's closing instant until it was received for the first time."""
    first = {r.event.event_id: r for r in reversed(received)}
    return spread([r.at_ms - r.event.closed_at_ms for r in first.values() if r.event.closed_at_ms is not None], 0)


def _duplicates(items: Iterable[T]) -> list[T]:
    """Every occurrence of an item after the first."""
    return [item for item, n in Counter(items).items() for _ in range(n - 1)]


def _comparable(event: AffectEvent) -> AffectEvent:
    return msgspec.structs.replace(event, emitted_at_ms=0)


def _difference(expected: AffectEvent | None, got: AffectEvent) -> str:
    if expected is None:
        return "nobody expected it"
    names = [n for n in got.__struct_fields__ if n != "emitted_at_ms" and getattr(expected, n) != getattr(got, n)]
    return ", ".join(f"{n} {getattr(got, n)!r}, expected {getattr(expected, n)!r}" for n in names)[:500]
