"""Producers of a real Kafka, plain and transactional: records in, appended records out. Imports aiokafka.

Both are idempotent: an append that is tried again, by a client whose broker died, is there once and in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, errors, structs

from streamer.broker import Committed, Outgoing, TopicPartition
from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.limits import MAX_RECORD_BYTES, check_metadata
from streamer.errors import BrokerUnreachableError, FencedError, PayloadError, StreamerError, TopicMismatchError

TRANSACTION_MS = 10_000
"""A transaction open for longer is aborted by Kafka, and its producer fenced."""
TRANSACTION_RETRY_MS = 3
"""How soon a step of a transaction is asked for again: each one waits for the last one's markers."""

Answering = Callable[[float], AbstractAsyncContextManager[None]]

FENCED = (
    errors.ProducerFenced,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.InvalidTxnState,
    errors.OutOfOrderSequenceNumber,
    errors.UnknownProducerId,
)


class KafkaProducer:
    """One aiokafka producer, acknowledged by all replicas.

    Args:
        address: for messages.
        connection: how to connect.
        answering: translates what goes wrong within.
    """

    def __init__(self, address: str, connection: Mapping[str, Any], answering: Answering) -> None:
        self._address, self._answering = address, answering
        self._options: dict[str, Any] = {"enable_idempotence": True, **connection}
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(
            acks="all", linger_ms=0, max_request_size=MAX_RECORD_BYTES, max_batch_size=65_536,
            request_timeout_ms=int(kafka_options.ANSWER_SECONDS * 1000), **self._options,
        )  # fmt: skip
        ends_others = "transactional_id" in self._options  # which may take Kafka longer than to answer
        patience = kafka_options.ANSWER_SECONDS if ends_others else kafka_options.CONNECT_SECONDS
        try:
            async with self._answering(patience):
                await self._producer.start()
        except BaseException:
            await self.stop()
            raise

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all, see the protocol."""
        producer = self._running()
        try:
            async with self._answering(kafka_options.ANSWER_SECONDS):
                pending = [await self._append(producer, m) for m in messages]
                for outcome in await asyncio.gather(*pending, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
        except errors.MessageSizeTooLargeError:
            largest = max(messages, key=lambda m: len(m.value or b""))
            detail = f"a record of {len(largest.value or b'')} bytes is more than topic {largest.topic} takes"
            raise PayloadError("too_large", detail) from None
        except FENCED as error:
            if "transactional_id" in self._options:
                raise
            why = f"Kafka at {self._address} has lost count of this producer's records ({type(error).__name__})"
            raise BrokerUnreachableError(f"{why}: after an outage, start another") from None

    async def stop(self) -> None:
        """Send what is left."""
        producer, self._producer = self._producer, None
        if producer:
            await ended(producer.stop(), lambda: _drop(producer))

    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise StreamerError("this producer has not been started, or was stopped")
        return self._producer

    async def _append(self, producer: AIOKafkaProducer, m: Outgoing) -> Awaitable[object]:
        if m.key is None and m.value is None:
            raise PayloadError("empty", f"a record of topic {m.topic} has neither key nor value")
        if m.partition is not None and m.partition not in await producer.partitions_for(m.topic):
            raise TopicMismatchError(f"topic {m.topic} at {self._address} has no partition {m.partition}")
        pending = await producer.send(m.topic, m.value, m.key, m.partition, headers=list(m.headers))
        pending.add_done_callback(_heard)
        found: Awaitable[object] = pending
        return found


class KafkaTransactions(KafkaProducer):
    """A transactional aiokafka producer; whatever fails but for one record's sake ends it, as the protocol says.

    Args:
        address: for messages.
        connection: how to connect.
        answering: translates what goes wrong within.
        transactional_id: whose start fences its earlier owners.
        group: whose places the transactions carry.
    """

    def __init__(
        self, address: str, connection: Mapping[str, Any], answering: Answering, transactional_id: str, group: str
    ) -> None:
        super().__init__(address, connection, answering)
        self._id, self._group = transactional_id, group
        self._options |= {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": TRANSACTION_MS,
            "retry_backoff_ms": TRANSACTION_RETRY_MS,
        }
        self._open, self._over = False, False

    async def start(self) -> None:
        """Connect, and fence earlier owners; waits while Kafka ends what they had begun."""
        self._open = self._over = False
        await super().start()

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all to the open transaction, see the protocol."""
        async with self._stepping() as producer:
            await self._begin(producer)
            await super().send(messages)

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """End the transaction with the group's places in it."""
        self._running()
        check_metadata(places)  # aiokafka would take Kafka's refusal for an outage
        offsets = {
            structs.TopicPartition(p.topic, p.partition): structs.OffsetAndMetadata(c.offset, c.metadata)
            for p, c in places.items()
        }
        async with self._stepping() as producer, self._answering(kafka_options.ANSWER_SECONDS):
            await self._begin(producer)
            if offsets:
                await producer.send_offsets_to_transaction(offsets, self._group)
            await producer.commit_transaction()
        self._open = False

    async def abort(self) -> None:
        """Drop what was sent since the last commit."""
        if self._open:
            async with self._stepping() as producer, self._answering(kafka_options.ANSWER_SECONDS):
                await producer.abort_transaction()
            self._open = False

    async def stop(self) -> None:
        """Abort what is open and let go."""
        if self._producer is not None and self._open and not self._over:
            await ended(self.abort(), None)
        if self._producer is not None and self._open:
            end = self._producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - or asyncio tells of its error
            if end.done() and not end.cancelled():
                end.exception()
        await super().stop()

    async def _begin(self, producer: AIOKafkaProducer) -> None:
        if not self._open:
            await producer.begin_transaction()
            self._open = True

    @asynccontextmanager
    async def _stepping(self) -> AsyncIterator[AIOKafkaProducer]:
        """One step of a transaction; after a failure that isn't a record's own, the producer is of no more use."""
        producer = self._running()
        fenced = FencedError(f"transactional id {self._id}: somebody else owns it now, or its transaction timed out")
        if self._over:
            raise fenced
        try:
            yield producer
        except (PayloadError, TopicMismatchError):
            raise
        except (*FENCED, errors.IllegalOperation, AssertionError):
            # the last two are aiokafka's words where its sender has failed since the step before, or within this one
            self._over = True
            raise fenced from None
        except BaseException:
            self._over = True
            raise


def _heard(pending: asyncio.Future[object]) -> None:
    """Take note of an error, or asyncio tells of it where a record before this one has failed already."""
    if not pending.cancelled():
        pending.exception()


async def ended(stopping: Awaitable[None], drop: Callable[[], Awaitable[None]] | None) -> None:
    """Let a client stop; one that cannot say goodbye to its broker is dropped."""
    task = asyncio.ensure_future(stopping)  # its own: aiokafka lets the cancellation of its parts out of `stop`
    done, _ = await asyncio.wait([task], timeout=kafka_options.CONNECT_SECONDS)
    if not done:
        task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if outcome is not None:
        logging.getLogger(__name__).debug("a Kafka client stopped without goodbye: %s", type(outcome).__name__)
        if drop is not None:
            await asyncio.gather(drop(), return_exceptions=True)


async def _drop(producer: AIOKafkaProducer) -> None:
    """End what aiokafka's `stop` leaves running when nobody takes what is still to be sent."""
    if (task := producer._sender.sender_task) is not None:  # noqa: SLF001 - `stop` waits for it first, for ever
        task.cancel()
    await producer.client.close()
