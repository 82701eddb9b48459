"""A day of one windowed operator on the memory broker: what is said and what goes wrong in, logs and outputs out.

The real runner reads in any portions, is stopped and killed, and time is disturbed as drawn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import strategies as st

from kernels import engines
from operators.payloads import Observation
from streamer.broker import Message, Outgoing, TopicPartition
from streamer.brokers.memory.broker import MemoryBroker
from streamer.brokers.memory.log import Disturbance
from streamer.event_time import Duration, ManualClock
from streamer.modality import Modality
from streamer.payloads import TICK_HEADER, Keyed, decode, encode, headers_for
from streamer.runtime import runner as runner_module
from streamer.runtime.pipeline import Pipeline
from streamer.runtime.runner import Runner
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Batch, Topology
from tests.streamer.windowing.oracle import Entry, Final, Reading, Rules, reading_of
from tests.streamer.windowing.oracle_affect import affect_event
from tests.streamer.windowing.oracle_logs import START_MS, spec_of
from tests.tiny_operators.payloads import Count, Total

PARTITIONS = 2
POISON = b"\xc1"
TINY = """\
version: 2
app: tiny
partitions: 2
topics:
  counts:         {payload: Count, external: in, retention: 10m}
  totals:         {payload: Total, external: out}
  late_records:   {payload: LateRecord, external: out, key: key}
  dead_letters:   {payload: DeadLetter, external: out, key: key}
  worker_reports: {payload: WorkerReport, external: out, key: worker}
modalities:
  face: {half_life: 1s, evidence: false}
operators:
  sum_counts:
    reads: [counts]
    writes: totals
    window: {size: 2s, hop: 500ms}
"""


@dataclass(frozen=True)
class Job:
    """An operator to try: where it reads and writes, what an observation is to it, and what it must make of a final."""

    topology: Topology
    operator: str
    payload: Callable[[Observation], Any]
    answer: Callable[[Final, Mapping[int, Any]], Keyed]
    revokes: Callable[[Any], bool]

    def ruled(self, rules: Rules, batch: int, delivery: Any) -> Job:
        """The same under other rules."""
        spec = self.topology.operators[self.operator]
        changed = replace(spec, window=spec_of(rules), batch=Batch(batch, Duration(0)), delivery=delivery)
        declared, half_life_ms = self.topology.modalities, rules.half_life_ms
        modalities = {
            name: msgspec.structs.replace(
                declared.get(name, Modality(topic=spec.reads[0], evidence=False)),
                half_life=Duration(half_life_ms.get(name, 0)),
            )
            for name in dict.fromkeys([*declared, *half_life_ms])
        }
        operators = {**self.topology.operators, self.operator: changed}
        topics = {name: replace(topic, retention_ms=None) for name, topic in self.topology.topics.items()}
        topology = replace(
            self.topology, partitions=PARTITIONS, topics=topics, operators=operators, modalities=modalities
        )
        return replace(self, topology=topology)


def _letters(o: Observation) -> int:
    """A number that tells an observation from others even in a sum."""
    return crc32(f"{o.session_id} {o.modality} {o.source_id} {o.end_ms}".encode())


def _count(o: Observation) -> Count:
    return Count(
        session_id=o.session_id, event_time_ms=o.end_ms, modality=o.modality, source_id=o.source_id,
        start_ms=o.start_ms, end_ms=o.end_ms, absent=o.absent, letters=_letters(o),
    )  # fmt: skip


def _total(final: Final, payloads: Mapping[int, Any]) -> Total:
    letters = sum(payloads[offset].letters for offset, _, _ in final.evidence)
    return Total(session_id=final.session_id, event_time_ms=final.window_end_ms, letters=letters)


@cache
def sums() -> Job:
    """The tiny operator: it adds up what it gets."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "topology.yaml"
        path.write_text(TINY)
        topology = load_topology(path, package="tests.tiny_operators")
    return Job(topology, "sum_counts", _count, _total, lambda count: bool(count.absent))


@cache
def fusion() -> Job:
    """The real operator of the real topology."""
    priors = {spec.id: spec.prior for spec in engines.all_specs()}
    topology = load_topology(Path(__file__).parents[3] / "topology.yaml")
    return Job(
        topology,
        "fuse_affect",
        lambda o: o,
        lambda final, payloads: affect_event(final, payloads, priors, topology.modalities),
        Rules().revokes,
    )


