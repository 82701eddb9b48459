"""Record: one decoded message, with its place and time in Kafka."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from streamer.broker import TopicPartition
from streamer.payloads import Keyed, Refusal

P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The place of a message in Kafka: unique, and ordered within one partition."""

    topic: str
    partition: int
    offset: int

    @property
    def source(self) -> TopicPartition:
        """Its partition."""
        return TopicPartition(self.topic, self.partition)

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, slots=True)
class Record(Generic[P_co]):
    """A payload with its key, its event time and its Kafka time (LogAppendTime), both in Unix milliseconds.

    `to` is the topic to write it to, if that isn't the one that its operator writes. `foreign`: its partition is not
    its key's, so that another worker may hold what belongs to it.
    """

    key: str
    event_time_ms: int
    kafka_ms: int
    payload: P_co
    origin: Origin
    traceparent: str | None = None
    to: str | None = None
    foreign: bool = False

    def derive(self, payload: Keyed, to: str | None = None) -> Record[Any]:
        """This record's key, Kafka time, origin and trace around another payload, whose event time it takes."""
        return cast(Record[Any], replace(self, payload=payload, event_time_ms=payload.event_time_ms, to=to))  # type: ignore[arg-type]

    def refuse(self, reason: str, detail: str) -> Record[Any]:
        """The refusal that an operator returns for a record it can't use; it becomes a counted dead letter.

        `detail` says what is wrong and where, and must not quote the payload.
        """
        return cast(Record[Any], replace(self, payload=Refusal(reason, detail)))  # type: ignore[arg-type]
