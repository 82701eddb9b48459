"""Reads entries of the topic `audit`, selected by session, user or kind, and formats them for a terminal."""

from __future__ import annotations

import logging
import textwrap
from dataclasses import dataclass
from typing import get_args, get_type_hints

from streamer.broker import Broker, Message
from streamer.compliance.people import read_to_end, sessions_of
from streamer.errors import ConfigurationError, PayloadError, Problem
from streamer.event_time import utc_text
from streamer.payloads import SCHEMA_HEADER, AuditEntry, decode
from streamer.runtime.audit_trail import AUDIT, NONE_KEPT
from streamer.topology.topology import Topology

KINDS: tuple[str, ...] = get_args(get_type_hints(AuditEntry)["kind"])
_WIDTH = 80

log = logging.getLogger("streamer")


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries are asked for; None asks for all."""

    session: str | None = None
    user: str | None = None
    kind: str | None = None


async def read_entries(broker: Broker, topology: Topology, query: AuditQuery) -> list[AuditEntry]:
    """The entries asked for, oldest first by Kafka time.

    Raises:
        ConfigurationError: the topology has no topic `audit`.
        StreamerError: no Kafka answers, or the topic isn't there.
    """
    if AUDIT not in topology.topics:
        raise ConfigurationError(str(topology.source), [Problem("topics.audit", NONE_KEPT)])
    subjects = None if query.session is None else {query.session}
    if query.user is not None:
        of_user = await sessions_of(broker, topology, query.user)
        subjects = of_user if subjects is None else of_user & subjects
    found = [
        ((message.timestamp_ms, message.partition, message.offset), entry)
        async for message in read_to_end(broker, [AUDIT])
        if (entry := _entry(message)) is not None
        and (subjects is None or entry.subject in subjects)
        and query.kind in (None, entry.kind)
    ]
    return [entry for _, entry in sorted(found, key=lambda one: one[0])]


def _entry(message: Message) -> AuditEntry | None:
    schema = dict(message.headers).get(SCHEMA_HEADER)
    try:
        return decode(message.value, AuditEntry, schema.decode(errors="replace") if schema else None)
    except PayloadError as error:
        log.warning("audit[%d]@%d is left out: %s", message.partition, message.offset, error)
        return None


def readable(entry: AuditEntry) -> str:
    """An entry as lines of up to 80 columns: time, kind and subject, then its details."""
    lines = [f"{utc_text(entry.event_time_ms)}  {entry.kind:<8}  {entry.subject}"]
    for name, value in sorted(entry.detail.items()):
        lines += textwrap.wrap(
            f"{name}: {value}", _WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
        )
    return "\n".join(lines) + "\n"
