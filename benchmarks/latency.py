"""What was sent and what came back, with when, in; latencies out, and what the workers say of their own stages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.p95.load import Sent
from operators.payloads import AffectEvent, RankedList
from streamer.broker import Broker
from streamer.event_time import Clock
from streamer.payloads import DeadLetter, WorkerReport, decode
from streamer.topology.topology import Topology

WATCHED = ("affect_live", "affect_events", "ranked_items", "worker_reports", "late_records", "dead_letters")
POLL_MS = 100
NOT_DROPS = frozenset(
    {"read", "processed", "written", "finals", "provisionals", "ticks", "withheld", "no_face", "no_speech"}
)
"""Counts of a worker report that don't say that a record was dropped or refused."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds: quantiles, maximum, how many were measured, and how many were waited for in vain."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int
    missing: int


@dataclass(slots=True)
class Received:
    """Everything that came back, each with the Unix milliseconds at which a read_committed consumer had it."""

    affect: list[tuple[int, AffectEvent]] = field(default_factory=list)
    ranked: list[tuple[int, RankedList]] = field(default_factory=list)
    reports: list[WorkerReport] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


async def receive(
    topology: Topology, broker: Broker, clock: Clock, ready: asyncio.Event, stop: asyncio.Event
) -> Received:
    """Read what the pipeline writes from now on until `stop`; `ready` is set once nothing more can be missed."""
    consumer = broker.consumer(WATCHED, group=None, start_at="latest")
    await consumer.start()
    await consumer.end_offsets()
    await consumer.poll(1, POLL_MS)
    ready.set()
    got = Received()
    try:
        while not stop.is_set():
            messages = await consumer.poll(500, POLL_MS)
            now_ms = clock.now_ms()
            for message in messages:
                payload = decode(message.value, topology.topics[message.topic].type)
                match payload:
                    case AffectEvent():
                        got.affect.append((now_ms, payload))
                    case RankedList():
                        got.ranked.append((now_ms, payload))
                    case WorkerReport():
                        got.reports.append(payload)
                    case DeadLetter():
                        got.letters.append(payload)
    finally:
        await consumer.stop()
    return got


def latencies(sent: Mapping[str, Sent], got: Received, from_ms: int) -> dict[str, Spread]:
    """The four paths, over what was sent at or after `from_ms` (Unix milliseconds).

    A frame or chat line has arrived with the first event, provisional or final, whose newest evidence of that modality
    is not older than it: where it was passed over for a newer one, the wait for that one counts.
    """
    frames, chats = [], []
    for session, each in sent.items():
        events = [(at, e) for at, e in got.affect if e.session_id == session]
        frames.append(_waits([t for t in each.frames if t >= from_ms], _newest(events, "face")))
        chats.append(_waits([t for t in each.chats if t >= from_ms], _newest(events, "text")))
    finals = {e.event_id: at - e.closed_at_ms for at, e in reversed(got.affect) if e.closed_at_ms and e.final}
    recent = {e.event_id for _, e in got.affect if e.closed_at_ms and e.closed_at_ms >= from_ms}
    answered: dict[str, int] = {}
    for at, ranked in got.ranked:
        answered.setdefault(ranked.request_id, at)
    asked = {r: t for each in sent.values() for r, t in each.requests.items() if t >= from_ms}
    return {
        "frame_to_affect_live": spread(*_joined(frames)),
        "chat_to_affect_live": spread(*_joined(chats)),
        "closing_to_final": spread([w for e, w in finals.items() if e in recent], 0),
        "candidates_to_ranked": spread(
            [answered[r] - t for r, t in asked.items() if r in answered], sum(r not in answered for r in asked)
        ),
    }


def stages(reports: Iterable[WorkerReport], from_ms: int) -> dict[str, dict[str, dict[str, float]]]:
    """By operator and stage: how many, the count-weighted means of the seconds' p50 and p95, and the maximum, in ms."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for report in reports:
        if report.event_time_ms >= from_ms:
            for stage, summary in report.latency_ms.items():
                found.setdefault(report.operator, {}).setdefault(stage, []).append(summary)
    return {o: {s: _pooled(each) for s, each in sorted(by.items())} for o, by in sorted(found.items())}


def counts(reports: Iterable[WorkerReport], from_ms: int) -> dict[str, dict[str, int]]:
    """By operator: what its reports counted."""
    total: dict[str, Counter[str]] = {}
    for report in reports:
        if report.event_time_ms >= from_ms:
            total.setdefault(report.operator, Counter()).update(report.counts)
    return {name: dict(sorted(each.items())) for name, each in sorted(total.items())}


def spread(values: Sequence[float], missing: int) -> Spread:
    """Durations in milliseconds to their quantiles; all 0 where there is none."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0.0, 0, missing)
    p50, p95, p99 = (round(float(q), 1) for q in np.quantile(values, [0.5, 0.95, 0.99]))
    return Spread(p50, p95, p99, float(max(values)), len(values), missing)


def _newest(events: Iterable[tuple[int, AffectEvent]], modality: str) -> list[tuple[int, int]]:
    """When each event came, and the newest evidence of a modality told by then: both rise."""
    told: list[tuple[int, int]] = []
    for at, event in events:
        reading = event.modalities.get(modality)
        newest = reading.newest_ms if reading is not None else None
        if newest is not None and (not told or newest > told[-1][1]):
            told.append((at, newest))
    return told


def _waits(moments: Iterable[int], told: Sequence[tuple[int, int]]) -> tuple[list[float], int]:
    """How long each moment (rising) waited for the first telling that reaches it, and how many wait still."""
    waits: list[float] = []
    missing = place = 0
    for moment in moments:
        while place < len(told) and told[place][1] < moment:
            place += 1
        if place < len(told):
            waits.append(told[place][0] - moment)
        else:
            missing += 1
    return waits, missing


def _joined(parts: Iterable[tuple[list[float], int]]) -> tuple[list[float], int]:
    values: list[float] = []
    missing = 0
    for waits, none in parts:
        values += waits
        missing += none
    return values, missing


def _pooled(summaries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total = sum(s["count"] for s in summaries)
    mean = {q: round(sum(s[q] * s["count"] for s in summaries) / max(total, 1), 2) for q in ("p50", "p95")}
    return {"count": total, **mean, "max": round(max(s["max"] for s in summaries), 2)}