@dataclass(frozen=True)
class Day:
    """How a day goes.

    The worker reads after every `nap`-th record, `poll` records at a time and `batch` at once. After the records in
    `stops` it is stopped and another started, after those in `kills` without a word. Stamps are wrong by
    `stamps_ms[partition]` and by `steps_ms` in turn; records stay hidden for `hidden_ms` in turn. Where it `settles`,
    what was made is committed before the clock goes on; else transactions may be under way when it is killed.
    """

    nap: int = 1
    poll: int = 500
    batch: int = 64
    stops: frozenset[int] = frozenset()
    kills: frozenset[int] = frozenset()
    stamps_ms: tuple[int, ...] = (0,) * PARTITIONS
    steps_ms: tuple[int, ...] = (0,)
    hidden_ms: tuple[int, ...] = (0,)
    settles: bool = True


_turns = st.frozensets(st.integers(0, 100), max_size=3)
days = st.builds(
    Day,
    nap=st.sampled_from([1, 2, 7, 1000]),
    poll=st.sampled_from([500, 1, 3]),
    batch=st.sampled_from([64, 1, 5]),
    stops=_turns,
    kills=_turns,
    stamps_ms=st.tuples(*[st.sampled_from([0, 0, 70, -200, 400])] * PARTITIONS),
    steps_ms=st.lists(st.sampled_from([0, 0, 0, -10, -200, 30]), min_size=1, max_size=7).map(tuple),
    hidden_ms=st.lists(st.sampled_from([0, 0, 15, 400, 2000]), min_size=1, max_size=7).map(tuple),
    settles=st.booleans(),
)


@dataclass(frozen=True)
class Outcome:
    """What is on the topics at the end of a day: the log of each partition, and what the operator made of it."""

    input: Sequence[Message]
    logs: dict[int, list[Entry]]
    finals: dict[int, list[Keyed]]
    stamps_ms: dict[int, list[int]]
    refused: Counter[tuple[int, int, str]]


@dataclass
class _Worker:
    """The one that reads now."""

    job: Job
    broker: MemoryBroker
    clock: ManualClock
    day: Day
    runner: Runner = field(init=False)

    async def start(self) -> None:
        pipeline = Pipeline(
            self.job.topology, load_settings(), self.broker, clock=self.clock, only=(self.job.operator,)
        )
        await pipeline.open()
        self.runner = pipeline.runners[0]

    async def read(self) -> None:
        """Until there is nothing more to read now."""
        while await self.runner.step(wait_ms=0):
            if self.day.settles:
                await self.runner.flush()

    async def stop(self) -> None:
        """Finish what is in hand."""
        self.runner.close()
        await self.runner.run()

    async def kill(self) -> None:
        """Leave with whatever isn't committed undone."""
        await self.runner.stop()


async def live(job: Job, said: Sequence[tuple[int, Any]], day: Day) -> Outcome:
    """(Moment, observation or None for a record that can't be read) through the operator, to the end of all windows."""
    clock = ManualClock(START_MS)
    spec = job.topology.operators[job.operator]
    broker = MemoryBroker(clock, _disturbance(day, spec.reads[0]))
    worker = _Worker(job, broker, clock, day)
    with _polling(day.poll):
        await worker.start()
        producer = broker.producer()
        await producer.start()
        for turn, (at_ms, observation) in enumerate(said):
            if day.nap == 1:
                await _pass_time(worker, at_ms)
            clock.set_ms(at_ms)
            await producer.send([_outgoing(job, spec.reads[0], observation)])
            if turn % day.nap == 0:
                await worker.read()
            if turn in day.stops | day.kills:
                await (worker.stop() if turn in day.stops else worker.kill())
                await worker.start()
        await worker.read()
        await _pass_time(worker, None)
        await worker.stop()
    return outcome(job, broker)


async def read_again(job: Job, messages: Sequence[Message], day: Day) -> Outcome:
    """A recorded log as a backlog: all of it is there when a worker starts, long after."""
    broker = MemoryBroker(clock := ManualClock(messages[-1].timestamp_ms + 60_000))
    worker = _Worker(job, broker, clock, day)
    with _polling(day.poll):
        await worker.start()
        for message in messages:
            broker.restore(message)
        await worker.read()
        await _pass_time(worker, None)
        await worker.stop()
    return outcome(job, broker)


