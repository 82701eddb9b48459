"""Exactly-once output: records of a partition and how far it has been read in, one transaction after the other out.

Each partition has a producer of its own, whose start fences the partition's earlier owner (DESIGN §5). What gathers
while a transaction is under way goes into the next one, so its latency holds up nobody but the records in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streamer.broker import Broker, Committed, TopicPartition, TransactionalProducer
from streamer.errors import StreamerError
from streamer.records import Record
from streamer.runtime.emitting import Outlet

FLUSH_S = 5.0
"""How long a partition that is given up may take to commit what is in hand; its new owner waits, or fences."""
_MANY = 5000


class Ledger:
    """One partition's transactions, written in the background in the order in which they were added."""

    def __init__(self, producer: TransactionalProducer, partition: TopicPartition, outlet: Outlet) -> None:
        self._producer, self._partition, self._outlet = producer, partition, outlet
        self._waiting: list[Record[Any]] = []
        self._place: Committed | None = None
        self._written: Committed | None = None
        self._news, self._done = asyncio.Event(), asyncio.Event()
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
        """Raise what went wrong in the background; after that nothing more is written.

        Raises:
            FencedError: somebody else owns the partition.
            BrokerUnreachableError: not acknowledged in time.
        """
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def add(self, records: Sequence[Record[Any]], place: Committed) -> None:
        """Take over records and the place that stands once they are written; waits while very many are not."""
        self.check()
        if records or place != (self._place or self._written):
            self._waiting += records
            self._place = place
            self._done.clear()
            self._news.set()
        if len(self._waiting) > _MANY:
            await self.flush()

    async def flush(self) -> None:
        """Return when all that was added is committed, or raise as `check` does."""
        if self._task is not None:
            done = asyncio.create_task(self._done.wait())
            await asyncio.wait([self._task, done], return_when=asyncio.FIRST_COMPLETED)
            done.cancel()
        self.check()

    async def close(self) -> None:
        """Drop what is not committed and let go of the producer; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._producer.stop()

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            records, place = self._waiting, self._place
            self._waiting, self._place = [], None
            if place is not None:
                await self._outlet.transact(self._producer, records, {self._partition: place})
                self._written = place
            if not self._news.is_set():
                self._done.set()


class Ledgers:
    """The ledgers of the partitions that one worker owns.

    Args:
        broker: where the topics are.
        name: of app and operator, `<app>.<operator>`: also the group's; with the partition's number it is the
            transactional id.
        outlet: turns records into messages, and counts them.
    """

    def __init__(self, broker: Broker, name: str, outlet: Outlet) -> None:
        self._broker, self._name, self._outlet = broker, name, outlet
        self._open: dict[TopicPartition, Ledger] = {}

    async def open(self, partition: TopicPartition) -> None:
        """Become a partition's one owner: whoever was before can commit nothing from now on.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        producer = self._broker.transactional(f"{self._name}.{partition.partition}", group=self._name)
        ledger = self._open[partition] = Ledger(producer, partition, self._outlet)
        await ledger.open()

    async def add(self, records: Sequence[Record[Any]], place: Callable[[TopicPartition], Committed | None]) -> None:
        """Hand records to their partitions' ledgers, in order, with those partitions' places as they stand now."""
        for partition in dict.fromkeys(record.origin.source for record in records):
            stands, ledger = place(partition), self._open.get(partition)
            if stands is not None and ledger is not None:  # else it has been lost meanwhile
                await ledger.add([r for r in records if r.origin.source == partition], stands)

    async def mark(self, place: Callable[[TopicPartition], Committed | None]) -> None:
        """Hand over how far every partition has been read, whether anything came of it or not."""
        for partition, ledger in list(self._open.items()):
            if (stands := place(partition)) is not None:
                await ledger.add((), stands)

    async def flush(self) -> None:
        """Return when all is committed."""
        await asyncio.gather(*(ledger.flush() for ledger in self._open.values()))

    async def lose(self, partitions: frozenset[TopicPartition]) -> None:
        """Give partitions up: commit what is in hand if that can be done at once, and let go."""
        lost = [self._open.pop(partition) for partition in partitions if partition in self._open]
        await asyncio.gather(*(_settled(ledger.flush()) for ledger in lost))
        await asyncio.gather(*(ledger.close() for ledger in lost))

    async def close(self) -> None:
        """Let go of all without a word more."""
        ledgers, self._open = list(self._open.values()), {}
        await asyncio.gather(*(ledger.close() for ledger in ledgers))


async def _settled(flushing: Awaitable[None]) -> None:
    """What can't be committed now is done again by the partition's next owner."""
    try:
        async with asyncio.timeout(FLUSH_S):
            await flushing
    except (TimeoutError, StreamerError):
        return
