"""A topology as a frozen value: its topics, modalities and operators (DESIGN §3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from streamer.broker import TopicSpec
from streamer.event_time import Duration
from streamer.modality import Modality
from streamer.operator import OperatorClass
from streamer.payloads import Keyed, SessionKeyed
from streamer.windowing.window_spec import WindowSpec

_SHORTEST_SEGMENT_MS = 10_000
_SEGMENTS_PER_RETENTION = 6

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many records an operator processes at once, and how long it waits for the batch to fill."""

    max: Positive = 16
    wait: Duration = Duration(0)


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the polled records are processed: all, each session's newest (`latest`), the younger than `max_age`."""

    policy: Literal["all", "latest", "max_age"] = "all"
    max_age: Duration | None = None


class OnFailure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a failing batch is retried, and what happens then."""

    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2
    then: Literal["dead_letter", "stop"] = "dead_letter"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its payload's name and type, whether it is external, its retention, and which field is its key."""

    name: str
    payload: str
    type: type[Keyed]
    external: Literal["in", "out"] | None
    retention_ms: int | None
    compact: bool
    key: str

    @property
    def keyed_by_session(self) -> bool:
        """Whether a record's key is its session's id; every worker reads a table for which it isn't whole."""
        return issubclass(self.type, SessionKeyed) and self.key == "session_id"

    def spec(self, partitions: int) -> TopicSpec:
        """As the broker should have it. Kafka deletes whole segments, so a short retention needs short ones."""
        segment_ms = None
        if self.retention_ms is not None:
            segment_ms = max(_SHORTEST_SEGMENT_MS, self.retention_ms // _SEGMENTS_PER_RETENTION)
        return TopicSpec(self.name, partitions, self.retention_ms, segment_ms, self.compact)


@dataclass(frozen=True, slots=True)
class OperatorSpec:
    """An operator: the topics it reads and writes, how it is run, its typed `params` and its class."""

    name: str
    reads: tuple[str, ...]
    tables: tuple[str, ...]
    writes: str
    host: Literal["runner", "faust"]
    batch: Batch
    queue: Queue
    queues: Mapping[str, Queue]
    window: WindowSpec | None
    delivery: Literal["at_least_once", "exactly_once"]
    on_failure: OnFailure
    params: msgspec.Struct
    found: OperatorClass

    def queue_of(self, topic: str) -> Queue:
        """The queue policy of one input topic: its own, or else the operator's."""
        return self.queues.get(topic, self.queue)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics it writes: `writes`, and its window's provisional one."""
        provisional = self.window.provisional if self.window else None
        return (self.writes,) if provisional is None else (self.writes, provisional)


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole topology, checked. Mappings keep the file's order."""

    source: Path
    version: int
    app: str
    partitions: int
    topics: Mapping[str, Topic]
    operators: Mapping[str, OperatorSpec]
    modalities: Mapping[str, Modality]

    def half_life_ms(self) -> dict[str, int]:
        """By modality, the age in milliseconds at which its evidence weighs half as much."""
        return {name: int(modality.half_life) for name, modality in self.modalities.items()}

    def modality_of(self, topic: str) -> str | None:
        """The modality whose topic this is, None where it is no modality's."""
        return next((name for name, modality in self.modalities.items() if modality.topic == topic), None)

    def topic_specs(self) -> list[TopicSpec]:
        """Every topic as the broker should have it."""
        windowed = [spec for spec in self.operators.values() if spec.window is not None]
        needs = {
            name: max(2 * spec.window.horizon for spec in windowed if spec.window and name in spec.reads)
            for name in {name for spec in windowed for name in spec.reads}
        }
        return [replace(topic.spec(self.partitions), needs_ms=needs.get(name)) for name, topic in self.topics.items()]

    def writers(self, topic: str) -> list[str]:
        """The operators that write a topic; none for topics of the runtime and from outside."""
        return [spec.name for spec in self.operators.values() if topic in spec.outputs]
