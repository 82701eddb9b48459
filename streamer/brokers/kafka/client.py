"""What aiokafka's consumers and producers have in common: conversion of partitions and offsets, and stopping."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from aiokafka import structs

from streamer.broker import Committed, TopicPartition
from streamer.brokers.kafka import options as kafka_options

AnswerWithin = Callable[[float], AbstractAsyncContextManager[None]]
"""Limits the seconds a request may take and translates its errors, see `KafkaBroker.answer_within`."""


def kafka_partition(partition: TopicPartition) -> structs.TopicPartition:
    """A partition as aiokafka's type."""
    return structs.TopicPartition(partition.topic, partition.partition)


def kafka_offsets(
    offsets: Mapping[TopicPartition, Committed],
) -> dict[structs.TopicPartition, structs.OffsetAndMetadata]:
    """Offsets to commit as aiokafka's types."""
    return {kafka_partition(p): structs.OffsetAndMetadata(c.offset, c.metadata) for p, c in offsets.items()}


async def stop_client(stopping: Awaitable[None], drop: Callable[[], Awaitable[None]] | None) -> None:
    """Await a client's `stop` for up to CONNECT_SECONDS; if it fails or takes longer, end the client with `drop`."""
    task = asyncio.ensure_future(stopping)  # a separate task: aiokafka's `stop` raises the cancellation of its parts
    done, _ = await asyncio.wait([task], timeout=kafka_options.CONNECT_SECONDS)
    if not done:
        task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if outcome is not None:
        logging.getLogger(__name__).debug("a Kafka client stopped without goodbye: %s", type(outcome).__name__)
        if drop is not None:
            await asyncio.gather(drop(), return_exceptions=True)
