"""The gate: every way of saying stop stops what is read, takes back what was said, and fails closed."""

from __future__ import annotations

from typing import Any

import pytest

from operators.consent import ConsentGate
from operators.payloads import AffectEvent, ChatMessage, Consent, Control, Observation
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.event_time import ManualClock
from streamer.operator import Context
from streamer.payloads import AuditEntry, decode, encode
from streamer.recordings.events import Event
from streamer.recordings.replay import SIMULATED_START_MS, simulate
from streamer.records import Origin, Record
from streamer.runtime.tables import Tables
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.shipped import MODALITIES

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

    async def open(self) -> Desk:
        topology = load_topology("topology.yaml")
        await self.broker.ensure_topics(topology.topic_specs())
        await self.start_again()
        return self

    async def start_again(self) -> list[Any]:
        """Another worker takes over: what it writes because of the tables as they are."""
        tables: dict[str, dict[str, Any]] = {"consents": {}, "controls": {}}
        self.context = Context(
            "sense_text", load_settings(context="research"), self.clock, tables=tables, audits=True,
            modalities=MODALITIES,
        )  # fmt: skip
        self.gate = ConsentGate(self.context, "text")
        self.gate.open()
        self.tables = Tables(self.broker, {"consents": Consent, "controls": Control}, 4, self.context, self.gate)
        return [r.payload for r in await self.tables.load() if isinstance(r.payload, Observation)]

    async def put(self, payload: Consent | Control | None, value: bytes | None = None, headers: Any = ()) -> list[Any]:
        topic = "controls" if isinstance(payload, Control) else "consents"
        producer = self.broker.producer()
        await producer.start()
        stored = encode(payload) if payload else value
        await producer.send([Outgoing(topic, b"affect" if topic == "controls" else b"s", stored, headers)])
        return [r.payload for r in await self.tables.refresh() if not isinstance(r.payload, AuditEntry)]


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
    assert desk.gate.verdict(said(AT + 1500)).reason == "before_consent"
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


async def test_what_was_captured_before_somebody_was_told_leaves_nothing() -> None:
    desk = await Desk().open()
    await desk.put(consent(AT + 1000, disclosed_at_ms=AT + 500))
    assert desk.gate.verdict(said(AT + 400)).disclosed is False
    told_but_not_agreed = desk.gate.verdict(said(AT + 700))
    assert (told_but_not_agreed.reason, told_but_not_agreed.disclosed) == ("before_consent", True)


@pytest.mark.parametrize("value", [None, b"\xc1"])
async def test_a_deletion_while_nobody_ran_takes_back_at_the_next_start_and_only_once(value: bytes | None) -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(None, value)
    (taken_back,) = await desk.start_again()
    assert (taken_back.absent, taken_back.reason) == (True, "no_consent")
    desk.clock.set_ms(AT + 6000)
    assert [a for a in await desk.put(None, value) if isinstance(a, Observation)] == []


async def test_a_deletion_older_than_the_horizon_has_nothing_left_to_take_back() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(None)
    desk.clock.set_ms(AT + 60_001)
    assert await desk.start_again() == []


async def test_somebody_who_was_never_told_has_nothing_to_take_back_when_deleted() -> None:
    desk = await Desk().open()
    await desk.put(Consent(session_id="s", event_time_ms=AT, user_id="u", modalities=["text"]))
    assert await desk.put(None) == []


async def test_more_than_was_allowed_before_holds_from_then_on() -> None:
    desk = await Desk().open()
    await desk.put(consent(expressions_only=True))
    (begun_anew,) = await desk.put(consent(AT + 1000))
    assert begun_anew.absent
    assert desk.gate.verdict(said(AT + 500)).reason == "before_consent"
    assert desk.gate.verdict(said(AT + 1000)).mode == "full"


async def test_a_switch_thrown_while_nobody_ran_takes_back_at_the_next_start() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(Control(event_time_ms=AT + 100, app="affect", sensing_off=True))
    (taken_back,) = await desk.start_again()
    assert (taken_back.reason, taken_back.end_ms) == ("switched_off", AT + 100)


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_was_captured_while_the_switch_was_off_is_never_read(restarted: bool) -> None:
    desk = await Desk().open()
    await desk.put(consent())
    await desk.put(Control(event_time_ms=AT + 100, app="affect", sensing_off=True))
    assert desk.gate.verdict(said(AT + 50)).reason == "switched_off"
    await desk.put(Control(event_time_ms=AT + 200, app="affect"))
    if restarted:
        await desk.start_again()
    assert desk.gate.verdict(said(AT + 150)).reason == "switched_off"
    assert desk.gate.verdict(said(AT + 200)).allowed


async def test_a_control_that_leaves_the_sensing_on_refuses_nothing() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    assert desk.gate.verdict(said(AT + 50)).allowed
    await desk.put(Control(event_time_ms=AT + 1000, app="affect", goal="lift"))
    assert desk.gate.verdict(said(AT + 500)).allowed


async def test_a_decision_is_told_once_and_again_only_after_the_session_was_forgotten() -> None:
    desk = await Desk().open()
    await desk.put(consent())
    desk.gate.verdict(said(AT + 1))
    (told,) = desk.gate.decisions()
    desk.gate.verdict(said(AT + 2))
    assert desk.gate.decisions() == []
    desk.gate.forget("s")
    desk.gate.verdict(said(AT + 3))
    (again,) = desk.gate.decisions()
    assert (told.to, told.payload.kind, told.payload.detail) == ("audit", "consent", again.payload.detail)


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
