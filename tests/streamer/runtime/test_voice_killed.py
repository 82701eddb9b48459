"""`sense_voice` killed in mid-utterance, through the real runner: what it says again it says as it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.payloads import AudioChunk, Consent, Observation
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.event_time import ManualClock
from streamer.payloads import TICK_HEADER, SessionKeyed, decode, encode, headers_for
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.voices import pause, read_pcm

START_MS = 1_790_000_000_000
CHUNK_MS = 100
SPEECH = np.concatenate([pause(1.0), read_pcm("anger"), pause(1.5), read_pcm("sadness"), pause(1.0)])
CHUNKS = len(SPEECH) // (16 * CHUNK_MS)


class Evening:
    """One person speaking to `sense_voice` and `fuse_affect` on the memory broker."""

    def __init__(self) -> None:
        self.topology = load_topology(Path(__file__).parents[3] / "topology.yaml")
        self.clock = ManualClock(START_MS)
        self.broker = MemoryBroker(self.clock)

    async def start(self, operator: str) -> Any:
        settings = load_settings(context="demo", threads=1, queue="all")
        pipeline = Pipeline(self.topology, settings, self.broker, clock=self.clock, only=(operator,))
        await pipeline.open()
        return pipeline.runners[0]

    async def publish(self, topic: str, payload: SessionKeyed) -> None:
        producer = self.broker.producer()
        await producer.start()
        await producer.send([Outgoing(topic, b"s", encode(payload), headers_for(payload))])

    async def spend(self, kills: set[int]) -> set[int]:
        """Speak, and kill `sense_voice` after these chunks; which of them left an utterance half heard."""
        consent = Consent(
            session_id="s", event_time_ms=START_MS, user_id="u", modalities=["voice"], disclosed_at_ms=1, minor=False
        )
        await self.broker.ensure_topics(self.topology.topic_specs())
        await self.publish("consents", consent)
        voice, fuse = await self.start("sense_voice"), await self.start("fuse_affect")
        halves = set[int]()
        for n in range(CHUNKS):
            self.clock.set_ms(START_MS + (n + 1) * CHUNK_MS)
            data = SPEECH[n * CHUNK_MS * 16 : (n + 1) * CHUNK_MS * 16].tobytes()
            chunk = AudioChunk(session_id="s", event_time_ms=START_MS + n * CHUNK_MS, source_id="mic", data=data)
            await self.publish("audio_chunks", chunk)
            await self.settle(voice, fuse)
            if n in kills:
                place = voice.operator.needs_from("s")
                await voice.stop()
                if place is not None and place.offset < n:
                    halves.add(n)
                voice = await self.start("sense_voice")
                await self.settle(voice, fuse)
        for _ in range(100):
            self.clock.set_ms(self.clock.now_ms() + 50)
            await self.settle(voice, fuse)
        await voice.stop()
        await fuse.stop()
        return halves

    async def settle(self, *runners: Any) -> None:
        moved = 1
        while moved:
            moved = 0
            for runner in runners:
                moved += await runner.step(wait_ms=0)
                await runner.flush()

    def observations(self) -> list[Observation]:
        messages = self.broker.messages("observations")
        return [decode(m.value, Observation) for m in messages if TICK_HEADER not in dict(m.headers)]

    def finals(self) -> list[dict[str, Any]]:
        kind = self.topology.topics["affect_events"].type
        events: list[Any] = [decode(m.value, kind) for m in self.broker.messages("affect_events")]
        return [{f: getattr(e, f) for f in e.__struct_fields__ if f != "emitted_at_ms"} for e in events]


def words(observations: list[Observation]) -> dict[tuple[str, int, int], bytes]:
    """Observations by identity; two of one identity must be the same to the byte, but for when its chunk came."""
    said: dict[tuple[str, int, int], bytes] = {}
    for o in observations:
        assert said.setdefault((o.source_id, o.start_ms, o.end_ms), encode(o)) == encode(o)
    return said


@pytest.mark.parametrize("kills", [{23}, {19, 31, 57}, set(range(5, CHUNKS, 13))], ids=["once", "thrice", "ever again"])
async def test_killed_in_mid_utterance_it_repeats_its_identities_and_no_final_changes(kills: set[int]) -> None:
    whole, killed = Evening(), Evening()
    await whole.spend(set())
    halves = await killed.spend(kills)
    assert halves
    assert words(killed.observations()) == words(whole.observations())
    assert len(killed.observations()) > len(whole.observations())
    assert killed.finals() == whole.finals()
    assert len(whole.finals()) > CHUNKS // 5
