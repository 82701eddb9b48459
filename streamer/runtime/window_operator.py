"""Runs a WindowOperator as an Operator: its windows, finals, provisionals and late records.

It also knows from which offset a partition has to be read again, and what has been written already (DESIGN §5).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamer.broker import Committed, TopicPartition
from streamer.operator import Context, Window, WindowOperator
from streamer.payloads import Keyed, Refusal, Tick
from streamer.records import Origin, Record
from streamer.runtime.dead_letters import RetryPolicy, dead_letter
from streamer.topology.topology import OperatorSpec
from streamer.windowing.window_spec import WindowSpec
from streamer.windowing.windows import PartitionWindows

PROVISIONALS_PER_S = 25
PROVISIONAL_BURST = 5
TICK_EVERY_MS = 20
MARK_EVERY_MS = 100  # how far apart, in Kafka time, the offsets are from which a partition may be read again
LATE_RECORDS = "late_records"
_PRUNE_ABOVE = 1000


@dataclass(slots=True)
class _Partition:
    windows: PartitionWindows
    written_up_to: int = -1  # T: what records at or below this offset triggered has been written before
    read_up_to: int = -1
    marks: deque[tuple[int, int]] = field(default_factory=deque)  # (Kafka time, its first offset), both rising
    ticked_ms: int = 0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_ms: int


class WindowedOperator:
    """Runs a WindowOperator as an Operator.

    Args:
        operator: fuses windows; `fuse` is pure, so its failures are retried here.
        spec: the operator's part of the topology, with its `window`.
        context: the operator's.
    """

    def __init__(self, operator: WindowOperator, spec: OperatorSpec, context: Context) -> None:
        self._operator, self._context = operator, context
        self._spec = spec.window or WindowSpec()
        self._half_life_ms = {name: int(modality.half_life) for name, modality in context.modalities.items()}
        self._retry_policy = RetryPolicy(spec.on_failure, context)
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._withheld: dict[str, TopicPartition] = {}

    async def open(self) -> None:
        """Open the operator."""
        await self._operator.open()

    async def close(self) -> None:
        """Close the operator."""
        await self._operator.close()

    def needs_from(self, session_id: str) -> Origin | None:
        """None: what has to be read again is known by partition, see `commit_offset`."""
        del session_id
        return None

    def forget(self, session_id: str) -> None:
        """Nothing: windows drop what is older than the horizon."""
        del session_id

    def resume(self, partition: TopicPartition, committed: Committed | None, end: int) -> int | None:
        """Take over a partition that ends at `end`; returns the offset to read from, None: as committed."""
        state = _Partition(PartitionWindows(self._spec, self._half_life_ms, self._operator.revokes))
        self._partitions[partition] = state
        if committed is None:
            return None
        state.written_up_to = written_up_to(committed.metadata)
        if state.written_up_to >= end:
            lost = "%s: %s[%d] ends at %d, but %d has been read before: its log was lost; what is there now is new"
            self._context.log.warning(
                lost, self._context.operator, partition.topic, partition.partition, end, state.written_up_to
            )
            state.written_up_to = -1
        return committed.offset

    def lose(self, partition: TopicPartition) -> None:
        """Drop a partition's windows."""
        self._partitions.pop(partition, None)
        self._withheld = {s: tp for s, tp in self._withheld.items() if tp != partition}

    def provisional(self, output: Record[Any]) -> bool:
        """Whether an output of `process` is a provisional: it may be repeated, so it needs no transaction."""
        return output.to is not None and output.to == self._spec.provisional

    def commit_offset(self, partition: TopicPartition) -> Committed | None:
        """What to commit: the offset of a record at or just before K_T - 2 horizon, with T and K_T as metadata."""
        state = self._partitions.get(partition)
        if state is None or state.read_up_to < 0 or state.read_up_to < state.written_up_to:
            return None
        kafka_ms = state.windows.kafka_ms
        while len(state.marks) > 1 and state.marks[1][0] <= kafka_ms - 2 * self._spec.horizon:
            state.marks.popleft()
        return Committed(state.marks[0][1], json.dumps({"T": state.read_up_to, "K_T": kafka_ms}))

    async def process(self, batch: Sequence[Record[Any]]) -> Sequence[Record[Any]]:
        """Take in records, refusals and ticks; returns finals in the order of their triggers, then provisionals."""
        due: list[tuple[Window, Record[Any]]] = []
        outputs: list[Record[Any]] = []
        moved: dict[str, Record[Any]] = {}
        for record in batch:
            state = self._partitions.get(record.origin.source)
            if state is None:  # lost between poll and here: its new owner does this
                continue
            offset, fresh = record.origin.offset, record.origin.offset > state.written_up_to
            only_time = isinstance(record.payload, Tick | Refusal)
            if only_time:
                applied = state.windows.tick(offset, record.kafka_ms)
            else:
                applied = state.windows.apply(offset, record.kafka_ms, record.payload)
            if not state.marks or state.windows.kafka_ms >= state.marks[-1][0] + MARK_EVERY_MS:
                state.marks.append((state.windows.kafka_ms, offset))
            state.read_up_to = offset
            if not fresh:
                continue
            due += [(window, record) for window in applied.closed]
            if isinstance(record.payload, Refusal):
                outputs.append(record)
            if applied.refused is not None:
                outputs += self._refused(record, applied.refused)
            if not only_time and applied.refused in (None, "late"):
                moved[record.key] = record
        self._context.metrics.count("finals", len(due))
        return [*outputs, *await self._fuse(due), *await self._provisionals(moved)]

    async def on_time(self, caught_up: Callable[[TopicPartition], bool]) -> Sequence[Record[Any]]:
        """Ticks for quiet partitions with a window due, and provisionals that the rate limit had held back.

        No tick is sent ahead of a backlog: its records advance Kafka time.
        """
        now_ms = self._context.clock.now_ms()
        outputs: list[Record[Any]] = []
        if len(self._buckets) > _PRUNE_ABOVE:
            self._buckets = {s: b for s, b in self._buckets.items() if now_ms - b.at_ms < 1000}  # noqa: PLR2004 - 1 s fills it
        for partition, state in self._partitions.items():
            due = state.windows.next_due_ms()
            if due is None or now_ms < max(due, state.ticked_ms + TICK_EVERY_MS):
                continue
            if caught_up(partition):
                state.ticked_ms = now_ms
                origin = Origin(partition.topic, partition.partition, state.read_up_to)
                outputs.append(Record("", now_ms, now_ms, Tick(event_time_ms=now_ms), origin))
                self._context.metrics.count("ticks")
        waiting = {
            s: Record(s, 0, now_ms, None, Origin(tp.topic, tp.partition, self._partitions[tp].read_up_to))
            for s, tp in self._withheld.items()
        }
        return [*outputs, *await self._provisionals(waiting)]

    def wake_ms(self) -> int | None:
        """When `on_time` has something to do next, in Unix milliseconds; None if only a record can cause it."""
        ticks = [
            max(due, state.ticked_ms + TICK_EVERY_MS)
            for state in self._partitions.values()
            if (due := state.windows.next_due_ms()) is not None
        ]
        turns = [self._buckets[s].at_ms + 1000 // PROVISIONALS_PER_S for s in self._withheld]
        return min([*ticks, *turns], default=None)

    def _refused(self, record: Record[Any], reason: Any) -> list[Record[Any]]:
        if reason != "clock_skew":  # a refusal is counted where it is written
            self._context.metrics.count(reason)
        if reason == "late":
            refusal = Refusal("late", "every window it belongs to is closed, or it came more than max_delay late")
            return [record.derive(dead_letter(record, refusal, self._context, late=True), LATE_RECORDS)]
        return [record.refuse(reason, "event time beyond max_skew")] if reason == "clock_skew" else []

    async def _fuse(self, due: Sequence[tuple[Window, Record[Any]]]) -> Sequence[Record[Any]]:
        async def step(windows: Sequence[tuple[Window, Record[Any]]]) -> Sequence[Record[Any]]:
            start = self._context.clock.perf_ms()
            events = await self._operator.fuse([w for w, _ in windows])
            self._context.metrics.time("fuse", [self._context.clock.perf_ms() - start])
            return [_keyed(e, w, r) for e, (w, r) in zip(events, windows, strict=True) if e is not None]

        def refuse(window: tuple[Window, Record[Any]], refusal: Refusal) -> Record[Any]:
            return window[1].refuse(refusal.reason, f"window ending {window[0].end_ms}: {refusal.detail}")

        return await self._retry_policy.run(step, due, refuse)

    async def _provisionals(self, moved: dict[str, Record[Any]]) -> Sequence[Record[Any]]:
        if self._spec.provisional is None:
            return ()
        now_ms = self._context.clock.now_ms()
        due: list[tuple[Window, Record[Any]]] = []
        for session_id, record in moved.items():
            partition = record.origin.source
            state = self._partitions.get(partition)  # lost while finals were fused: its new owner writes them
            window = state.windows.provisional(session_id) if state is not None else None
            if window is None:
                self._withheld.pop(session_id, None)
            elif self._takes_token(session_id, now_ms):
                self._withheld.pop(session_id, None)
                due.append((window, record))
            else:
                self._withheld[session_id] = partition
                self._context.metrics.count("withheld")
        self._context.metrics.count("provisionals", len(due))
        return [replace(r, to=self._spec.provisional) for r in await self._fuse(due)]

    def _takes_token(self, session_id: str, now_ms: int) -> bool:
        """A token bucket per session: 25 a second, 5 deep; a full bucket need not be stored."""
        bucket = self._buckets.pop(session_id, _Bucket(PROVISIONAL_BURST, now_ms))
        tokens = min(bucket.tokens + (now_ms - bucket.at_ms) * PROVISIONALS_PER_S / 1000, PROVISIONAL_BURST)
        granted = tokens >= 1
        self._buckets[session_id] = _Bucket(tokens - granted, now_ms)
        return granted


def written_up_to(metadata: str) -> int:
    """T of a commit's metadata; -1 (nothing) if there is none, as when somebody set the group's offsets by hand."""
    try:
        return int(json.loads(metadata)["T"])
    except (ValueError, KeyError, TypeError):
        return -1


def _keyed(event: Keyed, window: Window, record: Record[Any]) -> Record[Any]:
    return replace(record.derive(event), key=window.session_id)
