"""What is done with items becomes session intents: by rule, with consent, in any order, again after a crash."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kernels.intents import INTENTS, NONE, likeliest, pool
from operators.fuse_affect import FuseAffect
from operators.fuse_affect import Params as FuseParams
from operators.payloads import AffectEvent, Consent, Control, Interaction, Observation
from operators.sense_behaviour import MAX_BUFFERED, Params, SenseBehaviour
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.errors import RefusedUseError
from streamer.event_time import Duration, ManualClock
from streamer.operator import Context, Piece, Window
from streamer.payloads import TICK_HEADER, DeadLetter, SessionKeyed, decode, encode, headers_for
from streamer.records import Origin, Record
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.shipped import MODALITIES

AT_MS = 1_790_000_000_000
TOPOLOGY = load_topology(Path(__file__).parents[2] / "topology.yaml")


def granted(session_id: str = "s1", **changes: Any) -> Consent:
    fields: dict[str, Any] = {"modalities": ["behaviour"], "disclosed_at_ms": 1, **changes}
    return Consent(session_id=session_id, event_time_ms=AT_MS, user_id="u", **fields)


def act(kind: str, after_ms: int = 0, offset: int | None = None, **changes: Any) -> Record[Interaction]:
    """An interaction `after_ms` after the start, that lies at `offset` of its partition."""
    place = after_ms if offset is None else offset
    fields: dict[str, Any] = {"session_id": "s1", "interaction_id": f"i{after_ms}", "item_id": "song", **changes}
    done = Interaction(event_time_ms=AT_MS + after_ms, user_id="u", kind=kind, **fields)  # type: ignore[arg-type]
    return Record(done.session_id, done.event_time_ms, AT_MS + after_ms + 50, done, Origin("interactions", 0, place))


def context(*consents: Consent, controls: Sequence[Control] = (), **settings: Any) -> Context:
    tables: dict[str, dict[str, Any]] = {
        "consents": {c.session_id: c for c in consents},
        "controls": {c.app: c for c in controls},
    }
    given = load_settings(**{"context": "demo", **settings})
    return Context("sense_behaviour", given, clock=ManualClock(AT_MS + 100), tables=tables)


async def opened(*consents: Consent, params: Params | None = None, **options: Any) -> SenseBehaviour:
    operator = SenseBehaviour(params or Params(), context(*consents or (granted(),), **options))
    await operator.open()
    return operator


async def told(operator: SenseBehaviour, *records: Record[Any]) -> list[Any]:
    return [record.payload for record in await operator.process(records)]


async def test_an_observation_keeps_the_contract_and_says_nothing_of_feelings() -> None:
    (record,) = await (await opened()).process([act("skip", 7)])
    o = record.payload
    assert isinstance(o, Observation)
    assert (record.key, record.event_time_ms, record.origin) == ("s1", AT_MS + 7, Origin("interactions", 0, 7))
    assert (o.session_id, o.modality, o.source_id, o.source_kafka_ms) == ("s1", "behaviour", "i7", AT_MS + 57)
    assert o.start_ms == o.end_ms == o.event_time_ms == AT_MS + 7
    assert (o.emotions, o.valence, o.arousal, o.dominance, o.vad_source) == (None, None, None, None, "none")
    assert o.intents is not None
    assert tuple(o.intents) == INTENTS
    assert sum(o.intents.values()) == pytest.approx(1.0, abs=1e-5)
    assert o.confidence == pytest.approx(1 - o.intents[NONE])
    assert (o.quality, o.model, o.absent, o.embedding) == (
        {"acts": 1.0, "span_s": 0.0}, "behaviour_rules@1", False, None,
    )  # fmt: skip
    assert decode(encode(o), Observation) == o


async def test_each_act_counts_those_before_it_and_three_skips_say_change() -> None:
    first, second, third = await told(await opened(), *(act("skip", at) for at in (0, 2000, 4000)))
    assert [likeliest(o.intents, 0.0) for o in (first, third)] == [NONE, "change"]
    assert first.confidence < second.confidence < third.confidence
    assert third.quality == {"acts": 3.0, "span_s": 4.0}


async def test_what_comes_with_any_intent_leaves_nothing_and_holds_nothing() -> None:
    operator = await opened()
    plain = [act("impression"), act("click", 1), act("rating", 2, value=5.0), act("dwell", 3, value=10.0)]
    assert await told(operator, *plain, act("dwell", 4), act("complete", 5, value=0.5)) == []
    assert operator.needs_from("s1") is None


async def test_whatever_the_order_of_arrival_the_next_act_says_the_same() -> None:
    acts = [act("skip", 0), act("like", 900), act("dwell", 1800, value=1.0), act("skip", 2700)]
    said = []
    for order in itertools.permutations(range(4)):
        operator = await opened()
        await told(operator, *(at_offset(acts[n], at) for at, n in enumerate(order)))
        said += await told(operator, act("like", 4000, offset=4))
    assert {encode(o) for o in said} == {encode(said[0])}
    assert said[0].quality["acts"] == 5


def at_offset(record: Record[Interaction], offset: int) -> Record[Interaction]:
    """The same record at another place of the log."""
    return act(record.payload.kind, record.event_time_ms - AT_MS, offset, value=record.payload.value)


async def test_an_act_that_comes_again_is_told_again_under_its_identity_and_counted_once() -> None:
    operator = await opened()
    one, again, other = await told(operator, act("skip", 0), act("skip", 0, offset=1), act("skip", 10))
    assert again == one
    assert other.quality["acts"] == 2


async def test_acts_out_of_reach_are_forgotten_and_memory_is_bounded_whatever_comes() -> None:
    operator = await opened()
    await told(operator, act("skip", 0), act("like", 30_000))
    assert operator.needs_from("s1") == Origin("interactions", 0, 0)
    (late,) = await told(operator, act("skip", 60_001))
    assert late.quality["acts"] == 2
    assert operator.needs_from("s1") == Origin("interactions", 0, 30_000)
    script = [act("skip", 61_000 + n) for n in range(10 * MAX_BUFFERED)]
    assert (await told(operator, *script))[-1].quality["acts"] == MAX_BUFFERED + 1
    assert operator.needs_from("s1") == script[-MAX_BUFFERED].origin


async def test_what_comes_too_late_for_the_newest_act_is_not_held_for_it() -> None:
    operator = await opened()
    await told(operator, act("skip", 70_000, offset=1), act("skip", 5000, offset=2))
    assert operator.needs_from("s1") == Origin("interactions", 0, 1)
    (o,) = await told(operator, act("skip", 71_000, offset=3))
    assert o.quality["acts"] == 2


async def test_a_session_that_has_gone_quiet_holds_back_no_commit_and_is_forgotten() -> None:
    operator = await opened(granted("s1"), granted("s2"))
    await told(operator, act("skip", 0), act("impression", 80_000, session_id="s2"))
    assert operator.needs_from("s1") is not None
    await told(operator, act("impression", 80_001, session_id="s2"))
    assert operator.needs_from("s1") is None
    await told(operator, act("skip", 1), act("skip", 90_000, session_id="s2"))
    operator.forget("s2")
    assert operator.needs_from("s2") is None


async def test_sessions_are_counted_apart() -> None:
    operator = await opened(granted("s1"), granted("s2"))
    _, other = await told(operator, act("skip", 0), act("skip", 1, session_id="s2"))
    assert (other.session_id, other.quality["acts"]) == ("s2", 1)


async def test_without_consent_to_behaviour_only_a_told_person_leaves_a_trace_and_it_says_so() -> None:
    consents = [granted("told", modalities=["face", "voice", "text"]), granted("untold", disclosed_at_ms=None)]
    operator = await opened(*consents)
    names = ("told", "untold", "stranger")
    (absent,) = await told(operator, *(act("skip", at, session_id=name) for at, name in enumerate(names)))
    assert (absent.session_id, absent.absent, absent.reason, absent.intents) == ("told", True, "no_consent", None)
    assert [operator.needs_from(name) for name in names] == [None] * 3


async def test_refusals_are_counted_by_reason_and_what_says_nothing_is_not_even_asked_about() -> None:
    where = context(granted(modalities=[]))
    operator = SenseBehaviour(Params(), where)
    await operator.open()
    await told(operator, act("skip"), act("impression", 1), act("click", 2))
    assert where.metrics.totals["no_consent"] == 1


async def test_a_withdrawal_takes_back_and_what_was_done_before_it_is_counted_by_nothing_after_it() -> None:
    operator = await opened()
    await told(operator, act("skip", 0))
    withdrawn = Record("s1", AT_MS + 500, AT_MS + 550, granted(modalities=[]), Origin("consents", 0, 1))
    (taken_back,) = [r.payload for r in operator.on_table("consents", withdrawn)]
    assert (taken_back.modality, taken_back.absent, taken_back.reason) == ("behaviour", True, "no_consent")
    assert operator.needs_from("s1") is None
    (o,) = await told(operator, act("skip", 900))
    assert o.quality["acts"] == 1


async def test_what_was_done_before_consent_is_not_read_and_undoes_nothing_that_was() -> None:
    operator = await opened()
    operator.on_table("consents", Record("s1", AT_MS, AT_MS + 50, granted(), Origin("consents", 0, 1)))
    first, early, second = await told(operator, act("skip", 10), act("skip", -10), act("skip", 20))
    assert (first.absent, early.absent, early.reason, second.quality["acts"]) == (False, True, "before_consent", 2)


async def test_the_kill_switch_stops_reading() -> None:
    operator = await opened(controls=[Control(event_time_ms=AT_MS, app="affect", sensing_off=True)])
    assert [o.reason for o in await told(operator, act("skip"))] == ["switched_off"]
    assert operator.needs_from("s1") is None


async def test_in_expressions_only_what_is_done_leaves_nothing_and_is_not_held() -> None:
    operator = await opened(granted(expressions_only=True))
    assert await told(operator, act("skip"), act("like", 1)) == []
    assert operator.needs_from("s1") is None


@pytest.mark.parametrize("minor", [True, None])
async def test_what_a_minor_does_is_read_as_what_they_write_is(minor: bool | None) -> None:
    (o,) = await told(await opened(granted(minor=minor)), act("skip"))
    assert not o.absent


async def test_a_refused_use_does_not_open() -> None:
    with pytest.raises(RefusedUseError, match="insurance"):
        await SenseBehaviour(Params(), context(context="insurance")).open()


def test_params_that_mean_nothing_are_refused_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"half_life must .*; glance must .*; doubt must"):
        Params(half_life=Duration(70_000), glance=Duration(40_000), doubt=0.0)


def test_who_abstains_is_outvoted_by_who_does_not() -> None:
    silent, leaving = {NONE: 1.0}, {"leave": 0.8, NONE: 0.2}
    assert pool([(silent, 1.0), (leaving, 0.1)]) == dict.fromkeys(INTENTS, 0.0) | leaving
    assert pool([(silent, 1.0), (silent, 0.5)]) == dict.fromkeys(INTENTS, 0.0) | silent


def test_the_surer_and_the_fresher_weigh_more() -> None:
    sure, unsure = {"leave": 0.9, NONE: 0.1}, {"change": 0.3, NONE: 0.7}
    found = pool([(sure, 1.0), (unsure, 1.0)])
    assert found is not None
    assert (found["leave"], found["change"], found[NONE]) == pytest.approx((0.675, 0.075, 0.25), abs=1e-6)
    faded = pool([(sure, 0.1), (unsure, 1.0)])
    assert faded is not None
    assert faded["change"] > faded["leave"]


def test_nobody_heard_is_none() -> None:
    assert pool([]) is None
    assert pool([({"leave": 1.0}, 0.0)]) is None


def observed(modality: str, intents: dict[str, float], at_ms: int, **fields: Any) -> Observation:
    given: dict[str, Any] = {
        "session_id": "s", "event_time_ms": at_ms, "modality": modality, "source_id": str(at_ms), "start_ms": at_ms,
        "end_ms": at_ms, "intents": intents, "source_kafka_ms": at_ms + 9, **fields,
    }  # fmt: skip
    return Observation(**given)


async def fused(*said: tuple[Observation, float]) -> AffectEvent:
    pieces = tuple(Piece(o, weight, inside=True, offset=n) for n, (o, weight) in enumerate(said))
    newest = {str(o.modality): o.end_ms for o, _ in said}
    window = Window("s", 0, 2000, True, 2150, 0, pieces, newest, frozenset(), 2000, 7)
    context = Context("fuse_affect", load_settings(), ManualClock(2200), modalities=MODALITIES)
    operator = FuseAffect(FuseParams(), context)
    await operator.open()
    return (await operator.fuse([window]))[0]


async def test_behaviour_is_no_evidence_for_any_emotion_even_where_it_claims_to_be() -> None:
    claims = {"emotions": {"anger": 1.0}, "valence": -1.0, "arousal": 1.0, "dominance": 0.0, "vad_source": "measured"}
    event = await fused((observed("behaviour", {"change": 1.0}, 1500, confidence=1.0, **claims), 1.0))
    assert (event.abstained, event.emotions, event.valence, event.supported) == (True, None, None, {})
    assert (event.modalities["behaviour"].state, event.modalities["behaviour"].weight) == ("present", 0.0)
    assert event.intents == dict.fromkeys(INTENTS, 0.0) | {"change": 1.0}


async def test_the_newest_act_speaks_for_those_before_it_in_whatever_order_they_came() -> None:
    said = [
        (observed("behaviour", {"change": share, NONE: 1 - share}, at), 0.9) for at, share in ((1500, 0.8), (9, 0.2))
    ]
    for order in itertools.permutations(said):
        assert (await fused(*order)).intents == dict.fromkeys(INTENTS, 0.0) | {"change": 0.8, NONE: 0.2}


async def test_a_line_that_asks_nothing_does_not_hush_what_is_done_and_words_win_where_they_are_surer() -> None:
    skips = (observed("behaviour", {"change": 0.6, NONE: 0.4}, 1500), 0.9)
    rain, bye = (({NONE: 1.0}, 1900), ({"leave": 0.95, NONE: 0.05}, 1900))
    quiet = await fused(skips, (observed("text", *rain), 1.0))
    loud = await fused(skips, (observed("text", *bye), 1.0))
    assert quiet.intents is not None
    assert loud.intents is not None
    assert likeliest(quiet.intents, 0.5) == "change"
    assert likeliest(loud.intents, 0.5) == "leave"
    assert 0 < loud.intents["change"] < quiet.intents["change"]


class Evening:
    """One person who skips song after song, before `sense_behaviour` and `fuse_affect` on the memory broker."""

    def __init__(self) -> None:
        self.clock = ManualClock(AT_MS)
        self.broker = MemoryBroker(self.clock)

    async def start(self, operator: str) -> Any:
        settings = load_settings(context="demo", threads=1)
        pipeline = Pipeline(TOPOLOGY, settings, self.broker, clock=self.clock, only=(operator,))
        await pipeline.open()
        return pipeline.runners[0]

    async def publish(self, topic: str, payload: SessionKeyed, value: bytes | None = None) -> None:
        producer = self.broker.producer()
        await producer.start()
        await producer.send([Outgoing(topic, b"s1", value or encode(payload), headers_for(payload))])

    async def settle(self, *runners: Any) -> None:
        while sum([await runner.step(wait_ms=0) for runner in runners]):
            for runner in runners:
                await runner.flush()

    async def spend(self, kills: set[int]) -> None:
        """An act each 1.7 s for 90 s; after those of `kills`, `sense_behaviour` dies and another takes over."""
        await self.broker.ensure_topics(TOPOLOGY.topic_specs())
        await self.publish("consents", granted())
        sense, fuse = await self.start("sense_behaviour"), await self.start("fuse_affect")
        for n in range(53):
            self.clock.set_ms(AT_MS + n * 1700 + 40)
            kind = ("skip", "like", "impression", "skip", "complete")[n % 5]
            await self.publish("interactions", act(kind, n * 1700).payload)
            await self.settle(sense, fuse)
            if n in kills:
                await sense.stop()
                sense = await self.start("sense_behaviour")
                await self.settle(sense, fuse)
        for _ in range(100):
            self.clock.set_ms(self.clock.now_ms() + 50)
            await self.settle(sense, fuse)
        await sense.stop()
        await fuse.stop()

    def said(self, topic: str) -> list[Any]:
        kind = TOPOLOGY.topics[topic].type
        messages = [m for m in self.broker.messages(topic) if TICK_HEADER not in dict(m.headers)]
        return [decode(m.value, kind) for m in messages]

    def finals(self) -> list[Any]:
        return [msgspec.structs.replace(e, emitted_at_ms=0) for e in self.said("affect_events")]


async def test_killed_between_acts_what_is_new_is_said_as_if_nothing_had_happened() -> None:
    whole, killed = Evening(), Evening()
    await whole.spend(set())
    await killed.spend({20, 33, 34})
    first: dict[str, Observation] = {}
    for o in killed.said("observations"):
        first.setdefault(o.source_id, o)
    assert list(first.values()) == whole.said("observations")
    assert len(killed.said("observations")) > len(first)
    assert killed.finals() == whole.finals()
    assert {likeliest(e.intents, 0.3) for e in whole.finals() if e.intents} >= {"change"}
    assert all(e.abstained and e.emotions is None for e in whole.finals())


async def test_after_a_withdrawal_no_window_says_what_was_asked() -> None:
    evening = Evening()
    await evening.broker.ensure_topics(TOPOLOGY.topic_specs())
    await evening.publish("consents", granted())
    sense, fuse = await evening.start("sense_behaviour"), await evening.start("fuse_affect")
    for n in range(80):
        at_ms = n * 100
        evening.clock.set_ms(AT_MS + at_ms + 40)
        if n % 10 == 0:
            await evening.publish("interactions", act("skip", at_ms).payload)
        if n == 35:
            withdrawn = msgspec.structs.replace(granted(modalities=[]), event_time_ms=AT_MS + at_ms)
            await evening.publish("consents", withdrawn)
        await evening.settle(sense, fuse)
    await sense.stop()
    await fuse.stop()
    before: list[AffectEvent] = []
    after: list[AffectEvent] = []
    for event in evening.said("affect_events"):
        (before if event.window_end_ms <= AT_MS + 3500 else after).append(event)
    assert any(likeliest(event.intents or {}, 0.3) == "change" for event in before)
    assert len(after) > 3
    assert {(e.intents is None, e.modalities["behaviour"].state) for e in after} == {(True, "no_consent")}


async def test_an_unknown_kind_is_a_dead_letter_and_its_neighbours_are_read() -> None:
    evening = Evening()
    await evening.broker.ensure_topics(TOPOLOGY.topic_specs())
    await evening.publish("consents", granted())
    sense = await evening.start("sense_behaviour")
    for n, kind in enumerate(("skip", "teleport", "skip")):
        fields = msgspec.to_builtins(act("skip", n).payload) | {"kind": kind}
        await evening.publish("interactions", act("skip", n).payload, msgspec.msgpack.encode(fields))
    await evening.settle(sense)
    await sense.stop()
    assert [o.source_id for o in evening.said("observations")] == ["i0", "i2"]
    letters: list[DeadLetter] = evening.said("dead_letters")
    assert [letter.reason for letter in letters] == ["undecodable"]
