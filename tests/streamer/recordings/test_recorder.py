"""What a recording may hold of what people showed, said and wrote: only if asked for, and only where they agreed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from operators.payloads import AudioChunk, ChatMessage, Consent, Control, VideoFrame
from streamer.__main__ import main
from streamer.broker import Headers, Message, Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import ConfigurationError, RefusedUseError
from streamer.event_time import SystemClock
from streamer.payloads import SessionKeyed, encode, headers_for
from streamer.recordings.recorder import RecordingRequest, record, topics_to_record
from streamer.recordings.recording import End, Recording, RecordingWriter, header_of
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

ROOT = Path(__file__).parents[3]
T = 1_700_000_000_000
TOPOLOGY = """\
version: 2
app: {app}
partitions: 2
topics:
  {app}_frames:   {{payload: VideoFrame, external: in, retention: 60s}}
  {app}_chunks:   {{payload: AudioChunk, external: in, retention: 60s}}
  {app}_chat:     {{payload: ChatMessage, external: in, retention: 10m}}
  {app}_consents: {{payload: Consent, external: in, compact: true}}
  {app}_controls: {{payload: Control, external: in, compact: true, key: app}}
modalities:
  face:  {{topic: {app}_frames, evidence: false}}
  voice: {{topic: {app}_chunks, evidence: false}}
  text:  {{topic: {app}_chat, evidence: false}}
