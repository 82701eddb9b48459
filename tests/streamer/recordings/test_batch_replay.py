"""What was computed live on a real Kafka, computed again: by a new group from its log, and from a recording of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest

from operators.payloads import ChatMessage, Observation
from streamer.broker import Message, Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.brokers.partitioner import partition_for
from streamer.errors import MediaError
from streamer.event_time import SystemClock
from streamer.payloads import TICK_HEADER, decode, encode, headers_for
from streamer.recordings.batch_replay import batch_replay
from streamer.recordings.recorder import RecordingRequest, record, topics_to_record
from streamer.recordings.recording import Recording, RecordingWriter, header_of, in_kafka_order
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.streamer.recordings.comparable_finals import but_for_emission, finals_by_partition

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90, func_only=True)]

ROOT = Path(__file__).parents[3]
SESSIONS = 8
SPEAKING_MS = 3000
PATIENCE_S = 30
CLOCK = SystemClock()


@dataclass(frozen=True)
class Lived:
    """A stretch of life on a Kafka that still runs: its finals, and a recording of all of it."""

    kafka: LocalKafka
    topology: Topology
    finals: dict[int, list[tuple[bytes | None, bytes]]]
    recording: Path


def observation(session: str, modality: str, at_ms: int, chance: random.Random) -> Observation:
    happy = round(chance.random(), 3)
    return Observation(
        session_id=session, event_time_ms=at_ms, modality=modality, source_id="s", start_ms=at_ms - 250, end_ms=at_ms,
        emotions={"happiness": happy, "sadness": 1 - happy}, confidence=0.9, source_kafka_ms=at_ms,
    )  # fmt: skip


async def live(broker: KafkaBroker, topology: Topology) -> None:
    """Sessions that speak, stutter, lag behind, lie about the clock and fall silent one by one, fused as they do."""
    pipeline = Pipeline(topology, load_settings(), broker, only=["fuse_affect"])
    await pipeline.open()
    running = asyncio.create_task(pipeline.run())
    producer = broker.producer()
    await producer.start()
    chance, begin_ms = random.Random(7), CLOCK.now_ms()  # noqa: S311 - a script, not a secret
    while (passed_ms := CLOCK.now_ms() - begin_ms) < SPEAKING_MS:
        batch = []
        for n in range(SESSIONS):
            if passed_ms > SPEAKING_MS * (n + 1) / SESSIONS:
                continue
            skew_ms = {1: -700, 2: 400, 3: 9000}.get(n, 0)
            modality = chance.choice(("face", "voice", "text"))
            late_ms = chance.choice((0, 0, 20, 3500)) if modality != "face" else 0
            seen = observation(f"session-{n}", modality, CLOCK.now_ms() + skew_ms - late_ms, chance)
            batch += [seen] * chance.choice((1, 1, 1, 2))
        await producer.send([Outgoing("observations", o.session_id.encode(), encode(o), headers_for(o)) for o in batch])
        await asyncio.sleep(0.06)
    async with asyncio.timeout(PATIENCE_S):
        while any(runner.wake_ms() is not None for runner in pipeline.runners):  # noqa: ASYNC110 - until nothing is open
            await asyncio.sleep(0.1)
    await producer.stop()
    pipeline.close()
    await running


@asynccontextmanager
async def closing(broker: KafkaBroker) -> AsyncIterator[KafkaBroker]:
    try:
        yield broker
    finally:
        await broker.close()


async def read(broker: KafkaBroker, topic: str) -> list[Message]:
    consumer = broker.consumer([topic], group=None)
    await consumer.start()
    ends, found = await consumer.end_offsets(), list[Message]()
    while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
        found += await consumer.poll(500, 200)
    await consumer.stop()
    return found


async def recorded(broker: KafkaBroker, topology: Topology, path: Path, since_ms: int = 0) -> Recording:
    wanted = RecordingRequest(topics_to_record(topology, [], media=False), since_ms, until_now=True)
    with RecordingWriter(path, header_of(topology, wanted.topics, CLOCK.now_ms())) as writer:
        await record(wanted, topology, broker, writer, CLOCK, asyncio.Event())
    return Recording(path)


@pytest.fixture(scope="module")
def lived() -> Iterator[Lived]:
    """A Kafka of its own, on which the sessions above have lived."""
    topology = load_topology(ROOT / "topology.yaml")
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        context = local_kafka(load_settings())
        kafka = runner.run(context.__aenter__())

        async def happen() -> Lived:
            async with closing(KafkaBroker(load_settings(), kafka.address)) as broker:
                await live(broker, topology)
                finals = finals_by_partition(await read(broker, "affect_events"))
                recording = await recorded(broker, topology, Path(folder) / "lived.affectlog")
            return Lived(kafka, topology, finals, recording.path)

        try:
            yield runner.run(happen())
        finally:
            runner.run(context.__aexit__(None, None, None))


def test_life_was_worth_recording(lived: Lived) -> None:
    messages = list(Recording(lived.recording).messages())
    assert sum(map(len, lived.finals.values())) > 4 * SESSIONS
    assert len(lived.finals) > 1
    topics = {m.topic for m in messages}
    assert {"observations", "affect_live", "affect_events", "late_records", "dead_letters", "worker_reports"} <= topics
    ticks = [m for m in messages if TICK_HEADER in dict(m.headers)]
    assert ticks
    assert {(m.key, m.value) for m in ticks} == {(None, b"\x80")}


async def test_a_recording_folded_in_memory_gives_the_finals_of_the_live_run_byte_for_byte(lived: Lived) -> None:
    replayed = await batch_replay(Recording(lived.recording), lived.topology, load_settings())
    assert replayed.operators == ("fuse_affect",)
    assert finals_by_partition(replayed.broker.messages("affect_events")) == lived.finals
    assert not replayed.still_open
    assert replayed.notes == []


async def test_the_same_log_read_again_by_a_new_group_gives_the_same_finals_byte_for_byte(lived: Lived) -> None:
    again = dataclasses.replace(lived.topology, app="again")
    finals: dict[int, list[tuple[bytes | None, bytes]]] = {}
    async with closing(KafkaBroker(load_settings(), lived.kafka.address)) as broker:
        pipeline = Pipeline(again, load_settings(), broker, only=["fuse_affect"])
        await pipeline.open()
        running = asyncio.create_task(pipeline.run())
        async with asyncio.timeout(PATIENCE_S):
            while sum(map(len, finals.values())) < 2 * sum(map(len, lived.finals.values())):
                await asyncio.sleep(0.2)
                finals = finals_by_partition(await read(broker, "affect_events"))
        pipeline.close()
        await running
    assert finals == {partition: [*first, *first] for partition, first in lived.finals.items()}


async def test_a_recording_that_breaks_off_gives_the_finals_up_to_there_and_leaves_windows_open(
    lived: Lived, tmp_path: Path
) -> None:
    whole, cut = Recording(lived.recording), tmp_path / "cut.affectlog"
    with RecordingWriter(cut, whole.header) as writer:  # as if it had been recorded while it happened
        writer.add(m for _, m in in_kafka_order(whole.messages()) if m.topic == "observations")
    happened, open_ones = cut.read_bytes(), 0
    for share in (0.2, 0.4, 0.6):
        cut.write_bytes(happened[: int(len(happened) * share)])
        recording = Recording(cut)
        replayed = await batch_replay(recording, lived.topology, load_settings())
        assert recording.warning() is not None
        open_ones += replayed.still_open
        for partition, finals in finals_by_partition(replayed.broker.messages("affect_events")).items():
            assert finals == lived.finals[partition][: len(finals)]
    assert open_ones


async def test_what_is_open_at_the_end_is_closed_only_if_asked_and_told_apart(lived: Lived, tmp_path: Path) -> None:
    whole, cut = Recording(lived.recording), tmp_path / "cut.affectlog"
    seen = [m for m in whole.messages() if m.topic == "observations" and TICK_HEADER not in dict(m.headers)]
    with RecordingWriter(cut, whole.header) as writer:
        writer.add(seen[: len(seen) * 2 // 3])
        writer.end({})
    unfinished = await batch_replay(Recording(cut), lived.topology, load_settings())
    finished = await batch_replay(Recording(cut), lived.topology, load_settings(), finish=True)
    before = finals_by_partition(unfinished.broker.messages("affect_events"))
    after = finals_by_partition(finished.broker.messages("affect_events"))
    assert unfinished.still_open
    assert unfinished.after == {}
    assert finished.after["affect_events"] == sum(map(len, after.values())) - sum(map(len, before.values())) > 0
    assert all(after[partition][: len(finals)] == finals for partition, finals in before.items())


async def test_a_recording_from_the_middle_says_what_may_differ(lived: Lived, tmp_path: Path) -> None:
    async with closing(KafkaBroker(load_settings(), lived.kafka.address)) as broker:
        stamps = [m.timestamp_ms for m in await read(broker, "observations")]
        middle = sorted(stamps)[len(stamps) // 2]
        recording = await recorded(broker, lived.topology, tmp_path / "late.affectlog", since_ms=middle)
    assert all(m.timestamp_ms >= middle for m in recording.messages() if m.topic == "observations")
    (note,) = (await batch_replay(recording, lived.topology, load_settings())).notes
    assert "begins in the middle of its log: in its first 2m fuse_affect may lack what came before" in note


async def test_what_a_recording_lacks_is_named(lived: Lived, tmp_path: Path) -> None:
    recording = Recording(lived.recording)
    with pytest.raises(MediaError, match="sense_text reads chat_messages, which was not recorded.*--with-media"):
        await batch_replay(recording, lived.topology, load_settings(), only=["sense_text"])
    with pytest.raises(MediaError, match="4 partitions of each topic, the topology 8"):
        await batch_replay(recording, dataclasses.replace(lived.topology, partitions=8), load_settings())
    with RecordingWriter(tmp_path / "few.affectlog", header_of(lived.topology, ["controls"], 0)) as writer:
        writer.end({})
    with pytest.raises(MediaError, match="holds no observations to fold"):
        await batch_replay(Recording(tmp_path / "few.affectlog"), lived.topology, load_settings())


def streamer(kafka: LocalKafka, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_")}
    return subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", "streamer", *arguments],
        cwd=ROOT, env={**environment, "STREAMER_BROKERS": kafka.address, "PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_recorded_and_folded_on_the_command_line_it_is_the_same(lived: Lived, tmp_path: Path) -> None:
    out = tmp_path / "bug.affectlog"
    _, warning = streamer(lived.kafka, "record", str(out), "observations", "--until-now").communicate(timeout=30)
    assert "observations" in warning.splitlines()[-1], warning
    lines, warning = streamer(lived.kafka, "replay", str(out), "--speed", "max").communicate(timeout=30)
    assert "with fuse_affect" in warning, warning
    live_ones = [value for finals in lived.finals.values() for _, value in finals]
    replayed = [json.loads(line) for line in lines.splitlines()]
    for event in replayed:
        event["compounds"] = [tuple(c) for c in event["compounds"]]
    assert sorted(but_for_emission(msgpack.packb(event)) for event in replayed) == sorted(live_ones)


def test_ctrl_c_ends_a_recording_in_order_and_counts_what_is_in_it(lived: Lived, tmp_path: Path) -> None:
    out = tmp_path / "live.affectlog"
    process = streamer(lived.kafka, "record", str(out), "--beginning")
    assert process.stderr is not None
    assert "recording to" in process.stderr.readline()
    assert "without video_frames, audio_chunks, chat_messages: add --with-media" in process.stderr.readline()
    size = -1
    while size != out.stat().st_size or size < 10_000:
        size = out.stat().st_size
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, warning = process.communicate(timeout=20)
    assert process.returncode == 0, warning
    recording = Recording(out)
    count = sum(m.topic == "observations" for m in recording.messages())
    assert recording.warning() is None
    assert f"{count} observations" in warning.splitlines()[-1]


def test_what_came_from_outside_is_published_again_on_a_real_kafka(lived: Lived, tmp_path: Path) -> None:
    line = ChatMessage(session_id="x", event_time_ms=1_000_000, message_id="m", speaker="user", text="again")
    partition, value = partition_for(b"x", lived.topology.partitions), encode(line)
    path = tmp_path / "chat.affectlog"
    with RecordingWriter(path, header_of(lived.topology, ["chat_messages"], 0)) as writer:
        writer.add([Message("chat_messages", partition, n, 1_000_000 + 300 * n, b"x", value) for n in (5, 6)])
    before_ms = CLOCK.now_ms()
    _, warning = streamer(lived.kafka, "replay", str(path), "--session", "anew").communicate(timeout=30)
    assert "it was not ended in order; all that is there was read" in warning
    assert warning.rstrip().endswith("2 chat_messages")
    stored = asyncio.run(read_all(lived, "chat_messages"))
    assert [m.key for m in stored] == [b"anew", b"anew"]
    assert 250 < stored[1].timestamp_ms - stored[0].timestamp_ms < 2000
    assert all(before_ms - 2000 < decode(m.value, ChatMessage).event_time_ms < m.timestamp_ms for m in stored)


async def read_all(lived: Lived, topic: str) -> list[Message]:
    async with closing(KafkaBroker(load_settings(), lived.kafka.address)) as broker:
        return await read(broker, topic)
