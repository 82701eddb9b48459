"""Kafka producers, plain and transactional.

Both are idempotent: records that the client sends again after a broker died are stored once and in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, errors

from streamer.broker import Committed, Outgoing, TopicPartition
from streamer.brokers import limits
from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.kafka.client import AnswerWithin, kafka_offsets, stop_client
from streamer.brokers.protocol_errors import missing_partition, not_started, producer_fenced
from streamer.errors import BrokerUnreachableError, PayloadError, TopicMismatchError

TRANSACTION_RETRY_MS = 3
"""Pause before a transaction's request is repeated: each one waits for the control records of the last transaction."""

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
        address: host:port[,host:port], for error messages.
        connection: options that every client needs to connect.
        answer_within: limits the time of requests and translates their errors.
    """

    def __init__(self, address: str, connection: Mapping[str, Any], answer_within: AnswerWithin) -> None:
        self._address, self._answer_within = address, answer_within
        self._options: dict[str, Any] = {"enable_idempotence": True, **connection}
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(
            acks="all", linger_ms=0, max_request_size=limits.MAX_RECORD_BYTES, max_batch_size=65_536,
            request_timeout_ms=int(kafka_options.ANSWER_SECONDS * 1000), **self._options,
        )  # fmt: skip
        fences = "transactional_id" in self._options  # Kafka aborts an earlier owner's transaction before it answers
        try:
            async with self._answer_within(kafka_options.ANSWER_SECONDS if fences else kafka_options.CONNECT_SECONDS):
                await self._producer.start()
        except BaseException:
            await self.stop()
            raise

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append messages, see `Producer.send`."""
        producer = self._running()
        try:
            async with self._answer_within(kafka_options.ANSWER_SECONDS):
                pending = [await self._append(producer, m) for m in messages]
                for outcome in await asyncio.gather(*pending, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
        except errors.MessageSizeTooLargeError:
            raise limits.too_large(max(messages, key=lambda m: len(m.value or b""))) from None
        except FENCED as error:
            if "transactional_id" in self._options:
                raise
            why = f"Kafka at {self._address} has lost count of this producer's records ({type(error).__name__})"
            raise BrokerUnreachableError(f"{why}: after an outage, start another") from None

    async def stop(self) -> None:
        """Flush and disconnect."""
        producer, self._producer = self._producer, None
        if producer:
            await stop_client(producer.stop(), lambda: _drop(producer))

    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise not_started("producer")
        return self._producer

    async def _append(self, producer: AIOKafkaProducer, m: Outgoing) -> Awaitable[object]:
        limits.check_not_empty(m)
        if m.partition is not None and m.partition not in await producer.partitions_for(m.topic):
            raise missing_partition(m.topic, m.partition, f"at {self._address}")
        pending = await producer.send(m.topic, m.value, m.key, m.partition, headers=list(m.headers))
        pending.add_done_callback(_retrieve_error)
        acknowledged: Awaitable[object] = pending
        return acknowledged


class KafkaTransactions(KafkaProducer):
    """A transactional aiokafka producer; unusable after any error that does not concern a single record.

    Args:
        address: host:port[,host:port], for error messages.
        connection: options that every client needs to connect.
        answer_within: limits the time of requests and translates their errors.
        transactional_id: `start` fences its earlier owners.
        group: the consumer group whose offsets the transactions include.
    """

    def __init__(
        self,
        address: str,
        connection: Mapping[str, Any],
        answer_within: AnswerWithin,
        transactional_id: str,
        group: str,
    ) -> None:
        super().__init__(address, connection, answer_within)
        self._id, self._group = transactional_id, group
        self._options |= {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": limits.TRANSACTION_MS,
            "retry_backoff_ms": TRANSACTION_RETRY_MS,
        }
        self._open = self._failed = False

    async def start(self) -> None:
        """Connect and fence earlier owners; waits until Kafka has aborted their transactions."""
        self._open = self._failed = False
        await super().start()

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append messages to the open transaction, see `TransactionalProducer.send`."""
        async with self._step() as producer:
            await self._begin(producer)
            await super().send(messages)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the transaction with the group's offsets in it."""
        self._running()
        limits.check_metadata(offsets)  # aiokafka would take Kafka's refusal for an outage
        async with self._step() as producer, self._answer_within(kafka_options.ANSWER_SECONDS):
            await self._begin(producer)
            if offsets:
                await producer.send_offsets_to_transaction(kafka_offsets(offsets), self._group)
            await producer.commit_transaction()
        self._open = False

    async def abort(self) -> None:
        """Discard the records sent since the last commit."""
        if self._open:
            async with self._step() as producer, self._answer_within(kafka_options.ANSWER_SECONDS):
                await producer.abort_transaction()
            self._open = False

    async def stop(self) -> None:
        """Abort the open transaction and disconnect."""
        if self._producer is not None and self._open and not self._failed:
            await stop_client(self.abort(), None)
        if self._producer is not None and self._open:
            end = self._producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - else asyncio logs its error
            if end.done() and not end.cancelled():
                end.exception()
        await super().stop()

    async def _begin(self, producer: AIOKafkaProducer) -> None:
        if not self._open:
            await producer.begin_transaction()
            self._open = True

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[AIOKafkaProducer]:
        """Run one step of a transaction; after an error that does not concern a single record, no other one runs."""
        producer = self._running()
        fenced = producer_fenced(self._id)
        if self._failed:
            raise fenced
        try:
            yield producer
        except (PayloadError, TopicMismatchError):
            raise
        except (*FENCED, errors.IllegalOperation, AssertionError):
            # aiokafka raises the last two where its sender has failed since the last step, or within this one
            self._failed = True
            raise fenced from None
        except BaseException:
            self._failed = True
            raise


def _retrieve_error(pending: asyncio.Future[object]) -> None:
    """Retrieve an error: `send` raises only the first one, and asyncio would log the others as never retrieved."""
    if not pending.cancelled():
        pending.exception()


async def _drop(producer: AIOKafkaProducer) -> None:
    """End what aiokafka's `stop` leaves running when records cannot be flushed."""
    if (task := producer._sender.sender_task) is not None:  # noqa: SLF001 - `stop` would wait for it for ever
        task.cancel()
    await producer.client.close()
