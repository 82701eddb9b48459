"""A recording replayed: operators by name in memory, and what came from outside once more on a Kafka, as if now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from operators.payloads import CandidateList, ChatMessage, Consent, Item
from streamer.__main__ import main
from streamer.broker import Message
from streamer.brokers.memory.broker import MemoryBroker
from streamer.brokers.partitioner import partition_for
from streamer.errors import ConfigurationError, MediaError
from streamer.event_time import ManualClock
from streamer.payloads import Keyed, encode, headers_for
from streamer.recordings.batch_replay import batch_replay
from streamer.recordings.events import Event
from streamer.recordings.recording import Recording, RecordingWriter, header_of
from streamer.recordings.replay import message, replay_recording, simulate
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.streamer.recordings.comparable_finals import finals_by_partition
from tests.streamer.runtime.small_world import START, World, until

ROOT = Path(__file__).parents[3]
T, NOW = 1_700_000_000_000, 1_800_000_000_000
DAY_MS = 86_400_000


def recorded(path: Path, topology: Topology, messages: Sequence[Message]) -> Recording:
    with RecordingWriter(path, header_of(topology, topology.topics, 0)) as writer:
        writer.add(messages)
        writer.end({})
    return Recording(path)


async def test_named_operators_compute_again_what_they_wrote(tmp_path: Path) -> None:
    world = World(tmp_path)
    live = await world.start()
    for n, word in enumerate(("one", "two", "three", "four")):
        await until(world, live, 300 * n)
        await world.say(word, session=f"s{n % 3}")
    await until(world, live, 5000)
    words = recorded(tmp_path / "words.affectlog", world.topology, world.broker.messages("words"))
    messages = [m for name in world.topology.topics for m in world.broker.messages(name)]
    recording = recorded(tmp_path / "a.affectlog", world.topology, messages)

    both = await batch_replay(words, world.topology, load_settings(), only=["stumble", "sum_counts"], finish=True)
    assert both.operators == ("stumble", "sum_counts")
    totals = finals_by_partition(world.broker.messages("totals"))
    assert finals_by_partition(both.broker.messages("totals")) == totals
    assert both.finals == ("counts", "totals")
    assert [m.value for m in both.broker.messages("words")] == [m.value for m in world.broker.messages("words")]
    anew = await batch_replay(recording, world.topology, load_settings(), only=["stumble", "sum_counts"], finish=True)
    assert (anew.restored, finals_by_partition(anew.broker.messages("totals"))) == (4, totals)
    windowed = await batch_replay(recording, world.topology, load_settings())
    assert finals_by_partition(windowed.broker.messages("totals")) == totals
    with pytest.raises(ConfigurationError, match="fly: no such operator"):
        await batch_replay(recording, world.topology, load_settings(), only=["fly"])


async def test_tables_are_in_force_as_they_were_so_a_model_is_asked_what_it_was_asked_then(tmp_path: Path) -> None:
    line = {"speaker": "user", "text": "I am so happy, this is wonderful!"}
    events = [Event(ms, "chat_messages", {**line, "message_id": str(ms)}) for ms in (0, 500, 1000, 2500, 3000)]
    consent_fields = {"user_id": "u", "disclosed_at_ms": 100}
    events += [Event(ms, "consents", {**consent_fields, "modalities": m}) for ms, m in ((100, ["text"]), (2000, []))]
    topology = load_topology(ROOT / "topology.yaml")
    settings = load_settings(context="research", accept_licences="unsettled", queue="all")
    broker = await simulate({"me": sorted(events, key=lambda e: e.at_ms)}, topology, settings)
    messages = [m for name in topology.topics for m in broker.messages(name)]
    recording = recorded(tmp_path / "a.affectlog", topology, messages)
    replayed = await batch_replay(recording, topology, settings, only=["sense_text"])
    then = [m for m in broker.messages("observations") if fields(m).get("modality") == "text"]
    again = replayed.broker.messages("observations")
    observations = [fields(m) for m in again]
    assert [r["absent"] for r in observations] == [False, False, True, True, True]  # two lines, a withdrawal, two more
    assert [(m.key, m.value) for m in again] == [(m.key, m.value) for m in then]


async def test_a_log_that_is_being_restored_gets_no_ticks_but_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start("stumble")
    pipeline = await world.start("stumble")
    await world.say("before")
    await until(world, pipeline, 10)
    world.clock.set_ms(START + 40_000)  # nobody fused meanwhile: no tick in the log
    await world.say("long after")
    await until(world, pipeline, 40_010)
    counts = world.broker.messages("counts")
    recording = recorded(tmp_path / "a.affectlog", world.topology, counts)
    replayed = await batch_replay(recording, world.topology, load_settings())
    assert replayed.broker.messages("counts") == counts
    assert len(replayed.broker.messages("totals")) == 4  # the first word's: they close before the second is applied
    assert replayed.still_open
    finished = await batch_replay(recording, world.topology, load_settings(), finish=True)
    assert finished.after == {"totals": 4}
    assert len(finished.broker.messages("totals")) == 8


def at(topic: str, key: str | None, payload: Keyed | bytes | None, stamp_ms: int, offset: int = 0) -> Message:
    encoded = encode(payload) if isinstance(payload, Keyed) else payload
    partition = partition_for(key.encode(), 4) if key is not None else 3
    headers = headers_for(payload) if isinstance(payload, Keyed) else ()
    return Message(topic, partition, offset, stamp_ms, key.encode() if key is not None else None, encoded, headers)


def chat(session: str, at_ms: int, n: int = 0) -> Message:
    line = ChatMessage(session_id=session, event_time_ms=at_ms - 40, message_id=str(n), speaker="user", text="x")
    return at("chat_messages", session, line, at_ms, n)


def consent(session: str, at_ms: int) -> Message:
    given = Consent(
        session_id=session, event_time_ms=at_ms, user_id="u", modalities=["text"], disclosed_at_ms=at_ms - 5
    )
    return at("consents", session, given, at_ms)


class Paced(ManualClock):
    """Passes the time that it is asked to sleep."""

    async def sleep_ms(self, duration_ms: float) -> None:
        self.set_ms(self.now_ms() + max(int(duration_ms), 0))


async def published(recording: Recording, topology: Topology, session: str | None = None) -> MemoryBroker:
    clock = Paced(NOW)
    broker = MemoryBroker(clock)
    await broker.ensure_topics(topology.topic_specs())
    async for _ in replay_recording(recording, topology, broker, session, clock):
        pass
    return broker


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology(ROOT / "topology.yaml")


def fields(stored: Message) -> Any:
    return msgpack.unpackb(stored.value or b"")


async def test_what_came_from_outside_is_published_at_its_pace_with_its_times_moved_to_now(
    topology: Topology, tmp_path: Path
) -> None:
    asked = CandidateList(
        session_id="me", event_time_ms=T + 290, request_id="r", user_id="u", items=[], expires_ms=T + 9000
    )
    messages = [
        consent("me", T - DAY_MS), at("catalogue_items", "song", Item(event_time_ms=1, item_id="song", text="x"), 5),
        at("catalogue_items", "gone", None, 6, 1), chat("me", T), chat("me", T + 250, 1),
        at("candidates", "me", asked, T + 300), at("affect_events", "me", b"\x80", T + 310),
        at("chat_messages", None, b"\xffno map", T + 400), at("interactions", "me", b"\x01", T + 500),
    ]  # fmt: skip
    broker = await published(recorded(tmp_path / "a.affectlog", topology, messages), topology)
    lines = broker.messages("chat_messages")
    assert [m.timestamp_ms - NOW for m in lines] == [0, 250, 400]
    assert [fields(m)["event_time_ms"] - NOW for m in lines[:2]] == [-40, 210]
    assert lines[2].value == b"\xffno map"
    assert lines[2].partition == 3
    assert lines[0].headers == (("schema", b"ChatMessage/1"),)
    (agreed,) = broker.messages("consents")
    assert agreed.timestamp_ms == NOW
    assert fields(agreed)["event_time_ms"] - NOW == -DAY_MS
    assert fields(agreed)["disclosed_at_ms"] - NOW == -DAY_MS - 5
    assert [(m.key, m.value is None) for m in broker.messages("catalogue_items")] == [(b"song", False), (b"gone", True)]
    assert fields(broker.messages("candidates")[0])["expires_ms"] == NOW + 9000
    assert [m.value for m in broker.messages("interactions")] == [b"\x01"]
    assert broker.messages("affect_events") == []


def test_every_moment_of_a_session_folder_counts_from_its_start(topology: Topology) -> None:
    asked = {"request_id": "r", "user_id": "u", "items": [], "expires_ms": 9000}
    consent_fields = {"user_id": "u", "disclosed_at_ms": 50}
    sent = msgpack.unpackb(message(Event(100, "candidates", asked), "me", T, topology).value or b"")
    assert (sent["event_time_ms"], sent["expires_ms"]) == (T + 100, T + 9000)
    sent = msgpack.unpackb(message(Event(100, "consents", consent_fields), "me", T, topology).value or b"")
    assert (sent["event_time_ms"], sent["disclosed_at_ms"]) == (T + 100, T + 50)


async def test_one_session_may_get_another_name_several_may_not(topology: Topology, tmp_path: Path) -> None:
    one = recorded(tmp_path / "one.affectlog", topology, [consent("me", T), chat("me", T + 1)])
    broker = await published(one, topology, "you")
    for sent in (*broker.messages("consents"), *broker.messages("chat_messages")):
        assert (sent.key, fields(sent)["session_id"]) == (b"you", "you")
        assert sent.partition == partition_for(b"you", 4)
    two = recorded(tmp_path / "two.affectlog", topology, [chat("me", T), chat("them", T + 1)])
    with pytest.raises(ConfigurationError, match="holds 2 sessions: they can't all be called you"):
        await published(two, topology, "you")


async def test_a_recording_of_nothing_from_outside_cannot_be_published(topology: Topology, tmp_path: Path) -> None:
    inside = recorded(tmp_path / "in.affectlog", topology, [at("affect_events", "me", b"\x80", T)])
    with pytest.raises(MediaError, match="nothing in it comes from outside; --speed max folds it"):
        await published(inside, topology)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.affectlog", "--speed", "max"], 65, "No such file"),
        (["notes.affectlog", "--speed", "max"], 65, "at byte 0"),
        (["good.affectlog", "--speed", "max", "--session", "x"], 78, "goes with --speed 1"),
        (["good.affectlog", "--only", "fuse_affect"], 78, "go with --speed max"),
        (["good.affectlog"], 78, "STREAMER_BROKERS"),
        ([".", "--speed", "max", "--finish"], 78, "go with a recording"),
    ],
)
def test_a_replay_that_cannot_be_says_why(
    arguments: list[str], code: int, words: str, topology: Topology, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    recorded(tmp_path / "good.affectlog", topology, [chat("me", T)])
    (tmp_path / "notes.affectlog").write_text("these are notes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMER_BROKERS", raising=False)
    assert main(["replay", *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_the_topology_of_the_recording_counts_unless_another_is_named(
    topology: Topology, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "a.affectlog", topology, [])
    other = tmp_path / "other.yaml"
    other.write_text((ROOT / "topology.yaml").read_text().replace("hop: 500ms", "hop: 250ms"))
    monkeypatch.chdir(tmp_path)  # where there is no topology.yaml
    assert main(["replay", "a.affectlog", "--speed", "max"]) == 0
    assert "not the topology" not in capsys.readouterr().err
    assert main(["replay", "a.affectlog", "--speed", "max", "--topology", str(other)]) == 0
    assert "other.yaml, which is not the topology it was recorded with: finals may differ" in capsys.readouterr().err
