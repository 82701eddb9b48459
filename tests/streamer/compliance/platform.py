"""A platform beside all operators on a real Kafka: what the tests of responsible use publish, wait for and read."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import engines
from operators.payloads import (
    AffectEvent,
    AudioChunk,
    Candidate,
    CandidateList,
    ChatMessage,
    Consent,
    Control,
    Interaction,
    Item,
    Mood,
    VideoFrame,
)
from streamer.broker import Message, Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.event_time import SystemClock
from streamer.payloads import Keyed, decode, encode, headers_for
from streamer.runtime.pipeline import Pipeline
from streamer.runtime.runner import Runner
from streamer.settings import load_settings
from streamer.topology.topology import Topology
from tests.faces import jpeg, portrait
from tests.voices import read_pcm

MOODS = {"elegy": (-0.6, -0.4), "garden": (0.6, 0.0), "storm": (-0.7, 0.7)}
HAPPY = "I am so happy, this is wonderful, I love it!"
AGO_MS = 5000
"""How long ago a person consented: what is captured since then may be sent at once."""
PATIENCE_S = 20.0
numbers = itertools.count()


def now_ms() -> int:
    return SystemClock().now_ms()


class Overheard(logging.Handler):
    """All that is logged, at any level, with its tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)}\n"


def reasons(observations: Sequence[Any]) -> set[str | None]:
    return {o.reason if o.absent else "read" for o in observations}


class Counted:
    """A real engine, and how many rows it was given by model."""

    rows: Counter[str] = Counter()
    fails_with: str | None = None

    def __init__(self, engine: engines.Engine) -> None:
        self.spec, self.backend, self.reasons_against = engine.spec, engine.backend, engine.reasons_against
        self._engine = engine

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        if self.fails_with is not None:
            raise ValueError(self.fails_with)
        self.rows[self.spec.name] += len(next(iter(inputs.values())))
        return self._engine.infer(inputs)


@contextmanager
def counted_engines() -> Iterator[None]:
    """Every engine loaded meanwhile counts what it encodes."""
    load = engines.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "load", lambda name, **options: Counted(load(name, **options)))
        yield


