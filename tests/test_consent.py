"""The gate: every way of saying stop stops what is read, takes back what was said, and fails closed."""

from __future__ import annotations

from typing import Any

import pytest

from operators.consent import Gate
from operators.payloads import AffectEvent, ChatMessage, Consent, Control
from streamer.broker import Outgoing
from streamer.broker_memory import MemoryBroker
from streamer.event_time import ManualClock
from streamer.media import Event
from streamer.operator import Context
from streamer.payloads import decode, encode
from streamer.records import Origin, Record
from streamer.replay import SIMULATED_START_MS, simulate
from streamer.settings import load_settings
from streamer.tables import Tables
from streamer.topology import load_topology

AT = 1_000_000


def consent(at_ms: int = AT, **changes: Any) -> Consent:
    fields: dict[str, Any] = {"modalities": ["text"], "disclosed_at_ms": AT, "user_id": "u", **changes}
    return Consent(session_id="s", event_time_ms=at_ms, **fields)


def said(at_ms: int) -> Record[ChatMessage]:
    message = ChatMessage(session_id="s", event_time_ms=at_ms, message_id="m", speaker="user", text="hello")
    return Record("s", at_ms, at_ms, message, Origin("chat_messages", 0, 0))


class Desk:
    """A gate for text over real tables on a memory broker."""

    def __init__(self) -> None:
        self.clock = ManualClock(AT)
        self.broker = MemoryBroker(self.clock)
        self.context = Context("sense_text", load_settings(), self.clock, tables={"consents": {}, "controls": {}})
        self.gate = Gate(self.context, "text")

    async def open(self) -> Desk:
        topology = load_topology("topology.yaml")
        await self.broker.ensure_topics(topology.topic_specs())
        self.tables = Tables(self.broker, {"consents": Consent, "controls": Control}, 4, self.context, self.gate)
        await self.tables.load()
        return self

    async def put(self, payload: Consent | Control | None, value: bytes | None = None, headers: Any = ()) -> list[Any]:
        topic = "controls" if isinstance(payload, Control) else "consents"
        producer = self.broker.producer()
        await producer.start()
        stored = encode(payload) if payload else value
        await producer.send([Outgoing(topic, b"affect" if topic == "controls" else b"s", stored, headers)])
        return [record.payload for record in await self.tables.refresh()]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (consent(AT + 100, modalities=[]), "no_consent"),
        (Consent(session_id="s", event_time_ms=AT + 100, user_id="u"), "no_consent"),
        (consent(AT + 100, expressions_only=True), "no_consent"),
        (Control(event_time_ms=AT + 100, app="affect", sensing_off=True), "switched_off"),
    ],
)
async def test_every_way_of_saying_stop_takes_back_what_was_said(words: Consent | Control, reason: str) -> None:
    desk = await Desk().open()
    assert await desk.put(consent()) == []
    assert desk.gate.verdict(said(AT + 50)).allowed
    (taken_back,) = await desk.put(words)
    assert (taken_back.absent, taken_back.reason, taken_back.end_ms) == (True, reason, AT + 100)


@pytest.mark.parametrize("value", [None, b"\xc1", encode(consent(AT + 60_000))])
async def test_a_consent_that_is_deleted_or_cannot_be_read_closes_the_gate(value: bytes | None) -> None:
    desk = await Desk().open()
    await desk.put(consent())
    answers = await desk.put(None, value)
    assert [a.reason for a in answers if getattr(a, "absent", False)] == ["no_consent"]
    assert desk.gate.verdict(said(AT + 50)).reason == "no_consent"


async def test_a_newer_major_closes_the_gate_too() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(None, encode(consent(AT + 1)), (("schema", b"Consent/2"),))
    assert desk.gate.verdict(said(AT + 50)).reason == "no_consent"


async def test_what_was_captured_while_consent_was_withdrawn_is_never_read() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(consent(AT + 1000, modalities=[]))
    await desk.put(consent(AT + 2000))
    assert desk.gate.verdict(said(AT + 1500)).reason == "no_consent"
    assert desk.gate.verdict(said(AT + 2000)).allowed


async def test_a_grant_that_is_said_again_refuses_nothing_in_between() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(consent(AT + 1000, modalities=["face", "text"]))
    assert desk.gate.verdict(said(AT + 500)).allowed


async def test_somebody_never_told_of_the_sensing_leaves_no_observation() -> None:
    desk = await Desk().open()
    assert await desk.put(Consent(session_id="s", event_time_ms=AT, user_id="u", modalities=["text"])) == []
    verdict = desk.gate.verdict(said(AT + 50))
    assert (verdict.reason, verdict.disclosed) == ("no_consent", False)


async def test_a_withdrawal_in_its_shortest_form_reaches_the_finals() -> None:
    events = [
        Event(0, "consents", {"user_id": "u", "disclosed_at_ms": 0, "modalities": ["text"]}),
        Event(500, "chat_messages", {"message_id": "m", "speaker": "user", "text": "I love it, I am so happy!"}),
        Event(1100, "consents", {"user_id": "u"}),
    ]
    topology = load_topology("topology.yaml")
    settings = load_settings(context="research", accept_licences="unsettled", queue="all")
    broker = await simulate({"s": events}, topology, settings)
    finals: list[Any] = [decode(m.value, AffectEvent) for m in broker.messages("affect_events")]
    ends = {f.window_end_ms - SIMULATED_START_MS: f.abstained for f in finals}
    assert ends[1500]
    assert all(abstained for end, abstained in ends.items() if end >= 1500)
