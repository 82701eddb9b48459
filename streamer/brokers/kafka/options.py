"""What Kafka clients are told: settings and topic specs in, option dictionaries out; and what their log may say."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any

from streamer.broker import TopicSpec
from streamer.errors import ConfigurationError, Problem
from streamer.settings import Settings

CONNECT_SECONDS = 5.0  # until nobody is considered to be there
ANSWER_SECONDS = 10.0  # for an append, a commit or a question to a broker that was there
RETRY_MS = 20  # an outage costs one client pair 4 % of a core with it, 13 % with 3 ms (which only transactions want)
REPEAT_SECONDS = 30.0  # an outage is logged once in this time, not at each attempt
NO_NEWS = (  # what each part of a client says of a broker that can't be connected to, which is said once, or raised
    "Got error produce response", "Cannot send", "Could not send", "Failed fetch messages", "Unable to update metadata",
    "Unable to request metadata", "Error sending", "Marking the coordinator dead", "Heartbeat s", "Heartbeat failed",
    "Group Coordinator Request failed", "LeaveGroup request failed",
)  # fmt: skip


class _Calm(logging.Filter):
    """Drops what is no news, as a retry (its failing is raised), and says anything else once in REPEAT_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is logged."""
        if str(record.msg).startswith(NO_NEWS):
            return False
        repeated = record.created - self._last.get(record.msg, 0.0) < REPEAT_SECONDS
        if not repeated:
            self._last[record.msg] = record.created
        return not repeated


def calm_the_log() -> None:
    """Keep payload (aiokafka logs it at DEBUG) and endless repetition out of the log; idempotent."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    for name in ("", ".conn", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender"):
        logger = logging.getLogger(f"aiokafka{name}")
        if not any(isinstance(f, _Calm) for f in logger.filters):
            logger.addFilter(_Calm())


def connection_options(settings: Settings, address: str) -> dict[str, Any]:
    """What every client needs to connect.

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
"""The settings of a topic that must be as the topology says."""


COMPACTED_WITHIN_MS = 60_000
"""How soon Kafka drops what a table's newer record has replaced, so that a deletion deletes. Its default is never."""


def topic_attributes(spec: TopicSpec) -> dict[str, str]:
    """A topic's attributes as Kafka names them."""
    wanted = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "compact" if spec.compact else "delete",
        "retention.ms": spec.retention_ms,
        "segment.ms": COMPACTED_WITHIN_MS if spec.compact else spec.segment_ms,
        "max.compaction.lag.ms": COMPACTED_WITHIN_MS if spec.compact else None,
    }
    return {name: str(value) for name, value in wanted.items() if value is not None}


def topic_differences(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> list[str]:
    """How an existing topic differs from the one wanted, one sentence each."""
    found = []
    if partitions != spec.partitions:
        found.append(f"{spec.name} has {partitions} partitions, not {spec.partitions}")
    if config["message.timestamp.type"] != "LogAppendTime":
        found.append(f"{spec.name} has message.timestamp.type={config['message.timestamp.type']}, not LogAppendTime")
    if ("compact" in config["cleanup.policy"]) != spec.compact:
        wanted = topic_attributes(spec)["cleanup.policy"]
        found.append(f"{spec.name} has cleanup.policy={config['cleanup.policy']}, not {wanted}")
    return found
