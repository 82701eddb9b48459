"""Options of Kafka clients and topics, from the settings and the topic specs; and a filter of the clients' log."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from streamer.broker import TopicSpec
from streamer.brokers.limits import MAX_RECORD_BYTES
from streamer.brokers.protocol_errors import partitions_differ
from streamer.errors import ConfigurationError, Problem
from streamer.event_time import Duration
from streamer.settings import Settings

T = TypeVar("T")
CONNECT_SECONDS = 5.0  # to connect; then the broker counts as unreachable
ANSWER_SECONDS = 10.0  # for a request to a broker after the client has connected
RETRY_MS = 20  # during an outage a client pair takes 4 % of a core, with 3 ms (needed only by transactions) 13 %
REPEAT_SECONDS = 30.0  # an outage is logged once in this time, not at each attempt
RETRY_MESSAGES = (  # logged by parts of a client about a lost connection, which is also logged once or raised
    "Got error produce response", "Cannot send", "Could not send", "Failed fetch messages", "Unable to update metadata",
    "Unable to request metadata", "Error sending", "Marking the coordinator dead", "Heartbeat s", "Heartbeat failed",
    "Group Coordinator Request failed", "LeaveGroup request failed",
)  # fmt: skip
KIB = 1024
PASSING_SECONDS = 5.0
PASSING_MESSAGES = (  # tried again at once: worth a word only where it goes on for PASSING_SECONDS
    "Failed fetch offsets",  # a topic that was just made has no leader yet
    "exception performing seek when flow not active",  # Faust during a rebalance
)


class _RepetitionFilter(logging.Filter):
    """Drops RETRY_MESSAGES, and PASSING_MESSAGES that pass; logs any other message once in REPEAT_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self._passing: dict[str, tuple[float, float]] = {}  # since when, and when last

    def _passes(self, message: str, now: float) -> bool:
        since, last = self._passing.get(message, (now, now))
        if now - last > PASSING_SECONDS:
            since = now
        self._passing[message] = since, now
        return now - since < PASSING_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is logged."""
        text = str(record.msg)
        if text.startswith(RETRY_MESSAGES):
            return False
        if any(text.startswith(m) and self._passes(m, record.created) for m in PASSING_MESSAGES):
            return False
        repeated = record.created - self._last.get(record.msg, 0.0) < REPEAT_SECONDS
        if not repeated:
            self._last[record.msg] = record.created
        return not repeated


def filter_client_log() -> None:
    """Keep payloads (aiokafka logs them at DEBUG) and repetition out of the log; idempotent."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    for name in (
        "aiokafka", "aiokafka.conn", "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator",
        "aiokafka.producer.sender", "faust.transport.consumer",
    ):  # fmt: skip
        logger = logging.getLogger(name)
        if not any(isinstance(f, _RepetitionFilter) for f in logger.filters):
            logger.addFilter(_RepetitionFilter())


