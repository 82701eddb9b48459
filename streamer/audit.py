"""What was decided, kept: the runtime's entries for the topic `audit`, and the command that reads them.

Operators add their own entries (consents as they take effect, controls). A topology without this topic works, and what
is decided is then kept nowhere: `streamer check` and `streamer run` say so.
"""

from __future__ import annotations

import hashlib
import logging
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import get_args, get_type_hints

from streamer.broker import Broker, Message, Outgoing
from streamer.errors import ConfigurationError, PayloadError, Problem, RefusedUseError, StreamerError
from streamer.event_time import utc_text
from streamer.operator import Context
from streamer.payloads import SCHEMA_HEADER, AuditEntry, decode, encode, headers_for
from streamer.persons import read_to_end, sessions_of
from streamer.settings import Settings
from streamer.topology import Topology

AUDIT = "audit"
KINDS: tuple[str, ...] = get_args(get_type_hints(AuditEntry)["kind"])
NONE_KEPT = "no topic `audit` in the topology: what is decided of consent, models and controls is kept nowhere"
_WIDTH = 80

log = logging.getLogger("streamer")


def settings_entry(topology: Topology, settings: Settings, operators: Iterable[str], now_ms: int) -> AuditEntry:
    """What a worker starts with: its settings with secrets masked, the declared use, the topology by hash, the version.

    Raises:
        OSError: the topology's file is gone.
    """
    detail = {f"STREAMER_{name.upper()}": value for name, value in settings.printable().items()}
    detail |= {
        "worker": settings.worker_name(),
        "context": settings.context or "none",
        "reference": settings.context_reference or "none",
        "topology": topology.source.name,
        "sha256": hashlib.sha256(topology.source.read_bytes()).hexdigest(),
        "version": installed_version(),
        "operators": ", ".join(operators),
    }
    return AuditEntry(event_time_ms=now_ms, kind="settings", subject=str(topology.app), detail=detail)


def operator_entry(context: Context) -> AuditEntry:
    """What an operator runs: models with backend, licence and the reasons against other backends; or its policy."""
    runs = context.runs
    detail = {name: f"version {found}" for name, found in runs.models.items()}
    for name, backend in runs.backends.items():
        detail[name] += f" on {backend}, licence {runs.licences.get(name, 'not said')}"
    detail |= {f"not {backend}": "; ".join(reasons) for backend, reasons in runs.reasons_against.items()}
    detail["worker"] = context.settings.worker_name()
    kind, now_ms = ("model" if runs.backends else "policy"), context.clock.now_ms()
    return AuditEntry(event_time_ms=now_ms, kind=kind, subject=context.operator, detail=detail)  # type: ignore[arg-type] # two of its kinds


def installed_version() -> str:
    """The version of this package, where it is installed."""
    try:
        return version("affectstream")
    except PackageNotFoundError:
        return "not installed"


async def note_start(
    broker: Broker,
    topology: Topology,
    settings: Settings,
    contexts: Sequence[Context],
    failures: Collection[BaseException] = (),
) -> None:
    """Operators that have opened, or not, in; entries on the topic `audit` out, if there is one.

    A use that is refused is kept too. Where that can't be written, the log says so: the refusal itself counts.

    Raises:
        StreamerError: the entries of a start without failures could not be written.
        OSError: the topology's file is gone.
    """
    if AUDIT not in topology.topics or not contexts:
        return
    now_ms = contexts[0].clock.now_ms()
    entries = [settings_entry(topology, settings, [c.operator for c in contexts], now_ms)]
    entries += [operator_entry(context) for context in contexts if context.runs.models]
    worker = {"worker": settings.worker_name()}
    refusals = dict.fromkeys(str(failure) for failure in failures if isinstance(failure, RefusedUseError))
    entries += [
        AuditEntry(event_time_ms=now_ms, kind="refusal", subject=str(topology.app), detail=worker | {"refused": why})
        for why in refusals
    ]
    if failures and not refusals:
        return
    try:
        await write(broker, entries)
    except StreamerError as error:
        if not failures:
            raise
        log.warning("the refusal could not be written to the topic audit: %s", error)


async def write(broker: Broker, entries: Sequence[AuditEntry]) -> None:
    """Append entries to the topic `audit`, each keyed by its subject.

    Raises:
        StreamerError: no Kafka answers, or there is no such topic.
    """
    producer = broker.producer()
    await producer.start()
    try:
        await producer.send([Outgoing(AUDIT, e.subject.encode(), encode(e), headers_for(e)) for e in entries])
    finally:
        await producer.stop()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; None asks for all."""

    session: str | None = None
    user: str | None = None
    kind: str | None = None


async def read_entries(broker: Broker, topology: Topology, wanted: Wanted) -> list[AuditEntry]:
    """The entries asked for, oldest first by Kafka time.

    Raises:
        ConfigurationError: the topology has no topic `audit`.
        StreamerError: no Kafka answers, or the topic isn't there.
    """
    if AUDIT not in topology.topics:
        raise ConfigurationError(str(topology.source), [Problem("topics.audit", NONE_KEPT)])
    subjects = None if wanted.session is None else {wanted.session}
    if wanted.user is not None:
        own = await sessions_of(broker, topology, wanted.user)
        subjects = own if subjects is None else own & subjects
    found = [
        ((message.timestamp_ms, message.partition, message.offset), entry)
        async for message in read_to_end(broker, [AUDIT])
        if (entry := _entry(message)) is not None
        and (subjects is None or entry.subject in subjects)
        and wanted.kind in (None, entry.kind)
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
    """An entry to lines of up to 80 columns: when, what kind, about whom; then its details."""
    lines = [f"{utc_text(entry.event_time_ms)}  {entry.kind:<8}  {entry.subject}"]
    for name, value in _ordered(entry.detail).items():
        lines += textwrap.wrap(
            f"{name}: {value}", _WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
        )
    return "\n".join(lines) + "\n"


def _ordered(detail: Mapping[str, str]) -> Mapping[str, str]:
    return dict(sorted(detail.items()))
