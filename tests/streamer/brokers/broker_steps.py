"""Steps of the broker tests: sending, reading, polling."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.record.util import calc_crc32c

from streamer.broker import Broker, Consumer, Message, Outgoing, TransactionalProducer

PARTITIONS = 4
PATIENCE_MS = 10_000
QUIET_MS = 300  # a poll without records for so long counts as the end

MakeBroker = Callable[[], Broker]
Send = Callable[[Sequence[Outgoing]], Awaitable[None]]
Own = Callable[[str], Awaitable[TransactionalProducer]]


async def read(consumer: Consumer, count: int) -> list[Message]:
    """Exactly `count` messages, or a failed test."""
    found: list[Message] = []
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while len(found) < count:
            found += await consumer.poll(count - len(found), PATIENCE_MS)
    return found


async def polled(*consumers: Consumer, until: Callable[[], bool]) -> None:
    """Poll all consumers until `until` is true, so that they take part in rebalances."""
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while not until():
            for consumer in consumers:
                await consumer.poll(100, 20)


def outgoing(
    topic: str, values: Sequence[bytes], key: bytes | None = b"s", partition: int | None = None
) -> list[Outgoing]:
    """One record for each value, all with the same key."""
    return [Outgoing(topic, key, value, partition=partition) for value in values]


NO_TEXT = "not-utf-8"


def damage_header_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make clients send the header name NO_TEXT as bytes that are not UTF-8, with a valid checksum."""
    original = MessageBatch.get_data_buffer

    def damaged(batch: MessageBatch) -> bytes:
        data = bytearray(original(batch)).replace(NO_TEXT.encode(), b"\xff" * len(NO_TEXT))
        struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
        return bytes(data)

    monkeypatch.setattr(MessageBatch, "get_data_buffer", damaged)
