"""One session at the media's pace on a real Kafka, and the same file to file: do both give the same finals?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.real_path import RealPath, real_path
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
    """How the finals of the two runs compare; `within` counts windows with no probability further apart than TOLERANCE.

    Live runs differ in which observations reach the log before a window closes: Kafka time is real there.
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
    """Replay a session live and simulated with the same start, and compare the finals window by window.

    Raises:
        StreamerError: no Kafka, no pipeline, or nothing came out.
    """
    topology = load_topology(topology_path)
    async with real_path(topology_path, settings, queue_all=True, progress=progress) as path:
        collecting = asyncio.create_task(_collect(path))
        events = session_events(session, evidence_modalities(topology))
        async for event in replay_live(events, session.name, topology, path.broker):
            progress(f"{session.name} live, {event.at_ms // 1000} s", None)
        live, start_ms = await collecting
    settings = settings.model_copy(update={"queue": "all"})
    log = await observe(session, topology, settings, start_ms)
    fuser, spec = fuser_of(topology, settings)
    simulated = {e.window_end_ms: e for e in await finals(closed_windows(log, topology, spec, fuser), fuser)}
    return compare(session.name, live, simulated)


def compare(session: str, live: Mapping[int, AffectEvent], simulated: Mapping[int, AffectEvent]) -> Agreement:
    """Finals by window end of both runs to their agreement."""
    both = sorted(live.keys() & simulated.keys())
    gaps, same_top, one_sided = [], 0, 0
    for end in both:
        ours, theirs = live[end].emotions, simulated[end].emotions
        if not ours or not theirs:
            one_sided += bool(ours) != bool(theirs)
            if not ours and not theirs:
                same_top += 1
                gaps.append(0.0)
            continue
        same_top += max(ours, key=lambda n: ours[n]) == max(theirs, key=lambda n: theirs[n])
        gaps.append(max(abs(ours.get(n, 0.0) - theirs.get(n, 0.0)) for n in ours.keys() | theirs.keys()))
    return Agreement(
        session,
        len(live),
        len(simulated),
        len(both),
        same_top,
        sum(g <= TOLERANCE for g in gaps),
        one_sided,
        max(gaps, default=0.0),
        sorted(gaps)[len(gaps) // 2] if gaps else 0.0,
    )


async def _collect(path: RealPath) -> tuple[dict[int, AffectEvent], int]:
    """Finals by window end, until none has come for a while, and when the session began."""
    consumer = path.broker.consumer(["affect_events", "consents"], group=None)
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
            if path.pipeline.status() == "zombie":
                raise StreamerError("the pipeline ended early:\n" + "\n".join(path.said[-20:]))
    finally:
        await consumer.stop()
    return found, start_ms