def connection_options(settings: Settings, address: str) -> dict[str, Any]:
    """The options that every client needs to connect.

    Raises:
        ConfigurationError: SASL without credentials; a certificate or key that can't be read, or doesn't fit.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": address,
        "security_protocol": settings.security_protocol,
        "retry_backoff_ms": RETRY_MS,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    elif without_use := [name for name in _SSL_SETTINGS if getattr(settings, name) is not None]:
        why = f"is for TLS: set STREAMER_SECURITY_PROTOCOL to SSL or SASL_SSL, not {settings.security_protocol}"
        raise ConfigurationError("environment", [Problem(f"STREAMER_{name.upper()}", why) for name in without_use])
    if settings.security_protocol.startswith("SASL"):
        if settings.sasl_username is None or settings.sasl_password is None:
            missing = f"needed by {settings.security_protocol}"
            problems = [Problem("STREAMER_SASL_USERNAME", missing), Problem("STREAMER_SASL_PASSWORD", missing)]
            raise ConfigurationError("environment", problems)
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


_SSL_SETTINGS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password")


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    """Who is vouched for, and the certificate that this client shows."""
    context = _with_file("STREAMER_SSL_CAFILE", settings.ssl_cafile,
                         lambda: ssl.create_default_context(cafile=settings.ssl_cafile))  # fmt: skip
    if settings.ssl_certfile is not None:
        password = settings.ssl_key_password.get_secret_value() if settings.ssl_key_password is not None else ""
        files = (settings.ssl_certfile, settings.ssl_keyfile)
        missing = next((f for f in files if f is not None and not f.is_file()), None)
        shown = missing or settings.ssl_keyfile or settings.ssl_certfile
        _with_file("STREAMER_SSL_CERTFILE, STREAMER_SSL_KEYFILE", shown,
                   lambda: context.load_cert_chain(*files, password=lambda: password))  # fmt: skip
    elif settings.ssl_keyfile is not None:
        problem = Problem("STREAMER_SSL_CERTFILE", "is missing: STREAMER_SSL_KEYFILE is the key of a certificate")
        raise ConfigurationError("environment", [problem])
    return context


def _with_file(name: str, path: Path | None, load: Callable[[], T]) -> T:
    """What `load` makes of PEM files; what is wrong with them, by the settings' names."""
    try:
        return load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError whose strerror says nothing
        encrypted = path is not None and path.is_file() and b"ENCRYPTED" in path.read_bytes()
        no_fit = "KEY_VALUES_MISMATCH" in str(error)
        said = None if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
        why = "the key is not this certificate's" if no_fit else said or "no PEM with what is due"
        if encrypted:
            why = "its key is encrypted: set STREAMER_SSL_KEY_PASSWORD to the right password"
    raise ConfigurationError("environment", [Problem(name, f"{path}: {why}")])


COMPARED = ("message.timestamp.type", "cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes")
"""The settings in which an existing topic must match the topology."""
COMPACTED_WITHIN_MS = 60_000
"""How soon Kafka deletes replaced records of a compacted topic; by default it may keep deleted values for ever."""


def topic_attributes(spec: TopicSpec) -> dict[str, str]:
    """A topic's configuration, with Kafka's names."""
    wanted = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "compact" if spec.compact else "delete",
        "retention.ms": spec.retention_ms,
        "segment.ms": COMPACTED_WITHIN_MS if spec.compact else spec.segment_ms,
        "max.compaction.lag.ms": COMPACTED_WITHIN_MS if spec.compact else None,
    }
    return {name: str(value) for name, value in wanted.items() if value is not None}


def topic_differences(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> list[str]:
    """How an existing topic differs from what is needed of it, and what to do: one line for each difference."""
    found = partitions_differ(spec, partitions)
    found = [f"{line}: move it aside, or make the topology say the same" for line in found]
    wanted, least_ms = topic_attributes(spec), spec.needs_ms or 0
    alter = {
        name: wanted[name] for name in ("message.timestamp.type", "cleanup.policy") if config[name] != wanted[name]
    }
    if 0 <= int(config["retention.ms"]) < least_ms and not spec.compact:
        alter["retention.ms"] = wanted["retention.ms"]
    if int(config["max.message.bytes"]) < MAX_RECORD_BYTES:
        alter["max.message.bytes"] = str(MAX_RECORD_BYTES)
    differ = [
        f"{spec.name} has {name}={_readable(name, config[name])}: alter it to {_readable(name, value)}"
        for name, value in alter.items()
    ]
    return found + differ


def _readable(name: str, value: str) -> str:
    """A topic's setting as Kafka writes it, and a length of time or a size as people read it beside."""
    if name.endswith(".ms") and int(value) > 0:
        return f"{value} ({Duration(value)})"
    if name.endswith(".bytes") and int(value) >= KIB:
        return f"{value} ({int(value) / KIB:,.0f} KiB)"
    return value


def topic_warnings(spec: TopicSpec, config: Mapping[str, str]) -> list[str]:
    """What an existing topic keeps for a shorter time than the topology says, though nothing needs it longer."""
    found = []
    if spec.retention_ms is not None and 0 <= int(config["retention.ms"]) < spec.retention_ms:
        kept = _readable("retention.ms", config["retention.ms"])
        found.append(f"{spec.name} has retention.ms={kept}; the topology says {Duration(spec.retention_ms)}")
    if int(config["retention.bytes"]) >= 0 and spec.needs_ms is not None:
        kept = _readable("retention.bytes", config["retention.bytes"])
        lost = "at a high rate recovery can't read again what it needs: set it to -1"
        found.append(f"{spec.name} has retention.bytes={kept}: {lost}")
    return found
