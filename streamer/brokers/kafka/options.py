"""Options of Kafka clients and topics, from the settings and the topic specs; and a filter of the clients' log."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any

from streamer.broker import TopicSpec
from streamer.brokers.protocol_errors import partitions_differ
from streamer.errors import ConfigurationError, Problem
from streamer.settings import Settings

CONNECT_SECONDS = 5.0  # to connect; then the broker counts as unreachable
ANSWER_SECONDS = 10.0  # for a request to a broker after the client has connected
RETRY_MS = 20  # during an outage a client pair takes 4 % of a core, with 3 ms (needed only by transactions) 13 %
REPEAT_SECONDS = 30.0  # an outage is logged once in this time, not at each attempt
RETRY_MESSAGES = (  # logged by parts of a client about a lost connection, which is also logged once or raised
    "Got error produce response", "Cannot send", "Could not send", "Failed fetch messages", "Unable to update metadata",
    "Unable to request metadata", "Error sending", "Marking the coordinator dead", "Heartbeat s", "Heartbeat failed",
    "Group Coordinator Request failed", "LeaveGroup request failed",
)  # fmt: skip


class _RepetitionFilter(logging.Filter):
    """Drops RETRY_MESSAGES, and logs any other message once in REPEAT_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is logged."""
        if str(record.msg).startswith(RETRY_MESSAGES):
            return False
        repeated = record.created - self._last.get(record.msg, 0.0) < REPEAT_SECONDS
        if not repeated:
            self._last[record.msg] = record.created
        return not repeated


def filter_client_log() -> None:
    """Keep payloads (aiokafka logs them at DEBUG) and repetition out of the log; idempotent."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    for name in ("", ".conn", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender"):
        logger = logging.getLogger(f"aiokafka{name}")
        if not any(isinstance(f, _RepetitionFilter) for f in logger.filters):
            logger.addFilter(_RepetitionFilter())


def connection_options(settings: Settings, address: str) -> dict[str, Any]:
    """The options that every client needs to connect.

    Raises:
        ConfigurationError: SASL without credentials, a CA file that cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": address,
        "security_protocol": settings.security_protocol,
        "retry_backoff_ms": RETRY_MS,
    }
    if settings.security_protocol.endswith("SSL"):
        try:
            options["ssl_context"] = ssl.create_default_context(cafile=settings.ssl_cafile)
        except OSError as error:
            problem = Problem("STREAMER_SSL_CAFILE", f"{settings.ssl_cafile}: {error.strerror or error}")
            raise ConfigurationError("environment", [problem]) from None
    if settings.security_protocol.startswith("SASL"):
        if settings.sasl_username is None or settings.sasl_password is None:
            missing = f"needed by {settings.security_protocol}"
            problems = [Problem("STREAMER_SASL_USERNAME", missing), Problem("STREAMER_SASL_PASSWORD", missing)]
            raise ConfigurationError("environment", problems)
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


COMPARED = ("message.timestamp.type", "cleanup.policy")
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
    """How an existing topic differs from its spec, one line for each difference."""
    found = partitions_differ(spec, partitions)
    if config["message.timestamp.type"] != "LogAppendTime":
        found.append(f"{spec.name} has message.timestamp.type={config['message.timestamp.type']}, not LogAppendTime")
    if ("compact" in config["cleanup.policy"]) != spec.compact:
        wanted = topic_attributes(spec)["cleanup.policy"]
        found.append(f"{spec.name} has cleanup.policy={config['cleanup.policy']}, not {wanted}")
    return found
