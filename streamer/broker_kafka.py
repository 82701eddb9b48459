"""Apache Kafka behind the broker protocols: messages in, messages out. Imports aiokafka, as kafka_producers.py does.

Tuned for latency: nothing lingers, a fetch returns with its first byte. aiokafka's rough edges are smoothed here and
pinned by the contract suite: `committed()` of its consumer drops the metadata, its log at DEBUG holds payload, an
exception in a rebalance callback is swallowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, errors, structs
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streamer import kafka_options
from streamer.broker import (
    MAX_RECORD_BYTES,
    Committed,
    Consumer,
    Message,
    PartitionsChanged,
    Producer,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)
from streamer.errors import (
    BrokerUnreachableError,
    ConfigurationError,
    FencedError,
    Problem,
    StreamerError,
    TopicMismatchError,
)
from streamer.kafka_options import calm_the_log, connection_options, topic_attributes, topic_differences
from streamer.kafka_producers import FENCED, KafkaProducer, KafkaTransactions, ended
from streamer.settings import Settings

JOIN_SECONDS = 60.0  # a group's other members may be draining
SESSION_MS = 10_000
HEARTBEAT_MS = 500  # how soon a member learns of a rebalance
FETCH_WAIT_MS = 100  # a fetch under way keeps a partition that has just been drained waiting for up to this long

T = TypeVar("T")
_OF_THE_CALLER = (
    errors.MessageSizeTooLargeError,
    errors.IllegalStateError,
    errors.CommitFailedError,
    *FENCED,
)


class KafkaBroker:
    """Consumers and producers of one Kafka.

    Args:
        settings: credentials, TLS, and `worker`, which makes group membership static.
        address: host:port[,host:port]; `settings.brokers` unless given.
    """

    def __init__(self, settings: Settings, address: str | None = None) -> None:
        found = address or settings.brokers
        if not found:
            problem = Problem("STREAMER_BROKERS", "no address of a Kafka; `streamer broker` starts one on this machine")
            raise ConfigurationError("environment", [problem])
        self.address = found
        self._worker = settings.worker
        self._connection = connection_options(settings, found)
        self._admin: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()  # of _admin
        calm_the_log()

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None,
        start_at: Literal["earliest", "latest"] = "earliest",
        on_assigned: PartitionsChanged | None = None,
        on_revoked: PartitionsChanged | None = None,
    ) -> Consumer:
        """A consumer, see the protocol."""
        static = self._worker if group else None
        options = {"group_id": group, "group_instance_id": static, "auto_offset_reset": start_at, **self._connection}
        return _KafkaConsumer(self, topics, options, on_assigned, on_revoked)

    def producer(self) -> Producer:
        """A producer, see the protocol."""
        return KafkaProducer(self.address, self._connection, self.answering)

    def transactional(self, transactional_id: str, *, group: str) -> TransactionalProducer:
        """A producer of transactions, see the protocol."""
        return KafkaTransactions(self.address, self._connection, self.answering, transactional_id, group)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing, check what is there, see the protocol."""
        existing = await self._topics()
        missing = [spec for spec in topics if spec.name not in existing]
        if missing:
            await self._create(missing)
            existing = await self._topics(until=frozenset(spec.name for spec in topics))
            await self.committed("nobody", TopicPartition(missing[0].name, 0))  # a new Kafka readies itself for groups
        configs = await self._configs([spec.name for spec in topics])
        differences = [d for spec in topics for d in topic_differences(spec, existing[spec.name], configs[spec.name])]
        if differences:
            lines = "\n".join(f"  {d}" for d in differences)
            way_out = "move the topics aside or make the topology say the same: keys would move"
            raise TopicMismatchError(f"topics at {self.address} are not as the topology says; {way_out}\n{lines}")

    async def close(self) -> None:
        """Close the connection for questions; consumers and producers are stopped by their owners."""
        async with self._lock:
            admin, self._admin = self._admin, None
            if admin:
                await admin.close()

    async def committed(self, group: str, partition: TopicPartition) -> Committed | None:
        """A group's commit with its metadata, which aiokafka's consumer would drop."""
        place = structs.TopicPartition(partition.topic, partition.partition)

        async def ask(admin: AIOKafkaAdminClient) -> Committed | None:
            found = (await admin.list_consumer_group_offsets(group, partitions=[place])).get(place)
            if found is None:  # the answer as a whole was an error, which aiokafka does not look at
                raise errors.GroupCoordinatorNotAvailableError
            return Committed(found.offset, found.metadata or "") if found.offset >= 0 else None

        return await self._ask(ask)

    async def require(self, topics: Sequence[str]) -> None:
        """Refuse topics that do not exist, before a client waits for them."""
        missing = sorted(set(topics) - set(await self._topics()))
        if missing:
            raise TopicMismatchError(f"no topic {', '.join(missing)} at {self.address}; create it, or check its name")

    @asynccontextmanager
    async def answering(self, seconds: float) -> AsyncIterator[None]:
        """Translate what goes wrong within: silence, refusal, lack of rights."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (TimeoutError, OSError, errors.KafkaConnectionError, errors.KafkaTimeoutError) as error:
            why = f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else error
            raise self._unreachable(why) from None
        except _OF_THE_CALLER:
            raise
        except (errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError) as error:
            problem = Problem(self.address, f"not allowed to use {error}: give this user the right, or change the user")
            raise ConfigurationError("Kafka", [problem]) from None
        except errors.UnknownTopicOrPartitionError:
            raise TopicMismatchError(f"no such topic at {self.address}; create it, or check its name") from None
        except errors.KafkaError as error:
            if error.retriable or type(error) is errors.KafkaError:  # aiokafka's word for the unexpected
                raise self._unreachable(error) from None
            raise StreamerError(f"Kafka at {self.address}: {type(error).__name__}") from None

    def _unreachable(self, why: object) -> BrokerUnreachableError:
        way_out = "start it, correct STREAMER_BROKERS, or unset it to have one started on this machine"
        return BrokerUnreachableError(f"no Kafka at {self.address} ({str(why)[:200]}): {way_out}")

    async def _ask(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """One question to the cluster, repeated while the answer is that it is not ready."""
        async with self._lock:
            if self._admin is None:
                answer_ms = int(kafka_options.ANSWER_SECONDS * 1000)
                admin = AIOKafkaAdminClient(request_timeout_ms=answer_ms, **self._connection)
                try:
                    async with self.answering(kafka_options.CONNECT_SECONDS):
                        await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            async with self.answering(kafka_options.ANSWER_SECONDS):
                while True:
                    try:
                        return await question(self._admin)
                    except errors.KafkaError as error:
                        if not error.retriable:
                            raise
                        await asyncio.sleep(0.02)

    async def _topics(self, until: frozenset[str] = frozenset()) -> Mapping[str, int]:
        """Every topic with its number of partitions, once those of `until` are there and led."""

        async def ask(admin: AIOKafkaAdminClient) -> Mapping[str, int]:
            described = [t for t in await admin.describe_topics() if not t["error_code"]]
            led = {t["topic"] for t in described if all(p["leader"] >= 0 for p in t["partitions"])}
            if until - led:
                raise errors.LeaderNotAvailableError
            return {t["topic"]: len(t["partitions"]) for t in described}

        return await self._ask(ask)

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        new = [
            NewTopic(s.name, s.partitions, -1, replica_assignments={}, topic_configs=topic_attributes(s)) for s in specs
        ]

        async def ask(admin: AIOKafkaAdminClient) -> Any:
            return await admin.create_topics(new, timeout_ms=int(kafka_options.ANSWER_SECONDS * 1000))

        for topic, code, *message in (await self._ask(ask)).topic_errors:
            error = errors.for_code(code)
            if error not in (errors.NoError, errors.TopicAlreadyExistsError):  # another process may have been faster
                raise StreamerError(f"{self.address} does not create topic {topic}: {error.__name__} {message}")

    async def _configs(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        wanted = dict.fromkeys(("message.timestamp.type", "cleanup.policy"))
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted) for name in names]

        async def ask(admin: AIOKafkaAdminClient) -> Any:
            return await admin.describe_configs(resources)

        found: dict[str, dict[str, str]] = {}
        for response in await self._ask(ask):
            for code, message, _, topic, entries, *_ in response.resources:
                if code:
                    raise StreamerError(f"{self.address} does not describe topic {topic}: {message}")
                found[topic] = {entry[0]: entry[1] for entry in entries}
        return found


class _KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka's types do not reach mypy
    """One aiokafka consumer; partitions stay paused until `on_assigned` has returned."""

    def __init__(
        self,
        broker: KafkaBroker,
        topics: Sequence[str],
        options: Mapping[str, Any],
        on_assigned: PartitionsChanged | None,
        on_revoked: PartitionsChanged | None,
    ) -> None:
        self._broker, self._topics, self._options = broker, topics, options
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._failure: BaseException | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Join; on_assigned may run after this, but before the first record."""
        await self._broker.require(self._topics)
        consumer = self._consumer = AIOKafkaConsumer(
            fetch_min_bytes=1, fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=MAX_RECORD_BYTES,
            enable_auto_commit=False, isolation_level="read_committed",
            session_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=(RangePartitionAssignor,), **self._options,
        )  # fmt: skip
        consumer.subscribe(list(self._topics), listener=self)
        try:
            async with self._broker.answering(JOIN_SECONDS):
                await consumer.start()
            if self._on_assigned and not self._options["group_id"]:
                await self._on_assigned(self.assignment())
        except BaseException:
            await self.stop()
            raise

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Message]:
        """See the protocol; a failed callback raises here."""
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        async with self._broker.answering(kafka_options.ANSWER_SECONDS + timeout_ms / 1000):
            batches = await self._running().getmany(timeout_ms=timeout_ms, max_records=max_records)
        return [
            Message(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for records in batches.values()
            for r in records
        ]

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this consumer reads now."""
        return frozenset(TopicPartition(*tp) for tp in self._running().assignment())

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """For each assigned partition the offset up to which committed records can be read."""
        async with self._broker.answering(kafka_options.ANSWER_SECONDS):
            ends = await self._running().end_offsets([_theirs(p) for p in self.assignment()])
        return {TopicPartition(*tp): offset for tp, offset in ends.items()}

    def position(self, partition: TopicPartition) -> int | None:
        """Where the next poll continues; aiokafka's own `position` is a coroutine that waits until it is known."""
        subscription = self._running()._subscription.subscription  # noqa: SLF001 - no public way to look without waiting
        state = subscription.assignment.state_value(_theirs(partition)) if subscription.assignment else None
        return int(state.position) if state is not None and state.has_valid_position else None

    def caught_up(self, partition: TopicPartition) -> bool:
        """Whether the next record would be one that no fetch has told of."""
        position = self.position(partition)
        end = self._running().last_stable_offset(_theirs(partition)) if position is not None else None
        return position is not None and end is not None and position >= end

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue reading a partition at `offset`."""
        try:
            self._running().seek(_theirs(partition), offset)
        except errors.IllegalStateError:
            raise FencedError(f"{partition.topic}[{partition.partition}] is not assigned to this member") from None

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's commit, None without one or without a group."""
        group = self._options["group_id"]
        return await self._broker.committed(group, partition) if group else None

    async def commit(self, places: Mapping[TopicPartition, Committed]) -> None:
        """Store the group's places."""
        if self._options["group_id"] is None:
            raise StreamerError("a consumer without a group cannot commit")
        offsets = {_theirs(p): structs.OffsetAndMetadata(c.offset, c.metadata) for p, c in places.items()}
        try:
            async with self._broker.answering(kafka_options.ANSWER_SECONDS):
                if offsets:
                    await self._running().commit(offsets)
        except (errors.IllegalStateError, errors.CommitFailedError):
            group = f"group {self._options['group_id']} has moved on without this member"
            raise FencedError(f"{group}: drop the partitions' state and rejoin") from None

    async def stop(self) -> None:
        """Leave the group; on_revoked is not called."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            await ended(consumer.stop(), None)

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise StreamerError(f"this consumer of {', '.join(self._topics)} has not been started, or was stopped")
        return self._consumer

    async def on_partitions_revoked(self, revoked: set[structs.TopicPartition]) -> None:
        """Called by aiokafka: what the group takes away, before it is joined again."""
        await self._call(self._on_revoked, revoked)

    async def on_partitions_assigned(self, assigned: set[structs.TopicPartition]) -> None:
        """Called by aiokafka: what the group gives; nothing of it flows until the owner is ready."""
        if consumer := self._consumer:
            consumer.pause(*assigned)
            await self._call(self._on_assigned, assigned)
            consumer.resume(*(assigned & consumer.assignment()))

    async def _call(self, callback: PartitionsChanged | None, partitions: set[structs.TopicPartition]) -> None:
        if callback and partitions:
            try:
                await callback(frozenset(TopicPartition(*tp) for tp in partitions))
            except Exception as error:  # noqa: BLE001 - aiokafka would only log it; poll raises it
                self._failure = error


def _theirs(partition: TopicPartition) -> structs.TopicPartition:
    return structs.TopicPartition(partition.topic, partition.partition)