def _disturbance(day: Day, topic: str) -> Disturbance:
    """Stamps and delays of the operator's input; its outputs are stamped truly."""
    appended: Counter[str] = Counter()

    def stamp(partition: TopicPartition, now_ms: int) -> int:
        appended["stamps"] += 1
        if partition.topic != topic:
            return now_ms
        return now_ms + day.stamps_ms[partition.partition] + day.steps_ms[appended["stamps"] % len(day.steps_ms)]

    def delay(partition: TopicPartition, _: int) -> int:
        appended["delays"] += 1
        return day.hidden_ms[appended["delays"] % len(day.hidden_ms)] if partition.topic == topic else 0

    return Disturbance(stamp, delay)


@contextmanager
def _polling(records: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "POLL_RECORDS", records)
        yield


def _outgoing(job: Job, topic: str, observation: Observation | None) -> Outgoing:
    if observation is None:
        return Outgoing(topic, b"a", POISON)
    payload = job.payload(observation)
    return Outgoing(topic, payload.session_id.encode(), encode(payload), headers_for(payload))


async def _pass_time(worker: _Worker, until_ms: int | None) -> None:
    """Let the clock go on to a moment, stopping where the worker wants to be woken; to the end of all windows if None.

    What is hidden shows within 3 s, so after that long without a window waiting there is none.
    """
    quiet_ms = 0
    while quiet_ms <= 3000 or until_ms is not None:
        now_ms, wake_ms = worker.clock.now_ms(), worker.runner.wake_ms()
        soon_ms = now_ms + 50 if wake_ms is None or wake_ms <= now_ms else min(wake_ms, now_ms + 50)
        if until_ms is not None and soon_ms >= until_ms:
            return
        worker.clock.set_ms(soon_ms)
        await worker.read()
        quiet_ms = quiet_ms + soon_ms - now_ms if worker.runner.wake_ms() is None else 0


def outcome(job: Job, broker: MemoryBroker) -> Outcome:
    """What is on the topics now."""
    spec = job.topology.operators[job.operator]
    read, written = (job.topology.topics[name] for name in (spec.reads[0], spec.writes))
    logs: dict[int, list[Entry]] = {n: [] for n in range(PARTITIONS)}
    messages = broker.messages(read.name)
    for m in messages:
        known = m.value != POISON and TICK_HEADER not in dict(m.headers)
        logs[m.partition].append(Entry(m.offset, m.timestamp_ms, decode(m.value, read.type) if known else None))
    finals: dict[int, list[Keyed]] = {n: [] for n in range(PARTITIONS)}
    stamps_ms: dict[int, list[int]] = {n: [] for n in range(PARTITIONS)}
    for m in broker.messages(written.name):
        finals[m.partition].append(_timeless(decode(m.value, written.type)))
        stamps_ms[m.partition].append(m.timestamp_ms)
    told = [(topic, decode(m.value, job.topology.topics[topic].type)) for topic in ("late_records", "dead_letters")
            for m in broker.messages(topic)]  # fmt: skip
    refused: Counter[tuple[int, int, str]] = Counter()
    for _, letter in told:
        place: Any = letter
        refused[place.partition, place.offset, place.reason] += 1
    return Outcome(messages, logs, finals, stamps_ms, refused)


def _timeless(event: Keyed) -> Keyed:
    return msgspec.structs.replace(event, emitted_at_ms=0) if hasattr(event, "emitted_at_ms") else event


def expected(job: Job, outcome: Outcome, rules: Rules) -> dict[int, tuple[Reading, list[Keyed]]]:
    """By partition what the oracle says of its log, and the finals that must be there, in their order."""
    found: dict[int, tuple[Reading, list[Keyed]]] = {}
    for partition, log in outcome.logs.items():
        reading = reading_of(log, replace(rules, revokes=job.revokes))
        payloads = {e.offset: e.payload for e in log}
        found[partition] = reading, [job.answer(final, payloads) for final in reading.finals]
    return found


def run(job: Job, said: Sequence[tuple[int, Any]], day: Day) -> Outcome:
    """`live`, to its end."""
    return asyncio.run(live(job, said, day))
