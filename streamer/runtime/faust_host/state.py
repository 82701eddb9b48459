"""The state that an operator on Faust keeps: a Faust table, seen as a mapping from text to bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, MutableMapping

from streamer.brokers.partitioner import partition_for

STATE = "state"
"""The table an operator finds in its context besides its own: text keys to bytes, kept in a changelog topic.

A key is a session's id, or that, a zero byte and the name of a part; the session's id decides the partition.
"""


class State(MutableMapping[str, bytes]):
    """A Faust table of bytes as a mapping from text; empty until Faust has made the table.

    Faust keeps standby copies and what was of lost partitions in the same table: iteration leaves them out.
    """

    def __init__(self, partitions: int) -> None:
        self.table: MutableMapping[bytes, bytes] = {}
        self.owned: Callable[[], Collection[int]] = tuple
        self._partitions = partitions

    def __getitem__(self, key: str) -> bytes:
        return self.table[_bytes(key)]

    def __setitem__(self, key: str, value: bytes) -> None:
        self.table[_bytes(key)] = value

    def __delitem__(self, key: str) -> None:
        del self.table[_bytes(key)]

    def __iter__(self) -> Iterator[str]:
        owned = self.owned()
        keys = [key for key in self.table if partition_of(key, self._partitions) in owned]
        return (key.decode(errors="surrogateescape") for key in keys)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogateescape")


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a state key: that of the session's id before its zero byte."""
    return partition_for(key.partition(b"\0")[0], partitions)
