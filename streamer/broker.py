"""The broker protocols, implemented by Kafka and by an in-memory broker; one contract suite runs on both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Message:
    """A stored record as bytes, with its partition, its offset and its LogAppendTime in Unix milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to append. Unless `partition` is given, it is murmur2(key) as in Kafka's Java client."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's committed offset in a partition: the next one to read, and up to 4 KiB of metadata."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that the topology declares; all use LogAppendTime. None leaves the broker's default.

    `needs_ms` is how long its records must be kept at least, so that operators can recover by reading them again.
    """

    name: str
    partitions: int
    retention_ms: int | None = None
    segment_ms: int | None = None
    compact: bool = False
    needs_ms: int | None = None


class Right(NamedTuple):
    """A right of Kafka's ACLs.

    Args:
        resource: of which kind it is.
        name: of the topic, group or transactional id.
        operation: as Kafka calls it.
    """

    resource: Literal["topic", "group", "transactional_id"]
    name: str
    operation: Literal["Read", "Write", "Create", "DescribeConfigs"]

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource.replace('_', ' ')} {self.name}"


class HeldBack(NamedTuple):
    """What a partition holds that readers may not see yet.

    Args:
        stable_offset: of the first record of an open transaction; what lies before it may be read.
        records: how many offsets there are from it to the partition's end.
    """

    stable_offset: int
    records: int


PartitionsChanged = Callable[[frozenset[TopicPartition]], Awaitable[None]]


class Consumer(Protocol):
    """Reads records in offset order within a partition."""

    async def start(self) -> None:
        """Join the group; without one, assign all partitions of the topics.

        Raises:
            BrokerUnreachableError: no broker answers.
            TopicMismatchError: a topic does not exist.
        """
        ...

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        """Return up to `max_records` as soon as there is one, or none after `timeout_ms`.

        An error of `on_assigned` or `on_revoked` is raised here.
        """
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this consumer reads now."""
        ...

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """For each assigned partition the offset that its next record will get (an open transaction is not counted)."""
        ...

    def held_back(self) -> Mapping[TopicPartition, HeldBack]:
        """Each assigned partition where an open transaction keeps records from readers, as of the last fetch."""
        ...

    async def begin_offset(self, partition: TopicPartition) -> int:
        """The offset of the first record that an assigned partition still has, or its end."""
        ...

    def position(self, partition: TopicPartition) -> int | None:
        """The offset at which the next `poll` continues in a partition, None while it is unknown."""
        ...

    def caught_up(self, partition: TopicPartition) -> bool:
        """Whether all records known to be in a partition were read; false for one that is not assigned."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue reading a partition at `offset`."""
        ...

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's commit for a partition, with its metadata."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the group's offsets.

        Raises:
            FencedError: the group has rebalanced without this member.
        """
        ...

    async def stop(self) -> None:
        """Leave the group; idempotent. `on_revoked` is not called for this member."""
        ...


class Producer(Protocol):
    """Appends records."""

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnreachableError: no broker answers.
        """
        ...

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all messages, in order within each partition, and return when all are acknowledged.

        Raises:
            BrokerUnreachableError: not acknowledged in time; some may have been appended.
            PayloadError: `too_large`: a record of more than MAX_RECORD_BYTES; `empty`: neither key nor value.
            TopicMismatchError: no such topic or partition.
        """
        ...

    async def stop(self) -> None:
        """Flush and disconnect; idempotent."""
        ...


class TransactionalProducer(Protocol):
    """Appends records and commits a group's offsets atomically.

    A transactional id has one owner at a time: the producer that started last fences earlier ones, and their open
    transactions are aborted. After any error but a PayloadError the outcome of the transaction is unknown: stop, start
    again and read the group's committed offsets.
    """

    async def start(self) -> None:
        """Connect and fence earlier owners of the id: once this returns, none of them can commit.

        Raises:
            BrokerUnreachableError: no broker answers.
        """
        ...

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Append all messages to the open transaction, in order within each partition; opens one if needed.

        Raises:
            FencedError: another producer has started with this id, or the transaction timed out.
            BrokerUnreachableError, PayloadError, TopicMismatchError: as `Producer.send`.
        """
        ...

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the transaction with the group's offsets in it; without records it contains only the offsets.

        The commit is final when this returns, but visible to readers and `Consumer.committed` a moment later; the next
        owner's `start` waits for that moment. Does nothing where there are neither records nor offsets.

        Raises:
            FencedError: another producer has started with this id, or the transaction timed out.
            BrokerUnreachableError: not acknowledged in time; it may have been committed.
            StreamerError: an offset's metadata is too long; the transaction stays open.
        """
        ...

    async def abort(self) -> None:
        """Discard the records sent since the last commit; does nothing where no transaction is open.

        Final when this returns; later records of the same partitions become visible a moment later, as with `commit`.

        Raises:
            FencedError: another producer has started with this id; the records are discarded all the same.
            BrokerUnreachableError: not acknowledged in time; the broker aborts it at the transaction's timeout.
        """
        ...

    async def stop(self) -> None:
        """Abort the open transaction and disconnect; idempotent."""
        ...


class Broker(Protocol):
    """Creates consumers, producers and topics."""

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None,
        start_at: Literal["earliest", "latest"] = "earliest",
        on_assigned: PartitionsChanged | None = None,
        on_revoked: PartitionsChanged | None = None,
    ) -> Consumer:
        """A consumer of topics in a group, or of all their partitions without one; it reads committed records only.

        `on_assigned` is awaited before the first record of a newly assigned partition is returned, so it may seek.
        `start_at` applies where the group has no commit.
        """
        ...

    def producer(self) -> Producer:
        """A plain producer, acknowledged by all replicas."""
        ...

    def transactional(self, transactional_id: str, *, group: str) -> TransactionalProducer:
        """A producer of transactions that include the offsets of a group."""
        ...

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics; check the partitions, timestamp type and compaction of existing ones.

        Raises:
            TopicMismatchError: names every topic that differs, and how.
            BrokerUnreachableError: no broker answers.
        """
        ...

    async def require_rights(self, rights: Sequence[Right]) -> None:
        """Check that this user has rights, as far as they can be asked for without using them.

        Raises:
            ConfigurationError: names every right that is missing.
        """
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...
