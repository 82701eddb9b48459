"""Topics of a Kafka in, a recording out: which records a recording may hold, and how they are read without a group.

Tables are read from their beginning, whatever is asked for the rest: they are what was in force. What people showed,
said or wrote (payloads with `MEDIA`) is taken only if asked for, and then only as far as its payload allows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from streamer.broker import Broker, Consumer, Message, TopicPartition
from streamer.errors import ConfigurationError, PayloadError, Problem, RefusedUseError
from streamer.event_time import Clock
from streamer.modality import check_declared
from streamer.payloads import SCHEMA_HEADER, Keyed, decode
from streamer.recordings.recording import End, RecordingWriter
from streamer.topology.topology import Topology

LOOK_MS = 200  # how long to wait for records before looking whether to end
BATCH = 500

LeftOut = Literal["not_agreed", "undecodable"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to record: topics, from when on (Kafka time; None is from now), until when, and whether media too."""

    topics: tuple[str, ...]
    since_ms: int | None = None
    until_now: bool = False
    until_ms: int | None = None
    media: bool = False


def media_topics(topology: Topology) -> list[str]:
    """The topics of what people show, say and write."""
    return [topic.name for topic in topology.topics.values() if topic.type.MEDIA]


def topics_to_record(topology: Topology, named: Sequence[str], media: bool) -> tuple[str, ...]:
    """The topics asked for, or else all; without those of media unless they are asked for by `media`.

    Raises:
        ConfigurationError: a name that is no topic.
        RefusedUseError: a topic of media by name, without `media`.
    """
    known = ", ".join(topology.topics)
    problems = [Problem(name, f"no such topic; there are {known}") for name in named if name not in topology.topics]
    if problems:
        raise ConfigurationError("record", problems)
    withheld = [] if media else media_topics(topology)
    if refused := [name for name in named if name in withheld]:
        what = "what people showed, said or wrote, which is recorded with --with-media only, where they agreed to it"
        raise RefusedUseError(f"{', '.join(refused)}: {what}")
    return tuple(name for name in topology.topics if name not in withheld and (not named or name in named))


@dataclass(slots=True)
class RecordingFilter:
    """Says of each record whether the recording may hold it; knows what the tables that fail closed have said."""

    topology: Topology
    agreed: dict[bytes | None, list[Keyed | None]] = field(default_factory=dict)

    def tables(self) -> set[str]:
        """The tables whose records it must be told of."""
        return {topic.name for topic in self.topology.topics.values() if topic.compact and topic.type.FAILS_CLOSED}

    def learn(self, message: Message) -> None:
        """Take in a record of such a table; one that can't be read takes back what was agreed."""
        said = self.agreed.setdefault(message.key, [])
        try:
            said.append(self._payload(message))
        except PayloadError:
            said.append(None)

    def reason_against(self, message: Message) -> LeftOut | None:
        """Why a recording may not hold a record, None where it may."""
        if not self.topology.topics[message.topic].type.MEDIA:
            return None
        try:
            payload = self._payload(message)
        except PayloadError:
            return "undecodable"
        modality = self.topology.modality_of(message.topic)
        return None if payload.may_be_recorded(self.agreed.get(message.key, []), modality) else "not_agreed"

    def _payload(self, message: Message) -> Keyed:
        """A record's payload; one of another session than its key says is nobody's."""
        topic = self.topology.topics[message.topic]
        schema = (dict(message.headers).get(SCHEMA_HEADER) or b"").decode(errors="replace") or None
        payload = decode(message.value, topic.type, schema)
        check_declared(payload, self.topology.modalities)
        if str(getattr(payload, topic.key)).encode() != message.key:
            raise PayloadError("undecodable", f"the record key is not the {topic.key}")
        return payload


async def record(
    wanted: Wanted, topology: Topology, broker: Broker, writer: RecordingWriter, clock: Clock, stop: asyncio.Event
) -> End:
    """Read until `stop` is set or `wanted` says so, write what may be recorded; returns what is in the recording.

    Raises:
        BrokerUnreachableError: nobody answers; what was written so far can be read.
        TopicMismatchError: a topic does not exist.
    """
    gatekeeper = RecordingFilter(topology)
    telling = gatekeeper.tables()
    tables = [name for name in wanted.topics if topology.topics[name].compact]
    asked = [name for name in sorted(telling) if wanted.media and name not in tables]
    logs = [name for name in wanted.topics if name not in tables]
    left_out: dict[str, Counter[str]] = {}
    since = _Since(wanted.since_ms or 0)

    def take(messages: Sequence[Message]) -> None:
        kept = []
        for message in messages:
            if message.topic in telling:
                gatekeeper.learn(message)
            if message.topic in asked or (message.topic in logs and not since.reached(message)):
                continue
            if reason := gatekeeper.reason_against(message):
                left_out.setdefault(message.topic, Counter())[reason] += 1
            else:
                kept.append(message)
        writer.add(kept)

    start_at: Literal["earliest", "latest"] = "latest" if wanted.since_ms is None else "earliest"
    known = broker.consumer([*tables, *asked], group=None) if tables or asked else None
    flowing = broker.consumer(logs, group=None, start_at=start_at) if logs else None
    consumers = [consumer for consumer in (known, flowing) if consumer is not None]
    try:
        for consumer in consumers:
            await consumer.start()
        ends = [dict(await consumer.end_offsets()) for consumer in consumers]
        if known is not None:
            while not stop.is_set() and not _reached(known, ends[0]):
                await asyncio.to_thread(take, await known.poll(BATCH, LOOK_MS))
        while not stop.is_set() and (wanted.until_ms is None or clock.now_ms() < wanted.until_ms):
            if wanted.until_now and all(map(_reached, consumers, ends)):
                break
            messages = await consumers[-1].poll(BATCH, LOOK_MS)
            if known is not None and flowing is not None:  # what was agreed is in force before a record is judged
                await asyncio.to_thread(take, await known.poll(BATCH, 0))
            await asyncio.to_thread(take, messages)
    finally:
        for consumer in consumers:
            await consumer.stop()
    return writer.end(left_out)


class _Since:
    """Finds in each partition the first record of a Kafka time; all behind it belongs to the recording, too."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._begun: set[TopicPartition] = set()

    def reached(self, message: Message) -> bool:
        partition = TopicPartition(message.topic, message.partition)
        if message.timestamp_ms >= self._since_ms:
            self._begun.add(partition)
        return partition in self._begun


def _reached(consumer: Consumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all((consumer.position(partition) or 0) >= end for partition, end in ends.items())
