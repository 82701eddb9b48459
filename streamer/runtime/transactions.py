"""Exactly-once output: each partition's records and the offset it has been read to, in transactions in the background.

Each partition has its own producer, whose start fences the partition's earlier owner (DESIGN §5). Records added while a
transaction is under way go into the next one, so that its latency delays only the records in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streamer.broker import Broker, Committed, TopicPartition, TransactionalProducer
from streamer.errors import StreamerError
from streamer.records import Record
from streamer.runtime.emitting import Emitter

FLUSH_S = 5.0
"""How long a revoked partition may take to commit what is pending; its new owner waits, or fences it."""
MAX_QUEUED = 5000

CommitOffset = Callable[[TopicPartition], Committed | None]
"""A partition to the offset that may be committed for it now, None for none."""


class PartitionTransactions:
    """One partition's transactions, written in the background in the order in which they were added."""

    def __init__(self, producer: TransactionalProducer, partition: TopicPartition, emitter: Emitter) -> None:
        self._producer, self._partition, self._emitter = producer, partition, emitter
        self._queued: list[Record[Any]] = []
        self._offset: Committed | None = None
        self._written: Committed | None = None
        self._added, self._done = asyncio.Event(), asyncio.Event()
        self._done.set()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Fence the earlier owner.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        await self._producer.start()
        self._task = asyncio.create_task(self._write())

    def check(self) -> None:
        """Raise the error of the background task, if it failed; nothing more is written then.

        Raises:
            FencedError: somebody else owns the partition.
            BrokerUnreachableError: not acknowledged in time.
        """
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def add(self, records: Sequence[Record[Any]], offset: Committed) -> None:
        """Queue records and the offset to commit with them; waits while too many are queued."""
        self.check()
        if records or offset != (self._offset or self._written):
            self._queued += records
            self._offset = offset
            self._done.clear()
            self._added.set()
        if len(self._queued) > MAX_QUEUED:
            await self.flush()

    async def flush(self) -> None:
        """Wait until everything queued is committed; raises as `check` does."""
        if self._task is not None:
            done = asyncio.create_task(self._done.wait())
            await asyncio.wait([self._task, done], return_when=asyncio.FIRST_COMPLETED)
            done.cancel()
        self.check()

    async def close(self) -> None:
        """Drop what is not committed and stop the producer; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._producer.stop()

    async def _write(self) -> None:
        while True:
            await self._added.wait()
            self._added.clear()
            records, offset = self._queued, self._offset
            self._queued, self._offset = [], None
            if offset is not None:
                await self._emitter.transact(self._producer, records, {self._partition: offset})
                self._written = offset
            if not self._added.is_set():
                self._done.set()


class Transactions:
    """The transactions of the partitions that one worker owns.

    Args:
        broker: where the topics are.
        name: of app and operator, `<app>.<operator>`: also the group's; with the partition's number it is the
            transactional id.
        emitter: turns records into messages, and counts them.
    """

    def __init__(self, broker: Broker, name: str, emitter: Emitter) -> None:
        self._broker, self._name, self._emitter = broker, name, emitter
        self._open: dict[TopicPartition, PartitionTransactions] = {}

    async def open(self, partition: TopicPartition) -> None:
        """Become the partition's only owner: an earlier one can commit nothing from now on.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        producer = self._broker.transactional(f"{self._name}.{partition.partition}", group=self._name)
        transactions = self._open[partition] = PartitionTransactions(producer, partition, self._emitter)
        await transactions.open()

    async def add(self, records: Sequence[Record[Any]], commit_offset: CommitOffset) -> None:
        """Queue records with their partitions, in order, each with its partition's current commit offset."""
        for partition in dict.fromkeys(record.origin.source for record in records):
            offset, transactions = commit_offset(partition), self._open.get(partition)
            if offset is not None and transactions is not None:  # else it has been lost meanwhile
                await transactions.add([r for r in records if r.origin.source == partition], offset)

    async def add_offsets(self, commit_offset: CommitOffset) -> None:
        """Queue every partition's current commit offset, whether it has records or not."""
        for partition, transactions in list(self._open.items()):
            if (offset := commit_offset(partition)) is not None:
                await transactions.add((), offset)

    async def flush(self) -> None:
        """Wait until everything queued is committed."""
        await asyncio.gather(*(transactions.flush() for transactions in self._open.values()))

    async def lose(self, partitions: frozenset[TopicPartition]) -> None:
        """Give up partitions: commit what is pending, if that can be done soon, and stop."""
        lost = [self._open.pop(partition) for partition in partitions if partition in self._open]
        await asyncio.gather(*(_finished_in_time(transactions.flush()) for transactions in lost))
        await asyncio.gather(*(transactions.close() for transactions in lost))

    async def close(self) -> None:
        """Stop all without committing."""
        opened, self._open = list(self._open.values()), {}
        await asyncio.gather(*(transactions.close() for transactions in opened))


async def _finished_in_time(flushing: Awaitable[None]) -> None:
    """Wait for a flush; what can't be committed is done again by the partition's next owner."""
    try:
        async with asyncio.timeout(FLUSH_S):
            await flushing
    except (TimeoutError, StreamerError):
        return
