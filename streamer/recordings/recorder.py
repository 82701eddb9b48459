"""Records topics to a file: decides which records may be recorded, and reads them without a consumer group.

Tables are read from their beginning, whatever is asked for the rest, since they are what was in force. What people
showed, said or wrote (payloads with `MEDIA`) is recorded only if asked for, and only as far as consents allow.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple

from streamer.broker import Broker, Consumer, Message, TopicPartition
from streamer.errors import ConfigurationError, PayloadError, Problem, RefusedUseError
from streamer.event_time import Clock
from streamer.modality import check_declared
from streamer.payloads import SCHEMA_HEADER, Keyed, decode
from streamer.recordings.recording import End, RecordingWriter
from streamer.topology.topology import Topology

POLL_MS = 200  # how long to wait for records before checking whether to end
BATCH = 500

LeftOut = Literal["not_agreed", "undecodable"]


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What to record: which topics, from when (Kafka time; None: from now) until when, and whether media too."""

    topics: tuple[str, ...]
    since_ms: int | None = None
    until_now: bool = False
    until_ms: int | None = None
    media: bool = False


def media_topics(topology: Topology) -> list[str]:
    """The topics of what people show, say and write."""
    return [topic.name for topic in topology.topics.values() if topic.type.MEDIA]


def topics_to_record(topology: Topology, named: Sequence[str], media: bool) -> tuple[str, ...]:
    """The topics asked for, or else all; without those of media unless `media` asks for them.

    Raises:
        ConfigurationError: a name that is no topic.
        RefusedUseError: a topic of media by name, without `media`.
    """
    available = ", ".join(topology.topics)
    problems = [Problem(name, f"no such topic; there are {available}") for name in named if name not in topology.topics]
    if problems:
        raise ConfigurationError("record", problems)
    withheld = [] if media else media_topics(topology)
    if refused := [name for name in named if name in withheld]:
        what = "what people showed, said or wrote, which is recorded with --with-media only, where they agreed to it"
        raise RefusedUseError(f"{', '.join(refused)}: {what}")
    return tuple(name for name in topology.topics if name not in withheld and (not named or name in named))


class _Consent(NamedTuple):
    """A record of a table that fails closed; None as its payload: deleted, or it can't be read."""

    kafka_ms: int
    partition: int
    offset: int
    payload: Keyed | None


@dataclass(slots=True)
class RecordingFilter:
    """Decides for each record whether it may be recorded, by the consents read so far."""

    topology: Topology
    consents: dict[bytes | None, list[_Consent]] = field(default_factory=dict)

    def tables(self) -> set[str]:
        """The tables whose records it needs: those that fail closed."""
        return {topic.name for topic in self.topology.topics.values() if topic.compact and topic.type.FAILS_CLOSED}

    def add_consent(self, message: Message) -> None:
        """Take in a record of such a table; one that can't be read counts as a withdrawal."""
        try:
            payload = self._payload(message)
        except PayloadError:
            payload = None
        insort(
            self.consents.setdefault(message.key, []),
            _Consent(message.timestamp_ms, message.partition, message.offset, payload),
            key=lambda consent: consent[:3],
        )

    def reason_against(self, message: Message) -> LeftOut | None:
        """Why a record may not be recorded; None if it may."""
        if not self.topology.topics[message.topic].type.MEDIA:
            return None
        try:
            payload = self._payload(message)
        except PayloadError:
            return "undecodable"
        modality = self.topology.modality_of(message.topic)
        return None if payload.may_be_recorded(self._history(message.key), modality) else "not_agreed"

    def _history(self, key: bytes | None) -> list[Keyed | None]:
        """A key's consents by Kafka time; where partitions have some of the same millisecond, nothing is granted."""
        by_time = groupby(self.consents.get(key, []), key=lambda consent: consent.kafka_ms)
        moments = [list(together) for _, together in by_time]
        return [
            consent.payload if len({other.partition for other in together}) == 1 else None
            for together in moments
            for consent in together
        ]

    def _payload(self, message: Message) -> Keyed:
        """A record's payload; refused if it is of another session than its key."""
        topic = self.topology.topics[message.topic]
        schema = (dict(message.headers).get(SCHEMA_HEADER) or b"").decode(errors="replace") or None
        payload = decode(message.value, topic.type, schema)
        check_declared(payload, self.topology.modalities)
        if str(getattr(payload, topic.key)).encode() != message.key:
            raise PayloadError("undecodable", f"the record key is not the {topic.key}")
        return payload


async def record(
    request: RecordingRequest,
    topology: Topology,
    broker: Broker,
    writer: RecordingWriter,
    clock: Clock,
    stop: asyncio.Event,
) -> End:
    """Read until `stop` is set or the request is fulfilled, and write what may be recorded; returns the `End`.

    Raises:
        BrokerUnreachableError: nobody answers; what was written so far can be read.
        TopicMismatchError: a topic does not exist.
    """
    filter_ = RecordingFilter(topology)
    consent_topics = filter_.tables()
    tables = [name for name in request.topics if topology.topics[name].compact]
    unrecorded_tables = [name for name in sorted(consent_topics) if request.media and name not in tables]
    logs = [name for name in request.topics if name not in tables]
    left_out: dict[str, Counter[str]] = {}
    since = _Since(request.since_ms or 0)

    def take(messages: Sequence[Message]) -> None:
        recorded = []
        for message in messages:
            if message.topic in consent_topics:
                filter_.add_consent(message)
            if message.topic in unrecorded_tables or (message.topic in logs and not since.reached(message)):
                continue
            if reason := filter_.reason_against(message):
                left_out.setdefault(message.topic, Counter())[reason] += 1
            else:
                recorded.append(message)
        writer.add(recorded)

    start_at: Literal["earliest", "latest"] = "latest" if request.since_ms is None else "earliest"
    table_consumer = broker.consumer([*tables, *unrecorded_tables], group=None) if tables or unrecorded_tables else None
    log_consumer = broker.consumer(logs, group=None, start_at=start_at) if logs else None
    consumers = [consumer for consumer in (table_consumer, log_consumer) if consumer is not None]
    try:
        for consumer in consumers:
            await consumer.start()
        ends = [dict(await consumer.end_offsets()) for consumer in consumers]
        if table_consumer is not None:
            while not stop.is_set() and not _reached(table_consumer, ends[0]):
                await asyncio.to_thread(take, await table_consumer.poll(BATCH, POLL_MS))
        while not stop.is_set() and (request.until_ms is None or clock.now_ms() < request.until_ms):
            if request.until_now and all(map(_reached, consumers, ends)):
                break
            messages = await consumers[-1].poll(BATCH, POLL_MS)
            if table_consumer is not None and log_consumer is not None:  # consents first
                await asyncio.to_thread(take, await table_consumer.poll(BATCH, 0))
            await asyncio.to_thread(take, messages)
    finally:
        for consumer in consumers:
            await consumer.stop()
    return writer.end(left_out)


class _Since:
    """Finds in each partition the first record at or after a Kafka time; all later records are recorded."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._begun: set[TopicPartition] = set()

    def reached(self, message: Message) -> bool:
        """Whether this record is recorded."""
        partition = TopicPartition(message.topic, message.partition)
        if message.timestamp_ms >= self._since_ms:
            self._begun.add(partition)
        return partition in self._begun


def _reached(consumer: Consumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all((consumer.position(partition) or 0) >= end for partition, end in ends.items())
