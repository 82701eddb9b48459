"""Run the pipeline as a child process on an embedded Kafka on this machine, to be measured from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from streamer.brokers.embedded.jars import Progress
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import StreamerError
from streamer.settings import Settings, load_settings

READY_S = 180
STOP_S = 20
LOG_LINES = 30
RESEARCH = {"context": "research", "accept_licences": "unsettled"}
"""What a benchmark declares where the environment declares nothing: research on recorded material."""


@dataclass(slots=True)
class LivePipeline:
    """A running pipeline: a client of its Kafka, the Kafka, the child process, and the lines of its log so far."""

    broker: KafkaBroker
    kafka: LocalKafka
    process: psutil.Process
    log_lines: list[str] = field(default_factory=list)

    def resident_bytes(self) -> int:
        """Resident memory of the pipeline's processes together, without Kafka."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(p.memory_info().rss for p in processes)

    def cpu_s(self) -> float:
        """CPU seconds the pipeline has used so far, both user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def benchmark_settings() -> Settings:
    """Load the settings, for research on recorded material: that context, and unsettled licences accepted."""
    declared = {name: os.environ.get(f"STREAMER_{name.upper()}", otherwise) for name, otherwise in RESEARCH.items()}
    return load_settings(**declared)


@asynccontextmanager
async def live_pipeline(
    topology: Path, settings: Settings, *, queue_all: bool = False, progress: Progress
) -> AsyncIterator[LivePipeline]:
    """Start Kafka and `python -m streamer run` on it; both are stopped when the block ends.

    Args:
        topology: the topology file.
        settings: for Kafka and the client; the child reads the environment, with its brokers, its context and the
            licences that are accepted set here.
        queue_all: run the child under STREAMER_QUEUE=all, so that no record is dropped for being old.
        progress: called with each step that is waited for.

    Raises:
        StreamerError: the pipeline ended or was not ready in time; with the end of its log.
    """
    async with local_kafka(settings, progress=progress) as kafka:
        declared = {f"STREAMER_{name.upper()}": str(getattr(settings, name)) for name in RESEARCH}
        environment = {**os.environ, **declared, "STREAMER_BROKERS": kafka.address}
        if queue_all:
            environment["STREAMER_QUEUE"] = "all"
        progress("starting the pipeline", None)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamer", "run", "--topology", str(topology),
            env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        broker = KafkaBroker(settings, kafka.address)
        pipeline = LivePipeline(broker, kafka, psutil.Process(child.pid))
        ready = asyncio.Event()
        reading = asyncio.create_task(_read_log(child, pipeline.log_lines, ready.set))
        try:
            await _until_ready(child, ready, pipeline.log_lines)
            yield pipeline
        finally:
            await broker.close()
            await _stop(child)
            await reading


async def _read_log(child: asyncio.subprocess.Process, lines: list[str], ready: Callable[[], None]) -> None:
    assert child.stderr is not None  # noqa: S101 - it was asked for
    async for line in child.stderr:
        lines.append(line.decode(errors="replace").rstrip())
        if lines[-1].startswith("ready:"):
            ready()
    ready()


async def _until_ready(child: asyncio.subprocess.Process, ready: asyncio.Event, lines: list[str]) -> None:
    try:
        await asyncio.wait_for(ready.wait(), READY_S)
    except TimeoutError:
        raise StreamerError(f"the pipeline was not ready within {READY_S} s:\n{_tail(lines)}") from None
    if not any(line.startswith("ready:") for line in lines):
        code = await child.wait()
        raise StreamerError(f"the pipeline ended with exit code {code}:\n{_tail(lines)}")


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), STOP_S)
        except TimeoutError:
            child.kill()
            await child.wait()


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[-LOG_LINES:])
