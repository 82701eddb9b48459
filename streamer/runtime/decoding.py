"""Decoding and admission: messages to records, checked, and thinned out by the queue policy. Every drop is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec

from streamer.broker import Message
from streamer.brokers.partitioner import partition_for
from streamer.errors import PayloadError
from streamer.metrics import Reason
from streamer.modality import check_declared
from streamer.operator import Context
from streamer.payloads import SCHEMA_HEADER, TICK_HEADER, TRACE_HEADER, Keyed, SessionKeyed, Tick, decode
from streamer.records import Origin, Record
from streamer.topology.topology import OperatorSpec

MAX_SKEW_MS = 5000
"""Event time this far ahead of a record's own Kafka time means a wrong clock (DESIGN §5)."""
MOMENTS = ("event_time_ms", "disclosed_at_ms", "expires_ms")
"""Fields that are moments near to the record's own."""
DAY_MS = 24 * 3_600_000
DECADE_MS = 10 * 365 * DAY_MS
QUARTER_MS = 15 * 60_000
MOST_QUARTERS = 14 * 4
"""Of an hour: the clocks of Kiribati are 14 h ahead of UTC."""
_UNITS = (  # what clients count time in by mistake: the unit in ms, and its epoch in Unix ms
    ("seconds", 1000.0, 0),
    ("microseconds", 1e-3, 0),
    ("nanoseconds", 1e-6, 0),
    (".NET ticks", 1e-4, -62_135_596_800_000),  # 100 ns since the year 1
    ("Windows file time", 1e-4, -11_644_473_600_000),  # 100 ns since 1601
    ("seconds since 1900 (NTP)", 1000.0, -2_208_988_800_000),
    ("seconds since 2001 (Apple)", 1000.0, 978_307_200_000),
    ("milliseconds since 2001 (Apple)", 1.0, 978_307_200_000),
)
LONGEST_KEY_BYTES = 1024
"""A record's key is the id of a session or an item; a longer one is a mistake, and would not fit our own records."""


def to_record(
    message: Message,
    payloads: Mapping[str, type[Keyed]],
    partitions: int,
    context: Context,
    max_skew_ms: int | None = MAX_SKEW_MS,
) -> Record[Any]:
    """Decode a message; a record that can't be used has a Refusal as its payload, a tick a Tick.

    Args:
        message: from Kafka.
        payloads: topic to the payload type it holds.
        partitions: of every topic.
        context: the operator's, which counts.
        max_skew_ms: how far event time may be ahead of Kafka time; None leaves that to a windowed operator, which
            compares with its partition's Kafka time.
    """
    headers = {name: value or b"" for name, value in message.headers}  # Kafka's header values may be null
    origin = Origin(message.topic, message.partition, message.offset)
    key = (message.key or b"")[:LONGEST_KEY_BYTES].decode(errors="surrogateescape")
    trace = headers.get(TRACE_HEADER, b"").decode(errors="replace") or None
    record: Record[Any] = Record(key, message.timestamp_ms, message.timestamp_ms, None, origin, trace)
    if TICK_HEADER in headers:
        return record.derive(Tick(event_time_ms=message.timestamp_ms))
    if len(message.key or b"") > LONGEST_KEY_BYTES:
        return record.refuse("undecodable", f"the record key is longer than {LONGEST_KEY_BYTES} bytes")
    schema = headers.get(SCHEMA_HEADER, b"").decode(errors="replace") or None
    try:
        payload = decode(message.value, payloads[message.topic], schema)
        if others := check_declared(payload, context.modalities):
            context.metrics.count("unknown_modality", others)
            if context.metrics.totals["unknown_modality"] == others:
                context.log.warning(
                    "%s: a record names a modality that this topology does not declare: it is left aside", message.topic
                )
        payload = _timed(payload, message, max_skew_ms, context)
        if isinstance(payload, SessionKeyed):
            _check_key(payload, message)
            if message.partition != partition_for(message.key or b"", partitions):
                _warn_of_foreign(message.topic, context)
                record = replace(record, foreign=True)
    except PayloadError as error:
        return record.refuse(error.reason, error.detail)
    return record.derive(payload)


