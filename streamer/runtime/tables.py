"""Tables: compacted topics as live mappings of key to latest payload; never committed, the latest offset wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from streamer.broker import Broker, Message
from streamer.operator import Context, TableWatcher
from streamer.payloads import Keyed, Refusal
from streamer.records import Record
from streamer.runtime.decoding import to_record

_BATCH = 500


class Tables:
    """One operator's tables: `load` reads them from the beginning to their end, `refresh` takes in what came since.

    Args:
        broker: where the topics are.
        payloads: table name to the struct its records hold.
        partitions: of every topic.
        context: the operator's; its `tables` are filled in place.
        watcher: the operator, which may have an `on_table`.
    """

    def __init__(
        self,
        broker: Broker,
        payloads: Mapping[str, type[Keyed]],
        partitions: int,
        context: Context,
        watcher: object,
    ) -> None:
        self._payloads, self._partitions, self._context = payloads, partitions, context
        self._on_table = cast(TableWatcher, watcher).on_table if hasattr(watcher, "on_table") else None
        self._consumer = broker.consumer(list(payloads), group=None) if payloads else None

    async def load(self) -> Sequence[Record[Any]]:
        """Read every table to its end; returns the records that the operator writes because of the latest ones.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        if self._consumer is None:
            return ()
        for name in self._payloads:  # after an outage: compaction may have removed what was deleted meanwhile
            self._context.tables[name].clear()
        await self._consumer.start()
        ends = await self._consumer.end_offsets()
        messages: list[Message] = []
        while any((self._consumer.position(tp) or 0) < end for tp, end in ends.items()):
            messages += await self._consumer.poll(_BATCH, timeout_ms=200)
        return self._take(messages)

    async def refresh(self) -> Sequence[Record[Any]]:
        """Take in new records without waiting; returns the records that the operator writes because of them."""
        return () if self._consumer is None else self._take(await self._consumer.poll(_BATCH, timeout_ms=0))

    async def stop(self) -> None:
        """Release the consumer."""
        if self._consumer is not None:
            await self._consumer.stop()

    def _take(self, messages: Sequence[Message]) -> Sequence[Record[Any]]:
        outputs: list[Record[Any]] = []
        latest: dict[tuple[str, str], Record[Any]] = {}
        for message in messages:
            table, key = self._context.tables[message.topic], (message.key or b"").decode(errors="surrogateescape")
            tombstone = message.value is None  # compaction's way to delete
            record = to_record(message, self._payloads, self._partitions, self._context)
            refused = isinstance(record.payload, Refusal)
            if refused and not tombstone:
                outputs.append(record)
            if not refused:
                table[key] = record.payload
            elif tombstone or self._payloads[message.topic].FAILS_CLOSED:
                table.pop(key, None)
                record = replace(record, payload=None)
            else:
                continue
            latest[message.topic, key] = record
        if self._on_table is not None:
            outputs += [out for (topic, _), r in latest.items() for out in self._on_table(topic, r)]
        return outputs