operators: {{}}
"""
ALL: dict[str, Any] = {"modalities": ["face", "voice", "text"], "disclosed_at_ms": T, "minor": False}


class Platform:
    """Topics of an app of its own on the real Kafka, and who writes on them."""

    def __init__(self, topology: Topology, kafka: LocalKafka, folder: Path) -> None:
        self.topology, self.app, self._folder = topology, str(topology.app), folder
        self.broker = KafkaBroker(load_settings(), kafka.address)
        self._producer = self.broker.producer()

    async def start(self) -> None:
        await self.broker.ensure_topics(self.topology.topic_specs())
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()
        await self.broker.close()

    async def raw(self, topic: str, key: str, value: bytes | None, headers: Headers = ()) -> None:
        await self._producer.send([Outgoing(f"{self.app}_{topic}", key.encode(), value, headers)])

    async def send(self, topic: str, payload: SessionKeyed, key: str | None = None) -> None:
        await self.raw(topic, key or payload.session_id, encode(payload), headers_for(payload))

    async def agree(self, session: str, at_ms: int = T, **terms: Any) -> None:
        await self.send("consents", Consent(session_id=session, event_time_ms=at_ms, user_id="u", **terms))

    async def show(self, session: str, at_ms: int = T + 10, key: str | None = None) -> None:
        frame = VideoFrame(session_id=session, event_time_ms=at_ms, source_id="c", width=1, height=1, data=b"picture")
        await self.send("frames", frame, key)

    async def say(self, session: str, at_ms: int = T + 10) -> None:
        await self.send("chunks", AudioChunk(session_id=session, event_time_ms=at_ms, source_id="m", data=b"\0\0"))

    async def write(self, session: str, at_ms: int = T + 10, speaker: Any = "user") -> None:
        line = ChatMessage(session_id=session, event_time_ms=at_ms, message_id="1", speaker=speaker, text="hello")
        await self.send("chat", line)

    async def record(
        self, name: str = "a", stop: asyncio.Event | None = None, **wanted: Any
    ) -> tuple[End, dict[str, list[Message]]]:
        """A recording's header, and its records by topic, without the app's name."""
        asked = RecordingRequest(topics_to_record(self.topology, [], wanted.get("media", False)), 0, until_now=True)
        asked, clock = replace(asked, **wanted), SystemClock()
        path = self._folder / f"{name}.affectlog"
        with RecordingWriter(path, header_of(self.topology, asked.topics, clock.now_ms())) as writer:
            end = await record(asked, self.topology, self.broker, writer, clock, stop or asyncio.Event())
        found: dict[str, list[Message]] = {}
        for message in Recording(path).messages():
            found.setdefault(message.topic.removeprefix(f"{self.app}_"), []).append(message)
        return end, found


@pytest_asyncio.fixture
async def platform(kafka: LocalKafka, unique: str, tmp_path: Path) -> AsyncIterator[Platform]:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(app=unique))
    made = Platform(load_topology(path), kafka, tmp_path)
    await made.start()
    yield made
    await made.stop()


def who(messages: list[Message]) -> list[str]:
    return sorted((m.key or b"").decode() for m in messages)


@pytest.mark.kafka
async def test_media_and_chat_stay_out_unless_asked_for(platform: Platform) -> None:
    await platform.agree("me", **ALL)
    for act in (platform.show, platform.say, platform.write):
        await act("me")
    end, found = await platform.record()
    assert found.keys() == {"consents"}
    assert end.left_out == {}


@pytest.mark.kafka
async def test_asked_for_they_are_recorded_of_those_who_agreed_and_of_nobody_else(platform: Platform) -> None:
    terms: dict[str, list[tuple[int, dict[str, Any]]]] = {
        "agrees": [(T, ALL)],
        "agrees still": [(T, ALL), (T + 100, {**ALL, "affect_ranking": True})],
        "never asked": [],
        "not told": [(T, {**ALL, "disclosed_at_ms": None})],
        "text only": [(T, {**ALL, "modalities": ["text"]})],
        "minor": [(T, {**ALL, "minor": True})],
        "age unknown": [(T, {**ALL, "minor": None})],
        "agreed later": [(T + 11, ALL)],
        "withdrew": [(T, ALL), (T + 100, {**ALL, "modalities": []})],
        "agreed again later": [(T, ALL), (T + 5, {**ALL, "modalities": []}), (T + 11, ALL)],
        "agreed again": [(T, ALL), (T + 5, {**ALL, "modalities": []}), (T + 7, ALL)],
        "deleted": [(T, ALL)],
        "unreadable": [(T, ALL)],
    }
    for session, consents in terms.items():
        for at_ms, granted in consents:
            await platform.agree(session, at_ms, **granted)
    await platform.raw("consents", "deleted", None)
    await platform.raw("consents", "unreadable", b"?")
    for session in terms:
        for act in (platform.show, platform.say, platform.write):
            await act(session)
    end, found = await platform.record(media=True)
    everything = ["agreed again", "agrees", "agrees still"]
    assert who(found["frames"]) == who(found["chunks"]) == everything
    assert who(found["chat"]) == sorted([*everything, "text only", "minor", "age unknown"])
    left_out = {topic.removeprefix(f"{platform.app}_"): reasons for topic, reasons in end.left_out.items()}
    assert left_out == {"frames": {"not_agreed": 10}, "chunks": {"not_agreed": 10}, "chat": {"not_agreed": 7}}


@pytest.mark.kafka
async def test_others_and_what_cannot_be_told_whose_it_is_stay_out(platform: Platform) -> None:
    await platform.agree("me", **ALL)
    await platform.write("me", speaker="other")
    await platform.show("me", key="you")
    await platform.show("you", key="me")
    await platform.raw("frames", "me", b"no map")
    end, found = await platform.record(media=True)
    assert found.keys() == {"consents"}
    assert end.left_out == {f"{platform.app}_chat": {"not_agreed": 1}, f"{platform.app}_frames": {"undecodable": 3}}


@pytest.mark.kafka
async def test_consent_counts_even_where_the_consents_themselves_are_not_recorded(platform: Platform) -> None:
    await platform.agree("me", **ALL)
    await platform.show("me")
    await platform.show("you")
    _, found = await platform.record(media=True, topics=(f"{platform.app}_frames",))
    assert {topic: who(messages) for topic, messages in found.items()} == {"frames": ["me"]}


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - it waits for a file
            await asyncio.sleep(0.05)


@pytest.mark.kafka
async def test_from_now_on_tables_are_whole_and_a_withdrawal_counts_at_once(platform: Platform, tmp_path: Path) -> None:
    await platform.agree("me", **ALL)
    await platform.raw("controls", "affect", encode(Control(event_time_ms=T, app="affect")))
    await platform.show("me", T + 1)
    stop, path = asyncio.Event(), tmp_path / "now.affectlog"

    def holds(topic: str) -> int:
        return Counter(m.topic for m in Recording(path).messages())[f"{platform.app}_{topic}"] if path.exists() else 0

    recording = asyncio.create_task(platform.record("now", stop, media=True, since_ms=None, until_now=False))
    await until(lambda: holds("controls") == 1)
    await asyncio.sleep(0.5)
    await platform.show("me", T + 2)
    await until(lambda: holds("frames") == 1)
    await platform.agree("me", T + 3, **{**ALL, "modalities": []})
    await until(lambda: holds("consents") == 2)
    await platform.show("me", T + 2)
    await platform.agree("you", **ALL)
    await until(lambda: holds("consents") == 3)
    await asyncio.sleep(0.5)
    stop.set()
    end, found = await recording
    assert {topic: len(messages) for topic, messages in found.items()} == {"consents": 3, "controls": 1, "frames": 1}
    assert end.left_out == {f"{platform.app}_frames": {"not_agreed": 1}}


@pytest.mark.kafka
async def test_it_ends_when_its_time_is_over(platform: Platform) -> None:
    begun_ms = SystemClock().now_ms()
    async with asyncio.timeout(10):
        end, _ = await platform.record(since_ms=None, until_now=False, until_ms=begun_ms + 700)
    assert SystemClock().now_ms() >= begun_ms + 700
    assert end.records == {}


@pytest.mark.kafka
async def test_a_record_keeps_its_place_time_key_value_and_headers(platform: Platform) -> None:
    null: Any = None
    await platform.raw("controls", "affect", None, (("schema", b"Control/9"), ("x", b"\0"), ("x", null)))
    consumer = platform.broker.consumer([f"{platform.app}_controls"], group=None)
    await consumer.start()
    stored = list(await consumer.poll(10, 5000))
    await consumer.stop()
    _, found = await platform.record()
    assert found["controls"] == stored
    assert (stored[0].value, stored[0].offset) == (None, 0)
    assert stored[0].headers == (("schema", b"Control/9"), ("x", b"\0"), ("x", b""))
    assert abs(stored[0].timestamp_ms - SystemClock().now_ms()) < 60_000


def test_media_by_name_is_refused_without_the_flag_and_a_wrong_name_names_the_right_ones() -> None:
    topology = load_topology(ROOT / "topology.yaml")
    for name in ("video_frames", "audio_chunks", "chat_messages"):
        with pytest.raises(RefusedUseError, match=f"{name}: .*--with-media"):
            topics_to_record(topology, ["observations", name], media=False)
        assert name in topics_to_record(topology, [], media=True)
        assert name not in topics_to_record(topology, [], media=False)
    with pytest.raises(ConfigurationError, match="observation: no such topic; there are video_frames"):
        topics_to_record(topology, ["observation"], media=False)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.affectlog", "video_frames"], 77, "--with-media"),
        (["a.affectlog", "observation"], 78, "no such topic"),
        (["a.log"], 78, "call it *.affectlog"),
        (["a.affectlog"], 78, "STREAMER_BROKERS"),
    ],
)
def test_a_recording_that_cannot_be_made_says_why_and_leaves_no_file(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMER_BROKERS", raising=False)
    assert main(["record", *arguments]) == code
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--since", "10"], ["--since", "1m", "--beginning"], ["--until-now", "--seconds", "3"]]
)
def test_a_recording_asked_for_wrongly_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", "a.affectlog", *arguments])
    assert ended.value.code == 64
    assert "error: argument" in capsys.readouterr().err
