"""Replay one session in real time on Kafka and once more file to file, and compare the finals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.live_pipeline import LivePipeline, live_pipeline
from benchmarks.sessions.observed import closed_windows, evidence_modalities, finals, fuser_of, observe
from operators.payloads import AffectEvent, Consent
from streamer.brokers.embedded.jars import Progress
from streamer.errors import StreamerError
from streamer.payloads import decode
from streamer.recordings.replay import replay_live, session_events
from streamer.settings import Settings
from streamer.topology.reading import load_topology

TOLERANCE = 0.02
QUIET_S = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of windows by how the finals of the two runs compare, and the differences of their probabilities.

    `within` counts windows in which no probability differs by more than TOLERANCE. The runs can differ in the
    observations that reach the topic before a window closes, since Kafka time is real in one of them only.
    """

    session: str
    live_windows: int
    simulated_windows: int
    in_both: int
    same_top: int
    within: int
    abstained_in_one: int
    largest_difference: float
    median_difference: float


async def live_agreement(session: Path, topology_path: Path, settings: Settings, progress: Progress) -> Agreement:
    """Replay a session in real time and simulated with the same start, and compare the finals window by window.

    Raises:
        StreamerError: Kafka or the pipeline could not be started, or the pipeline ended early.
    """
    topology = load_topology(topology_path)
    async with live_pipeline(topology_path, settings, queue_all=True, progress=progress) as pipeline:
        collecting = asyncio.create_task(_collect(pipeline))
        events = session_events(session, evidence_modalities(topology))
        async for event in replay_live(events, session.name, topology, pipeline.broker):
            progress(f"{session.name} live, {event.at_ms // 1000} s", None)
        live, start_ms = await collecting
    settings = settings.model_copy(update={"queue": "all"})
    log = await observe(session, topology, settings, start_ms)
    fuser, spec = fuser_of(topology, settings)
    simulated = {e.window_end_ms: e for e in await finals(closed_windows(log, topology, spec, fuser), fuser)}
    return compare(session.name, live, simulated)


def compare(session: str, live: Mapping[int, AffectEvent], simulated: Mapping[int, AffectEvent]) -> Agreement:
    """Compare two runs, each given as finals by window end."""
    both = sorted(live.keys() & simulated.keys())
    differences, same_top, one_sided = [], 0, 0
    for end in both:
        a, b = live[end].emotions, simulated[end].emotions
        if not a or not b:
            one_sided += bool(a) != bool(b)
            if not a and not b:
                same_top += 1
                differences.append(0.0)
            continue
        same_top += max(a, key=lambda n: a[n]) == max(b, key=lambda n: b[n])
        differences.append(max(abs(a.get(n, 0.0) - b.get(n, 0.0)) for n in a.keys() | b.keys()))
    return Agreement(
        session,
        len(live),
        len(simulated),
        len(both),
        same_top,
        sum(d <= TOLERANCE for d in differences),
        one_sided,
        max(differences, default=0.0),
        sorted(differences)[len(differences) // 2] if differences else 0.0,
    )


async def _collect(pipeline: LivePipeline) -> tuple[dict[int, AffectEvent], int]:
    """Collect finals by window end until none has come for `QUIET_S`; also the session's start (Unix ms)."""
    consumer = pipeline.broker.consumer(["affect_events", "consents"], group=None)
    await consumer.start()
    found: dict[int, AffectEvent] = {}
    start_ms: int | None = None
    try:
        idle_s = 0.0
        while idle_s < QUIET_S or start_ms is None:
            messages = await consumer.poll(500, timeout_ms=500)
            idle_s = 0.0 if messages or not found else idle_s + 0.5
            for message in messages:
                if message.topic == "consents":
                    start_ms = decode(message.value, Consent).event_time_ms
                else:
                    event = decode(message.value, AffectEvent)
                    found.setdefault(event.window_end_ms, event)
            if pipeline.process.status() == "zombie":
                raise StreamerError("the pipeline ended early:\n" + "\n".join(pipeline.log_lines[-20:]))
    finally:
        await consumer.stop()
    return found, start_ms
