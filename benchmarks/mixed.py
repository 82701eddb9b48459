"""Honest sessions beside awkward ones: is anything of theirs lost? `python -m benchmarks.mixed --help`.

`streamer run` on a real Kafka. Honest sessions (a film with a voice, and chat) are published twice: alone, then while
everything awkward that is known comes in on the same topics, over and over: records of other clients, codecs and
partitioners, unreadable and huge values, pictures that take seconds, sounds and words that can't be read. Each
observation and each final of the first time must come the second time too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from benchmarks import command_line
from benchmarks.live_pipeline import LivePipeline, benchmark_settings, live_pipeline
from operators.payloads import AffectEvent, Consent, Observation
from streamer.broker import Message, Outgoing
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.cli.arguments import default_topology
from streamer.cli.terminal import show_progress
from streamer.errors import MediaError
from streamer.event_time import SystemClock
from streamer.payloads import TICK_HEADER, DeadLetter, decode, encode
from streamer.recordings.events import Event
from streamer.recordings.replay import consent_event, message, session_events
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

INPUTS = Path(__file__).resolve().parent.parent / "tests" / "awkward_inputs"
FILM = INPUTS / "media" / "mpegts-starts-at-1.4s.ts"
FILM_MS = 4000
LINES = ("I love it", "this is so sad", "what a surprise", "I hate this part")
GRID_MS = 1000
"""Sessions start at whole seconds, so that the steps of sound lie alike."""
TURN_MS = 8000
"""Between two turns of everything awkward: a turn is some 1,500 records at once, more would be an overload."""
QUIET_S, PATIENCE_S = 6.0, 90.0
CLOCK = SystemClock()

Raw = tuple[str, bytes | None, bytes | None, list[tuple[str, Any]], int | None]
"""A record: topic, key, value, headers, partition."""
Facts = Counter[tuple[str, ...]]
"""How many observations and finals there are, by what and when they are, in ms since their session's start."""


@dataclass(slots=True)
class Result:
    """What came the first time and not the second, by kind; how much came; dead letters by reason."""

    alone: Facts
    mixed: Facts
    letters: Counter[str] = field(default_factory=Counter)
    awkward: int = 0

    def lost(self) -> Facts:
        """What the honest sessions have lost."""
        return self.alone - self.mixed


