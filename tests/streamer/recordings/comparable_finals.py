"""Finals as bytes that may be compared: as encoded, with the moment they were sent set aside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgpack

from streamer.broker import Message


def but_for_emission(value: bytes | None) -> bytes:
    """An encoded AffectEvent without `emitted_at_ms`, the one field that a re-read may change."""
    assert value is not None
    fields = msgpack.unpackb(value)
    fields.pop("emitted_at_ms", None)
    again: bytes = msgpack.packb(fields)
    return again


def finals_by_partition(messages: Iterable[Message]) -> dict[int, list[tuple[bytes | None, bytes]]]:
    """Finals in the order in which they left each partition, as key and comparable bytes."""
    found: dict[int, list[tuple[bytes | None, bytes]]] = defaultdict(list)
    for message in messages:
        found[message.partition].append((message.key, but_for_emission(message.value)))
    return dict(found)
