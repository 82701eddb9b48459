"""Worker reports: counts and latencies of one operator, once a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil

from streamer.operator import Context
from streamer.payloads import WorkerReport
from streamer.records import Origin, Record
from streamer.topology.topology import OperatorSpec, Topology

REPORTS = "worker_reports"
EVERY_MS = 1000


class Reporter:
    """Makes the reports of one operator; none if the topology has no topic `worker_reports`."""

    def __init__(self, spec: OperatorSpec, topology: Topology, context: Context) -> None:
        self._spec, self._context, self._wanted = spec, context, REPORTS in topology.topics
        self._process = psutil.Process()
        self._due_ms = context.clock.now_ms() + EVERY_MS

    def is_due(self) -> bool:
        """Whether a second has passed since the last report."""
        return self._wanted and self._context.clock.now_ms() >= self._due_ms

    def due(self, partitions: Sequence[int], lag: int) -> Sequence[Record[Any]]:
        """The report, if a second has passed since the last."""
        if not self.is_due():
            return ()
        now_ms = self._context.clock.now_ms()
        self._due_ms = now_ms + EVERY_MS
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
        )
        return (Record(worker, now_ms, now_ms, report, Origin("", 0, 0), to=REPORTS),)
