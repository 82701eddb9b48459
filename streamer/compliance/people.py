"""Reads topics to their end, and finds the sessions of a person.

A payload with a field `user_id` names the person whose session its record belongs to; there is no other link to people.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from streamer.broker import Broker, Message
from streamer.errors import PayloadError
from streamer.payloads import WorkerReport, decode
from streamer.topology.topology import Topic, Topology

_BATCH = 500
_WAIT_MS = 200


async def read_to_end(broker: Broker, topics: Sequence[str]) -> AsyncIterator[Message]:
    """Yield every record that is in the topics when this is called, in offset order within a partition.

    Raises:
        BrokerUnreachableError: nobody answers.
        TopicMismatchError: a topic does not exist.
    """
    if not topics:
        return
    consumer = broker.consumer(topics, group=None)
    try:
        await consumer.start()
        ends = await consumer.end_offsets()
        while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
            for message in await consumer.poll(_BATCH, _WAIT_MS):
                yield message
    finally:
        await consumer.stop()


def names_users(topic: Topic) -> bool:
    """Whether a topic's payload names the user of a session."""
    return {"session_id", "user_id"} <= set(topic.type.__struct_fields__)


def session_of(message: Message) -> str:
    """The session of a record that is keyed by it; bytes that are not UTF-8 are kept as surrogates."""
    return (message.key or b"").decode(errors="surrogateescape")


def reported_sessions(topic: Topic | None, message: Message) -> Collection[str]:
    """The sessions that a worker's report names, which is keyed by the worker; none of any other record."""
    if topic is None or topic.type is not WorkerReport:
        return ()
    try:
        return decode(message.value, WorkerReport).clock_offsets_ms
    except PayloadError:
        return ()


def user_of(topic: Topic, message: Message) -> str | None:
    """The `user_id` in a record of a topic that `names_users`; None for a deletion, or a record that can't be read."""
    try:
        return str(getattr(decode(message.value, topic.type), "user_id", None)) if message.value is not None else None
    except PayloadError:
        return None


async def sessions_of(broker: Broker, topology: Topology, user_id: str) -> set[str]:
    """The sessions of a person, by all records of tables that Kafka still retains.

    Raises:
        StreamerError: see `read_to_end`.
    """
    tables = [t.name for t in topology.topics.values() if t.compact and names_users(t)]
    return {
        session_of(message)
        async for message in read_to_end(broker, tables)
        if user_of(topology.topics[message.topic], message) == user_id
    }
