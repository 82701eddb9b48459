"""Calls a consumer's rebalance callbacks."""

from __future__ import annotations

from collections.abc import Iterable

from streamer.broker import PartitionsChanged, TopicPartition


class RebalanceCallbacks:
    """`on_assigned` and `on_revoked` of a consumer.

    An error of a callback concerns only its own consumer, so it must not end the rebalance of the other members: it is
    stored until the consumer's next `poll`.
    """

    def __init__(self, on_assigned: PartitionsChanged | None, on_revoked: PartitionsChanged | None) -> None:
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._error: Exception | None = None

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Call `on_assigned`, unless there are no partitions."""
        await self._call(self._on_assigned, frozenset(partitions))

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Call `on_revoked`, unless there are no partitions."""
        await self._call(self._on_revoked, frozenset(partitions))

    def raise_error(self) -> None:
        """Raise the error of an earlier call, once."""
        if self._error:
            error, self._error = self._error, None
            raise error

    async def _call(self, callback: PartitionsChanged | None, partitions: frozenset[TopicPartition]) -> None:
        if callback and partitions:
            try:
                await callback(partitions)
            except Exception as error:  # noqa: BLE001 - any error of the owner's code is raised by `raise_error`
                self._error = error
