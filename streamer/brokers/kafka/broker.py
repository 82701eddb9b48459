"""Apache Kafka as a `Broker`: topic administration, and the consumers and producers of one address.

Tuned for latency: producers do not linger, and a fetch returns with its first byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple, TypeVar

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest

from streamer.broker import (
    Committed,
    Consumer,
    PartitionsChanged,
    Producer,
    Right,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)
from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.kafka.client import kafka_partition
from streamer.brokers.kafka.consumer import KafkaConsumer
from streamer.brokers.kafka.diagnosis import diagnose
from streamer.brokers.kafka.options import (
    COMPARED,
    connection_options,
    filter_client_log,
    topic_attributes,
    topic_differences,
    topic_warnings,
)
from streamer.brokers.kafka.producers import FENCED, KafkaProducer, KafkaTransactions
from streamer.brokers.kafka.rights import missing_rights
from streamer.brokers.protocol_errors import missing_topics, topics_differ
from streamer.brokers.rebalance import RebalanceCallbacks
from streamer.errors import (
    BrokerUnreachableError,
    ConfigurationError,
    Problem,
    StreamerError,
    TopicMismatchError,
)
from streamer.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)
_TRANSLATED_BY_CLIENTS = (
    errors.MessageSizeTooLargeError,
    errors.IllegalStateError,
    errors.CommitFailedError,
    *FENCED,
)


class JudgedTopics(NamedTuple):
    """The names of topics that don't exist, what must be altered of others, and what may be; a line each."""

    missing: list[str]
    differences: list[str]
    warnings: list[str]