def _timed(payload: Keyed, message: Message, max_skew_ms: int | None, context: Context) -> Keyed:
    """The payload, if its times can be right; one that counts whatever its clock says gets its Kafka time instead."""
    try:
        _check_units(payload, message.timestamp_ms)
        if isinstance(payload, SessionKeyed) and max_skew_ms is not None:
            context.metrics.clocks.observe(
                payload.session_id, message.topic, payload.event_time_ms, message.timestamp_ms
            )
        _check_time(payload, message, max_skew_ms)
    except PayloadError as error:
        if not payload.COUNTS_WITHOUT_CLOCK:
            raise
        context.metrics.count(cast("Reason", error.reason))
        context.log.warning("%s: %s; its Kafka time is taken instead", message.topic, error.detail)
        return msgspec.structs.replace(payload, event_time_ms=message.timestamp_ms)
    return payload


def _check_units(payload: Keyed, kafka_ms: int) -> None:
    """Refuse a moment that would be within a day of its Kafka time if its number were of another unit or epoch."""
    for name in MOMENTS:
        moment = getattr(payload, name, None)
        if not isinstance(moment, int) or abs(moment - kafka_ms) < DAY_MS:
            continue
        for unit, in_ms, epoch_ms in _UNITS:
            if abs(moment * in_ms + epoch_ms - kafka_ms) < DAY_MS:
                raise PayloadError("clock_unit", f"{name} is in {unit}; it must be Unix milliseconds UTC")
        live = payload.COUNTS_WITHOUT_CLOCK or (isinstance(payload, SessionKeyed) and not payload.FAILS_CLOSED)
        if live and 0 <= moment < kafka_ms - DECADE_MS:
            years = round((kafka_ms - moment) / (365 * DAY_MS))
            why = f"{name} is {years} years before its Kafka time: does it count from a start of its own?"
            raise PayloadError("clock_unit", f"{why} It must be Unix milliseconds UTC")


def _check_time(payload: Keyed, message: Message, max_skew_ms: int | None) -> None:
    if payload.event_time_ms < 0:
        raise PayloadError("undecodable", "event_time_ms is negative; it is Unix milliseconds UTC")
    ahead_ms = payload.event_time_ms - message.timestamp_ms
    if max_skew_ms is not None and ahead_ms > max_skew_ms:
        raise PayloadError("clock_skew", f"event_time_ms is {ahead_ms} ms ahead of its Kafka time{_zone(ahead_ms)}")


def _zone(ahead_ms: int) -> str:
    """A guess for times that are ahead by whole quarters of an hour, as local times are; else nothing."""
    quarters = round(ahead_ms / QUARTER_MS)
    if not 0 < quarters <= MOST_QUARTERS or abs(ahead_ms - quarters * QUARTER_MS) > MAX_SKEW_MS:
        return ""
    return f", {quarters / 4:g} h: is it local time instead of UTC?"


def _check_key(payload: SessionKeyed, message: Message) -> None:
    if not payload.session_id:
        raise PayloadError("undecodable", "session_id is empty")
    if message.key is None or message.key != payload.session_id.encode():
        raise PayloadError("undecodable", "the record key is not the session_id")


def _warn_of_foreign(topic: str, context: Context) -> None:
    context.metrics.count("foreign_partition")
    if topic not in context.warned:
        context.warned.add(topic)
        context.log.warning(
            "%s: a record's partition is not murmur2 of its key: where two workers run, a list finds no affect; "
            "set its producer's partitioner (librdkafka and its bindings: partitioner=murmur2_random; sarama: a "
            "custom one by murmur2; Java, kafka-python, aiokafka, franz-go and kafkajs have it by default)",
            topic,
        )


def admit(records: Sequence[Record[Any]], spec: OperatorSpec, context: Context) -> list[Record[Any]]:
    """The records of a poll that their topic's queue policy admits, in order; the rest counts as `busy` or `stale`."""
    if context.settings.queue == "all":
        return list(records)
    now_ms = context.clock.now_ms()
    oldest_ms = {topic: now_ms - age for topic in spec.reads if (age := spec.queue_of(topic).max_age) is not None}
    fresh = [r for r in records if r.kafka_ms >= oldest_ms.get(r.origin.topic, 0)]
    context.metrics.count("stale", len(records) - len(fresh))
    last = {_stream(r): r.origin for r in fresh}
    latest = [t for t in spec.reads if spec.queue_of(t).policy == "latest"]
    admitted = [r for r in fresh if r.origin.topic not in latest or last[_stream(r)] == r.origin]
    context.metrics.count("busy", len(fresh) - len(admitted))
    return admitted


def _stream(record: Record[Any]) -> tuple[str, str, str | None]:
    return record.key, record.origin.topic, getattr(record.payload, "source_id", None)
