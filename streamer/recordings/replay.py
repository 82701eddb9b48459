"""Publishes the events of a session: at the media's pace on Kafka, or as fast as possible in memory.

As fast as possible is a simulation: one event after the other, with a clock that doesn't move while operators work.
Each record has a Kafka time 50 ms after its event time, so that the same file gives the same events on any machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import msgspec

from streamer.broker import Broker, Message, Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.errors import ConfigurationError, MediaError, Problem
from streamer.event_time import Clock, ManualClock, SystemClock
from streamer.payloads import SessionKeyed, decode, encode, headers_for
from streamer.recordings.events import Event
from streamer.recordings.recording import Recording, in_kafka_order
from streamer.recordings.session_folder import read_session
from streamer.runtime.pipeline import Pipeline
from streamer.runtime.runner import Runner
from streamer.settings import Settings
from streamer.topology.topology import Topic, Topology

DELIVERY_MS = 50
SIMULATED_START_MS = 1_700_000_000_000
SETTLE_ROUNDS = 10_000
TIME_FIELDS = ("event_time_ms", "disclosed_at_ms", "expires_ms")
"""The fields of payloads from outside that are points in time; replay shifts them all by the same amount."""


def consent_event(modalities: Iterable[str], session_id: str, at_ms: int = 0) -> Event:
    """A consent to modalities, as a platform publishes it after informing the person of the sensing."""
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
    """The record of an event, for its topic.

    Raises:
        MediaError: its topic is not one from outside, or the fields are not its payload's.
    """
    topic = topology.topics.get(event.topic)
    if topic is None or topic.external != "in":
        external = ", ".join(t.name for t in topology.topics.values() if t.external == "in")
        raise MediaError(f"{event.topic}: not a topic that comes from outside; those are {external}")
    fields: dict[str, Any] = _shifted({**event.fields, "event_time_ms": event.at_ms}, start_ms)
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
    """Publish events at the media's pace, a chunk of sound when its last sample is over; yields each when sent.

    Raises:
        MediaError: see `message`.
        BrokerUnreachableError: the broker does not take them.
    """
    clock = clock or SystemClock()
    producer = broker.producer()
    await producer.start()
    start_ms = clock.now_ms()
    try:
        async for event in _read_ahead(events):
            length_ms = len(event.fields["data"]) // 32 if event.topic == "audio_chunks" else 0
            await clock.sleep_ms(start_ms + event.at_ms + length_ms - clock.now_ms())
            await producer.send([message(event, session_id, start_ms, topology)])
            yield event
    finally:
        await producer.stop()


async def replay_recording(
    recording: Recording, topology: Topology, broker: Broker, session_id: str | None = None, clock: Clock | None = None
) -> AsyncIterator[Sequence[Message]]:
    """Publish a recording's records of external topics, at the recorded pace, with their times moved to now.

    Tables that were in force when it began are published at once. A value that is not a MessagePack map is published
    unchanged.

    Args:
        recording: the records.
        topology: which topics come from outside; with the recorded number of partitions, records keep their partition.
        broker: the broker to publish to.
        session_id: a new id for the session, if there is only one.
        clock: sets the pace.

    Raises:
        MediaError: nothing in it comes from outside, or it can't be read.
        ConfigurationError: a new id for more than one session.
    """
    clock = clock or SystemClock()
    outside = {t.name: t for t in topology.topics.values() if t.external == "in"}
    tables = [t.name for t in outside.values() if t.compact]
    timed = in_kafka_order((m for m in recording.messages() if m.topic in outside), tables)
    if not timed:
        raise MediaError(f"{recording.path}: nothing in it comes from outside; --speed max folds it")
    sessions = {m.key for _, m in timed if outside[m.topic].keyed_by_session}
    if session_id is not None and len(sessions) > 1:
        why = f"{recording.path} holds {len(sessions)} sessions: they can't all be called {session_id}"
        raise ConfigurationError("replay", [Problem("--session", why)])
    begin_ms = next((ms for ms, m in timed if not outside[m.topic].compact), timed[0][0])
    same_partitions = session_id is None and recording.header.partitions == topology.partitions
    producer = broker.producer()
    await producer.start()
    start_ms = clock.now_ms()
    try:
        for at_ms, together in groupby(timed, key=lambda pair: max(pair[0], begin_ms)):
            messages = [message for _, message in together]
            await clock.sleep_ms(start_ms + at_ms - begin_ms - clock.now_ms())
            moved = [_moved(m, start_ms - begin_ms, outside[m.topic], session_id, same_partitions) for m in messages]
            await producer.send(moved)
            yield messages
    finally:
        await producer.stop()


def _moved(message: Message, by_ms: int, topic: Topic, session_id: str | None, same_partition: bool) -> Outgoing:
    """A recorded record to publish, with its times shifted, and perhaps with another session id."""
    key, value = message.key, message.value
    try:
        fields = msgspec.msgpack.decode(value) if value is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        fields = None
    if isinstance(fields, dict):
        fields = _shifted(fields, by_ms)
    if session_id is not None and topic.keyed_by_session:
        key = session_id.encode()
        if isinstance(fields, dict):
            fields["session_id"] = session_id
    value = msgspec.msgpack.encode(fields) if isinstance(fields, dict) else value
    return Outgoing(topic.name, key, value, message.headers, message.partition if same_partition else None)


def _shifted(fields: dict[str, Any], by_ms: int) -> dict[str, Any]:
    """A payload's fields with its TIME_FIELDS shifted."""
    return fields | {name: fields[name] + by_ms for name in TIME_FIELDS if isinstance(fields.get(name), int)}


async def _read_ahead(events: Iterable[Event]) -> AsyncIterator[Event]:
    """Decode the next event in a thread, so that publishing keeps its pace."""
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
    """Run sessions, by id, through the whole topology on a memory broker, which is returned with every record.

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
        await pass_time(pipeline, clock, start_ms + at_ms + DELIVERY_MS)
        await producer.send([message(event, session_id, start_ms, topology)])
        await settle(pipeline)
    await pass_time(pipeline, clock, None)
    await pipeline.stop()
    return broker


async def pass_time(
    pipeline: Pipeline, clock: ManualClock, until_ms: int | None, *, woken_by: Sequence[Runner] | None = None
) -> None:
    """Advance the clock, stopping at each wake time of an operator; until none is left if `until_ms` is None.

    `woken_by` limits this to some operators; None means all.
    """
    while True:
        asking = pipeline.runners if woken_by is None else woken_by
        wakes = [wake for runner in asking if (wake := runner.wake_ms()) is not None]
        wake = min(wakes, default=None)
        if wake is None or (until_ms is not None and wake > until_ms):
            break
        clock.set_ms(wake)
        await settle(pipeline)
    if until_ms is not None:
        clock.set_ms(until_ms)


async def settle(pipeline: Pipeline) -> None:
    """Step every operator until none has anything left to read."""
    for _ in range(SETTLE_ROUNDS):
        moved = 0
        for runner in pipeline.runners:
            moved += await runner.step(wait_ms=0)
            await runner.flush()
        if not moved:
            return
    raise MediaError("the operators keep producing without end: is there a cycle among the topics?")


def contains_consents(path: Path) -> bool:
    """Whether a path is a session folder with a `consents.jsonl`."""
    return path.is_dir() and (path / "consents.jsonl").exists()


def session_events(path: Path, consent: Iterable[str]) -> Iterable[Event]:
    """The events of a folder or file, preceded by a consent if the folder has none and something is granted."""
    granted, events = list(consent), read_session(path)
    return events if contains_consents(path) or not granted else chain([consent_event(granted, path.stem)], events)
