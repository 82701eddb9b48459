"""The broker protocols: what the runtime asks of Kafka, and of its in-memory twin. One contract suite runs on both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Message:
    """A stored record as bytes, with its place and its LogAppendTime in Unix milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to append; the partition follows from murmur2(key) as in Kafka's own client unless it is given."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's place in a partition: the next offset to read, and up to 4 KiB of the owner's own notes."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as the topology wants it; all use LogAppendTime. `retention_ms` None leaves the broker's default."""

    name: str
    partitions: int
    retention_ms: int | None = None
    segment_ms: int | None = None
    compact: bool = False


PartitionsChanged = Callable[[frozenset[TopicPartition]], Awaitable[None]]


class Consumer(Protocol):
    """Reads records in offset order within a partition."""

    async def start(self) -> None:
        """Join the group, or assign all partitions where there is no group.

        Raises:
            BrokerUnreachableError: nobody answers.
            TopicMismatchError: a topic does not exist.
        """
        ...

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        """Up to `max_records`, as soon as there is one, or none after `timeout_ms`.

        An error of `on_assigned` or `on_revoked` is raised here.
        """
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this consumer reads now."""
        ...

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """For each assigned partition the offset that its next record will get (an open transaction is not counted)."""
        ...

    def position(self, partition: TopicPartition) -> int | None:
        """The offset the next `poll` continues at in a partition, None while it isn't known."""
        ...

    def caught_up(self, partition: TopicPartition) -> bool:
        """Whether all that is known of a partition has been read; false for one that isn't assigned."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue reading a partition at `offset`."""
        ...

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's commit for a partition, with its metadata."""
        ...

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """Store the group's places.

        Raises:
            FencedError: the group has moved on without this member.
        """
        ...

    async def stop(self) -> None:
        """Leave the group; idempotent; `on_revoked` is not called on this member."""
        ...


class Producer(Protocol):
    """Appends records."""

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        ...

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all, in order for each partition; returns when all are acknowledged.

        Raises:
            BrokerUnreachableError: not acknowledged in time; some may have been appended.
            PayloadError: `too_large`: a record of more than MAX_RECORD_BYTES; `empty`: neither key nor value.
            TopicMismatchError: no such topic or partition.
        """
        ...

    async def stop(self) -> None:
        """Send what is left; idempotent."""
        ...


class TransactionalProducer(Protocol):
    """Appends records and a group's places so that all of a transaction is read, or none of it.

    One owner at a time has an id: who starts last fences those before, whose open transactions are aborted. After any
    error but a PayloadError the owner can't know what was committed: it stops, starts anew and asks the group.
    """

    async def start(self) -> None:
        """Connect, and fence whoever used this id before: once this returns, nothing of theirs can be committed.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        ...

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all, in order for each partition, to the open transaction; opens one where none is.

        Raises:
            FencedError: somebody else has started with this id, or the transaction took longer than its timeout.
            BrokerUnreachableError, PayloadError, TopicMismatchError: as `Producer.send`.
        """
        ...

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """End the transaction, with the group's places as part of it; without records it holds only those.

        Decided when this returns; readers and `Consumer.committed` may show it a moment later, the next owner's `start`
        waits for that moment. Does nothing with neither records nor places.

        Raises:
            FencedError: somebody else has started with this id, or the transaction took longer than its timeout.
            BrokerUnreachableError: not acknowledged in time; it may have been committed.
            StreamerError: a place's metadata is too long; the transaction stays open.
        """
        ...

    async def abort(self) -> None:
        """Drop what was sent since the last commit; nothing where no transaction is open.

        Decided when this returns; what lies behind it may be read a moment later, as with `commit`.

        Raises:
            FencedError: somebody else has started with this id; what was sent is dropped all the same.
            BrokerUnreachableError: not acknowledged in time; it will be dropped at the transaction's timeout.
        """
        ...

    async def stop(self) -> None:
        """Abort what is open and let go; idempotent."""
        ...


class Broker(Protocol):
    """Where consumers and producers come from."""

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None,
        start_at: Literal["earliest", "latest"] = "earliest",
        on_assigned: PartitionsChanged | None = None,
        on_revoked: PartitionsChanged | None = None,
    ) -> Consumer:
        """A consumer of topics, in a group, or of all their partitions without one.

        `on_assigned` is awaited before the first record of a newly assigned partition is handed out (so it may seek).
        `start_at` counts where the group has no commit. Only committed records are read.
        """
        ...

    def producer(self) -> Producer:
        """A plain producer, acknowledged by all replicas."""
        ...

    def transactional(self, transactional_id: str, *, group: str) -> TransactionalProducer:
        """A producer of transactions that carry the places of a group."""
        ...

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing; check the partitions and the timestamp type of what exists.

        Raises:
            TopicMismatchError: names every topic that differs and how.
            BrokerUnreachableError: nobody answers.
        """
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...
