"""A Kafka that dies under a running pipeline and comes back: nobody restarts anything, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from operators.payloads import AffectEvent, Candidate, CandidateList, ChatMessage, Consent, Item, RankedList
from streamer.broker import Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.event_time import SystemClock
from streamer.payloads import Keyed, decode, encode, headers_for
from streamer.runtime.faust_host.host import FaustHost
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

TOPOLOGY = load_topology(Path(__file__).parents[3] / "topology.yaml")
OPERATORS = ("sense_text", "fuse_affect", "rank_items")
OUTAGE_S = 6.0


@pytest_asyncio.fixture
async def own_kafka() -> AsyncIterator[LocalKafka]:
    async with local_kafka(load_settings()) as running:
        yield running


async def eventually(question: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await question():  # each asks Kafka, and waits for its answer
            pass


class World:
    """A platform that publishes, and a team that reads."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker, self.clock, self.read = broker, SystemClock(), dict[str, list[Any]]()
        self._producer = broker.producer()
        self._reader = broker.consumer(["affect_events", "ranked_items", "dead_letters"], group=None)

    async def start(self) -> None:
        await self._producer.start()
        await self._reader.start()

    async def stop(self) -> None:
        await self._producer.stop()
        await self._reader.stop()

    async def publish(self, topic: str, key: str, payload: Keyed) -> None:
        await self._producer.send([Outgoing(topic, key.encode(), encode(payload), headers_for(payload))])

    async def consent(self, session: str) -> None:
        consent = Consent(
            session_id=session, event_time_ms=self.clock.now_ms(), user_id="u", modalities=["text"],
            disclosure_version="1", disclosed_at_ms=1, minor=False, affect_ranking=True,
        )  # fmt: skip
        await self.publish("consents", session, consent)

    async def chat(self, session: str) -> None:
        line = "I am so happy, this is wonderful!"
        message = ChatMessage(
            session_id=session, event_time_ms=self.clock.now_ms(), message_id="m", speaker="user", text=line
        )
        await self.publish("chat_messages", session, message)

    async def ask(self, session: str, request: str) -> None:
        items = [Candidate(item_id="a", score=1.0), Candidate(item_id="b", score=0.5)]
        asked = CandidateList(
            session_id=session, event_time_ms=self.clock.now_ms(), request_id=request, user_id="u", items=items
        )
        await self.publish("candidates", session, asked)

    async def finals(self, session: str) -> list[AffectEvent]:
        await self._take()
        return [e for e in self.read.get("affect_events", []) if e.session_id == session]

    async def ranked(self, request: str) -> list[RankedList]:
        await self._take()
        return [r for r in self.read.get("ranked_items", []) if r.request_id == request]

    async def _take(self) -> None:
        for message in await self._reader.poll(500, 100):
            self.read.setdefault(message.topic, []).append(decode(message.value, TOPOLOGY.topics[message.topic].type))


async def test_a_kafka_that_dies_and_comes_back_is_survived_without_a_restart_and_without_loss(
    own_kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.brokers.kafka.options.ANSWER_SECONDS", 3.0)  # so that an outage of 6 s is a long one
    monkeypatch.setattr("streamer.brokers.kafka.options.CONNECT_SECONDS", 3.0)
    settings = load_settings(context="research", brokers=own_kafka.address)
    broker = KafkaBroker(settings)
    pipeline = Pipeline(
        TOPOLOGY, settings, broker, only=OPERATORS,
        faust=lambda spec, context: FaustHost(spec, TOPOLOGY, broker, context, own_kafka.address),
    )  # fmt: skip
    await pipeline.open()
    running = asyncio.create_task(pipeline.run())
    world = World(KafkaBroker(settings))
    await world.start()
    for name in ("a", "b"):
        item = Item(event_time_ms=1, item_id=name, text=name, mood=None)
        await world.publish("catalogue_items", name, item)
    for session in ("before", "after"):
        await world.consent(session)
    await asyncio.sleep(0.5)
    await world.chat("before")
    await world.ask("before", "first")

    async def first_is_answered() -> bool:
        return len(await world.ranked("first")) > 0 and len(await world.finals("before")) > 0

    await eventually(first_is_answered)
    await asyncio.to_thread(own_kafka.nodes[0].kill)  # windows of `before` are still open
    await asyncio.sleep(OUTAGE_S)
    assert not running.done()
    await own_kafka.nodes[0].start()
    await world.stop()
    await world.start()
    world.read.clear()
    await world.chat("after")
    await world.ask("after", "second")

    async def everything_is_there() -> bool:
        answered = await world.ranked("second")
        return bool(answered) and len(await world.finals("before")) >= 4 and len(await world.finals("after")) >= 4

    await eventually(everything_is_there, 60)
    for session in ("before", "after"):
        ends = [e.window_end_ms for e in await world.finals(session)]
        assert ends == sorted(set(ends)), "each final once, in order"
        assert len(ends) == 4
    assert world.read.get("dead_letters", []) == []
    assert not running.done()
    pipeline.close()
    await running
    await world.stop()
    await world.broker.close()
    await broker.close()
