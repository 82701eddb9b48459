"""Events of a session in, records on the topics out: at the media's pace on Kafka, or as fast as possible in memory.

As fast as possible is a simulation: one event after the other with a clock that stands still while operators work, each
record stamped 50 ms after its event time, so that the same file gives the same events on any machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streamer.broker import Broker, Outgoing
from streamer.broker_memory import MemoryBroker
from streamer.errors import MediaError
from streamer.event_time import Clock, ManualClock, SystemClock
from streamer.media import Event, read_session
from streamer.payloads import SessionKeyed, decode, encode, headers_for
from streamer.pipeline import Pipeline
from streamer.settings import Settings
from streamer.topology import Topology

DELIVERY_MS = 50
SIMULATED_START_MS = 1_700_000_000_000
SETTLE_ROUNDS = 10_000


def consent_event(modalities: Iterable[str], session_id: str, at_ms: int = 0) -> Event:
    """A grant of modalities, as a platform records it after it has told the person of the sensing."""
    return Event(
        at_ms,
        "consents",
        {
            "user_id": f"user-of-{session_id}",
            "modalities": sorted(modalities),
            "disclosure_version": "replay",
            "disclosed_at_ms": at_ms,
            "minor": False,
            "affect_ranking": True,
        },
    )


def message(event: Event, session_id: str, start_ms: int, topology: Topology) -> Outgoing:
    """An event to the record that goes onto its topic.

    Raises:
        MediaError: its topic is not one from outside, or the fields are not its payload's.
    """
    topic = topology.topics.get(event.topic)
    if topic is None or topic.external != "in":
        known = ", ".join(t.name for t in topology.topics.values() if t.external == "in")
        raise MediaError(f"{event.topic}: not a topic that comes from outside; those are {known}")
    fields: dict[str, Any] = {**event.fields, "event_time_ms": start_ms + event.at_ms}
    if isinstance(fields.get("disclosed_at_ms"), int):
        fields["disclosed_at_ms"] += start_ms
    if issubclass(topic.type, SessionKeyed):
        fields["session_id"] = session_id
    try:
        payload = decode(msgspec.msgpack.encode(fields), topic.type)
    except ValueError as error:
        raise MediaError(f"{event.topic} at {event.at_ms} ms: {error}") from None
    return Outgoing(topic.name, str(getattr(payload, topic.key)).encode(), encode(payload), headers_for(payload))


async def replay_live(
    events: Iterable[Event], session_id: str, topology: Topology, broker: Broker, clock: Clock | None = None
) -> AsyncIterator[Event]:
    """Publish events at the media's pace, a chunk of sound when its last sample has been heard; yields each when sent.

    Raises:
        MediaError: see `message`.
        BrokerUnreachableError: the broker does not take them.
    """
    clock = clock or SystemClock()
    producer = broker.producer()
    await producer.start()
    start_ms = clock.now_ms()
    try:
        async for event in _ahead(events):
            spoken_ms = len(event.fields["data"]) // 32 if event.topic == "audio_chunks" else 0
            await clock.sleep_ms(start_ms + event.at_ms + spoken_ms - clock.now_ms())
            await producer.send([message(event, session_id, start_ms, topology)])
            yield event
    finally:
        await producer.stop()


async def _ahead(events: Iterable[Event]) -> AsyncIterator[Event]:
    """Decode in a thread, so that publishing keeps time."""
    iterator = iter(events)
    pending = asyncio.create_task(asyncio.to_thread(next, iterator, None))
    while (event := await pending) is not None:
        pending = asyncio.create_task(asyncio.to_thread(next, iterator, None))
        yield event


async def simulate(
    sessions: Mapping[str, Iterable[Event]],
    topology: Topology,
    settings: Settings,
    *,
    start_ms: int = SIMULATED_START_MS,
) -> MemoryBroker:
    """Sessions by id through the whole topology on the memory broker; every record is in the broker returned.

    Raises:
        MediaError: see `message`.
    """
    clock = ManualClock(start_ms)
    broker = MemoryBroker(clock)
    pipeline = Pipeline(topology, settings, broker, clock=clock)
    await pipeline.open()
    producer = broker.producer()
    await producer.start()
    queued = [(e.at_ms, n, name, e) for name, events in sessions.items() for n, e in enumerate(events)]
    queued.sort(key=lambda item: item[:3])
    for at_ms, _, session_id, event in queued:
        await _pass_time(pipeline, clock, start_ms + at_ms + DELIVERY_MS)
        await producer.send([message(event, session_id, start_ms, topology)])
        await _settle(pipeline)
    await _pass_time(pipeline, clock, None)
    await pipeline.stop()
    return broker


async def _pass_time(pipeline: Pipeline, clock: ManualClock, until_ms: int | None) -> None:
    """Move the clock on, stopping wherever an operator wants to be woken; as far as they do if `until_ms` is None."""
    while True:
        wakes = [wake for runner in pipeline.runners if (wake := runner.wake_ms()) is not None]
        wake = min(wakes, default=None)
        if wake is None or (until_ms is not None and wake > until_ms):
            break
        clock.set_ms(wake)
        await _settle(pipeline)
    if until_ms is not None:
        clock.set_ms(until_ms)


async def _settle(pipeline: Pipeline) -> None:
    """Step every operator until none has anything to read."""
    for _ in range(SETTLE_ROUNDS):
        moved = 0
        for runner in pipeline.runners:
            moved += await runner.step(wait_ms=0)
            await runner.flush()
        if not moved:
            return
    raise MediaError("the operators keep producing without end: is there a cycle among the topics?")


def session_events(path: Path, consent: Iterable[str]) -> list[Event] | Iterable[Event]:
    """A folder or file to its events, with a consent in front where the folder brings none and something is granted."""
    own = path.is_dir() and (path / "consents.jsonl").exists()
    granted = list(consent)
    events = read_session(path)
    return events if own or not granted else _after(consent_event(granted, path.stem), events)


def _after(first: Event, rest: Iterable[Event]) -> Iterable[Event]:
    yield first
    yield from rest
