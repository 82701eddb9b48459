"""Worker reports: counts and latencies of one operator, once a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from streamer.broker import HeldBack, TopicPartition
from streamer.operator import Context
from streamer.payloads import WorkerReport
from streamer.records import Origin, Record
from streamer.topology.topology import OperatorSpec, Topology

REPORTS = "worker_reports"
EVERY_MS = 1000
HANGING_MS = 30_000
"""A transaction that holds a partition back for so long has been left open; most take milliseconds."""


class Reporter:
    """Makes the reports of one operator; none if the topology has no topic `worker_reports`."""

    def __init__(self, spec: OperatorSpec, topology: Topology, context: Context) -> None:
        self._spec, self._context, self._wanted = spec, context, REPORTS in topology.topics
        self._process = psutil.Process()
        self._due_ms = context.clock.now_ms() + EVERY_MS
        self._held_since_ms: dict[tuple[TopicPartition, int], int] = {}
        self._warned: set[TopicPartition] = set()

    def is_due(self) -> bool:
        """Whether a second has passed since the last report."""
        return self._wanted and self._context.clock.now_ms() >= self._due_ms

    def report(
        self, partitions: Sequence[int], lag: int, held_back: Mapping[TopicPartition, HeldBack]
    ) -> Sequence[Record[Any]]:
        """The report of the last second, to write.

        Args:
            partitions: that this worker owns.
            lag: how many records may be read and have not been.
            held_back: how many can't be read yet, see `Consumer.held_back`.
        """
        now_ms = self._context.clock.now_ms()
        self._due_ms = now_ms + EVERY_MS
        self._warn_of_hanging_transactions(held_back, now_ms)
        counts, latency_ms = self._context.metrics.drain()
        worker = self._context.settings.worker_name()
        report = WorkerReport(
            event_time_ms=now_ms,
            worker=worker,
            operator=self._spec.name,
            partitions=list(partitions),
            lag=lag,
            counts=counts,
            latency_ms=latency_ms,
            models=dict(self._context.runs.models),
            backend=", ".join(sorted(set(self._context.runs.backends.values()))),
            reasons_against=dict(self._context.runs.reasons_against),
            resident_bytes=self._process.memory_info().rss,
            held_back=sum(held.records for held in held_back.values()),
            clock_offsets_ms=self._context.metrics.clocks.off(),
        )
        return (Record(worker, now_ms, now_ms, report, Origin("", 0, 0), to=REPORTS),)

    def _warn_of_hanging_transactions(self, held_back: Mapping[TopicPartition, HeldBack], now_ms: int) -> None:
        """Say once of each partition that a transaction has held it back for longer than one should take."""
        at = {(tp, held.stable_offset) for tp, held in held_back.items()}
        self._held_since_ms = {place: self._held_since_ms.get(place, now_ms) for place in at}
        for (tp, _), since_ms in self._held_since_ms.items():
            if now_ms - since_ms >= HANGING_MS and tp not in self._warned:
                self._warned.add(tp)
                self._context.log.warning(
                    "%s: partition %d of %s has been held back for %d s by a transaction that its writer doesn't end: "
                    "nothing written behind it can be read (`kafka-transactions.sh find-hanging` names it)",
                    self._spec.name, tp.partition, tp.topic, (now_ms - since_ms) // 1000,
                )  # fmt: skip
        self._warned &= held_back.keys()
