"""Runs operators over a recording in memory, with the recorded partitions, offsets and Kafka times.

Finals are a function of the log alone (DESIGN §5), ticks included, so those whose trigger is in the recording are
byte for byte those of the live run, `emitted_at_ms` apart. Nothing is added to a log that is being restored: the ticks
that closed its windows are in it. Windows open at its end stay open, unless they are closed as if nothing more had
come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from streamer.broker import Outgoing, Producer, TopicPartition, TopicSpec
from streamer.brokers.memory.broker import MemoryBroker
from streamer.errors import MediaError
from streamer.event_time import Clock, Duration, ManualClock
from streamer.recordings.recording import Recording, in_kafka_order
from streamer.recordings.replay import pass_time, settle
from streamer.runtime.emitting import DEAD_LETTERS
from streamer.runtime.pipeline import Pipeline
from streamer.runtime.window_operator import LATE_RECORDS
from streamer.settings import Settings
from streamer.topology.topology import OperatorSpec, Topology

STEP_MS = 20
"""Records within this much Kafka time are restored together, so that operators see tables as they were then."""
BACKLOG_STEP_MS = 1000
"""The same where all operators have windows: the borders of a batch change no final, and give fewer provisionals."""


@dataclass(slots=True)
class BatchReplay:
    """The result of a batch replay.

    Args:
        broker: contains every record, restored and written.
        operators: those that ran.
        finals: the topics that they name under `writes`.
        outputs: all topics that they may have written to.
        restored: how many records were read from the recording.
        after: by topic, how many finals were closed by `finish` alone.
        still_open: whether windows were open when the recording ended.
        notes: what may differ from the live run, and why.
    """

    broker: MemoryBroker
    operators: tuple[str, ...]
    finals: tuple[str, ...]
    outputs: tuple[str, ...]
    restored: int = 0
    after: dict[str, int] = field(default_factory=dict)
    still_open: bool = False
    notes: list[str] = field(default_factory=list)


async def batch_replay(
    recording: Recording, topology: Topology, settings: Settings, *, only: Sequence[str] = (), finish: bool = False
) -> BatchReplay:
    """Run operators over a recording.

    Args:
        recording: what they read; what they write themselves is not restored.
        topology: usually the one in the recording's header.
        settings: the operators' settings; queue policies are ignored, since every record is processed.
        only: the operators to run; if empty, all with windows whose inputs were recorded.
        finish: let time pass at the end until every window is closed.

    Raises:
        MediaError: the recording lacks what they read, or can't be read.
        ConfigurationError: no such operator.
    """
    names = list(only) or _replayable_operators(recording, topology)
    clock = ManualClock()
    broker = _RestoringBroker(clock)
    pipeline = Pipeline(topology, settings.model_copy(update={"queue": "all"}), broker, clock=clock, only=names)
    specs = [topology.operators[name] for name in pipeline.names]
    written = {name for spec in specs for name in spec.outputs}
    _check_inputs(recording, topology, specs, written)
    restored = {name for spec in specs for name in (*spec.reads, *spec.tables)} - written
    broker.restoring = {name for spec in specs if spec.window for name in spec.reads} & restored
    tables = {name for spec in specs for name in spec.tables}
    timed = in_kafka_order((m for m in recording.messages() if m.topic in restored), tables)
    finals = tuple(dict.fromkeys(spec.writes for spec in specs))
    refusals = [name for name in (LATE_RECORDS, DEAD_LETTERS) if name in topology.topics]
    outputs = tuple(dict.fromkeys([*(name for spec in specs for name in spec.outputs), *refusals]))
    replayed = BatchReplay(broker, pipeline.names, finals, outputs, len(timed))
    replayed.notes += _notes_on_missing_beginnings(((ms, m.topic, m.partition, m.offset) for ms, m in timed), specs)
    clock.set_ms(timed[0][0] if timed else 0)
    await broker.ensure_topics(_without_retention(topology))
    await pipeline.open()
    try:
        on_time = [r for r, spec in zip(pipeline.runners, specs, strict=True) if not broker.restores(spec)]
        step_ms = STEP_MS if on_time else BACKLOG_STEP_MS
        for _, together in groupby(timed, key=lambda pair: pair[0] // step_ms):
            batch = list(together)
            await pass_time(pipeline, clock, batch[-1][0], woken_by=on_time)
            for _, message in batch:
                broker.restore(message)
            await settle(pipeline)
        replayed.still_open = any(runner.wake_ms() is not None for runner in pipeline.runners)
        if finish:
            before = {name: len(broker.messages(name)) for name in finals}
            broker.restoring = set()
            await pass_time(pipeline, clock, None)
            replayed.after = {name: len(broker.messages(name)) - n for name, n in before.items()}
    finally:
        await pipeline.stop()
    return replayed


def _replayable_operators(recording: Recording, topology: Topology) -> list[str]:
    windowed = [spec for spec in topology.operators.values() if spec.window is not None]
    found = [spec.name for spec in windowed if set(spec.reads) <= recording.header.topics.keys()]
    if not found:
        wanted = " or ".join(", ".join(spec.reads) for spec in windowed)
        raise MediaError(f"{recording.path}: holds no {wanted} to fold; name the operators to run with --only")
    return found


def _check_inputs(recording: Recording, topology: Topology, specs: Sequence[OperatorSpec], written: set[str]) -> None:
    if recording.header.partitions != topology.partitions:
        counts = f"{recording.header.partitions} partitions of each topic, the topology {topology.partitions}"
        raise MediaError(f"{recording.path}: has {counts}: sessions would move")
    for spec in specs:
        if lacks := [name for name in spec.reads if name not in recording.header.topics and name not in written]:
            media = any(topology.topics[name].type.MEDIA for name in lacks)
            way_out = "; `streamer record --with-media` takes it where people agreed" if media else ""
            raise MediaError(f"{recording.path}: {spec.name} reads {', '.join(lacks)}, which was not recorded{way_out}")


def _notes_on_missing_beginnings(
    origins: Iterable[tuple[int, str, int, int]], specs: Sequence[OperatorSpec]
) -> list[str]:
    """A note for each windowed input whose first record in the recording isn't the first of its log."""
    first: dict[TopicPartition, int] = {}
    for _, topic, partition, offset in origins:
        first.setdefault(TopicPartition(topic, partition), offset)
    notes = []
    for spec in specs:
        numbers = [str(p.partition) for p, offset in sorted(first.items()) if p.topic in spec.reads and offset > 0]
        if spec.window is not None and numbers:
            where = f"{', '.join(spec.reads)}[{','.join(numbers)}] begins in the middle of its log"
            span = Duration(2 * spec.window.horizon)
            notes.append(f"{where}: in its first {span} {spec.name} may lack what came before, and say something else")
    return notes


def _without_retention(topology: Topology) -> list[TopicSpec]:
    return [TopicSpec(s.name, s.partitions, compact=s.compact) for s in topology.topic_specs()]


class _RestoringBroker(MemoryBroker):
    """A broker that accepts no records on the topics of `restoring`: their next record is a recorded one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.restoring: set[str] = set()

    def restores(self, spec: OperatorSpec) -> bool:
        """Whether all inputs of a windowed operator are being restored, so that its ticks are in the log."""
        return spec.window is not None and set(spec.reads) <= self.restoring

    def producer(self) -> Producer:
        """A producer that drops records for topics being restored (ticks)."""
        return _TickFreeProducer(super().producer(), self)


class _TickFreeProducer:
    """A producer that drops records for the topics in `_RestoringBroker.restoring`."""

    def __init__(self, producer: Producer, broker: _RestoringBroker) -> None:
        self._producer, self._broker = producer, broker

    async def start(self) -> None:
        await self._producer.start()

    async def send(self, messages: Sequence[Outgoing]) -> None:
        await self._producer.send([m for m in messages if m.topic not in self._broker.restoring])

    async def stop(self) -> None:
        await self._producer.stop()
