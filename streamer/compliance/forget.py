"""Erases a person, by the id of a user or of one session, and reports what only Kafka's retention will erase.

Erased at once are consents (a deletion, upon which operators drop their state and revoke earlier evidence), the state
that hosts keep in changelogs, and recordings. Nothing can be erased from other topics: what they hold of the person,
and until when, is reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from streamer.broker import Outgoing
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.compliance.people import names_users, read_to_end, reported_sessions, session_of, user_of
from streamer.compliance.retention import TopicRetention, read_retention
from streamer.errors import StreamerError, TopicMismatchError
from streamer.event_time import Clock
from streamer.payloads import AuditEntry
from streamer.recordings.recording import SUFFIX, Recording, forget_sessions
from streamer.runtime.audit_trail import AUDIT, write
from streamer.topology.rights import changelog, forgetting_rights
from streamer.topology.topology import Topology

OPERATORS_NEED_MS = 1000
"""A consent is in force within this time, so that no host writes state of the session after it."""


@dataclass(slots=True)
class Holdings:
    """What one topic holds of a person.

    Args:
        records: how many of them have a value.
        newest_ms: the Kafka time of the newest.
        keys: (partition, key) -> whether its latest record there has a value. Producers with different partitioners put
            one key into several partitions.
    """

    records: int = 0
    newest_ms: int = 0
    keys: dict[tuple[int, bytes], bool] = field(default_factory=dict)

    def with_value(self) -> set[bytes]:
        """The keys that are not deleted everywhere."""
        return {key for (_, key), has_value in self.keys.items() if has_value}

    def add(self, other: Holdings) -> None:
        """Add what the topic holds of another session."""
        self.records += other.records
        self.newest_ms = max(self.newest_ms, other.newest_ms)
        self.keys |= other.keys


@dataclass(frozen=True, slots=True)
class Found:
    """A person's sessions, and what each topic holds of them."""

    sessions: frozenset[str]
    holdings: dict[str, Holdings]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was erased: keys by topic, records by recording; and what is left, with the retention of its topics."""

    deleted: dict[str, int]
    recordings: dict[Path, int]
    left: dict[str, Holdings]
    retention: dict[str, TopicRetention]


def changelogs(topology: Topology) -> list[str]:
    """The topics in which hosts keep the state of sessions."""
    return [changelog(topology, spec) for spec in topology.operators.values() if spec.host == "faust"]


async def find(broker: KafkaBroker, topology: Topology, who: str, recordings: Collection[Path] = ()) -> Found:
    """Find the sessions of a user's or a session's id, and all that Kafka holds of them.

    Raises:
        ConfigurationError: a right is missing that looking or erasing needs; nothing has been erased.
        StreamerError: nobody answers, or a recording can't be read.
    """
    await broker.require_rights(forgetting_rights(topology))
    recorded = {s for path in recordings for s in _recorded(path, topology, who)}
    return await _find_holdings(broker, topology, recorded, who)


async def forget(
    broker: KafkaBroker, topology: Topology, found: Found, recordings: Collection[Path], clock: Clock
) -> Forgotten:
    """Erase what can be erased of the sessions found, and read what is left.

    What is deleted already is deleted again: Kafka drops replaced records once a later one has come.

    Raises:
        StreamerError: nobody answers, this user may not write, a recording can't be read, or a consent was given anew
            meanwhile.
    """
    tables = [t.name for t in topology.topics.values() if t.compact and t.keyed_by_session]
    logs = changelogs(topology)
    await _delete(broker, found, tables)
    await clock.sleep_ms(OPERATORS_NEED_MS)
    await _delete(broker, await _find_holdings(broker, topology, found.sessions), logs)
    cut = {path: n for path in recordings if (n := forget_sessions(path, found.sessions))}
    erased = {name: n for name in (*tables, *logs) if (n := len(found.holdings.get(name, Holdings()).with_value()))}
    if AUDIT in topology.topics and (erased or cut):
        await write(broker, [_entry(session, clock.now_ms()) for session in sorted(found.sessions)])
    left = (await _find_holdings(broker, topology, found.sessions)).holdings
    if back := {name: n for name in tables if (n := len(left.get(name, Holdings()).with_value()))}:
        listed = ", ".join(f"{n} of {name}" for name, n in back.items())
        why = f"not all is erased: somebody has written {listed} anew meanwhile"
        raise StreamerError(f"{why}; stop that, and forget again")
    return Forgotten(erased, cut, left, await read_retention(broker, sorted(left)))


async def _find_holdings(
    broker: KafkaBroker, topology: Topology, sessions: Collection[str], who: str | None = None
) -> Found:
    """Read all topics for records of `sessions`, of the session with the id `who`, and of the user with that id."""
    sessions = set(sessions)
    by_session: dict[str, dict[bytes, Holdings]] = {}
    topics = [t.name for t in topology.topics.values() if t.keyed_by_session or not t.compact]
    for name in (*topics, *changelogs(topology)):
        topic, by_key = topology.topics.get(name), by_session.setdefault(name, {})
        try:
            async for message in read_to_end(broker, [name]):
                key = message.key or b""
                holdings = by_key.setdefault(key.partition(b"\0")[0], Holdings())
                holdings.records += message.value is not None
                holdings.newest_ms = max(holdings.newest_ms, message.timestamp_ms)
                holdings.keys[message.partition, key] = message.value is not None
                for session in reported_sessions(topic, message):
                    named = by_key.setdefault(_bytes(session), Holdings())
                    named.records += 1
                    named.newest_ms = max(named.newest_ms, message.timestamp_ms)
                if who and topic is not None and names_users(topic) and user_of(topic, message) == who:
                    sessions.add(session_of(message))
        except TopicMismatchError:  # it was never created
            continue
    if who and any(_bytes(who) in by_key for by_key in by_session.values()):
        sessions.add(who)
    by_topic = {name: _sum(by_key, sessions) for name, by_key in by_session.items()}
    return Found(frozenset(sessions), {name: holdings for name, holdings in by_topic.items() if holdings.newest_ms})


async def _delete(broker: KafkaBroker, found: Found, topics: Collection[str]) -> None:
    """Delete every key in each partition that has it."""
    producer = broker.producer()
    await producer.start()
    try:
        for name in set(topics) & set(found.holdings):
            keys = found.holdings[name].keys
            await producer.send([Outgoing(name, key, None, partition=partition) for partition, key in keys])
    finally:
        await producer.stop()


def _entry(session: str, now_ms: int) -> AuditEntry:
    detail = {"decision": "forgotten", "by": "streamer forget"}
    return AuditEntry(event_time_ms=now_ms, kind="override", subject=session, detail=detail)


def _recorded(path: Path, topology: Topology, who: str) -> Iterable[str]:
    """The sessions of a recording that have this id, or belong to the user of this id."""
    for message in Recording(path).messages():
        topic, session = topology.topics.get(message.topic), session_of(message)
        if topic is None or not topic.keyed_by_session:
            continue
        if session == who or (names_users(topic) and user_of(topic, message) == who):
            yield session


def find_recordings(folder: Path | None) -> list[Path]:
    """Every recording below a folder."""
    return sorted(folder.rglob(f"*{SUFFIX}")) if folder is not None else []


def _sum(by_key: dict[bytes, Holdings], sessions: Iterable[str]) -> Holdings:
    holdings = Holdings()
    for session in sessions:
        holdings.add(by_key.get(_bytes(session), Holdings()))
    return holdings


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