class KafkaBroker:
    """Consumers, producers and topics of one Kafka.

    Args:
        settings: credentials, TLS, and `worker`, which makes group membership static.
        address: host:port[,host:port]; `settings.brokers` unless given.
    """

    def __init__(self, settings: Settings, address: str | None = None) -> None:
        self.address = address or settings.brokers or ""
        if not self.address:
            problem = Problem("STREAMER_BROKERS", "no address of a Kafka; `streamer broker` starts one on this machine")
            raise ConfigurationError("environment", [problem])
        self._worker = settings.worker
        self._connection = connection_options(settings, self.address)
        self._admin: AIOKafkaAdminClient | None = None
        self._admin_lock = asyncio.Lock()
        filter_client_log()

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
        options = {"group_id": group, "auto_offset_reset": start_at, **self._connection}
        return KafkaConsumer(self, topics, options, self._worker, RebalanceCallbacks(on_assigned, on_revoked))

    def producer(self) -> Producer:
        """A producer, see the protocol."""
        return KafkaProducer(self.address, self._connection, self.answer_within)

    def transactional(self, transactional_id: str, *, group: str) -> TransactionalProducer:
        """A producer of transactions, see the protocol."""
        return KafkaTransactions(self.address, self._connection, self.answer_within, transactional_id, group)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics and check existing ones, see the protocol."""
        existing = await self._topics()
        missing = [spec for spec in topics if spec.name not in existing]
        if missing:
            await self._create(missing)
            existing = await self._topics(until=frozenset(spec.name for spec in topics))
        judged = await self.judge_topics(topics)
        if judged.differences:
            raise topics_differ(judged.differences, f"at {self.address}")
        for warning in judged.warnings:
            log.warning("%s", warning)

    async def judge_topics(self, topics: Sequence[TopicSpec]) -> JudgedTopics:
        """What is missing, differs from what is needed, or is kept for a shorter time than said; nothing is changed."""
        existing = await self._topics()
        there = [spec for spec in topics if spec.name in existing]
        configs = await self.topic_settings([spec.name for spec in there], COMPARED) if there else {}
        return JudgedTopics(
            [spec.name for spec in topics if spec.name not in existing],
            [line for spec in there for line in topic_differences(spec, existing[spec.name], configs[spec.name])],
            [line for spec in there for line in topic_warnings(spec, configs[spec.name])],
        )

    async def require_rights(self, rights: Sequence[Right]) -> None:
        """Check rights, see the protocol."""
        node = await self._request(_any_node)

        async def send(request: Any) -> Any:
            return await self._request(lambda admin: admin._client.send(node, request))  # noqa: SLF001 - no public way

        if lacking := await missing_rights(rights, send):
            raise self._lacking(lacking)

    def _lacking(self, rights: Sequence[Right]) -> ConfigurationError:
        who = self._connection.get("sasl_plain_username") or "this client"
        problems = [Problem(str(right), f"is not allowed to {who}: grant it") for right in rights]
        return ConfigurationError(f"rights at {self.address}", problems)

    async def close(self) -> None:
        """Close the admin client; consumers and producers are stopped by their owners."""
        async with self._admin_lock:
            admin, self._admin = self._admin, None
            if admin:
                await admin.close()

    async def committed(self, group: str, partition: TopicPartition) -> Committed | None:
        """A group's committed offset with its metadata, which aiokafka's consumer would drop."""
        asked = kafka_partition(partition)

        async def send(admin: AIOKafkaAdminClient) -> Committed | None:
            found = (await admin.list_consumer_group_offsets(group, partitions=[asked])).get(asked)
            if found is None:  # the response carries an error that aiokafka does not check
                raise errors.GroupCoordinatorNotAvailableError
            return Committed(found.offset, found.metadata or "") if found.offset >= 0 else None

        return await self._request(send)

    async def require(self, topics: Sequence[str]) -> None:
        """Check that topics exist: a client would wait for them.

        Raises:
            TopicMismatchError: some do not.
        """
        missing = sorted(set(topics) - set(await self._topics()))
        if missing:
            raise missing_topics(missing, f"at {self.address}")

    @asynccontextmanager
    async def answer_within(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of a request, in seconds, and translate its errors.

        Raises:
            BrokerUnreachableError: no answer in time, or no connection.
            ConfigurationError: the user is not allowed to use the topic or the group.
            TopicMismatchError: no such topic.
            StreamerError: any other error of Kafka, but for those that consumers and producers translate.
        """
        try:
            async with asyncio.timeout(seconds):
                yield
        except (TimeoutError, OSError, errors.KafkaConnectionError, errors.KafkaTimeoutError) as error:
            why = f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else error
            raise self._unreachable(why) from None
        except _TRANSLATED_BY_CLIENTS:
            raise
        except (errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError) as error:
            problem = Problem(self.address, f"not allowed to use {error}: give this user the right, or change the user")
            raise ConfigurationError("Kafka", [problem]) from None
        except errors.UnknownTopicOrPartitionError:
            raise TopicMismatchError(f"no such topic at {self.address}; create it, or check its name") from None
        except errors.KafkaError as error:
            if error.retriable or type(error) is errors.KafkaError:  # aiokafka raises the latter for the unexpected
                raise self._unreachable(error) from None
            raise StreamerError(f"Kafka at {self.address}: {type(error).__name__}") from None

    def _unreachable(self, why: object) -> BrokerUnreachableError:
        way_out = "start it, correct STREAMER_BROKERS, or unset it to have one started on this machine"
        return BrokerUnreachableError(f"no Kafka at {self.address} ({str(why)[:200]}): {way_out}")

    async def _request(self, send: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """Send a request with the admin client, again while it fails with a retriable error."""
        async with self._admin_lock:
            if self._admin is None:
                answer_ms = int(kafka_options.ANSWER_SECONDS * 1000)
                admin = AIOKafkaAdminClient(request_timeout_ms=answer_ms, **self._connection)
                try:
                    async with self.answer_within(kafka_options.CONNECT_SECONDS):
                        await admin.start()
                except BrokerUnreachableError:
                    await admin.close()
                    raise await diagnose(self.address, self._connection, kafka_options.CONNECT_SECONDS / 2) from None
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            async with self.answer_within(kafka_options.ANSWER_SECONDS):
                while True:
                    try:
                        return await send(self._admin)
                    except errors.KafkaError as error:
                        if not error.retriable:
                            raise
                        await asyncio.sleep(0.02)

    async def _topics(self, until: frozenset[str] = frozenset()) -> Mapping[str, int]:
        """Every topic's number of partitions, once all brokers that answer know the leaders of the topics `until`."""

        async def send(admin: AIOKafkaAdminClient) -> Mapping[str, int]:
            described = [t for t in await admin.describe_topics() if not t["error_code"]]
            answers = [described]
            for broker in (await admin.describe_cluster())["brokers"] if until else ():
                with suppress(TimeoutError, errors.KafkaError):  # of a dead broker; the others do not wait for it
                    async with asyncio.timeout(kafka_options.CONNECT_SECONDS):
                        everything, node = MetadataRequest(None), broker["node_id"]
                        answer = await admin._send_request_to_node(node, everything)  # noqa: SLF001 - no public way
                        answers.append(answer.to_object()["topics"])
            for topics in answers:
                led = {t["topic"] for t in topics if all(p["leader"] >= 0 for p in t["partitions"])}
                if until - led:
                    raise errors.LeaderNotAvailableError
            return {t["topic"]: len(t["partitions"]) for t in described}

        return await self._request(send)

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        new = [
            NewTopic(s.name, s.partitions, -1, replica_assignments={}, topic_configs=topic_attributes(s)) for s in specs
        ]

        async def send(admin: AIOKafkaAdminClient) -> Any:
            return await admin.create_topics(new, timeout_ms=int(kafka_options.ANSWER_SECONDS * 1000))

        for topic, code, *message in (await self._request(send)).topic_errors:
            error = errors.for_code(code)
            if error is errors.TopicAuthorizationFailedError:
                raise self._lacking([Right("topic", topic, "Create")])
            if error not in (errors.NoError, errors.TopicAlreadyExistsError):  # another process may have been faster
                raise StreamerError(f"{self.address} does not create topic {topic}: {error.__name__} {message}")

    async def topic_settings(self, topics: Sequence[str], names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Each topic's effective settings of the given names, defaults included; unknown names are left out."""
        return await self._settings(ConfigResourceType.TOPIC, topics, names)

    async def broker_settings(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Each broker's effective settings of the given names, by broker id; unknown names are left out."""

        async def send(admin: AIOKafkaAdminClient) -> list[str]:
            return [str(broker["node_id"]) for broker in (await admin.describe_cluster())["brokers"]]

        return await self._settings(ConfigResourceType.BROKER, await self._request(send), names)

    async def _settings(
        self, kind: ConfigResourceType, owners: Sequence[str], names: Sequence[str]
    ) -> Mapping[str, Mapping[str, str]]:
        resources = [ConfigResource(kind, owner, configs=dict.fromkeys(names)) for owner in owners]

        async def send(admin: AIOKafkaAdminClient) -> Any:
            responses = await admin.describe_configs(resources)
            for error in (errors.for_code(code) for response in responses for code, *_ in response.resources):
                if error.retriable:  # a broker that has just come up does not know all topics yet
                    raise error
            return responses

        found: dict[str, dict[str, str]] = {}
        for response in await self._request(send):
            for code, message, _, owner, entries, *_ in response.resources:
                if code == errors.TopicAuthorizationFailedError.errno:
                    raise self._lacking([Right("topic", owner, "DescribeConfigs")])
                if code:
                    raise StreamerError(f"{self.address} does not describe {kind.name.lower()} {owner}: {message}")
                found[owner] = {entry[0]: entry[1] for entry in entries}
        return found


async def _any_node(admin: AIOKafkaAdminClient) -> int:
    """The id of a broker that may be asked what any broker knows."""
    node: int | None = admin._client.get_random_node()  # noqa: SLF001 - no public way
    if node is None:
        raise errors.NodeNotReadyError
    return node
