"""Compute latencies from the times of sent and received records, and stage times and counts from worker reports."""

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
from streamer.payloads import WorkerReport, decode
from streamer.topology.topology import Topology

TOPICS = ("affect_live", "affect_events", "ranked_items", "worker_reports")
POLL_MS = 100
NOT_DROPS = frozenset(
    {"read", "processed", "written", "finals", "provisionals", "ticks", "withheld", "no_face", "no_speech"}
)
"""Counts of a worker report that are not of dropped or refused records."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of durations in ms: quantiles, maximum, number, and how many never ended (`missing`)."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int
    missing: int


@dataclass(slots=True)
class Received:
    """The records received; events and lists each with the Unix ms at which a read_committed consumer received them."""

    affect: list[tuple[int, AffectEvent]] = field(default_factory=list)
    ranked: list[tuple[int, RankedList]] = field(default_factory=list)
    reports: list[WorkerReport] = field(default_factory=list)


async def receive(
    topology: Topology, broker: Broker, clock: Clock, ready: asyncio.Event, stop: asyncio.Event
) -> Received:
    """Read what the pipeline writes until `stop`; sets `ready` once the consumer is at the end of each topic."""
    consumer = broker.consumer(TOPICS, group=None, start_at="latest")
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
    finally:
        await consumer.stop()
    return got


def latencies(sent: Mapping[str, Sent], got: Received, from_ms: int) -> dict[str, Spread]:
    """Measure the four latencies over what was sent at or after `from_ms` (Unix ms).

    A frame or chat line has arrived with the first event, provisional or final, whose newest evidence of that modality
    is not older than it. So the latency of a frame that was dropped for a newer one is that of the newer one.
    """
    frames, chats = [], []
    for session, each in sent.items():
        events = [(at, e) for at, e in got.affect if e.session_id == session]
        frames.append(_waits([t for t in each.frames if t >= from_ms], _newest_evidence(events, "face")))
        chats.append(_waits([t for t in each.chats if t >= from_ms], _newest_evidence(events, "text")))
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
    """Pool the stages' latencies (ms) by operator: count, count-weighted means of the reports' p50 and p95, maximum."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for report in reports:
        if report.event_time_ms >= from_ms:
            for stage, summary in report.latency_ms.items():
                found.setdefault(report.operator, {}).setdefault(stage, []).append(summary)
    return {o: {s: _pooled(each) for s, each in sorted(by.items())} for o, by in sorted(found.items())}


def counts(reports: Iterable[WorkerReport], from_ms: int) -> dict[str, dict[str, int]]:
    """Sum the counts of the reports by operator."""
    total: dict[str, Counter[str]] = {}
    for report in reports:
        if report.event_time_ms >= from_ms:
            total.setdefault(report.operator, Counter()).update(report.counts)
    return {name: dict(sorted(each.items())) for name, each in sorted(total.items())}


def spread(values: Sequence[float], missing: int) -> Spread:
    """Summarise durations in ms; all 0 where there is none."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0.0, 0, missing)
    p50, p95, p99 = (round(float(q), 1) for q in np.quantile(values, [0.5, 0.95, 0.99]))
    return Spread(p50, p95, p99, float(max(values)), len(values), missing)


def _newest_evidence(events: Iterable[tuple[int, AffectEvent]], modality: str) -> list[tuple[int, int]]:
    """When each event with newer evidence of the modality was received, and the event time of that evidence."""
    updates: list[tuple[int, int]] = []
    for at, event in events:
        state = event.modalities.get(modality)
        newest = state.newest_ms if state is not None else None
        if newest is not None and (not updates or newest > updates[-1][1]):
            updates.append((at, newest))
    return updates


def _waits(sent_ms: Iterable[int], updates: Sequence[tuple[int, int]]) -> tuple[list[float], int]:
    """The time from each event time (ascending) to the first update that is not older, and how many have none."""
    waits: list[float] = []
    missing = index = 0
    for at_ms in sent_ms:
        while index < len(updates) and updates[index][1] < at_ms:
            index += 1
        if index < len(updates):
            waits.append(updates[index][0] - at_ms)
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
