"""Whatever lies on a topic, no operator stops, and an honest session is served afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.payloads import AffectEvent, Candidate, CandidateList, ChatMessage, Consent, RankedList
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.event_time import ManualClock
from streamer.payloads import MAX_DEPTH, DeadLetter, Keyed, decode, encode, headers_for
from streamer.recordings.replay import pass_time, settle
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from tests.shipped import TOPOLOGY
from tests.streamer.payload_examples import EXAMPLES

START = 1_700_000_000_000
OPERATORS = ("sense_face", "sense_voice", "sense_text", "sense_behaviour", "fuse_affect", "rank_items")
OURS = ("observations", "affect_live", "affect_events")
INPUTS = [*(t.name for t in TOPOLOGY.topics.values() if t.external == "in"), *OURS]
SETTINGS: dict[str, Any] = {"context": "demo", "accept_licences": "unsettled"}

numbers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.booleans(), st.none())
scalars = st.one_of(numbers, st.text(max_size=8), st.binary(max_size=8))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
headers = st.lists(
    st.tuples(
        st.sampled_from(["schema", "traceparent", "tick/1", "x", ""]),
        st.one_of(st.binary(max_size=6), st.sampled_from([b"Consent/1", b"ChatMessage/2", b"Item/0", b"\xff"])),
    ),
    max_size=3,
)


@st.composite
def bytes_of(draw: st.DrawFn) -> bytes | None:
    """A value: none, noise, any MessagePack, or a payload with some of its fields replaced or missing."""
    match draw(st.integers(0, 3)):
        case 0:
            return draw(st.none() | st.binary(max_size=20))
        case 1:
            return bytes(msgpack.packb(draw(values)))
        case _:
            example = draw(st.sampled_from(EXAMPLES))
            fields: dict[str, Any] = msgpack.unpackb(encode(example))
            for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
                fields[name] = draw(values)
            for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=1)):
                fields.pop(name, None)
            if draw(st.booleans()):
                fields |= {"session_id": "s", "event_time_ms": START}
            return bytes(msgpack.packb(fields))


records = st.tuples(
    st.sampled_from(INPUTS),
    st.one_of(st.none(), st.just(b"s"), st.sampled_from([b"", b"\xff\xfe", b"affect", b"x" * 2000])),
    bytes_of(),
    headers,
    st.integers(0, 3),
)


class Served:
    """The shipped pipeline on a memory broker, with every operator on the runner."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.broker = MemoryBroker(self.clock)
        self.pipeline = Pipeline(TOPOLOGY, load_settings(**SETTINGS), self.broker, clock=self.clock, only=OPERATORS)

    async def put(self, topic: str, key: bytes | None, value: bytes | None, head: Any, partition: int | None) -> None:
        producer = self.broker.producer()
        await producer.start()
        await producer.send([Outgoing(topic, key, value, tuple(head), partition)])

    async def say(self, topic: str, payload: Keyed) -> None:
        await self.put(topic, b"honest", encode(payload), headers_for(payload), None)

    async def an_honest_session_is_served(self) -> None:
        at = self.clock.now_ms()
        told: dict[str, Any] = {"session_id": "honest", "user_id": "u"}
        await self.say("consents", Consent(
            event_time_ms=at, modalities=["text"], disclosed_at_ms=at, minor=False, affect_ranking=True, **told,
        ))  # fmt: skip
        await settle(self.pipeline)
        self.clock.set_ms(at + 10)
        await self.say("chat_messages", ChatMessage(
            session_id="honest", event_time_ms=at + 10, message_id=f"m{at}", speaker="user", text="I am so happy",
        ))  # fmt: skip
        items = [Candidate(item_id="a", score=1.0), Candidate(item_id="b", score=0.5)]
        await self.say("candidates", CandidateList(event_time_ms=at + 10, request_id=f"r{at}", items=items, **told))
        await settle(self.pipeline)
        await pass_time(self.pipeline, self.clock, at + 8000)
        finals = [e.emotions or {} for e in self.read("affect_events", AffectEvent) if e.session_id == "honest"]
        assert any(max(emotions, key=emotions.__getitem__, default="") == "happiness" for emotions in finals)
        assert f"r{at}" in [one.request_id for one in self.read("ranked_items", RankedList)]

    def read(self, topic: str, payload: type[Any]) -> list[Any]:
        found = []
        for message in self.broker.messages(topic):
            try:
                found.append(decode(message.value, payload))
            except ValueError:  # what a test has put there
                continue
        return found


async def served(thrown: list[Any]) -> list[DeadLetter]:
    world = Served()
    await world.pipeline.open()
    for topic, key, value, head, partition in thrown:
        if key is None and value is None:  # no Kafka takes it
            continue
        await world.put(topic, key, value, head, partition)
        world.clock.set_ms(world.clock.now_ms() + 20)
        await settle(world.pipeline)
    await world.an_honest_session_is_served()
    await world.pipeline.stop()
    return world.read("dead_letters", DeadLetter)


@given(st.lists(records, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_records_stop_nothing(thrown: list[Any]) -> None:
    asyncio.run(served(thrown))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def candidates(**fields: Any) -> bytes:
    own = {"session_id": "s", "event_time_ms": START, "request_id": "r", "user_id": "u", "items": []}
    return bytes(msgpack.packb({**own, **fields}))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (candidates(context=nested(950)), "undecodable"),
        (candidates(context=nested(MAX_DEPTH)), "undecodable"),
        (candidates(items=[{"item_id": "a", "score": 1.0, "provenance": nested(980)}]), "undecodable"),
        (candidates(items=[{"item_id": f"i{i:05d}", "score": float(i)} for i in range(12_000)]), "too_large"),
        (candidates(items=[{"item_id": f"{i:0150d}", "score": 1.0} for i in range(4900)]), "too_large"),
    ],
)
async def test_what_is_too_deep_or_too_large_is_one_dead_letter(value: bytes, reason: str) -> None:
    letters = await served([("candidates", b"s", value, (), 3)])
    assert [(letter.topic, letter.reason) for letter in letters] == [("candidates", reason)]


async def test_what_is_just_small_enough_is_ranked() -> None:
    items = [{"item_id": f"i{i:05d}", "score": float(i), "provenance": nested(MAX_DEPTH - 4)} for i in range(50)]
    assert await served([("candidates", b"s", candidates(items=items), (), 3)]) == []
    many = [{"item_id": f"i{i:05d}", "score": float(i)} for i in range(5000)]
    assert await served([("candidates", b"s", candidates(items=many), (), 3)]) == []


async def test_an_unreadable_consent_is_one_dead_letter_and_counted_by_everybody() -> None:
    letters = await served([("consents", b"s", b"\xc1", (), 3)])
    assert [(letter.topic, letter.operator) for letter in letters] == [("consents", "sense_face")]