def honest(session: int, loops: int) -> list[Event]:
    """A session's events: consent, a second later the film over and over, and a line of chat each second."""
    events = [consent_event(["face", "voice", "text"], str(session))]
    film = [event for event in session_events(FILM, []) if event.at_ms < FILM_MS - 100]
    for loop in range(loops):
        events += [Event(1000 + event.at_ms + loop * FILM_MS, event.topic, event.fields) for event in film]
    for n in range(loops * FILM_MS // 1000):
        fields = {"message_id": f"m{n}", "speaker": "user", "text": LINES[(n + session) % len(LINES)]}
        events.append(Event(n * 1000 + 1500, "chat_messages", fields))
    return sorted(events, key=lambda event: event.at_ms)


async def publish(
    broker: KafkaBroker, topology: Topology, session: str, events: Sequence[Event], start_ms: int
) -> None:
    """Publish a session's events from a moment on, at their pace."""
    producer = broker.producer()
    await producer.start()
    try:
        for event in events:
            await CLOCK.sleep_ms(start_ms + event.at_ms - CLOCK.now_ms())
            await producer.send([message(event, session, start_ms, topology)])
    finally:
        await producer.stop()


async def publish_honest(
    broker: KafkaBroker, topology: Topology, name: str, sessions: int, loops: int
) -> dict[str, int]:
    """Publish honest sessions together; returns the start of each."""
    start_ms = (CLOCK.now_ms() // GRID_MS + 2) * GRID_MS
    names = {f"{name}-{n}": n for n in range(sessions)}
    await asyncio.gather(
        *(publish(broker, topology, session, honest(n, loops), start_ms) for session, n in names.items())
    )
    return dict.fromkeys(names, start_ms)


def awkward_sessions() -> dict[str, list[Event]]:
    """Every file of the awkward inputs as a session, and every line of text; what can't be read is left out."""
    found: dict[str, list[Event]] = {}
    for path in [*sorted((INPUTS / "media").iterdir()), *(p for p in sorted(INPUTS.iterdir()) if p.is_dir())]:
        with suppress(MediaError):
            found[path.name] = list(session_events(path, ["face", "voice", "text"]))
    for path in sorted((INPUTS / "media").glob("*.jpg")):
        fields = {"source_id": "camera", "width": 512, "height": 512, "data": path.read_bytes()}
        frames = [Event(n * 100, "video_frames", fields) for n in range(5)]
        found[path.name] = [consent_event(["face"], path.name), *frames]
    for n, text in enumerate(json.loads((INPUTS / "texts.json").read_text(encoding="utf-8"))):
        line = Event(5, "chat_messages", {"message_id": "m", "speaker": "user", "text": text})
        found[f"text-{n}"] = [consent_event(["text"], f"text-{n}"), line]
    return found


def awkward_records() -> list[Raw]:
    """Records as no careful client writes them."""
    at_ms = CLOCK.now_ms()
    chat = {"session_id": "x", "event_time_ms": at_ms, "message_id": "m", "speaker": "user", "text": "hi"}
    listed = {"session_id": "x", "event_time_ms": at_ms, "request_id": "q", "user_id": "u", "items": []}
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}
    many = [{"item_id": f"i{n:05d}", "score": float(n)} for n in range(12_000)]
    null: list[tuple[str, Any]] = [("schema", None), ("traceparent", None)]
    granted = Consent(session_id="x", event_time_ms=at_ms, user_id="u", modalities=["text"], disclosed_at_ms=at_ms)
    values: list[tuple[str, Mapping[str, Any]]] = [
        ("chat_messages", chat | {"event_time_ms": at_ms // 1000}),
        ("chat_messages", chat | {"event_time_ms": 0}),
        ("chat_messages", chat | {"event_time_ms": at_ms + 7_200_000}),
        ("chat_messages", chat | {"speaker": "robot"}),
        ("candidates", listed | {"context": deep}),
        ("candidates", listed | {"items": many}),
        ("candidates", listed | {"items": [{"item_id": "a", "score": -3.4e38}, {"item_id": "b", "score": 1.0}]}),
        ("consents", {"session_id": "x", "event_time_ms": at_ms, "user_id": "u", "disclosed_at_ms": 0}),
        (
            "catalogue_items",
            {"item_id": "x", "event_time_ms": at_ms, "text": "x", "mood": {"valence": 7, "arousal": 1}},
        ),
        ("audio_chunks", {"session_id": "x", "event_time_ms": at_ms, "source_id": "m", "data": b"\1"}),
    ]
    packed: list[Raw] = [(topic, b"x", bytes(msgpack.packb(fields)), [], None) for topic, fields in values]
    two_places: list[Raw] = [("consents", b"x", encode(granted), [], n) for n in range(2)]
    return [
        *packed, *two_places,
        ("chat_messages", b"x", json.dumps(chat).encode(), [], None),
        ("chat_messages", b"x", b"\0\0\0\0\7" + bytes(msgpack.packb(chat)), [], None),
        ("chat_messages", None, b"\x80", null, None), ("chat_messages", b"\xff\xfe", b"\xc1", null, None),
        ("consents", b"\xff\xfe", None, null, None), ("consents", b"x", b"\xc1", [], None),
        ("video_frames", b"x", b"\x80" * 1000, [("schema", b"VideoFrame/99")], None),
        ("observations", b"x", b"\xde\xff\xff", [], None), ("affect_events", b"x", b"", null, None),
    ]  # fmt: skip


async def publish_awkward(pipeline: LivePipeline, topology: Topology) -> AsyncIterator[int]:
    """Publish everything awkward again and again, by every codec in turn; yields how many records there were."""
    from aiokafka import AIOKafkaProducer

    sessions = awkward_sessions()
    for turn, codec in enumerate(itertools.cycle((None, "gzip", "snappy", "lz4", "zstd"))):
        producer = AIOKafkaProducer(bootstrap_servers=pipeline.kafka.address, compression_type=codec)
        await producer.start()
        try:
            for topic, key, value, headers, partition in awkward_records():
                await producer.send_and_wait(topic, value, key=key, headers=headers, partition=partition)
                yield 1
            start_ms = CLOCK.now_ms()
            for name, events in sessions.items():
                sent = [_outgoing(event, f"{name}-{turn}", start_ms, topology) for event in events]
                for one in sent:
                    await producer.send(one.topic, one.value, key=one.key, headers=list(one.headers))
                yield len(sent)
            await producer.flush()
        finally:
            await producer.stop()
        await CLOCK.sleep_ms(TURN_MS)


def _outgoing(event: Event, session: str, start_ms: int, topology: Topology) -> Outgoing:
    """The record of an event; one that our own producer would refuse is sent as it is."""
    try:
        return message(event, session, start_ms, topology)
    except MediaError:
        fields = {**event.fields, "event_time_ms": start_ms + event.at_ms, "session_id": session}
        return Outgoing(event.topic, session.encode(), bytes(msgpack.packb(fields)))


async def read_new(broker: KafkaBroker, topics: Sequence[str]) -> list[Message]:
    """Everything that is on topics, once nothing new has come for a while."""
    consumer = broker.consumer(topics, group=None)
    await consumer.start()
    found: list[Message] = []
    quiet_since_ms = begun_ms = CLOCK.now_ms()
    while CLOCK.now_ms() - quiet_since_ms < QUIET_S * 1000 and CLOCK.now_ms() - begun_ms < PATIENCE_S * 1000:
        if new := await consumer.poll(1000, 200):
            found += new
            quiet_since_ms = CLOCK.now_ms() if any(m.topic != "dead_letters" for m in new) else quiet_since_ms
    await consumer.stop()
    return found


def facts(stored: Sequence[Message], starts: Mapping[str, int]) -> Facts:
    """What is said of honest sessions; the number that ends a session's name stands for it."""
    found: Facts = Counter()
    for one in stored:
        session = (one.key or b"").decode(errors="replace")
        if session not in starts or one.value is None or TICK_HEADER in dict(one.headers):
            continue
        who, start_ms = session.rpartition("-")[2], starts[session]
        if one.topic == "observations":
            o = decode(one.value, Observation)
            found[o.modality, who, o.source_id, str(o.start_ms - start_ms), str(o.end_ms - start_ms)] = 1
        elif one.topic == "affect_events":
            found["final", who, "", "", str(decode(one.value, AffectEvent).window_end_ms - start_ms)] = 1
    return found


async def mix(topology_path: Path, sessions: int, loops: int) -> Result:
    """Run the two rounds; see the module."""
    settings, topology = benchmark_settings(), load_topology(topology_path)
    async with live_pipeline(topology_path, settings, queue_all=True, progress=show_progress()) as pipeline:
        alone = await publish_honest(pipeline.broker, topology, "alone", sessions, loops)
        count = 0

        async def disturb() -> None:
            nonlocal count
            async for sent in publish_awkward(pipeline, topology):
                count += sent

        disturbing = asyncio.create_task(disturb())
        await asyncio.sleep(1)
        mixed = await publish_honest(pipeline.broker, topology, "mixed", sessions, loops)
        if disturbing.done():
            disturbing.result()
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)
        stored = await read_new(pipeline.broker, ["observations", "affect_events", "dead_letters"])
    letters = (decode(m.value, DeadLetter) for m in stored if m.topic == "dead_letters" and m.value is not None)
    return Result(facts(stored, alone), facts(stored, mixed), Counter(letter.reason for letter in letters), count)


def main() -> int:
    """Run the benchmark and print what came and what was lost; exit code 1 where anything was lost, else 0."""
    parser = command_line.argument_parser("mixed", (__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=3, help="honest sessions at a time")
    parser.add_argument("--loops", type=int, default=8, help=f"how often each plays its film of {FILM_MS // 1000} s")
    args = parser.parse_args()
    command_line.print_machine()
    result = asyncio.run(mix(default_topology(), args.sessions, args.loops))
    lost = Counter(key[0] for key in result.lost())
    came = Counter(key[0] for key in result.alone)
    print(f"{result.awkward} awkward records; dead letters: {dict(result.letters.most_common())}")
    for kind, count in sorted(came.items()):
        print(f"{kind:>6}: {count:5} alone, lost beside awkward ones: {lost[kind]}")
    print("lost: 0" if not lost else f"LOST: {sum(lost.values())}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(command_line.exit_code(main))
