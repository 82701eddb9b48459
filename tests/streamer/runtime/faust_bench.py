"""A platform beside one app on a real Kafka: what the tests of the Faust host publish, read, start and stop."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from operators.payloads import AffectEvent, Candidate, CandidateList, Consent, Item, Mood, RankedList
from streamer.broker import Consumer, Message, Outgoing, Producer, TransactionalProducer
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.event_time import SystemClock
from streamer.operator import Context
from streamer.payloads import DeadLetter, Keyed, decode, encode, headers_for
from streamer.runtime.faust_host.host import FaustHost
from streamer.settings import load_settings
from streamer.topology.topology import OperatorSpec, Topology

TOPOLOGY = """
version: 2
app: alone
partitions: 4
topics:
  affect_live:     {payload: AffectEvent,   external: in, retention: 10m}
  affect_events:   {payload: AffectEvent,   external: in, retention: 10m}
  interactions:    {payload: Interaction,   external: in, retention: 10m}
  candidates:      {payload: CandidateList, external: in, retention: 10m}
  consents:        {payload: Consent, external: in, compact: true}
  catalogue_items: {payload: Item,    external: in, compact: true, key: item_id}
  controls:        {payload: Control, external: in, compact: true, key: app}
  ranked_items:    {payload: RankedList,   external: out, retention: 10m}
  worker_reports:  {payload: WorkerReport, external: out, retention: 10m, key: worker}
  dead_letters:    {payload: DeadLetter,   external: out, retention: 10m, key: key}
operators:
  rank_items:
    host: faust
    reads: [affect_live, affect_events, interactions, candidates]
    tables: [consents, controls, catalogue_items]
    writes: ranked_items
    params: {goal: lift}
modalities:
  face:      {evidence: false}
  voice:     {evidence: false}
  text:      {evidence: false}
  behaviour: {evidence: false}
"""
BASE = ["elegy", "storm", "garden", "parade", "filler"]
LIFTED = ["garden", "parade", "elegy", "storm", "filler"]
MOODS = {"elegy": (-0.6, -0.4), "storm": (-0.7, 0.7), "garden": (0.6, 0.0), "parade": (0.8, 0.6)}
numbers = itertools.count()


def now_ms() -> int:
    return SystemClock().now_ms()


class Bench:
    """A platform beside one app: it publishes, reads what comes, and starts and stops hosts."""

    def __init__(self, kafka: LocalKafka, topology: Topology) -> None:
        self.kafka = kafka
        self.settings = load_settings(context="demo")
        self.broker = KafkaBroker(self.settings, kafka.address)
        self.session = f"session-{next(numbers)}"
        self.producer: Producer | TransactionalProducer = self.broker.producer()
        self.reader: Consumer | None = None
        self.seen: list[Message] = []
        self.topology: Topology = dataclasses.replace(topology, app=f"app{next(numbers)}")
        self.spec: OperatorSpec = topology.operators["rank_items"]

    async def start(self) -> None:
        await self.broker.ensure_topics(self.topology.topic_specs())
        await self.producer.start()
        self.reader = self.broker.consumer(
            ["ranked_items", "dead_letters", "worker_reports"], group=None, start_at="latest"
        )
        await self.reader.start()
        for tp, end in (await self.reader.end_offsets()).items():
            self.reader.seek(tp, end)
        for item_id, (valence, arousal) in MOODS.items():
            mood = Mood(valence=valence, arousal=arousal)
            await self.send("catalogue_items", Item(event_time_ms=now_ms(), item_id=item_id, text=item_id, mood=mood))
        await self.consent(affect_ranking=True)

    async def stop(self) -> None:
        if self.reader is not None:
            await self.reader.stop()
        await self.producer.stop()
        await self.broker.close()

    def host(self, spec: OperatorSpec | None = None, **settings: Any) -> FaustHost:
        spec = spec or self.spec
        made = self.settings.model_copy(update=settings)
        context = Context(
            spec.name, made, log=logging.getLogger("t"), tables={name: {} for name in spec.tables},
            modalities=self.topology.modalities,
        )  # fmt: skip
        return FaustHost(spec, self.topology, self.broker, context, self.kafka.address)

    @asynccontextmanager
    async def running(self, spec: OperatorSpec | None = None) -> AsyncIterator[FaustHost]:
        host = self.host(spec)
        await host.open()
        task = asyncio.create_task(host.run())
        try:
            yield host
        finally:
            host.close()
            await task

    async def send(self, topic: str, payload: Keyed, key: str | None = None) -> None:
        found = key or next(getattr(payload, f) for f in ("session_id", "item_id", "app") if hasattr(payload, f))
        await self.producer.send([Outgoing(topic, found.encode(), encode(payload), headers_for(payload))])

    async def consent(self, **changes: Any) -> None:
        fields: dict[str, Any] = {"user_id": "u", "disclosed_at_ms": now_ms()} | changes
        await self.send("consents", Consent(session_id=self.session, event_time_ms=now_ms(), **fields))

    async def request(self, request_id: str = "r1", session: str | None = None) -> None:
        items = [Candidate(item_id=i, score=0.0 if i == "filler" else 10 - n / 10) for n, i in enumerate(BASE)]
        key = session or self.session
        await self.send(
            "candidates",
            CandidateList(session_id=key, event_time_ms=now_ms(), request_id=request_id, user_id="u", items=items),
        )

    async def feel(self, valence: float) -> None:
        end = now_ms()
        await self.send(
            "affect_live",
            AffectEvent(
                session_id=self.session, event_time_ms=end, event_id="e", window_start_ms=end - 2000, window_end_ms=end,
                revision=0, final=False, emotions={"neutral": 1.0}, valence=valence, arousal=0.0, confidence=1.0,
                source_kafka_ms=end, emitted_at_ms=end,
            ),
        )  # fmt: skip

    async def lists(self, count: int, wait_s: float = 20.0) -> list[RankedList]:
        """The session's ranked lists, once there are `count`."""
        return await self.until(count, wait_s, lambda: self.payloads("ranked_items", RankedList, self.session))

    async def letters(self, count: int) -> list[DeadLetter]:
        return await self.until(count, 20.0, lambda: self.payloads("dead_letters", DeadLetter))

    def payloads(self, topic: str, kind: Any, key: str | None = None) -> list[Any]:
        return [decode(m.value, kind) for m in self.seen if m.topic == topic and key in (None, (m.key or b"").decode())]

    async def until(self, count: int, wait_s: float, found: Callable[[], list[Any]]) -> list[Any]:
        assert self.reader is not None
        until = time.monotonic() + wait_s
        while len(found()) < count and time.monotonic() < until:
            self.seen += await self.reader.poll(500, 100)
        return found()

    async def settle(self, wait_s: float = 0.5) -> list[RankedList]:
        """All the session's lists, once nothing may come any more."""
        return await self.lists(10**6, wait_s)


def order(ranked: RankedList) -> list[str]:
    return [i.item_id for i in ranked.items]


def held(host: FaustHost) -> set[str]:
    """The sessions a host keeps state of."""
    return {key.partition("\0")[0] for key in host.context.tables["state"]}
