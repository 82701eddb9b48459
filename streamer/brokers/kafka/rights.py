"""Which of the rights that are needed this user lacks: asked of Kafka before anything is read or written.

Kafka tells a topic's rights with its metadata (KIP-430, version 8, which aiokafka doesn't know). Of a group or a
transactional id it tells whether it may be described, which reading or writing includes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from streamer.broker import Right

Send = Callable[[Any], Awaitable[Any]]
"""Sends a request to a broker and returns its response."""
_BITS: dict[str, int] = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
"""Of AclOperation, in the bit field of KIP-430."""
_GROUP, _TRANSACTION = 0, 1
_REFUSED = (errors.GroupAuthorizationFailedError.errno, errors.TransactionalIdAuthorizationFailed.errno)
_NO_BITS = -(2**31)
"""What a Kafka says that has no authorizer: everything is allowed."""


class _MetadataResponse(Response):  # type: ignore[misc]  # aiokafka's types do not reach mypy
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        ("topics", Array(
            ("error_code", Int16), ("topic", String("utf-8")), ("is_internal", Boolean),
            ("partitions", Array(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", Array(Int32)), ("isr", Array(Int32)), ("offline_replicas", Array(Int32)),
            )),
            ("authorized_operations", Int32),
        )),
        ("cluster_authorized_operations", Int32),
    )  # fmt: skip


class _MetadataStruct(RequestStruct):  # type: ignore[misc]  # see above
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _TopicRightsRequest(Request[_MetadataStruct]):  # type: ignore[misc]  # see above
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        """The request of version 8."""
        return request_struct_class(self._topics, False, False, True)


async def missing_rights(rights: Sequence[Right], send: Send) -> list[Right]:
    """The rights that this user lacks, in the order given; of topics that don't exist, Create alone may be told.

    A Kafka that can't say (older than 2.3) lacks none.
    """
    lacking = await _of_topics([right for right in rights if right.resource == "topic"], send)
    for resource, kind in (("group", _GROUP), ("transactional_id", _TRANSACTION)):
        asked = {right.name for right in rights if right.resource == resource}
        refused = {name for name in sorted(asked) if await _is_refused(name, kind, send)}
        lacking |= {right for right in rights if right.resource == resource and right.name in refused}
    return [right for right in rights if right in lacking]


async def _of_topics(rights: Sequence[Right], send: Send) -> set[Right]:
    try:
        found = await send(_TopicRightsRequest(sorted({right.name for right in rights})))
    except (errors.IncompatibleBrokerVersion, NotImplementedError):
        return set()
    lacking: set[Right] = set()
    for error_code, name, _, _, bits in found.topics:
        here = {right for right in rights if right.name == name}
        if error_code == errors.UnknownTopicOrPartitionError.errno:
            continue
        if error_code == errors.TopicAuthorizationFailedError.errno:
            # it may not even be seen, which reading or writing it would include: so both are missing
            lacking |= {r for r in here if r.operation in ("Read", "Write")} or here
        elif bits != _NO_BITS:
            lacking |= {r for r in here if r.operation != "Create" and not bits >> _BITS[r.operation] & 1}
    return lacking


async def _is_refused(name: str, kind: int, send: Send) -> bool:
    found = await send(FindCoordinatorRequest(name, kind))
    return found.error_code in _REFUSED
