"""Errors of the broker protocols, worded once for every broker; `where` is "in memory" or "at host:port"."""

from __future__ import annotations

from collections.abc import Iterable

from streamer.broker import TopicPartition, TopicSpec
from streamer.errors import FencedError, StreamerError, TopicMismatchError


def not_started(client: str) -> StreamerError:
    """A consumer or producer was used before `start` or after `stop`."""
    return StreamerError(f"this {client} has not been started, or was stopped")


def no_group() -> StreamerError:
    """A consumer without a group was asked to commit."""
    return StreamerError("a consumer without a group cannot commit")


def no_longer_member(group: str) -> FencedError:
    """A commit came from a consumer that no longer owns the partitions."""
    return FencedError(f"group {group} has moved on without this member: drop the partitions' state and rejoin")


def not_assigned(partition: TopicPartition) -> FencedError:
    """A seek in a partition that the consumer does not own."""
    return FencedError(f"{partition.topic}[{partition.partition}] is not assigned to this member")


def producer_fenced(transactional_id: str) -> FencedError:
    """A transactional producer was fenced by a later one, or by its transaction's timeout."""
    return FencedError(f"transactional id {transactional_id}: somebody else owns it now, or its transaction timed out")


def missing_topics(topics: Iterable[str], where: str) -> TopicMismatchError:
    """Topics that do not exist."""
    return TopicMismatchError(f"no topic {', '.join(topics)} {where}; create it, or check its name")


def missing_partition(topic: str, partition: int, where: str) -> TopicMismatchError:
    """A partition that an existing topic does not have."""
    return TopicMismatchError(f"topic {topic} {where} has no partition {partition}")


def partitions_differ(spec: TopicSpec, partitions: int) -> list[str]:
    """A line for `topics_differ` if an existing topic has another number of partitions than its spec, else none."""
    return [f"{spec.name} has {partitions} partitions, not {spec.partitions}"] if partitions != spec.partitions else []


def topics_differ(differences: Iterable[str], where: str, way_out: str = "") -> TopicMismatchError:
    """Existing topics that differ from the topology, one line for each difference."""
    lines = "\n".join(f"  {d}" for d in differences)
    return TopicMismatchError(f"topics {where} are not as the topology says{way_out}\n{lines}")
