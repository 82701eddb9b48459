"""Records as other clients write them, on a real Kafka: codecs, null headers, binary keys, deep and large values.

Each must be read or be one dead letter, on the runner's consumer and on Faust, and the next request be answered.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from operators.payloads import Candidate, CandidateList
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.payloads import encode
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.streamer.brokers.broker_steps import read
from tests.streamer.runtime.faust_bench import TOPOLOGY, Bench, now_ms

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90, func_only=True)]

CODECS = ["gzip", "snappy", "lz4", "zstd"]


@pytest_asyncio.fixture
async def bench(kafka: LocalKafka, tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    made = Bench(kafka, load_topology(tmp_path / "topology.yaml"))
    made.session = f"session-{uuid.uuid4().hex}"
    await made.start()
    yield made
    await made.stop()


Sent = tuple[str, bytes | None, bytes | None, Any]


async def produce(kafka: LocalKafka, *records: Sent, codec: str | None = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address, compression_type=codec)
    await producer.start()
    for topic, key, value, headers in records:
        await producer.send_and_wait(topic, value, key=key, headers=headers)
    await producer.stop()


def candidates(bench: Bench, request_id: str, **fields: Any) -> bytes:
    items = [Candidate(item_id=name, score=1.0) for name in ("a", "b")]
    made = CandidateList(
        session_id=bench.session, event_time_ms=now_ms(), request_id=request_id, user_id="u", items=items
    )
    return bytes(msgpack.packb({**msgpack.unpackb(encode(made)), **fields}))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_of_clients_and_of_topics_is_read(kafka: LocalKafka, codec: str) -> None:
    broker, topic = KafkaBroker(load_settings(), kafka.address), f"codec-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    await admin.create_topics(
        [NewTopic(topic, 1, 1), NewTopic(f"{topic}-own", 1, 1, topic_configs={"compression.type": codec})]
    )
    await admin.close()
    await produce(kafka, (topic, b"k", b"v" * 1000, []), codec=codec)
    await produce(kafka, (f"{topic}-own", b"k", b"v" * 1000, []))
    for name in (topic, f"{topic}-own"):
        consumer = broker.consumer([name], group=None)
        await consumer.start()
        assert [m.value for m in await read(consumer, 1)] == [b"v" * 1000]
        await consumer.stop()
    await broker.close()


async def test_on_faust_each_is_read_or_one_dead_letter_and_the_next_request_is_answered(
    kafka: LocalKafka, bench: Bench
) -> None:
    key = bench.session.encode()
    null: Any = [("schema", None), ("traceparent", None), ("x", None)]
    many = [{"item_id": f"i{i:05d}", "score": float(i)} for i in range(12_000)]
    deep = [{"item_id": "a", "score": 1.0, "provenance": nested(940)}]
    async with bench.running():
        for n, codec in enumerate(CODECS):
            await produce(kafka, ("candidates", key, candidates(bench, f"c{n}"), []), codec=codec)
        await produce(kafka, ("candidates", key, candidates(bench, "null"), null))
        await produce(kafka, ("consents", b"\xff\xfe", None, null), ("catalogue_items", b"\xff", None, []))
        await produce(kafka, ("candidates", key, candidates(bench, "deep", items=deep), []))
        await produce(kafka, ("candidates", key, candidates(bench, "context", context=nested(600)), []))
        await produce(kafka, ("candidates", key, candidates(bench, "many", items=many), []))
        await bench.request("last")
        asked = await bench.lists(6)
        letters = await bench.letters(3)
    assert [one.request_id for one in asked] == ["c0", "c1", "c2", "c3", "null", "last"]
    assert [letter.reason for letter in letters] == ["undecodable", "undecodable", "too_large"]
    async with bench.running():  # nothing of it stops the next start either
        await bench.request("again")
        assert (await bench.lists(7))[-1].request_id == "again"
