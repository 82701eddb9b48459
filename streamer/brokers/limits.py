"""Limits that every broker enforces, with Kafka's default sizes."""

from __future__ import annotations

from collections.abc import Mapping

from streamer.broker import Committed, Outgoing, TopicPartition
from streamer.errors import PayloadError, StreamerError

MAX_RECORD_BYTES = 1_048_576
"""Of one record with key, headers and framing."""
METADATA_BYTES = 4096
"""Of a commit's metadata."""
TRANSACTION_MS = 10_000
"""A transaction open for longer is aborted, and its producer fenced."""


def check_metadata(offsets: Mapping[TopicPartition, Committed]) -> None:
    """Check the size of each offset's metadata.

    Raises:
        StreamerError: more than METADATA_BYTES.
    """
    if any(len(committed.metadata.encode()) > METADATA_BYTES for committed in offsets.values()):
        raise StreamerError(f"a commit's metadata is longer than {METADATA_BYTES} bytes")


def check_not_empty(record: Outgoing) -> None:
    """Check that a record has a key or a value.

    Raises:
        PayloadError: `empty`, it has neither.
    """
    if record.key is None and record.value is None:
        raise PayloadError("empty", f"a record of topic {record.topic} has neither key nor value")


def too_large(record: Outgoing) -> PayloadError:
    """The error for a record of more than MAX_RECORD_BYTES."""
    detail = f"a record of {len(record.value or b'')} bytes is more than topic {record.topic} takes"
    return PayloadError("too_large", detail)
