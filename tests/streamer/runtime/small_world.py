"""A tiny topology on a memory broker, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.event_time import ManualClock
from streamer.payloads import SessionKeyed, decode, encode, headers_for
from streamer.runtime.pipeline import Pipeline
from streamer.settings import Settings, load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.tiny_operators.payloads import Word

START = 1_000_000
TINY = """\
version: 2
app: tiny
partitions: 2
topics:
  words:          {payload: Word, external: in, retention: 60s}
  counts:         {payload: Count, retention: 10m}
  totals:         {payload: Total, external: out}
  totals_live:    {payload: Total, external: out}
  late_records:   {payload: LateRecord, external: out, key: key}
  dead_letters:   {payload: DeadLetter, external: out, key: key}
  worker_reports: {payload: WorkerReport, external: out, key: worker}
modalities:
  keys: {half_life: 1s, evidence: false}
operators:
  stumble:
    reads: [words]
    writes: counts
    batch: {max: 8}
    on_failure: {retries: 2, then: dead_letter}
    params: {stumbles: 2}
  sum_counts:
    reads: [counts]
    writes: totals
    window: {size: 2s, hop: 500ms, provisional: totals_live}
"""


class World:
    """A tiny topology on a memory broker with a clock that the test moves."""

    def __init__(self, folder: Path, text: str = TINY, settings: Settings | None = None) -> None:
        path = folder / "topology.yaml"
        path.write_text(text)
        self.topology: Topology = load_topology(path, package="tests.tiny_operators")
        self.clock = ManualClock(START)
        self.broker = MemoryBroker(self.clock)
        self.settings = settings or load_settings()

    async def start(self, *only: str) -> Pipeline:
        pipeline = Pipeline(self.topology, self.settings, self.broker, clock=self.clock, only=only)
        await pipeline.open()
        return pipeline

    async def say(self, text: str, at_ms: int | None = None, session: str = "s") -> None:
        at = self.clock.now_ms() if at_ms is None else at_ms
        await self.publish(Word(session_id=session, event_time_ms=at, text=text))

    async def publish(self, payload: SessionKeyed, topic: str = "words") -> None:
        await self.raw(topic, payload.session_id.encode(), encode(payload), headers_for(payload))

    async def raw(self, topic: str, key: bytes | None, value: bytes | None, headers: Any = ()) -> None:
        producer = self.broker.producer()
        await producer.start()
        await producer.send([Outgoing(topic, key, value, headers)])

    def read(self, topic: str) -> list[Any]:
        kind = self.topology.topics[topic].type
        return [decode(m.value, kind) for m in self.broker.messages(topic) if m.headers[0][0] == "schema"]


async def settle(pipeline: Pipeline) -> None:
    moved = 1
    while moved:
        moved = 0
        for runner in pipeline.runners:
            moved += await runner.step(wait_ms=0)
            await runner.flush()


async def until(world: World, pipeline: Pipeline, ms: int, step_ms: int = 10) -> None:
    for now in range(world.clock.now_ms(), START + ms + 1, step_ms):
        world.clock.set_ms(now)
        await settle(pipeline)
