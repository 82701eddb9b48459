"""How long raw media really stays: what is promised, what another Kafka's settings make of it, and the disk itself."""

from __future__ import annotations

import pytest

from streamer.broker import TopicSpec
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.compliance import retention
from streamer.compliance.retention import TopicRetention, media_retention_lines, read_retention, retention_lines
from streamer.errors import StreamerError
from streamer.event_time import SystemClock
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.streamer.compliance.media_witness import DELETED, MARKERS, lies_on_disk, put_ms


def with_settings(**changes: int) -> TopicRetention:
    return TopicRetention(retention.RECOMMENDED | {name.replace("_", "."): value for name, value in changes.items()})


def test_the_settings_of_the_embedded_kafka_keep_the_promise() -> None:
    (line,) = retention_lines("video_frames", with_settings())
    assert line == "video_frames: raw media stays on Kafka's disks for up to 81 s"


def test_a_kafka_with_default_settings_is_warned_of_with_what_to_set() -> None:
    slow = with_settings(log_retention_check_interval_ms=300_000, file_delete_delay_ms=60_000)
    (line,) = retention_lines("video_frames", slow)
    assert line == (
        "warning: video_frames: raw media stays on Kafka's disks for up to 430 s, not 90s: "
        "log.retention.check.interval.ms=300000, file.delete.delay.ms=60000; "
        "set log.retention.check.interval.ms=10000, file.delete.delay.ms=1000"
    )


def test_a_topic_that_is_kept_for_ever_is_warned_of() -> None:
    (line,) = retention_lines("audio_chunks", with_settings(retention_ms=-1))
    assert "for ever" in line
    assert "set retention.ms=60000" in line


def test_a_remote_tier_is_warned_of_since_it_keeps_its_own_copies() -> None:
    _, line = retention_lines("audio_chunks", TopicRetention(retention.RECOMMENDED, remote=True))
    assert line.startswith("warning: audio_chunks: remote.storage.enable=true")


@pytest.mark.kafka
async def test_what_a_kafka_really_keeps_is_read_from_its_topics_and_brokers(kafka: LocalKafka, unique: str) -> None:
    broker, topology = KafkaBroker(load_settings(), kafka.address), load_topology("topology.yaml")
    await broker.ensure_topics([TopicSpec(unique, 1, retention_ms=86_400_000, segment_ms=10_000)])
    found = await read_retention(broker, [unique, "video_frames"])
    lines = await media_retention_lines(broker, topology)
    await broker.close()
    assert found[unique].longest_ms == 86_400_000 + 10_000 + 10_000 + 1000
    assert found["video_frames"].longest_ms == 81_000
    assert [line.partition(":")[0] for line in lines] == ["video_frames", "audio_chunks"]


@pytest.mark.kafka
async def test_where_the_settings_cannot_be_read_that_is_said(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise StreamerError("not allowed to describe the cluster")

    broker = KafkaBroker(load_settings(), kafka.address)
    topology = load_topology("topology.yaml")
    monkeypatch.setattr(KafkaBroker, "broker_settings", refused)
    lines = await media_retention_lines(broker, topology)
    assert all("log.retention.check.interval.ms=300000" in line for line in lines), "Kafka's default is taken"
    monkeypatch.setattr(KafkaBroker, "topic_settings", refused)
    (line,) = await media_retention_lines(broker, topology)
    await broker.close()
    assert line == "warning: how long raw media is really kept can't be read: not allowed to describe the cluster"


@pytest.mark.kafka
@pytest.mark.last
@pytest.mark.timeout(150, func_only=True)
async def test_raw_media_is_off_the_disk_90_s_after_it_came(kafka: LocalKafka) -> None:
    # put there when this Kafka started: of a whole run nothing is waited for any more
    clock = SystemClock()
    while any(lies_on_disk(kafka, marker) for marker in MARKERS):
        assert clock.perf_ms() - put_ms[kafka.address] < retention.PROMISED_MS
        await clock.sleep_ms(500)
    assert clock.perf_ms() - put_ms[kafka.address] > retention.RECOMMENDED["retention.ms"]


@pytest.mark.kafka
@pytest.mark.last
async def test_what_a_deletion_has_replaced_is_off_the_disk_once_a_later_record_has_come(kafka: LocalKafka) -> None:
    clock = SystemClock()
    while lies_on_disk(kafka, DELETED):
        assert clock.perf_ms() - put_ms[kafka.address] < 60_000, "Kafka looks every 15 s"
        await clock.sleep_ms(500)
