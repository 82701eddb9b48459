"""How long Kafka really keeps a record, by the settings of topics and brokers.

Kafka deletes whole segments. A record is in one that goes on for up to `segment.ms`; the segment is too old after
`retention.ms`; that is checked each `log.retention.check.interval.ms`; its file goes after `file.delete.delay.ms`. A
quiet partition's only segment goes too, without waiting for a record.

Of a compacted topic Kafka drops what a newer record has replaced, soon after `max.compaction.lag.ms`, but never from a
partition's newest segment: a deletion waits for one more record of its partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import StreamerError
from streamer.event_time import Duration
from streamer.topology.topology import Topology

PROMISED_MS = 90_000
"""Raw media is off every disk within this time (DESIGN §9)."""
RECOMMENDED = {
    "retention.ms": 60_000,
    "segment.ms": 10_000,
    "log.retention.check.interval.ms": 10_000,
    "file.delete.delay.ms": 1000,
}
"""Settings with which the sum, and so the time on disk, stays within PROMISED_MS; the embedded Kafka has them."""
COMPACTION_LAG = "max.compaction.lag.ms"
_UNLIMITED = 2**63 - 1
_CHECK, _REMOTE = "log.retention.check.interval.ms", "remote.storage.enable"


@dataclass(frozen=True, slots=True)
class TopicRetention:
    """For how long Kafka retains a topic's records, by the settings in force.

    Args:
        terms: the settings of RECOMMENDED by name, in ms; -1 means for ever.
        compacted_ms: `max.compaction.lag.ms`; None: the topic isn't compacted, -1: replaced records may stay for ever.
        remote: whether Kafka also copies its segments to a remote tier, which has a retention of its own.
    """

    terms: Mapping[str, int]
    compacted_ms: int | None = None
    remote: bool = False

    @property
    def longest_ms(self) -> int | None:
        """The longest that a record may lie on a broker's disk; None: for ever."""
        return None if any(term < 0 for term in self.terms.values()) else sum(self.terms.values())


USUAL_CHECK_MS = 300_000
"""How often a Kafka looks for what it may delete, by default."""


async def read_retention(broker: KafkaBroker, topics: Sequence[str]) -> dict[str, TopicRetention]:
    """How long Kafka keeps the records of topics; where brokers differ, the slowest one counts.

    Raises:
        StreamerError: this user may not ask, or nobody answers.
    """
    try:
        check_ms = max(int(found[_CHECK]) for found in (await broker.broker_settings([_CHECK])).values())
    except StreamerError:  # a user may do without the right to ask for brokers' settings
        check_ms = USUAL_CHECK_MS
    asked = [*(name for name in RECOMMENDED if name != _CHECK), COMPACTION_LAG, "cleanup.policy", _REMOTE]
    return {
        topic: TopicRetention(
            {n: check_ms if n == _CHECK else int(settings[n]) for n in RECOMMENDED},
            _compacted_ms(settings) if "compact" in settings["cleanup.policy"] else None,
            settings.get(_REMOTE) == "true",
        )
        for topic, settings in (await broker.topic_settings(topics, asked)).items()
    }


def _compacted_ms(settings: Mapping[str, str]) -> int:
    lag_ms = int(settings.get(COMPACTION_LAG, _UNLIMITED))
    return -1 if lag_ms == _UNLIMITED else lag_ms


async def media_retention_lines(broker: KafkaBroker, topology: Topology) -> list[str]:
    """Lines for a terminal: how long this Kafka really keeps raw media, and what to set where that is too long."""
    media = [t.name for t in topology.topics.values() if t.type.LONGEST_RETENTION_MS is not None]
    try:
        found = await read_retention(broker, media)
    except StreamerError as error:
        return [f"warning: how long raw media is really kept can't be read: {error}"]
    return [line for topic, retention in found.items() for line in retention_lines(topic, retention)]


def retention_lines(topic: str, retention: TopicRetention) -> list[str]:
    """Lines for a terminal about one topic of raw media."""
    longest_ms = retention.longest_ms
    found = "for ever" if longest_ms is None else f"for up to {-(-longest_ms // 1000)} s"
    lines = [f"{topic}: raw media stays on Kafka's disks {found}"]
    if longest_ms is None or longest_ms > PROMISED_MS:
        wrong = [name for name, most in RECOMMENDED.items() if not 0 <= retention.terms[name] <= most]
        terms = ", ".join(f"{name}={retention.terms[name]}" for name in wrong)
        better = ", ".join(f"{name}={RECOMMENDED[name]}" for name in wrong)
        lines = [f"warning: {lines[0]}, not {Duration(PROMISED_MS)}: {terms}; set {better}"]
    if retention.remote:
        lines.append(f"warning: {topic}: {_REMOTE}=true: copies of raw media in the remote tier are not counted here")
    return lines