class Platform:
    """A platform and all operators, in this process, on one Kafka."""

    def __init__(self, kafka: LocalKafka, topology: Topology, only: Sequence[str] = (), **settings: Any) -> None:
        self.settings = load_settings(context="research", accept_licences="unsettled", queue="all", **settings)
        self.broker = KafkaBroker(self.settings, kafka.address)
        self.topology = topology
        self.pipeline = Pipeline(topology, self.settings, self.broker, only=only)
        self.runners: dict[str, Runner] = {r.context.operator: r for r in self.pipeline.runners}
        self.producer = self.broker.producer()
        written = [t for t in topology.topics if topology.topics[t].external != "in"]
        self.reader = self.broker.consumer(written, group=None)
        self.seen: list[Message] = []
        self._sent: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Platform]:
        with counted_engines():
            await self.pipeline.open()
        await self.producer.start()
        await self.reader.start()
        task = asyncio.create_task(self.pipeline.run())
        try:
            for item_id, (valence, arousal) in MOODS.items():
                item = Item(
                    event_time_ms=now_ms(), item_id=item_id, text=item_id, mood=Mood(valence=valence, arousal=arousal)
                )
                await self.send("catalogue_items", item)
            yield self
        finally:
            self.pipeline.close()
            await task
            await self.reader.stop()
            await self.producer.stop()
            await self.broker.close()

    async def send(self, topic: str, *payloads: Keyed) -> None:
        """Publish, and for a table's record wait until every operator has taken it in."""
        key = self.topology.topics[topic].key
        await self.producer.send(
            [Outgoing(topic, str(getattr(p, key)).encode(), encode(p), headers_for(p)) for p in payloads]
        )
        if self.topology.topics[topic].compact:
            (payload,) = payloads
            await self.until(lambda: all(t.get(getattr(payload, key)) == payload for t in self.tables(topic)))

    async def delete(self, topic: str, key: str) -> None:
        """Publish a table's deletion of a key, and wait until every operator has taken it in."""
        await self.producer.send([Outgoing(topic, key.encode(), None)])
        await self.until(lambda: all(key not in t for t in self.tables(topic)))

    def tables(self, name: str) -> list[Mapping[str, Any]]:
        """A table's contents in each operator that reads it."""
        return [r.context.tables[name] for r in self.runners.values() if name in r.context.tables]

    async def consent(self, session: str, at_ms: int | None = None, **changes: Any) -> Consent:
        """Publish the consent of an adult who was informed of the sensing and allows everything, but for `changes`."""
        at_ms = now_ms() - AGO_MS if at_ms is None else at_ms
        fields: dict[str, Any] = {
            "user_id": f"user of {session}",
            "modalities": ["face", "voice", "text", "behaviour"],
            "disclosure_version": "v1",
            "disclosed_at_ms": at_ms,
            "minor": False,
            "affect_ranking": True,
            **changes,
        }
        made = Consent(session_id=session, event_time_ms=at_ms, **fields)
        await self.send("consents", made)
        return made

    async def control(self, **changes: Any) -> None:
        await self.send("controls", Control(event_time_ms=now_ms(), app="affect", **changes))

    async def media(self, session: str, at_ms: int | None = None) -> dict[str, int]:
        """A frame, speech and a happy line, captured now, processed; rows encoded by model."""
        at_ms = now_ms() if at_ms is None else at_ms
        before = Counted.rows.copy()
        await asyncio.gather(
            self.processed("video_frames", frame(session, at_ms)),
            self.processed("audio_chunks", sound(session, at_ms)),
            self.processed("chat_messages", chat_message(session, at_ms)),
        )
        return dict(Counted.rows - before)

    async def processed(self, topic: str, *payloads: Keyed) -> None:
        """Publish, and wait until what came of it is written."""
        reader = next(o.name for o in self.topology.operators.values() if topic in o.reads)
        totals = self.runners[reader].context.metrics.totals
        done = totals["processed"] + len(payloads)
        await self.send(topic, *payloads)
        await self.until(lambda: totals["processed"] >= done)

    async def read(self, topic: str, session: str) -> list[Any]:
        """All records of a session that a topic contains by now, decoded."""
        await self.read_on()
        kind = self.topology.topics[topic].type
        mine = [m for m in self.seen if m.topic == topic and m.key == session.encode() and m.value]
        return [decode(m.value, kind) for m in mine]

    async def read_on(self) -> None:
        """Take in all that the operators have written by now."""
        ends = await self.reader.end_offsets()
        while any((self.reader.position(tp) or 0) < end for tp, end in ends.items()):
            self.seen += await self.reader.poll(500, 20)

    async def observations(self, session: str, modality: str) -> list[Any]:
        return [o for o in await self.read("observations", session) if o.modality == modality]

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not what():  # noqa: ASYNC110 - counts and tables set no events
                await asyncio.sleep(0.005)

    async def finals(self, session: str, until: Callable[[list[Any]], bool]) -> list[Any]:
        """The finals of a session, once they are like this."""
        async with asyncio.timeout(PATIENCE_S):
            while not until(found := await self.read("affect_events", session)):  # noqa: ASYNC110 - a topic sets none
                await asyncio.sleep(0.05)
        return found

    async def until_letters(self, session: str, count: int) -> None:
        """Wait until so many records of a session have become dead letters."""
        async with asyncio.timeout(PATIENCE_S):
            while len(await self.read("dead_letters", session)) < count:  # noqa: ASYNC110 - a topic sets none
                await asyncio.sleep(0.05)

    async def ranked(self, session: str) -> Any:
        """The list a session gets for three items that differ in mood."""
        items = [Candidate(item_id=i, score=10.0 - n / 10) for n, i in enumerate(MOODS)]
        request = CandidateList(
            session_id=session, event_time_ms=now_ms(), request_id="r", user_id=f"user of {session}", items=items
        )
        before = await self._answers(session)
        await self.send("candidates", request)
        async with asyncio.timeout(PATIENCE_S):
            while len(await self._answers(session)) == len(before):  # noqa: ASYNC110 - a topic sets none
                await asyncio.sleep(0.01)
        return (await self.read("ranked_items", session))[-1]

    async def _answers(self, session: str) -> list[Any]:
        return [one for one in await self.read("ranked_items", session) if one.cause == "request"]


def frame(session: str, at_ms: int, picture: NDArray[np.uint8] | None = None, **changes: Any) -> VideoFrame:
    """A smiling face, large enough to be read."""
    picture = portrait() if picture is None else picture
    height, width = picture.shape
    payload = VideoFrame(
        session_id=session, event_time_ms=at_ms, source_id="camera", width=width, height=height, data=jpeg(picture)
    )
    return msgspec.structs.replace(payload, **changes)


def sound(session: str, at_ms: int, **changes: Any) -> AudioChunk:
    """Three seconds of speech and silence after it, in one chunk."""
    samples = np.concatenate([read_pcm("happiness")[: 16 * 1800], np.zeros(16 * 1200, np.int16)])
    payload = AudioChunk(session_id=session, event_time_ms=at_ms, source_id="mic", data=samples.tobytes())
    return msgspec.structs.replace(payload, **changes)


def chat_message(session: str, at_ms: int, text: str = HAPPY, **changes: Any) -> ChatMessage:
    """A line of the user's."""
    message = ChatMessage(session_id=session, event_time_ms=at_ms, message_id=f"m{at_ms}", speaker="user", text=text)
    return msgspec.structs.replace(message, **changes)


def done(session: str, at_ms: int, kind: Literal["skip", "like"] = "skip") -> Interaction:
    """Something done with an item."""
    return Interaction(
        session_id=session, event_time_ms=at_ms, interaction_id=f"i{at_ms}", user_id=f"user of {session}",
        item_id="elegy", kind=kind,
    )  # fmt: skip


def felt(session: str) -> AffectEvent:
    """A sad event of now, as sure as can be."""
    at = now_ms()
    return AffectEvent(
        session_id=session, event_time_ms=at, event_id=f"{session}:{at}", window_start_ms=at - 2000, window_end_ms=at,
        revision=0, final=False, emotions={"sadness": 1.0}, valence=-0.6, arousal=0.0, confidence=1.0,
        source_kafka_ms=at, emitted_at_ms=at,
    )  # fmt: skip
