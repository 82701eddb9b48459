"""What the runtime writes to the topic `audit`: settings, models and policies at each start, and uses that are refused.

Operators add their own entries (consents as they take effect, controls). A topology without this topic works, and what
is decided is then kept nowhere: `streamer check` and `streamer run` say so.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from streamer.broker import Broker, Outgoing
from streamer.errors import RefusedUseError, StreamerError
from streamer.operator import Context
from streamer.payloads import AuditEntry, encode, headers_for
from streamer.topology.topology import Topology

if TYPE_CHECKING:
    from streamer.settings import Settings

AUDIT = "audit"
NONE_KEPT = "no topic `audit` in the topology: what is decided of consent, models and controls is kept nowhere"

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


async def write_start_entries(
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
