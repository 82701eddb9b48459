"""Raw media and a deletion put on a Kafka when it starts: much later a test looks whether the disk still holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.payloads import AudioChunk, VideoFrame
from streamer.broker import Outgoing, TopicSpec
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.event_time import SystemClock
from streamer.payloads import encode
from streamer.settings import load_settings
from streamer.topology.reading import load_topology

MARKERS = (b"pixels of somebody's face", b"samples of somebody's voice")
DELETED = b"what somebody allowed once"
TABLE, SESSION, COMPACTED_WITHIN_MS = "witness_table", "media-witness", 100
put_ms: dict[str, float] = {}
"""When media was put on a Kafka, by its address, on the monotonic clock."""


async def put_media(kafka: LocalKafka) -> None:
    """A frame and a chunk, on the topics as the topology has them; a table's record, and its deletion twice."""
    topology, clock = load_topology("topology.yaml"), SystemClock()
    broker = KafkaBroker(load_settings(), kafka.address)
    await broker.ensure_topics([topology.topics[name].spec(4) for name in ("video_frames", "audio_chunks")])
    at_ms, (pixels, samples) = clock.now_ms(), MARKERS
    frame = VideoFrame(
        session_id=SESSION, event_time_ms=at_ms, source_id="camera", width=64, height=64, data=pixels
    )  # fmt: skip
    chunk = AudioChunk(session_id=SESSION, event_time_ms=at_ms, source_id="mic", data=samples)
    producer = broker.producer()
    await producer.start()
    await producer.send(
        [Outgoing(n, SESSION.encode(), encode(p)) for n, p in (("video_frames", frame), ("audio_chunks", chunk))]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_options, "COMPACTED_WITHIN_MS", COMPACTED_WITHIN_MS)
        await broker.ensure_topics([TopicSpec(TABLE, 1, compact=True)])
    await producer.send([Outgoing(TABLE, b"k", DELETED), Outgoing(TABLE, b"k", None)])
    assert lies_on_disk(kafka, DELETED)
    await clock.sleep_ms(2 * COMPACTED_WITHIN_MS)
    await producer.send([Outgoing(TABLE, b"k", None)])
    await producer.stop()
    await broker.close()
    put_ms[kafka.address] = clock.perf_ms()
    assert all(lies_on_disk(kafka, marker) for marker in MARKERS)


def lies_on_disk(kafka: LocalKafka, marker: bytes) -> bool:
    """Whether any file of a Kafka's records holds the marker; one that is deleted meanwhile does not."""
    for path in (kafka.log.parent / "data").rglob("*.*"):
        if marker in _bytes(path):
            return True
    return False


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return b""
