"""Sizes that every broker here keeps to: Kafka's own defaults."""

from __future__ import annotations

from collections.abc import Mapping

from streamer.broker import Committed, TopicPartition
from streamer.errors import StreamerError

MAX_RECORD_BYTES = 1_048_576
"""Of one record with key, headers and framing."""
METADATA_BYTES = 4096
"""Of a commit's metadata."""


def check_metadata(places: Mapping[TopicPartition, Committed]) -> None:
    """Refuse places whose metadata a Kafka would refuse.

    Raises:
        StreamerError: more than METADATA_BYTES.
    """
    if any(len(place.metadata.encode()) > METADATA_BYTES for place in places.values()):
        raise StreamerError(f"a commit's metadata is longer than {METADATA_BYTES} bytes")
