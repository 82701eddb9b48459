"""The whole path on a real Kafka: a media file in, and ranked items whose order changed because of affect out.

`streamer run` is a process of its own, the media is published by `streamer.recordings.replay` as a platform would, and
what comes out is read with the `msgpack` package as a stranger would read it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import pytest_asyncio

from demo import story
from demo.catalogue.items import read_catalogue
from demo.portrait import Portrait
from streamer.broker import Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.event_time import SystemClock
from streamer.payloads import encode, headers_for
from streamer.recordings.replay import replay_live, session_events
from streamer.settings import load_settings
from streamer.topology.reading import load_topology

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[3]
SESSION = "e2e"
LENGTH_MS = 16_000
SAD_FROM_MS = 3_000
NOOP_MS, OFF_MS = 11_000, 13_500
ITEMS = {
    "music-goodbye-on-platform-nine": 8.7,
    "story-empty-chair-at-supper": 8.6,
    "video-slammed-door": 8.4,
    "story-paper-map": 8.3,
    "music-mountain-tea-house": 8.0,
    "video-puppys-first-snow": 7.9,
}


def _pictures() -> Iterator[Any]:
    portrait = Portrait()
    empty, sad = portrait.empty(), portrait.frame({"sadness": 1.0})
    for n in range(LENGTH_MS * story.FRAMES_PER_S // 1000):
        yield sad if n * 1000 >= SAD_FROM_MS * story.FRAMES_PER_S else empty


def _session(folder: Path) -> Path:
    """Nobody, then a sad face, voice and line; a request before that, one under `noop`, one with the goal off."""
    folder.mkdir()
    sound = np.zeros(LENGTH_MS * story.RATE_HZ // 1000, np.int16)
    spoken = story.read_voice("sadness_13a05Tc")
    start = SAD_FROM_MS * story.RATE_HZ // 1000
    sound[start : start + len(spoken)] = spoken
    story.write_media(folder / "media.mkv", _pictures(), sound, lambda _: None)
    items = [{"item_id": item, "score": score} for item, score in ITEMS.items()]
    consent = {
        "user_id": "u",
        "disclosure_version": "test",
        "disclosed_at_ms": 0,
        "minor": False,
        "affect_ranking": True,
    }
    lines: dict[str, list[dict[str, Any]]] = {
        "consents": [{"event_time_ms": 0, **consent, "modalities": ["face", "voice", "text", "behaviour"]}],
        "controls": [
            {"event_time_ms": 0, "app": "affect", "goal": "lift"},
            {"event_time_ms": NOOP_MS, "app": "affect", "goal": "lift", "policy": "noop"},
            {"event_time_ms": OFF_MS, "app": "affect", "goal": "off", "policy": "affect"},
        ],
        "chat": [{"event_time_ms": SAD_FROM_MS, "text": "I miss her so much, I feel so sad and I can't stop crying."}],
        "candidates": [
            {"event_time_ms": at, "request_id": name, "user_id": "u", "items": items}
            for name, at in (("lift", 1000), ("noop", NOOP_MS + 1000), ("off", OFF_MS + 1000))
        ],
    }
    for name, content in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    return folder


class Stranger:
    """Reads everything of some topics with nothing of ours but the broker's address."""

    def __init__(self) -> None:
        self.records: dict[str, list[dict[str, Any]]] = {}

    async def read(self, broker: KafkaBroker, topics: list[str]) -> None:
        consumer = broker.consumer(topics, group=None)
        await consumer.start()
        ends = await consumer.end_offsets()
        while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
            for message in await consumer.poll(500, timeout_ms=200):
                assert message.value is not None
                self.records.setdefault(message.topic, []).append(msgpack.unpackb(message.value))
        await consumer.stop()


@pytest_asyncio.fixture
async def played(kafka: LocalKafka, tmp_path: Path) -> AsyncIterator[Stranger]:
    """What a stranger finds on the topics after the session was played to the running operators."""
    topology = load_topology(ROOT / "topology.yaml")
    broker = KafkaBroker(load_settings(), kafka.address)
    await broker.ensure_topics(topology.topic_specs())
    producer = broker.producer()
    await producer.start()
    catalogue = read_catalogue(SystemClock().now_ms())
    await producer.send(
        [
            Outgoing("catalogue_items", i.item_id.encode(), encode(i), headers_for(i))
            for i in catalogue
            if i.item_id in ITEMS
        ]
    )
    await producer.stop()
    environment = {
        **os.environ,
        "STREAMER_BROKERS": kafka.address,
        "STREAMER_CONTEXT": "research",
        "STREAMER_ACCEPT_LICENCES": "unsettled",
        "STREAMER_QUEUE": "all",  # a slow machine may be late, not silent
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "run", cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    log = b""
    while b"ready:" not in log:
        line = await process.stderr.readline()
        assert line, log.decode()
        log += line
    drain = asyncio.create_task(process.stderr.read())
    try:
        events = session_events(_session(tmp_path / SESSION), [])
        async for _ in replay_live(events, SESSION, topology, broker):
            pass
        await asyncio.sleep(2)
    finally:
        process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), 15)
        log += await drain
    assert code == 0, log.decode()
    found = Stranger()
    await found.read(
        broker, ["affect_live", "affect_events", "ranked_items", "dead_letters", "late_records", "observations"]
    )
    await broker.close()
    yield found


async def test_affect_changes_the_order_of_items_and_only_where_it_may(played: Stranger) -> None:
    ranked = [r for r in played.records["ranked_items"] if r["session_id"] == SESSION]
    base = list(ITEMS)
    by_request = {name: [r for r in ranked if r["request_id"] == name] for name in ("lift", "noop", "off")}

    first, *later = by_request["lift"]
    assert (first["revision"], first["cause"]) == (0, "request")
    assert [i["item_id"] for i in first["items"]] == base
    moved = [r for r in later if r["cause"] == "affect" and [i["item_id"] for i in r["items"]] != base]
    assert moved, "affect never changed the order"
    events = played.records["affect_live"] + played.records["affect_events"]
    assert moved[0]["affect_event_id"] in {e["event_id"] for e in events}
    for item in moved[0]["items"]:
        assert sum(item["reasons"].values()) == pytest.approx(item["score"], abs=1e-9)
    assert any(abs(item["reasons"].get("affect", 0)) > 0 for item in moved[0]["items"])

    for name in ("noop", "off"):
        assert by_request[name], f"no list for the request {name}"
        for listed in by_request[name]:
            assert [i["item_id"] for i in listed["items"]] == base

    finals = [e for e in played.records["affect_events"] if e["session_id"] == SESSION]
    assert len({e["event_id"] for e in finals}) == len(finals) >= LENGTH_MS // 500 - 2
    assert all(e["final"] and abs(sum(e["emotions"].values()) - 1) < 1e-5 for e in finals if not e["abstained"])
    middle = [
        e for e in finals if not e["abstained"] and all(m["state"] == "present" for m in e["modalities"].values())
    ]
    assert any(set(e["modalities"]) == {"face", "voice", "text"} for e in middle)
    lowest = min(finals, key=lambda e: e["valence"] if e["valence"] is not None else 1)
    assert lowest["valence"] < 0
    assert max(lowest["emotions"], key=lowest["emotions"].get) == "sadness"
    assert "dead_letters" not in played.records or not [
        d for d in played.records["dead_letters"] if d["key"] == SESSION.encode()
    ]
